# SPDX-License-Identifier: BSD-3-Clause
"""Where nbdkit's own Python plugin fails: threads, memory and answers of requests. Every test here fails on it."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Callable
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from disks import disk
from harness import extents, raises_errno

pytestmark = pytest.mark.peer_fails

# What a server says about a request is in its log before the client has the answer: no need to wait for long.
SOON = 5


def numbers(data: bytes, width: int = 8) -> list[int]:
    """The little-endian numbers that a script put into its answer."""
    return [int.from_bytes(data[i:i + width], "little") for i in range(0, len(data), width)]


def rss(pid: int) -> int:
    """A process's resident memory in bytes."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


# A thread keeps its state between requests.

COUNT_IN_A_THREAD = disk("""
    import threading

    local = threading.local()


    def thread_model():
        return THREAD_MODEL


    def pread(h, buf, offset, flags):
        local.calls = getattr(local, "calls", 0) + 1
        buf[:] = threading.get_ident().to_bytes(8, "little") + local.calls.to_bytes(8, "little")
""")


def test_thread_local_data_lasts_from_request_to_request(serve: Serve) -> None:
    h = serve(COUNT_IN_A_THREAD.replace("THREAD_MODEL", "nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS")).connect()
    answers = [numbers(h.pread(16, 0)) for _ in range(4)]
    assert len({thread for thread, _ in answers}) == 1, "nbdkit used several threads for one connection"
    assert [calls for _, calls in answers] == [1, 2, 3, 4]


def test_thread_local_data_lasts_in_a_pool_of_threads(serve: Serve) -> None:
    h = serve(COUNT_IN_A_THREAD.replace("THREAD_MODEL", "nbdkit.THREAD_MODEL_PARALLEL"), options=("-t", "2")).connect()
    calls: dict[int, list[int]] = {}
    for _ in range(20):
        thread, count = numbers(h.pread(16, 0))
        calls.setdefault(thread, []).append(count)
    assert all(counts == list(range(1, len(counts) + 1)) for counts in calls.values()), calls


def test_thread_local_data_ends_with_its_thread(serve: Serve) -> None:
    server = serve(disk("""
        import sys
        import threading

        local = threading.local()


        class Noted:
            def __del__(self):
                print("thread-local data is gone", file=sys.stderr, flush=True)


        def pread(h, buf, offset, flags):
            local.noted = getattr(local, "noted", None) or Noted()
    """))
    h = server.connect()
    h.pread(512, 0)
    h.pread(512, 0)
    assert "is gone" not in server.log()
    h.shutdown()
    server.wait_for_log("thread-local data is gone")
    assert server.log().count("is gone") == 1


# An exception is forgotten when the request that it failed has ended.

def test_failing_reads_do_not_use_up_memory(serve: Serve) -> None:
    server = serve(disk("""
        def pread(h, buf, offset, flags):
            held = b"x" * 100_000
            raise RuntimeError(f"a read that fails with {len(held)} bytes in its frame")
    """))
    h = server.connect()

    def fail(times: int) -> None:
        for _ in range(times):
            with raises_errno(errno.EIO):
                h.pread(512, 0)

    fail(200)
    before = rss(server.pid)
    fail(2000)
    assert rss(server.pid) - before < 8_000_000


def test_a_failed_request_lets_its_frame_go(serve: Serve) -> None:
    h = serve(disk("""
        import weakref


        class Local:
            pass


        alive = weakref.WeakSet()


        def fail(*arguments):
            local = Local()
            alive.add(local)
            raise ValueError("on purpose")


        pwrite = lambda h, buf, offset, flags: fail(h, buf, offset, flags)
        flush = lambda h, flags: fail(h, flags)
        trim = zero = cache = extents = lambda h, count, offset, flags: fail(h, count, offset, flags)


        def pread(h, buf, offset, flags):
            if offset:
                fail(h, buf, offset, flags)
            buf[0] = len(alive)
    """)).connect()
    left = {}
    for name, request in {
        "pread": lambda: h.pread(512, 512),
        "pwrite": lambda: h.pwrite(bytes(512), 0),
        "flush": h.flush,
        "trim": lambda: h.trim(512, 0),
        "zero": lambda: h.zero(512, 0),
        "cache": lambda: h.cache(512, 0),
        "extents": lambda: extents(h, 512, 0),
    }.items():
        before = h.pread(512, 0)[0]
        with raises_errno(errno.EIO):
            request()
        left[name] = h.pread(512, 0)[0] - before
    assert left == dict.fromkeys(left, 0)


