# SPDX-License-Identifier: BSD-3-Clause
"""A watch as an asynchronous iterator."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from typing import TYPE_CHECKING

from . import _operations
from ._aio_connection import Connection
from ._wire import Event
from .error import ConnectionLost, InvalidRequest, XenstoreException

if TYPE_CHECKING:
    from .aio import Xenstore

log = logging.getLogger("xenstore")


class Watch:
    """A watch of `store`: use it as an asynchronous context manager, and iterate over it for its events.

    The iteration ends when the watch does: by `stop`, or with the connection.
    """

    def __init__(self, store: Xenstore, path: str, depth: int | None) -> None:
        self.path = path
        self.depth = depth
        self.token = ""
        self._store = store
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    async def start(self) -> None:
        """Watch at the store."""
        if self.token:
            raise InvalidRequest(errno.EBUSY, "EBUSY: expected a watch that has not been started", self.path)
        connection = await self._store._connected()
        self.token = f"{next(self._store._tokens):x}"
        self._store._watches[self.token] = self
        try:
            await self._register(connection)
        except BaseException:
            self._forget(connection)
            raise

    async def stop(self) -> None:
        """Unwatch at the store; the iteration ends."""
        if self._store._watches.get(self.token) is self:
            connection = self._store._connection
            assert connection is not None
            self._forget(connection)
            try:
                await connection.run(_operations.unwatch(self.path, self.token), 0, self._store.timeout)
            except ConnectionLost:
                pass  # And so is the watch.

    async def _register(self, connection: Connection) -> None:
        connection.listen(self.token, self._fired)
        await connection.run(_operations.watch(self.path, self.token, self.depth), 0, self._store.timeout)

    async def _restore(self, connection: Connection) -> None:
        """Watch again, on a new connection. A watch that the store refuses now ends."""
        try:
            await self._register(connection)
        except XenstoreException as error:
            if not _operations.is_final(error):
                raise
            log.error("the watch of %s could not be restored: %s", self.path, error)
            self._forget(connection)
            return
        if self._ended:  # It was stopped meanwhile.
            connection.ignore(self.token)
            await connection.run(_operations.unwatch(self.path, self.token), 0, self._store.timeout)

    def _forget(self, connection: Connection) -> None:
        self._store._watches.pop(self.token, None)
        connection.ignore(self.token)
        self._end()

    def _fired(self, event: Event) -> None:
        self._events.append(event)
        self._changed.set()

    def _end(self) -> None:
        self._ended = True
        self._changed.set()

    async def __aenter__(self) -> Watch:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Event:
        if not self.token:
            raise InvalidRequest(errno.EINVAL, "EINVAL: expected a watch that has been started, as by `async with`")
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft()
