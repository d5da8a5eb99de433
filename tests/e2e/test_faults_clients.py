# SPDX-License-Identifier: BSD-3-Clause
"""Clients that die: at any byte of what they say, with requests in flight, or with answers that they never read."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Serve
from disks import SIZE, disk
from harness import TIMEOUT, Server

MODELS = "SERIALIZE_ALL_REQUESTS", "PARALLEL"
ROUNDS = 50
KiB = 1024
READ, WRITE = 0, 1
OWN_THREADS = 2 if os.environ.get("SANITIZER") == "tsan" else 1  # of a server without clients; ThreadSanitizer has one
WHOLE, SLOW = b"w", 64 * KiB  # what a write holds that is sent as a whole; from this offset on, requests take a while

# Handles are numbers. What it writes down: "open 1", "pwrite 512", "close 1".
WITNESS = """
    import itertools, os, time
    numbers = itertools.count()
    calls = os.open(os.path.join(os.path.dirname(__file__), "calls"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(call, number):
        os.write(calls, f"{{call}} {{number}}\\n".encode())

    def thread_model():
        return nbdkit.THREAD_MODEL_{model}

    def open(readonly):
        tell("open", number := next(numbers))
        return number

    def close(h):
        tell("close", h)

    def pread(h, buf, offset, flags):
        buf[:] = bytes([h % 256]) * len(buf)
        if offset >= {slow}:
            time.sleep(0.001)

    def pwrite(h, buf, offset, flags):
        tell("pwrite" if buf.tobytes() == {whole} * len(buf) else "pwrite of other data", len(buf))
        if offset >= {slow}:
            time.sleep(0.001)
"""


def option(number: int, data: bytes = b"") -> bytes:
    return b"IHAVEOPT" + struct.pack(">LL", number, len(data)) + data


def request(kind: int, offset: int, count: int) -> bytes:
    return struct.pack(">LHHQQL", 0x25609513, 0, kind, 1, offset, count)


FLAGS = struct.pack(">L", 3)  # fixed newstyle, no zeroes
LIST, EXPORT_NAME = option(3), option(1)
SESSION = FLAGS + LIST + EXPORT_NAME + request(READ, 0, 512) + request(WRITE, 0, 512) + WHOLE * 512
ENDS = [*range(len(SESSION) - 512), *range(len(SESSION) - 512, len(SESSION), 16)]  # within the data, each 16th will do
GREETING, EXPORT = 18, 10  # the lengths of what the server says first, and when an export has been chosen


class Client:
    """A client that speaks as much of the protocol as it is told to."""

    def __init__(self, server: Server, says: bytes = b"") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(str(server.socket))
        self.socket.sendall(says)

    def hear(self, count: int) -> bytes:
        heard = b""
        while len(heard) < count:
            part = self.socket.recv(count - len(heard))
            assert part, f"the server hung up after {heard!r}"
            heard += part
        return heard

    def hear_all(self) -> None:
        """Say that there is nothing more to come, and listen until the server hangs up."""
        self.socket.shutdown(socket.SHUT_WR)
        while self.socket.recv(64 * KiB):
            pass

    def close(self) -> None:
        self.socket.close()


def ready(server: Server) -> Client:
    """A client that is through the handshake."""
    client = Client(server, FLAGS + EXPORT_NAME)
    client.hear(GREETING + EXPORT)
    return client


def answers(server: Server) -> None:
    """The next client is served."""
    client = ready(server)
    client.socket.sendall(request(READ, 0, 512))
    reply = client.hear(16 + 512)
    assert reply[:8] == bytes.fromhex("67446698 00000000") and len(set(reply[16:])) == 1
    client.close()


def calls(server: Server) -> list[str]:
    return (server.folder / "calls").read_text().splitlines()


def held(server: Server) -> dict[str, int]:
    """How many threads, file descriptors and open handles there are."""
    process = Path(f"/proc/{server.pid}")
    told = [call.split()[0] for call in calls(server)]
    return {"threads": len(list((process / "task").iterdir())), "files": len(list((process / "fd").iterdir())),
            "handles": told.count("open") - told.count("close")}


def wait_until_held(server: Server, expected: dict[str, int]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while (now := held(server)) != expected:
        assert time.monotonic() < deadline, f"expected {expected}, there are {now}"
        time.sleep(0.002)


def resident(server: Server) -> int:
    """The server's resident memory in KiB."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def aborts() -> bool:
    """Is this an nbdkit (before 1.34) that a client can end, by hanging up on two of its workers at once?

    Any parallel plugin has several workers for a connection, unless nbdkit is told to use one.
    """
    version = subprocess.run(["nbdkit", "--version"], text=True, capture_output=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", version)[:2])) < (1, 34)


Watched = tuple[Server, Callable[[], None]]


@pytest.fixture(params=MODELS)
def watched(request: pytest.FixtureRequest, serve: Serve) -> Iterator[Watched]:
    """A server, and a check that the next client is served and that nothing of earlier ones is left.

    After the test: each handle has been closed exactly once.
    """
    options = ("--threads=1",) if request.param == "PARALLEL" and aborts() else ()
    server = serve(disk(WITNESS.format(model=request.param, slow=SLOW, whole=WHOLE)), options=options)
    answers(server)  # what is loaded once is loaded
    deadline = time.monotonic() + TIMEOUT
    while held(server)["handles"] or held(server)["threads"] > OWN_THREADS:
        assert time.monotonic() < deadline, held(server)
        time.sleep(0.002)
    nothing = held(server)

    def check() -> None:
        answers(server)
        wait_until_held(server, nothing)

    yield server, check
    check()
    told = calls(server)
    opened = [call.removeprefix("open ") for call in told if call.startswith("open ")]
    closed = [call.removeprefix("close ") for call in told if call.startswith("close ")]
    assert sorted(closed) == sorted(opened) and len(set(opened)) == len(opened)


def written(server: Server) -> list[str]:
    return [call for call in calls(server) if call.startswith("pwrite")]


def test_hanging_up_at_any_byte(watched: Watched) -> None:
    """Gone within the handshake, a request or a write's data, without a look at the answers."""
    server, check = watched
    for end in ENDS:
        Client(server, SESSION[:end]).close()
        check()
    assert written(server) == [], "half of a write's data is nothing to write"


def test_having_heard_the_answers_at_any_byte(watched: Watched) -> None:
    """As above, and the server has acted on all that was said before it is at an end."""
    server, check = watched
    for end in [*ENDS, len(SESSION)]:
        client = Client(server, SESSION[:end])
        client.hear_all()
        client.close()
        check()
    assert written(server) == ["pwrite 512"], "the one that was sent as a whole"


IN_FLIGHT = b"".join(request(WRITE, SLOW, 4 * KiB) + WHOLE * 4 * KiB + request(READ, SLOW, 4 * KiB) for _ in range(8))


def test_killed_with_requests_in_flight(watched: Watched) -> None:
    server, check = watched
    for _ in range(ROUNDS):
        client = ready(server)
        process = subprocess.Popen(["sleep", str(TIMEOUT)], pass_fds=[client.socket.fileno()])
        client.socket.sendall(IN_FLIGHT)
        client.hear(16)  # with the first answer, there are 15 more to come
        client.close()  # that process alone has the connection now
        process.kill()
        process.wait()
        check()
    assert set(written(server)) == {f"pwrite {4 * KiB}"}


def test_hanging_up_with_requests_in_flight(watched: Watched) -> None:
    server, check = watched
    for _ in range(ROUNDS):
        client = ready(server)
        client.socket.sendall(IN_FLIGHT)
        client.hear(16)
        client.close()
        check()
    assert set(written(server)) == {f"pwrite {4 * KiB}"}


def wait_until_full(client: Client) -> None:
    """Wait until the server cannot send any more to a client that does not read."""
    deadline = time.monotonic() + TIMEOUT
    full = 0
    while (now := len(client.socket.recv(SIZE, socket.MSG_PEEK))) > full:
        assert time.monotonic() < deadline
        full = now
        time.sleep(0.01)
    assert full < SIZE, "it was sent all"


def test_not_reading_the_answers(watched: Watched) -> None:
    """Others are served while the server waits for one that does not read; then that one hangs up."""
    server, check = watched
    for _ in range(ROUNDS):
        client = ready(server)
        client.socket.sendall(request(READ, 0, SIZE) * 3)
        wait_until_full(client)
        for _ in range(3):
            answers(server)
        client.close()
        check()


def test_memory_does_not_grow(watched: Watched) -> None:
    """600 clients, after as many that warm up."""
    server, check = watched

    def rounds(count: int) -> None:
        for number in range(count):
            cut = len(SESSION) * (number % 20) // 20
            Client(server, SESSION[:cut]).close()
            for says in (IN_FLIGHT, request(READ, 0, 64 * KiB) * 16):  # small, as the allocator keeps large buffers
                client = ready(server)
                client.socket.sendall(says)
                client.hear(16)
                client.close()
        check()

    rounds(200)
    before = resident(server)
    rounds(200)
    grown = resident(server) - before
    print(f"resident memory: {before} KiB, then {grown:+} KiB")
    assert grown < 512
