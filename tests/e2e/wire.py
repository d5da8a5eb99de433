# SPDX-License-Identifier: BSD-3-Clause
"""The NBD protocol by hand: a client that can say what a real one would not, in pieces of any size.

Nothing is checked before it is sent; answers are taken apart, and what is not NBD among them fails the test.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness import TIMEOUT

GREETING = b"NBDMAGIC" + b"IHAVEOPT"
OPTION_REPLY, REQUEST, SIMPLE_REPLY, CHUNK = 0x3E889045565A9, 0x25609513, 0x67446698, 0x668E33EF

# The client's first word: fixed newstyle, and no padding after EXPORT_NAME.
FIXED, NO_ZEROES = 1, 2

# Options, their replies, and what INFO and GO can ask for.
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED, LIST_META, SET_META = 1, 2, 3, 5, 6, 7, 8, 9, 10
ACK, SERVER, INFORMATION, META_CONTEXT = 1, 2, 3, 4
ERROR = 1 << 31  # in the type of a reply
UNSUPPORTED, INVALID, PLATFORM, UNKNOWN = ERROR + 1, ERROR + 3, ERROR + 4, ERROR + 6
ABOUT_NAME, ABOUT_DESCRIPTION, ABOUT_SIZES = 1, 2, 3

# Requests, and their flags.
READ, WRITE, DISCONNECT, FLUSH, TRIM, CACHE, ZERO, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO = 1, 2, 4, 8, 16

# The errors of a reply.
EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108


def option(number: int, data: bytes = b"", length: int | None = None, magic: bytes = b"IHAVEOPT") -> bytes:
    """An option; `length` is what it claims to have of data."""
    return magic + struct.pack(">II", number, len(data) if length is None else length) + data


def export(name: bytes, *about: int, length: int | None = None, count: int | None = None) -> bytes:
    """The data of INFO and GO: a name, and what the client would like to know. `length` and `count` may be lies."""
    return (struct.pack(">I", len(name) if length is None else length) + name +
            struct.pack(f">H{len(about)}H", len(about) if count is None else count, *about))


def contexts(name: bytes, *queries: bytes, count: int | None = None) -> bytes:
    """The data of LIST_META and SET_META: a name and queries."""
    asked = b"".join(struct.pack(">I", len(query)) + query for query in queries)
    return struct.pack(">I", len(name)) + name + struct.pack(">I", len(queries) if count is None else count) + asked


def request(kind: int, offset: int = 0, count: int = 0, data: bytes = b"", *, flags: int = 0, handle: int = 1,
            magic: int = REQUEST) -> bytes:
    """A request's header and data; negative numbers are as good as the unsigned ones with the same bits."""
    return struct.pack(">IHHQQI", magic, flags, kind, handle, offset % 2**64, count % 2**32) + data


def take_address(unix: socket.socket, address: str | bytes) -> None:
    """Bind a Unix socket; an abstract address is all the machine's, so that another run of a test may have it yet."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return unix.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@dataclass
class Reply:
    """What came for a request: an error of NBD's or 0, and data, that of a read or of a block status."""

    handle: int
    error: int
    data: bytes = b""


