# SPDX-License-Identifier: BSD-3-Clause
"""One connection that many threads share. Whoever waits reads: there is no thread of its own behind it.

Of the threads that wait, one at a time leads: it reads what comes and hands it to whom it is for. When it has its own
answer it leaves, and rings for one of those that still wait. So a lone thread reads its own answer, as in a simple
client, and no answer waits for another thread to run.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
import weakref
from collections import deque
from typing import TypeVar

from . import _transport, _wire
from ._exchange import Exchange, Parser
from ._operations import Steps
from ._wire import Event, Message, Request
from .error import ConnectionLost, Timeout, XenstoreException, again, closed, lost

T = TypeVar("T")


class Waiter:
    """Somebody who waits until `done`, which is set with the connection's lock held."""

    __slots__ = ("_bell", "asleep", "done")

    def __init__(self) -> None:
        self.done = False
        self.asleep = False  # or about to
        self._bell = threading.Lock()
        self._bell.acquire()

    def ring(self) -> None:
        """Wake who sleeps, or will sleep, in `sleep`. With the connection's lock held."""
        self.asleep = False
        if self._bell.locked():
            self._bell.release()

    def sleep(self, timeout: float | None) -> None:
        self._bell.acquire(timeout=_patience(timeout))


class _Answer(Waiter):
    """Who waits for the answer of a request."""

    __slots__ = ("message", "number")

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.message: Message | None = None


class Listener(Waiter):
    """Who waits for events."""

    __slots__ = ("events", "stopped")

    def __init__(self) -> None:
        super().__init__()
        self.events: deque[Event] = deque()
        self.stopped = False


class _Poll:
    """Waiting for a file, by a thread that others can wake."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._woken, self._waker = os.pipe()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def readable(self, timeout: float | None) -> bool:
        """Wait up to `timeout` seconds (None: for ever). False if nothing has come, which may be because of `wake`."""
        for fd, _ in self._poll.poll(None if timeout is None else timeout * 1000):
            if fd == self._fd:
                return True
            os.read(self._woken, 4096)
        return False

    def writable(self, timeout: float | None) -> None:
        """Wait up to `timeout` seconds (None: for ever), or until the other side has gone."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll(None if timeout is None else timeout * 1000)

    def wake(self) -> None:
        os.write(self._waker, b"!")

    def close(self) -> None:
        os.close(self._woken)
        os.close(self._waker)


