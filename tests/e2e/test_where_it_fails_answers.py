# SPDX-License-Identifier: BSD-3-Clause
"""Where nbdkit's own Python plugin fails: what a script may answer, and what it is told. Every test fails on it."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from disks import disk
from harness import Server, extents, nbdkit, raises_errno, write_script

pytestmark = pytest.mark.peer_fails

# What a server says about a request is in its log before the client has the answer: no need to wait for long.
SOON = 5


def listed(server: Server) -> dict[str, str]:
    """The names and descriptions of the exports that a server lists."""
    found: dict[str, str] = {}
    h = server.connect(opt_mode=True)
    h.opt_list(lambda name, description: found.update({name: description}))
    h.opt_abort()
    return found


# An iterable that raises midway is an error, however much of it there was.

def test_extents_that_raise_midway(serve: Serve) -> None:
    server = serve(disk("""
        def extents(h, count, offset, flags):
            yield offset, 512, nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO
            raise LookupError("the rest of the map is lost")
    """))
    with raises_errno(errno.EIO):
        extents(server.connect(), 4096, 0)
    server.wait_for_log("LookupError: the rest of the map is lost", SOON)


def test_list_exports_that_raises_midway(serve: Serve) -> None:
    server = serve(disk("""
        def list_exports(readonly, is_tls):
            yield "first"
            raise LookupError("the rest of the list is lost")
    """))
    with pytest.raises(nbd.Error):
        print(listed(server))
    server.wait_for_log("LookupError: the rest of the list is lost", SOON)


# Anything with a truth value of its own is a yes or a no.

EVERYTHING = """
    called = []


    def pwrite(h, buf, offset, flags):
        called.append("pwrite")


    def flush(h, flags):
        called.append("flush")


    def trim(h, count, offset, flags):
        called.append("trim")


    def zero(h, count, offset, flags):
        called.append("zero")


    def pread(h, buf, offset, flags):
        words = " ".join(called).encode()
        buf[:len(words)] = words


