# SPDX-License-Identifier: BSD-3-Clause
"""A store that says what a test has it say, for what no real one does, or does at will."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from xenstore_daemon import HEADER, TIMEOUT

READ, WATCH, UNWATCH, GET_DOMAIN_PATH, WATCH_EVENT, ERROR = 2, 4, 5, 10, 15, 16


class Asked(NamedTuple):
    """A request that came to the store."""

    type: int
    number: int
    transaction: int
    payload: bytes

    def answer(self, payload: bytes = b"OK\0", type: int | None = None, number: int | None = None) -> bytes:
        """An answer to it, of its own type and number if nothing else is said."""
        return message(self.type if type is None else type, payload, self.number if number is None else number)

    def error(self, name: str) -> bytes:
        return self.answer(name.encode() + b"\0", ERROR)


def message(type: int, payload: bytes, number: int = 0) -> bytes:
    return HEADER.pack(type, number, 0, len(payload)) + payload


def event(path: str, token: str) -> bytes:
    return message(WATCH_EVENT, f"{path}\0{token}\0".encode())


# What a store says to a request: pieces, each sent by itself; None closes the connection.
Answers = Callable[[Asked], Iterable[bytes | None]]


class FakeStore:
    """A store that listens at `socket` and says what `answers` has; `asked` is all that came, of all connections."""

    def __init__(self, folder: Path, answers: Answers) -> None:
        self.socket = folder / "socket"
        self.answers = answers
        self.asked: list[Asked] = []
        self.connections: list[socket.socket] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.socket))
        self.listener.listen(100)
        self.threads = [threading.Thread(target=self.accept, name="fake store")]
        self.threads[0].start()

    def accept(self) -> None:
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            self.connections.append(connection)
            self.threads.append(threading.Thread(target=self.serve, args=(connection,), name="fake store"))
            self.threads[-1].start()

    def serve(self, connection: socket.socket) -> None:
        try:
            while header := connection.recv(HEADER.size, socket.MSG_WAITALL):
                type, number, transaction, length = HEADER.unpack(header)
                payload = connection.recv(length, socket.MSG_WAITALL) if length else b""
                asked = Asked(type, number, transaction, payload)
                self.asked.append(asked)
                for piece in self.answers(asked):
                    if piece is None:
                        connection.shutdown(socket.SHUT_RDWR)
                    else:
                        connection.sendall(piece)
        except OSError:
            pass  # The client has gone, or hang_up() was called.

    def hang_up(self) -> None:
        """End the connections that there are."""
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self) -> None:
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        finally:
            self.listener.close()
        self.threads[0].join(TIMEOUT)
        self.hang_up()
        for thread in self.threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        for connection in self.connections:
            connection.close()


@contextmanager
def fake_store(answers: Answers) -> Iterator[FakeStore]:
    """A FakeStore until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="xenstore-"))
    try:
        store = FakeStore(folder, answers)
        try:
            yield store
        finally:
            store.stop()
    finally:
        shutil.rmtree(folder)
