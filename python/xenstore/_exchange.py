# SPDX-License-Identifier: BSD-3-Clause
"""What both clients do with a connection, apart from waiting: bytes into messages, and answers to their requests."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Generic, TypeVar

from . import _wire
from ._transport import Transport
from ._wire import ERROR, HEADER, Message, Request, Type
from .error import ProtocolError, lost

W = TypeVar("W")

# Bytes; what is more is no message. The protocol has 4096, but oxenstored sends the whole of a big folder.
ANSWER_MAX = 1 << 20


class Parser:
    """Bytes, as they happen to arrive, into messages."""

    def __init__(self) -> None:
        self._pending = b""

    def read(self, transport: Transport) -> Iterator[Message]:
        """The messages that have come by now. ConnectionLost at the end of the stream; else as feed()."""
        try:
            data = transport.read()
        except BlockingIOError:
            return
        except OSError as error:
            raise lost("the store is gone", error) from None
        if not data:
            raise lost("the store closed the connection")
        yield from self.feed(data)

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete with these bytes. ProtocolError if it cannot be a message."""
        data = self._pending + data if self._pending else data
        start, end = 0, len(data)
        try:
            while end - start >= HEADER.size:
                type, request, transaction, length = HEADER.unpack_from(data, start)
                if length > ANSWER_MAX:
                    raise ProtocolError(errno.EPROTO, f"expected a message of at most {ANSWER_MAX} bytes from the "
                                        f"store, got one of type {type} that claims {length}")
                stop = start + HEADER.size + length
                if stop > end:
                    break
                payload = data[start + HEADER.size : stop]
                start = stop
                yield Message(type, request, transaction, payload)
        finally:
            self._pending = data[start:]


class Exchange(Generic[W]):
    """The requests that have no answer yet, each with who waits for it."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[int, W | None]] = {}  # by the request's number: type, and who waits
        self._last = 0

    def begin(self, request: Request, transaction: int, waiter: W) -> tuple[int, bytes]:
        """Expect an answer; returns the request's number and the bytes to send. InvalidRequest if it is too long."""
        number = self._last
        while True:
            number = number % 0xFFFFFFFF + 1  # 0 is what events have
            if number not in self._waiting:
                break
        message = _wire.pack(request, number, transaction)
        self._last = number
        self._waiting[number] = int(request.type), waiter
        return number, message

    def cancel(self, number: int) -> W | None:
        """The request was not sent: expect no answer. Returns who waits."""
        _, waiter = self._waiting.pop(number, (0, None))
        return waiter

    def abandon(self, number: int) -> None:
        """Nobody waits any more: if an answer comes, drop it."""
        if number in self._waiting:
            self._waiting[number] = self._waiting[number][0], None

    def match(self, message: Message) -> W | None:
        """Who waits for this answer. ProtocolError if it is none that was asked for."""
        number = message.request
        if number == 0 and message.type in (Type.WATCH, Type.UNWATCH):
            # Linux's device answers these itself, and before Linux 6.14 without their number.
            number = next((n for n, (type, _) in self._waiting.items() if type == message.type), 0)
        expected = self._waiting.get(number)
        if expected is None:
            raise ProtocolError(errno.EPROTO, f"expected the answer of a request, got one of type {message.type} with "
                                f"the unknown number {message.request}")
        type, waiter = expected
        if message.type != type and message.type != ERROR:
            raise ProtocolError(errno.EPROTO, f"expected an answer of type {type} for request {number}, got one of "
                                f"type {message.type}")
        del self._waiting[number]
        return waiter

    def waiters(self) -> Iterator[W]:
        """Those who wait."""
        return (waiter for _, waiter in self._waiting.values() if waiter is not None)