# A read never gets another request's bytes.

READS_NOTHING = """
    def pwrite(h, buf, offset, flags):
        pass


    def pread(h, buf, offset, flags):
"""


def read_after_a_write(serve: Serve, body: str, count: int = 512) -> bytes:
    """The answer of a pread of this body, in a buffer that has just had another request's bytes in it."""
    h = serve(disk(READS_NOTHING) + f"    {body}\n").connect()
    h.pwrite(b"another request " * 256, 0)
    return bytes(h.pread(count, 0))


@pytest.mark.parametrize("body", ["pass", "return None", "return 0", "return True"])
def test_what_pread_leaves_unfilled_reads_as_zeros(serve: Serve, body: str) -> None:
    assert read_after_a_write(serve, body) == bytes(512)


def test_the_rest_of_a_partly_filled_buffer_reads_as_zeros(serve: Serve) -> None:
    assert read_after_a_write(serve, "buf[100:104] = b'mine'") == bytes(100) + b"mine" + bytes(408)


@pytest.mark.parametrize("answer", ["b'a' * 512", "bytearray(b'a' * 512)", "memoryview(b'a' * 600)"])
def test_bytes_that_pread_returns_are_the_answer(serve: Serve, answer: str) -> None:
    assert read_after_a_write(serve, f"return {answer}") == b"a" * 512


def test_too_few_bytes_from_pread_are_an_error(serve: Serve) -> None:
    with raises_errno(errno.EIO):
        read_after_a_write(serve, "return b'a' * 511")


@pytest.mark.parametrize("answer", ["coroutine()", "(i for i in range(3))"])
def test_a_coroutine_or_generator_from_pread_is_an_error(serve: Serve, answer: str) -> None:
    server = serve(disk(f"""
        async def coroutine():
            return bytes(512)


        def pread(h, buf, offset, flags):
            return {answer}
    """))
    with raises_errno(errno.EIO):
        server.connect().pread(512, 0)
    server.wait_for_log(r"error: .*disk\.py: pread: .*(coroutine|generator)", SOON)


def test_pread_that_returns_a_slice_as_first_proposed_for_version_2(serve: Serve) -> None:
    h = serve(disk("""
        contents = bytes(range(256)) * 4096


        def pread(h, count, offset, flags):
            return contents[offset:offset + count]
    """)).connect()
    assert h.pread(300, 100) == (bytes(range(256)) * 2)[100:400]


def test_async_def_is_run(serve: Serve) -> None:
    h = serve(disk("""
        contents = bytearray(1 << 20)


        async def get_size(h):
            return len(contents)


        async def pread(h, buf, offset, flags):
            buf[:] = contents[offset:offset + len(buf)]


        async def pwrite(h, buf, offset, flags):
            contents[offset:offset + len(buf)] = buf
    """)).connect()
    h.pwrite(b"x" * 512, 1024)
    assert h.pread(512, 1024) == b"x" * 512


@pytest.mark.parametrize("name", ["config_complete", "get_ready"])
def test_async_def_is_refused_before_there_is_a_loop(start_fails: Callable[..., str], name: str) -> None:
    said = start_fails(disk(f"async def {name}():\n    return 0\n"), "--run=true")
    assert re.search(rf"^nbdkit: error: .*disk\.py: .*({name}.*async|async.*{name})", said), said


