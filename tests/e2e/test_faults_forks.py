# SPDX-License-Identifier: BSD-3-Clause
"""os.fork() in a callback: whatever becomes of the child, the client has one server, which is the parent."""

from __future__ import annotations

import multiprocessing
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from daemon import PATIENCE
from disks import disk
from faults import names
from harness import Server, environment, extents
from launch import MARK, kill_what_is_left, wait_until

SCRIPT = disk("""
    import atexit, builtins, os, sys

    data = bytearray(SIZE)
    notes = builtins.open(os.path.dirname(__file__) + "/notes", "a", buffering=1)

    def note(text):
        print(os.getpid(), text, file=notes)

    def fork(name):
        if name == PLACE:
            pid = os.fork()
            if pid == 0:
                CHILD
                return
            note(f"forked {pid}")

    def load(): atexit.register(note, "hook")
    def after_fork(): fork("after_fork")
    def preconnect(readonly): fork("preconnect")
    def open(readonly): fork("open")
    def get_size(h): fork("get_size"); return SIZE
    def can_write(h): fork("can_write"); return True
    def export_description(h): fork("export_description"); return "described"
    def close(h): note("close"); fork("close")
    def cleanup(): note("cleanup"); fork("cleanup")
    def unload(): note("unload"); fork("unload")

    def list_exports(readonly, is_tls):
        yield "first"
        fork("list_exports")
        yield "second"

    def extents(h, count, offset, flags):
        yield offset, 512, 0
        fork("extents")
        yield offset + 512, count - 512, nbdkit.EXTENT_ZERO

    def pread(h, buf, offset, flags):
        fork("pread")
        buf[:] = data[offset:offset + len(buf)]

    def pwrite(h, buf, offset, flags):
        fork("pwrite")
        data[offset:offset + len(buf)] = buf

    def flush(h, flags):
        fork("flush")
""").replace("SIZE", "4096")
PLACES = re.findall(r'[^_]fork\("(\w+)"\)', SCRIPT)

# Since 3.12, Python warns of any fork of a process that has threads.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Forking = Callable[..., Server]


@pytest.fixture
def forking(serve: Serve, tmp_path: Path) -> Iterator[Forking]:
    """forking(PLACE, CHILD[, SCRIPT]): a server whose script forks in callback PLACE, and does CHILD in the child."""
    servers = []
    env = environment(PYTHONWARNINGS="ignore", **{MARK: str(tmp_path)})

    def start(place: str, child: str, script: str = SCRIPT) -> Server:
        servers.append(serve(script.replace("PLACE", repr(place)).replace("CHILD", child), env=env))
        return servers[-1]

    yield start
    for server in servers:
        server.stop(signal.SIGKILL)
    kill_what_is_left(str(tmp_path))


def session(server: Server) -> None:
    """All that clients do; what one has written is there for the next."""
    for begin in 1, 101:
        h = server.connect(full_info=True)
        assert h.get_export_description() == "described"
        for i in range(4):
            h.pwrite(bytes([begin + i]) * 512, i * 512)
            assert h.pread(512, i * 512) == bytes([begin + i]) * 512
        assert extents(h, 1024, 0) == [(512, 0), (512, nbd.STATE_ZERO)]
        h.flush()
        h.shutdown()
        h = server.connect()
        assert h.pread(2048, 0) == b"".join(bytes([begin + i]) * 512 for i in range(4))
        h.shutdown()
        assert names(server) == ["first", "second"]


def in_time(body: Callable[[Server], None], server: Server) -> None:
    """Run this in a process of its own, which can be killed: two servers for one client may leave it waiting."""
    process = multiprocessing.get_context("fork").Process(target=body, args=[server])
    process.start()
    process.join(PATIENCE)
    process.kill()
    process.join()
    assert process.exitcode == 0, server.log()


def alive(pid: str) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def check(server: Server) -> None:
    """Clients are served, children end, and have not lived the server's life."""
    in_time(session, server)
    assert server.stop() == 0
    notes = re.findall(r"(\d+) (\w+)(?: (\d+))?\n", (server.folder / "notes").read_text())
    forked = [child for _, note, child in notes if note == "forked"]
    assert forked
    wait_until(lambda: not any(map(alive, forked)), server.log())
    assert {pid for pid, *_ in notes} == {str(server.pid)}
    assert [note for _, note, _ in notes if note in ("cleanup", "unload", "hook")] == ["cleanup", "unload", "hook"]


@pytest.mark.parametrize("child", ["os._exit(0)", "os._exit(7)", "os.execv('/bin/true', ['true'])", "os.abort()"])
@pytest.mark.parametrize("place", ["open", "pread", "pwrite"])
def test_a_child_that_ends(forking: Forking, place: str, child: str) -> None:
    server = forking(place, child)
    check(server)
    assert server.log() == ""


# A child that went on as a server would answer to the client as well, take its next requests (so that writes were
# lost), and run close, cleanup, unload and atexit hooks.
@pytest.mark.parametrize("child", ["sys.exit(0)", "sys.exit(3)", "raise LookupError('in the child')"])
@pytest.mark.parametrize("place", ["open", "pread", "pwrite"])
def test_a_child_that_raises(forking: Forking, place: str, child: str) -> None:
    server = forking(place, child)
    check(server)
    assert re.search(rf"disk\.py: {place}: .*os\._exit", server.log())


@pytest.mark.parametrize("place", PLACES)
def test_a_child_that_comes_back(forking: Forking, place: str) -> None:
    server = forking(place, "pass")
    check(server)
    assert re.search(rf"disk\.py: {place}: .*os\._exit", server.log())


TWICE = disk("""
    import os

    def pread(h, buf, offset, flags):
        if os.fork() == 0:
            CHILD
        buf[:] = bytes([offset // 512]) * len(buf)
""")


def reads(server: Server) -> None:
    h = server.connect()
    for block in range(8):
        assert h.pread(512, block * 512) == bytes([block]) * 512
    h.shutdown()


@pytest.mark.peer_fails
def test_only_the_server_answers(forking: Forking) -> None:
    in_time(reads, forking("pread", "pass", TWICE))


PARALLEL = disk("""
    import os, subprocess

    def thread_model(): return nbdkit.THREAD_MODEL_PARALLEL

    def pread(h, buf, offset, flags):
        kind = offset // 512 % 4
        if kind == 0:
            text = subprocess.run(["printf", "%d", str(offset)], capture_output=True, check=True).stdout
        elif kind == 1:
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(writer, b"%d" % offset)
                os._exit(0)
            text = os.read(reader, 100)
            os.waitpid(pid, 0)
            os.close(reader), os.close(writer)
        else:
            text = b"%d" % offset
        buf[:len(text)] = text
""")


def test_processes_in_parallel_requests(serve: Serve) -> None:
    server = serve(PARALLEL, options=("-t", "4"), env=environment(PYTHONWARNINGS="ignore"))
    clients = [server.connect() for _ in range(2)]
    answers = {}
    for offset in range(0, 48 * 512, 512):
        for client in clients:
            answers[client, offset] = nbd.Buffer(512)
            client.aio_pread(answers[client, offset], offset)
    for client in clients:
        while client.aio_in_flight():
            assert client.poll(PATIENCE * 1000), server.log()
    for (_, offset), answer in answers.items():
        assert answer.to_bytearray().rstrip(b"\0") == b"%d" % offset
    for client in clients:
        client.shutdown()
    assert server.stop() == 0
    assert server.log() == ""