class Connection:
    """A connection to the store at `path`. ConnectionLost if there is none, or not within `timeout` seconds."""

    def __init__(self, path: str, timeout: float | None) -> None:
        self.path = path
        self.holders = 0  # the clients that share it; see `shared`
        self.failure: XenstoreException | None = None
        self.ours = True  # not a copy that a fork made
        self._transport = _connect(path, timeout)
        self._poll = _Poll(self._transport.fd)
        self._parser = Parser()
        self._exchange: Exchange[_Answer] = Exchange()
        self._listeners: dict[str, Listener] = {}  # by token
        self._leader: Waiter | None = None
        self._closed = False
        self._lock = threading.Lock()  # for all of the above
        self._sending = threading.Lock()  # taken before _lock, if both are needed

    # Requests.

    def run(self, steps: Steps[T], transaction: int = 0, timeout: float | None = None) -> T:
        """Run an operation, waiting for each answer up to `timeout` seconds (None: for ever)."""
        try:
            requests = next(steps)
            while True:
                try:
                    answers = self._ask(requests, transaction, timeout)
                except BaseException as error:
                    requests = steps.throw(error)
                else:
                    requests = steps.send(answers)
        except StopIteration as end:
            return end.value

    def _ask(self, requests: list[Request], transaction: int, timeout: float | None) -> list[bytes]:
        """Send requests and wait for all their answers; returns the payloads, or raises the first error."""
        deadline = None if timeout is None else time.monotonic() + timeout
        waiters = []
        unsent: dict[int, bytes] = {}
        try:
            with self._lock:
                self.check()
                for request in requests:
                    waiter = _Answer()
                    waiter.number, message = self._exchange.begin(request, transaction, waiter)
                    unsent[waiter.number] = message
                    waiters.append(waiter)
            if self._transport.batches:
                self._send(b"".join(unsent.values()), deadline)
                unsent.clear()
            while unsent:
                number, message = next(iter(unsent.items()))
                self._send(message, deadline)
                del unsent[number]
            for waiter in waiters:
                self.wait(waiter, deadline)
        except BaseException as error:
            with self._lock:
                for waiter in waiters:
                    if waiter.number in unsent and isinstance(error, XenstoreException):
                        self._exchange.cancel(waiter.number)
                    else:
                        self._exchange.abandon(waiter.number)
                self._promote()
            raise
        answers = []
        for request, waiter in zip(requests, waiters):
            assert waiter.message is not None
            if waiter.message.type == _wire.ERROR:
                raise _wire.error(waiter.message, request)
            answers.append(waiter.message.payload)
        return answers

    def check(self) -> None:
        """Raise the connection's failure, if there is one."""
        if self.failure is not None:
            raise again(self.failure)

    def _send(self, data: bytes, deadline: float | None) -> None:
        """Send all of it. A XenstoreException that leaves the connection as it was: nothing of it is sent."""
        rest = data
        try:
            while rest:
                with self._sending:
                    self.check()
                    while rest:
                        try:
                            rest = rest[self._transport.write(rest) :]
                        except BlockingIOError:
                            if len(rest) == len(data):
                                break  # Let others try meanwhile, who may have less time.
                            self._poll.writable(_left(deadline))
                if rest:
                    self._poll.writable(_left(deadline))
        except XenstoreException:
            if len(rest) < len(data):
                self.fail(self._cut_off())
            raise
        except OSError as error:
            self.fail(lost("the store is gone", error))
            self.check()
        except BaseException:
            if rest:
                self.fail(self._cut_off())
            raise

    def _cut_off(self) -> ConnectionLost:
        return ConnectionLost(errno.EPIPE, "the connection was given up, as a request was cut off midway")

    # Waiting.

    def wait(self, waiter: Waiter, deadline: float | None = None) -> None:
        """Wait until `waiter.done`. Timeout after the deadline (by time.monotonic); the connection's failure."""
        while True:
            try:
                with self._lock:
                    if waiter.done:
                        return
                    self.check()
                    if self._leader is None:
                        self._leader = waiter
                    leading = self._leader is waiter
                    waiter.asleep = not leading
                if leading:
                    self._lead(waiter, deadline)
                else:
                    waiter.sleep(_left(deadline))
            finally:
                # However this ends, and be it by KeyboardInterrupt.
                if self._leader is waiter:
                    self._leave()

    def _lead(self, waiter: Waiter, deadline: float | None) -> None:
        while not waiter.done and self.failure is None:
            if self._poll.readable(_left(deadline)):
                self._receive()

    def _receive(self) -> None:
        try:
            for message in self._parser.read(self._transport):
                self._deliver(message)
        except XenstoreException as error:
            self.fail(error)
        except BaseException:
            # Such as KeyboardInterrupt: what was read, and whose it was, may be lost.
            self.fail(ConnectionLost(errno.EPIPE, "the connection was given up, as reading was interrupted"))
            raise

    def _leave(self) -> None:
        with self._lock:
            self._leader = None
            self._promote()
        self._dispose()

    def _promote(self) -> None:
        """With nobody leading, ring for somebody who waits. With the lock held."""
        if self._leader is None:
            for waiter in (*self._exchange.waiters(), *self._listeners.values()):
                if waiter.asleep:
                    waiter.ring()
                    return

    def _deliver(self, message: Message) -> None:
        event = _wire.event(message) if message.type == _wire.WATCH_EVENT else None
        with self._lock:
            if event is not None:
                listener = self._listeners.get(event.token)
                if listener is not None:
                    listener.events.append(event)
                    listener.done = True
                    listener.ring()
                return
            waiter = self._exchange.match(message)
            if waiter is not None:
                waiter.message = message
                waiter.done = True
                waiter.ring()

    # Events.

    def listen(self, token: str, listener: Listener) -> None:
        """Let events with this token go to `listener`."""
        with self._lock:
            self.check()
            self._listeners[token] = listener

    def ignore(self, token: str) -> None:
        """Drop events with this token from here on."""
        with self._lock:
            self._listeners.pop(token, None)

    def next_event(self, listener: Listener) -> Event | None:
        """The next event of a listener; None once it is stopped. The connection's failure, when no event is left."""
        self.wait(listener)
        with self._lock:
            if listener.stopped:
                self._promote()
                return None
            event = listener.events.popleft()
            listener.done = bool(listener.events)
            return event

    def stop(self, listener: Listener) -> None:
        """Let `next_event` return None, whatever is left."""
        with self._lock:
            listener.stopped = listener.done = True
            listener.ring()
            if self._leader is not None and not self._closed:
                self._poll.wake()

    # The end.

    def fail(self, failure: XenstoreException) -> None:
        """End the connection: each waiter gets this exception."""
        with self._lock:
            if self.failure is None:
                self.failure = failure
                self._transport.shutdown()
                self._poll.wake()
            for waiter in [*self._exchange.waiters(), *self._listeners.values()]:
                waiter.ring()
        self._dispose()

    def _close(self) -> None:
        self._closed = True
        self._poll.close()
        self._transport.close()

    def disown(self) -> None:
        """In a child process: give up this copy of the parent's connection. The parent's threads are not here."""
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self.ours = False
        if not self._closed:
            self._close()
        self.failure = ConnectionLost(errno.EBADF, "the connection is the parent process's: this process needs a "
                                      "Xenstore of its own")

    def _dispose(self) -> None:
        """Close the file, once the connection has failed and nobody uses it."""
        if self.failure is not None:
            with self._sending, self._lock:
                if self._leader is None and not self._closed:
                    self._close()


