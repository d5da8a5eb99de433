# SPDX-License-Identifier: BSD-3-Clause
"""One connection on an asyncio loop: many requests in flight, the answers as futures."""

from __future__ import annotations

import asyncio
import errno
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from . import _transport, _wire
from ._exchange import Exchange, Parser
from ._operations import Steps
from ._wire import Event, Message, Request
from .error import ConnectionLost, Timeout, XenstoreException, again, lost

T = TypeVar("T")


class Connection:
    """A connection, which belongs to the loop that runs; `on_end` is called once when it ends, whatever the reason."""

    def __init__(self, transport: _transport.Transport, on_end: Callable[[Connection], None]) -> None:
        self.failure: XenstoreException | None = None
        self._on_end = on_end
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parser = Parser()
        # An answer that is done already has been cancelled, or was too late.
        self._exchange: Exchange[tuple[Request, asyncio.Future[bytes]]] = Exchange()
        self._listeners: dict[str, Callable[[Event], None]] = {}  # by token
        self._unsent: deque[tuple[int, bytes]] = deque()  # numbers and messages; of the first, what is left
        self._flushing = False  # whether _flush is going to be called
        self._loop.add_reader(transport.fd, self._receive)

    async def run(self, steps: Steps[T], transaction: int = 0, timeout: float | None = None) -> T:
        """Run an operation, waiting for each answer up to `timeout` seconds (None: for ever)."""
        try:
            requests = next(steps)
            while True:
                pending: list[asyncio.Future[bytes]] = []
                answers: list[bytes] = []
                try:
                    for request in requests:
                        pending.append(self._ask(request, transaction, timeout))
                    for answer in pending:
                        answers.append(await answer)
                except BaseException as error:
                    for answer in pending:
                        answer.cancel()
                        answer.add_done_callback(_look)
                    requests = steps.throw(error)
                else:
                    requests = steps.send(answers)
        except StopIteration as end:
            return end.value

    def _ask(self, request: Request, transaction: int, timeout: float | None) -> asyncio.Future[bytes]:
        """Send a request; the future is its answer's payload, or Timeout."""
        if self.failure is not None:
            raise again(self.failure)
        answer: asyncio.Future[bytes] = self._loop.create_future()
        number, message = self._exchange.begin(request, transaction, (request, answer))
        self._unsent.append((number, message))
        if not self._flushing:
            # Later in this turn of the loop: other requests can join it.
            self._flushing = True
            self._loop.call_soon(self._flush)
        if timeout is not None:
            timer = self._loop.call_later(timeout, _settle, answer, Timeout(errno.ETIMEDOUT, "ETIMEDOUT", request.path))
            answer.add_done_callback(lambda _: timer.cancel())
        return answer

    def listen(self, token: str, listener: Callable[[Event], None]) -> None:
        """Call `listener` with each event of this token."""
        self._listeners[token] = listener

    def ignore(self, token: str) -> None:
        """Drop events with this token from here on."""
        self._listeners.pop(token, None)

    def fail(self, failure: XenstoreException) -> None:
        """End the connection: who waits gets this exception."""
        if self.failure is not None:
            return
        self.failure = failure
        self._loop.remove_reader(self._transport.fd)
        self._loop.remove_writer(self._transport.fd)
        self._transport.shutdown()
        self._transport.close()
        for _, answer in self._exchange.waiters():
            _settle(answer, again(failure))
        self._listeners.clear()
        self._unsent.clear()
        self._on_end(self)

    # Sending.

    def _flush(self) -> None:
        self._flushing = False
        try:
            while self._unsent:
                if self._transport.batches and len(self._unsent) > 1:
                    messages = b"".join([message for _, message in self._unsent])
                    number = self._unsent[-1][0]
                    self._unsent.clear()
                    self._unsent.append((number, messages))
                number, message = self._unsent[0]
                try:
                    written = self._transport.write(message)
                except XenstoreException as refused:
                    self._unsent.popleft()
                    waiting = self._exchange.cancel(number)
                    if waiting is not None:
                        _settle(waiting[1], refused)
                    continue
                if written < len(message):
                    self._unsent[0] = number, message[written:]
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            self._flushing = True
            self._loop.add_writer(self._transport.fd, self._writable)
        except OSError as error:
            self.fail(lost("the store is gone", error))

    def _writable(self) -> None:
        self._loop.remove_writer(self._transport.fd)
        self._flush()

    # Receiving.

    def _receive(self) -> None:
        try:
            for message in self._parser.read(self._transport):
                self._deliver(message)
        except XenstoreException as error:
            self.fail(error)

    def _deliver(self, message: Message) -> None:
        if message.type == _wire.WATCH_EVENT:
            event = _wire.event(message)
            listener = self._listeners.get(event.token)
            if listener is not None:
                listener(event)
            return
        waiting = self._exchange.match(message)
        if waiting is not None and not waiting[1].done():
            request, answer = waiting
            if message.type == _wire.ERROR:
                answer.set_exception(_wire.error(message, request))
            else:
                answer.set_result(message.payload)


def _settle(answer: asyncio.Future[bytes], exception: XenstoreException) -> None:
    if not answer.done():
        answer.set_exception(exception)


def _look(answer: asyncio.Future[bytes]) -> None:
    """Have asyncio know that nobody will miss this one's exception."""
    if not answer.cancelled():
        answer.exception()


async def connect(path: str, timeout: float | None, on_end: Callable[[Connection], None]) -> Connection:
    """Open the store at `path`. ConnectionLost if that fails, or takes more than `timeout` seconds."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            return Connection(_transport.connect(path), on_end)
        except ConnectionLost as error:
            if error.errno != errno.EAGAIN or (deadline is not None and time.monotonic() > deadline):
                raise
        await asyncio.sleep(_transport.BUSY_PAUSE)
