# SPDX-License-Identifier: BSD-3-Clause
"""EventListener, a bounded queue of the events one wants, and Events, what a client needs to feed several."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from .error import ListenerError
from .message import Message

QUEUE_LIMIT = 10_000
HISTORY_LIMIT = 1_000

_logger = logging.getLogger(__name__)

EventFilter = Callable[[Message], bool]


class EventListener:
    """The events of these names (a name, several, or None for all) that the filter accepts, in order.

    The queue keeps the last `queue_limit` events that nobody has taken yet, the history the last `history_limit` that
    were accepted: `dropped` and `history_dropped` count what each let go of. A filter that raises accepts nothing, and
    the log has its exception.
    """

    def __init__(self, names: str | Iterable[str] | None = None, event_filter: EventFilter | None = None, *,
                 queue_limit: int = QUEUE_LIMIT, history_limit: int = HISTORY_LIMIT) -> None:
        if queue_limit < 1 or history_limit < 0:
            raise ValueError(f"expected a queue_limit of 1 or more and a history_limit of 0 or more, "
                             f"got {queue_limit} and {history_limit}")
        self.names: set[str] = {names} if isinstance(names, str) else set(names or ())
        self.event_filter = event_filter
        self.queue_limit = queue_limit
        self.dropped = 0
        self.history_dropped = 0
        self._queue: deque[Message] = deque()
        self._history: deque[Message] = deque(maxlen=history_limit)
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._is_read = False
        self._ended = False

    def __repr__(self) -> str:
        names = f" names={sorted(self.names)}" if self.names else ""
        return f"<{type(self).__name__}{names} queued={len(self._queue)} dropped={self.dropped}>"

    @property
    def history(self) -> tuple[Message, ...]:
        """The last events accepted, taken or not, from the oldest on."""
        return tuple(self._history)

    def accept(self, event: Message) -> bool:
        """Whether the listener wants this event."""
        if self.names and event.get("event") not in self.names:
            return False
        if self.event_filter is None:
            return True
        try:
            return bool(self.event_filter(event))
        except Exception:
            _logger.exception("the filter of %r raised an exception", self)
            return False

    def put(self, event: Message) -> None:
        """Queue the event, if the listener wants it."""
        if not self.accept(event):
            return
        if len(self._history) == self._history.maxlen:
            self.history_dropped += 1
        self._history.append(event)
        if len(self._queue) == self.queue_limit:
            if not self.dropped:
                # A queue that nobody reads, such as the client's own may be, is full for no reason to worry.
                level = logging.WARNING if self._is_read else logging.INFO
                _logger.log(level, "%r is full: from now on it drops the oldest event for each new one", self)
            self.dropped += 1
            self._queue.popleft()
        self._queue.append(event)
        self._wake()

    async def get(self) -> Message:
        """Take the next event, waiting for it. Raises ListenerError if there is none and none can come any more."""
        self._is_read = True
        while not self._queue:
            if self._ended:
                raise ListenerError("no more events: the connection has ended, or the listener was removed")
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                # Whoever was woken and cancelled at once has taken another's turn.
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                elif self._queue:
                    self._wake()
                raise
        return self._queue.popleft()

    def empty(self) -> bool:
        """Whether no event is queued."""
        return not self._queue

    def clear(self) -> list[Message]:
        """Take all that is queued. The history keeps it."""
        events = list(self._queue)
        self._queue.clear()
        return events

    def __aiter__(self) -> EventListener:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.get()
        except ListenerError:
            raise StopAsyncIteration from None

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_ended(self, ended: bool) -> None:
        """Once ended, what is queued can still be taken, and nobody waits for more."""
        self._ended = ended
        if ended:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()


class Events:
    """The listeners of a client. `events` is the one that is always there, and takes every event."""

    def __init__(self) -> None:
        self.events = EventListener()
        self._listeners = [self.events]
        self._ended = False

    def register_listener(self, listener: EventListener) -> None:
        """Let the listener have the events from now on. ListenerError if it is registered already."""
        if listener in self._listeners:
            raise ListenerError(f"{listener!r} is registered already")
        self._listeners.append(listener)
        listener._set_ended(self._ended)

    def remove_listener(self, listener: EventListener) -> None:
        """Let it have no more events, and drop those queued. ListenerError if it is not registered, or is `events`."""
        if listener is self.events:
            raise ListenerError("the client's own listener cannot be removed")
        if listener not in self._listeners:
            raise ListenerError(f"{listener!r} is not registered")
        self._listeners.remove(listener)
        listener.clear()
        listener._set_ended(True)

    @contextmanager
    def listen(self, *listeners: EventListener) -> Iterator[None]:
        """Have these listeners registered inside a `with` block."""
        registered: list[EventListener] = []
        try:
            for listener in listeners:
                self.register_listener(listener)
                registered.append(listener)
            yield
        finally:
            for listener in registered:
                self.remove_listener(listener)

    @contextmanager
    def listener(self, names: str | Iterable[str] | None = None,
                 event_filter: EventFilter | None = None) -> Iterator[EventListener]:
        """Have a new listener inside a `with` block."""
        listener = EventListener(names, event_filter)
        with self.listen(listener):
            yield listener

    def _event_dispatch(self, event: Message) -> None:
        for listener in self._listeners:
            listener.put(event)

    def _set_ended(self, ended: bool) -> None:
        """The connection has ended, and with it each iteration; or a new one begins."""
        self._ended = ended
        for listener in self._listeners:
            listener._set_ended(ended)