@pytest.mark.parametrize(("name", "parameters"), [
    ("pread", "h, buf, offset, flags"),
    ("pwrite", "h, buf, offset, flags"),
    ("flush", "h, flags"),
])
def test_a_generator_function_is_refused_at_load(start_fails: Callable[..., str], name: str, parameters: str) -> None:
    said = start_fails(disk(f"def {name}({parameters}):\n    yield\n"), "--run=true")
    assert re.search(rf"^nbdkit: error: .*disk\.py: .*{name}.*(generator|yield)", said), said


# A view of a request's buffer that outlives its callback fails that request, and shows nothing later.

VIEWS = ["buf", "memoryview(buf)", "buf[1024:]", "buf.cast('H')", "iter(buf)"]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("callback", ["pread", "pwrite"])
def test_a_request_whose_buffer_is_kept_fails(serve: Serve, callback: str, view: str) -> None:
    server = serve(disk(f"""
        kept = []


        def pwrite(h, buf, offset, flags):
            pass


        def {callback}(h, buf, offset, flags):
            if offset == 0:
                kept.append({view})
    """))
    h = server.connect()
    request: dict[str, Callable[[int], object]] = {
        "pread": lambda offset: h.pread(4096, offset),
        "pwrite": lambda offset: h.pwrite(bytes(4096), offset),
    }
    with raises_errno(errno.EIO):
        request[callback](0)
    said = server.wait_for_log(rf"error: .*disk\.py: {callback}: .*", SOON)[0]
    assert "bytes(buf)" in said
    request[callback](4096)


KEEPS_THE_FIRST_WRITE = """
    kept = []


    def pwrite(h, buf, offset, flags):
        if not kept:
            kept.append({view})


    def pread(h, buf, offset, flags):
        try:
            buf[:8] = bytes(kept[0])[-8:]
        except ValueError:
            buf[:8] = b"released"
"""


@pytest.mark.parametrize("view", ["buf", "memoryview(buf)", "buf[1024:]", "buf.cast('H')"])
def test_a_kept_view_does_not_show_a_later_request(serve: Serve, view: str) -> None:
    server = serve(disk(KEEPS_THE_FIRST_WRITE.format(view=view)))
    h = server.connect()
    with contextlib.suppress(nbd.Error):
        h.pwrite(b"mine    " * 512, 0)
    h.pwrite(b"not mine" * 512, 4096)
    shown = h.pread(512, 0)[:8]
    assert shown != b"not mine"
    assert shown == b"released"


def test_a_kept_view_does_not_outlive_its_connection(serve: Serve) -> None:
    server = serve(disk(KEEPS_THE_FIRST_WRITE.format(view="buf")))
    first = server.connect()
    with contextlib.suppress(nbd.Error):
        first.pwrite(bytes(1 << 20), 0)
    first.shutdown()
    assert server.connect().pread(512, 0)[:8] == b"released"


# nbdkit.nanosleep lets other threads run, and may be called at any time.

def test_nanosleep_does_not_hold_up_other_connections(serve: Serve) -> None:
    server = serve(disk("""
        import sys


        def thread_model():
            return nbdkit.THREAD_MODEL_PARALLEL


        def pread(h, buf, offset, flags):
            if offset:
                print("going to sleep", file=sys.stderr, flush=True)
                nbdkit.nanosleep(20, 0)
            buf[:4] = b"done"
    """))
    sleeper, other = server.connect(), server.connect()
    cookie = sleeper.aio_pread(nbd.Buffer(512), 512)
    server.wait_for_log("going to sleep")
    assert other.pread(4, 0) == b"done"
    sleeper.poll(500)  # returns at once if there is an answer
    assert not sleeper.aio_command_completed(cookie), "the read that sleeps had ended first"


@pytest.mark.parametrize("where", ["import", "config", "get_ready"])
def test_nanosleep_before_the_server_listens(serve: Serve, where: str) -> None:
    calls = {"import": "nbdkit.nanosleep(0, 1000)\n",
             "config": "def config(key, value):\n    nbdkit.nanosleep(0, 1000)\n",
             "get_ready": "def get_ready():\n    nbdkit.nanosleep(0, 1000)\n"}
    server = serve(disk(calls[where]), *(["key=value"] if where == "config" else []))
    assert server.connect().pread(512, 0) == bytes(512)