"""

QUESTIONS: dict[str, Callable[[nbd.NBD], bool]] = {
    "can_write": lambda h: not h.is_read_only(),
    "can_flush": nbd.NBD.can_flush,
    "can_trim": nbd.NBD.can_trim,
    "can_fast_zero": nbd.NBD.can_fast_zero,
    "can_multi_conn": nbd.NBD.can_multi_conn,
    "is_rotational": nbd.NBD.is_rotational,
}


@pytest.mark.parametrize("callback", QUESTIONS)
def test_one_is_a_yes(serve: Serve, callback: str) -> None:
    h = serve(disk(EVERYTHING) + f"def {callback}(h):\n    return 1\n").connect()
    assert QUESTIONS[callback](h)


def test_one_is_a_yes_for_can_zero(serve: Serve) -> None:
    h = serve(disk(EVERYTHING) + "def can_zero(h):\n    return 1\n").connect()
    h.zero(512, 0)
    assert h.pread(512, 0).rstrip(b"\0") == b"zero"


def test_one_is_a_yes_for_can_extents(serve: Serve) -> None:
    h = serve(disk("""
        def can_extents(h):
            return 1


        def extents(h, count, offset, flags):
            return [(offset, count, nbdkit.EXTENT_ZERO)]
    """)).connect()
    assert extents(h, 4096, 0) == [(4096, nbd.STATE_ZERO)]


def test_an_object_with_a_truth_value_is_a_yes(serve: Serve) -> None:
    h = serve(disk(EVERYTHING) + "class Truth:\n    def __bool__(self):\n        return True\n\n\n"
              "def can_write(h):\n    return Truth()\n").connect()
    assert not h.is_read_only()


# block_size, get_size, thread_model: what is right is taken, what is wrong is told.

def test_block_size_may_be_a_list(serve: Serve) -> None:
    h = serve(disk("def block_size(h):\n    return [512, 4096, 1 << 20]\n")).connect()
    sizes = [h.get_block_size(kind) for kind in (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM)]
    assert sizes == [512, 4096, 1 << 20]


def test_a_wrong_block_size_is_told(serve: Serve) -> None:
    server = serve(disk("def block_size(h):\n    return 4096\n"))
    with pytest.raises(nbd.Error):
        server.connect()
    said = server.wait_for_log(r"error: .*disk\.py: block_size: expected .*", SOON)[0]
    assert "4096" in said or "int" in said


def test_a_wrong_size_is_told(serve: Serve) -> None:
    server = serve(disk("def get_size(h):\n    return -1\n"))
    with pytest.raises(nbd.Error):
        server.connect()
    said = server.wait_for_log(r"error: .*disk\.py: get_size: expected .*", SOON)[0]
    assert "-1" in said


@pytest.mark.parametrize("answer", ["None", "99", "-1", "'x'"])
def test_a_wrong_thread_model_is_told(start_fails: Callable[..., str], answer: str) -> None:
    said = start_fails(disk(f"def thread_model():\n    return {answer}\n"), "--run=true")
    assert re.search(rf"^nbdkit: error: .*disk\.py: thread_model: expected .*{answer}", said), said


# Strings that cannot be told to nbdkit are an error, not a crash.

SURROGATE = r'"a lone surrogate: \udc80"'


def serves(server: Server) -> bool:
    """Whether the server still serves an export that a client names."""
    return bool(server.connect("named").pread(512, 0) == bytes(512))


def test_a_lone_surrogate_in_export_description(serve: Serve) -> None:
    server = serve(disk(f"def export_description(h):\n    return {SURROGATE}\n"))
    h = server.connect(full_info=True)
    with pytest.raises(nbd.Error):
        print(h.get_export_description())
    server.wait_for_log(r"error: .*disk\.py: export_description: ", SOON)
    assert serves(server)


def test_a_lone_surrogate_in_default_export(serve: Serve) -> None:
    server = serve(disk(f"def default_export(readonly, is_tls):\n    return {SURROGATE}\n"))
    with pytest.raises(nbd.Error):
        server.connect()
    server.wait_for_log(r"error: .*disk\.py: default_export: ", SOON)
    assert serves(server)


@pytest.mark.parametrize("export", [SURROGATE, f"({SURROGATE}, 'description')", f"('name', {SURROGATE})"],
                         ids=["bare name", "name", "description"])
def test_a_lone_surrogate_in_list_exports(serve: Serve, export: str) -> None:
    server = serve(disk(f"def list_exports(readonly, is_tls):\n    return [{export}]\n"))
    with pytest.raises(nbd.Error):
        print(listed(server))
    server.wait_for_log(r"error: .*disk\.py: list_exports: ", SOON)
    assert serves(server)


def test_dump_plugin_that_raises(tmp_path: Path) -> None:
    script = write_script(tmp_path, disk("def dump_plugin():\n    raise LookupError('nothing to tell')\n"))
    done = nbdkit("--dump-plugin", script)
    assert done.returncode in (0, 1), done.stderr
    assert "python_version=" in done.stdout
    assert re.search(r"^nbdkit: error: .*disk\.py: dump_plugin: ", done.stderr, re.MULTILINE), done.stderr
    assert "LookupError: nothing to tell" in done.stderr


# What a script tells nbdkit.

@pytest.mark.parametrize(("thing", "told"), [
    (r"b'raw bytes'", "raw bytes"),
    (r"b'not \xff UTF-8'", "UTF-8"),
    ("LookupError('an exception')", "an exception"),
    ("4711", "4711"),
])
def test_debug_takes_anything(serve: Serve, thing: str, told: str) -> None:
    server = serve(disk(f"def pread(h, buf, offset, flags):\n    nbdkit.debug({thing})\n"), verbose=True)
    assert server.connect().pread(512, 0) == bytes(512)
    server.wait_for_log(rf"debug: .*{told}", SOON)


def test_list_exports_leaks_no_references(serve: Serve) -> None:
    server = serve(disk("""
        import sys

        name = "-".join(["made", "when", "running"])
        counts = []


        def list_exports(readonly, is_tls):
            counts.append(sys.getrefcount(name))
            return [name] * 100


        def pread(h, buf, offset, flags):
            buf[:] = (counts[-1] - counts[0]).to_bytes(len(buf), "little")
    """))
    for _ in range(5):
        assert listed(server) == {"made-when-running": ""}
    assert int.from_bytes(server.connect().pread(8, 0), "little") == 0