class Wire:
    """One connection to a server's Unix socket, from an address of its own if need be.

    Each step may take `patience` seconds, and then the test fails.
    """

    def __init__(self, path: Path, bind: str | bytes | None = None, patience: float = TIMEOUT) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(patience)
        if bind is not None:
            take_address(self.socket, bind)
        self.socket.connect(str(path))
        self.structured = False

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes, piece: int | None = None) -> None:
        """Send bytes, `piece` of them at a time. That the server has hung up is for receive() to find out."""
        with suppress(BrokenPipeError, ConnectionResetError):
            for start in range(0, len(data), piece or len(data) or 1):
                self.socket.sendall(data[start : start + piece] if piece else data)

    def receive(self, count: int) -> bytes:
        """So many bytes. EOFError: the server has hung up, as it should if it has no other answer."""
        data = bytearray(count)
        place = memoryview(data)
        while place:
            with suppress(ConnectionResetError):
                if got := self.socket.recv_into(place):
                    place = place[got:]
                    continue
            raise EOFError(f"the server hung up, {len(place)} of {count} bytes before the end of its answer")
        return bytes(data)

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.receive(struct.calcsize(form)))

    def ends(self) -> bytes:
        """Say no more, and wait until the server hangs up: all that it had still to say."""
        with suppress(OSError):  # it has hung up
            self.socket.shutdown(socket.SHUT_WR)
        return self.rest()

    def rest(self) -> bytes:
        """Wait until the server hangs up: all that it had still to say."""
        data = b""
        with suppress(ConnectionResetError):
            while more := self.socket.recv(1 << 20):
                data += more
        return data

    # The handshake.

    def hello(self, flags: int = FIXED | NO_ZEROES) -> Wire:
        """Be greeted, and answer with the client's flags."""
        assert self.receive(16) == GREETING
        assert self.unpack(">H") == (FIXED | NO_ZEROES,)
        self.send(struct.pack(">I", flags))
        return self

    def answers(self, number: int) -> list[tuple[int, bytes]]:
        """The replies to an option, (type, data) pairs, up to and including the one that ends them."""
        found: list[tuple[int, bytes]] = []
        while not found or not (found[-1][0] == ACK or found[-1][0] & ERROR):
            magic, to, kind, length = self.unpack(">QIII")
            assert (magic, to) == (OPTION_REPLY, number)
            found.append((kind, self.receive(length)))
        return found

    def ask(self, number: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """Send an option and return its replies."""
        self.send(option(number, data))
        return self.answers(number)

    def exports(self) -> dict[bytes, bytes]:
        """LIST: names and their descriptions."""
        *servers, end = self.ask(LIST)
        assert end == (ACK, b"")
        found = {}
        for kind, data in servers:
            length = int.from_bytes(data[:4], "big")
            assert kind == SERVER
            found[data[4 : 4 + length]] = data[4 + length :]
        return found

    def about(self, name: bytes, *things: int, last: bool = False) -> dict[int, bytes] | int:
        """INFO, or GO if it is to be the last option: what the server tells, or the error's type."""
        *told, end = self.ask(GO if last else INFO, export(name, *things))
        if end[0] != ACK:
            return end[0]
        assert all(kind == INFORMATION for kind, _ in told)
        return {int.from_bytes(data[:2], "big"): data[2:] for _, data in told}

    def ready(self, name: bytes = b"", structured: bool = True) -> Wire:
        """The whole handshake of an honest client; block status can be asked if replies are structured."""
        self.hello()
        if structured:
            assert self.ask(STRUCTURED) == [(ACK, b"")]
            assert self.ask(SET_META, contexts(name, b"base:allocation"))[-1] == (ACK, b"")
        told = self.about(name, last=True)
        assert isinstance(told, dict), f"no export {name!r}"
        self.structured = structured
        return self

    # Requests.

    def reply(self, reads: int = 0) -> Reply:
        """The next reply; a simple one without an error has `reads` bytes of data after it."""
        (magic,) = self.unpack(">I")
        if magic == SIMPLE_REPLY:
            error, handle = self.unpack(">IQ")
            return Reply(handle, error, b"" if error else self.receive(reads))
        assert magic == CHUNK and self.structured, hex(magic)
        flags, kind, handle, length = self.unpack(">HHQI")
        assert flags == 1, "nbdkit sends one chunk, which is the last"
        data = self.receive(length)
        if kind >> 15:
            return Reply(handle, int.from_bytes(data[:4], "big"))
        return Reply(handle, 0, data[8 if kind == 1 else 4 :])  # after the offset, or the context

    def do(self, kind: int, offset: int = 0, count: int = 0, data: bytes = b"", **more: int) -> Reply:
        """Send a request and return its reply."""
        self.send(request(kind, offset, count, data, **more))
        return self.reply(count if kind == READ else 0)