def _connect(path: str, timeout: float | None) -> _transport.Transport:
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            return _transport.connect(path)
        except ConnectionLost as error:
            if error.errno != errno.EAGAIN or (deadline is not None and time.monotonic() > deadline):
                raise
        time.sleep(_transport.BUSY_PAUSE)


def _left(deadline: float | None) -> float | None:
    """The seconds to the deadline. Timeout if they are over."""
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise Timeout(errno.ETIMEDOUT, "ETIMEDOUT")
    return left


def _patience(timeout: float | None) -> float:
    """A time-out as locks have it."""
    return -1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)


# One connection for each path in this process.

_connections: weakref.WeakValueDictionary[str, Connection] = weakref.WeakValueDictionary()
_connecting = threading.RLock()  # the garbage collector may release one while another is made


def shared(path: str, timeout: float | None) -> Connection:
    """This process's connection to the store at `path`, made if there is none; `release` it after use."""
    with _connecting:
        connection = _connections.get(path)
        if connection is None or connection.failure is not None:
            connection = _connections[path] = Connection(path, timeout)
        connection.holders += 1
        return connection


def release(connection: Connection) -> None:
    """Give a connection back; the last one closes it."""
    with _connecting:
        connection.holders -= 1
        if connection.holders:
            return
        if _connections.get(connection.path) is connection:
            del _connections[connection.path]
    connection.fail(closed())


def _forget_the_parents() -> None:
    """In a new child process: the connections are the parent's, and so would be the answers."""
    global _connecting
    _connecting = threading.RLock()
    for connection in list(_connections.values()):
        connection.disown()
    _connections.clear()


os.register_at_fork(after_in_child=_forget_the_parents)
