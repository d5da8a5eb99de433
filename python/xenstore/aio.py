# SPDX-License-Identifier: BSD-3-Clause
"""The client for asyncio: as `xenstore`, with coroutines, and watches that are asynchronous iterators."""

from __future__ import annotations

import asyncio
import builtins
import errno
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, TypeVar, overload

from . import _aio_connection, _operations, _transport
from ._aio_connection import Connection
from ._aio_watch import Watch as Watch
from ._operations import ATTEMPTS, RETRY_FIRST, RETRY_MOST, Steps
from ._wire import Permission
from .error import ConnectionLost, InvalidRequest, TransactionConflict, XenstoreException, closed

T = TypeVar("T")
Pending = Coroutine[Any, Any, T]  # what is to be awaited; nothing is sent before


class Operations:
    """What a store and a transaction both can do, as the methods of the same names in `xenstore`."""

    def _run(self, steps: Steps[T]) -> Pending[T]:
        raise NotImplementedError

    @overload
    def read(self, path: str, /) -> Pending[str]: ...

    @overload
    def read(self, path: str, second: str, /, *paths: str) -> Pending[dict[str, str]]: ...

    def read(self, *paths: str) -> Pending[str | dict[str, str]]:
        """The value of a node, or with several paths a dict of path and value, as text."""
        return self._run(_operations.read(paths))

    @overload
    def read_bytes(self, path: str, /) -> Pending[bytes]: ...

    @overload
    def read_bytes(self, path: str, second: str, /, *paths: str) -> Pending[dict[str, bytes]]: ...

    def read_bytes(self, *paths: str) -> Pending[bytes | dict[str, bytes]]:
        """The value of a node, or with several paths a dict of path and value, as bytes."""
        return self._run(_operations.read_bytes(paths))

    def write(self, values: Mapping[str, str | bytes]) -> Pending[None]:
        """Write each value to its path; nodes that are missing, folders included, are made."""
        return self._run(_operations.write(values))

    def mkdir(self, *paths: str) -> Pending[None]:
        """Make nodes with empty values, and the folders they are in. One that exists already is left as it is."""
        return self._run(_operations.mkdir(paths))

    def rm(self, *paths: str) -> Pending[None]:
        """Remove nodes and all that is below them. A node that is missing is no error, if its folder exists."""
        return self._run(_operations.rm(paths))

    def list(self, path: str) -> Pending[builtins.list[str]]:
        """The names of the nodes right below a node, in the store's order."""
        return self._run(_operations.list(path))

    def exists(self, path: str) -> Pending[bool]:
        """Whether there is such a node. EACCES if it may not be read."""
        return self._run(_operations.exists(path))

    async def walk(self, path: str) -> AsyncIterator[tuple[str, str, builtins.list[str]]]:
        """Each node from `path` downward as (path, value, names below), a node before those below it."""
        waiting = [path]
        while waiting:
            here = waiting.pop()
            found = await self._run(_operations.visit(here, optional=here != path))
            if found is not None:
                value, names = found
                yield here, value, names
                waiting += [_operations.join(here, name) for name in reversed(names)]

    @overload
    def get_permissions(self, path: str, /) -> Pending[dict[int, Permission]]: ...

    @overload
    def get_permissions(self, path: str, second: str, /,
                        *paths: str) -> Pending[dict[str, dict[int, Permission]]]: ...

    def get_permissions(self, *paths: str) -> Pending[dict[int, Permission] | dict[str, dict[int, Permission]]]:
        """The permissions of a node, or with several paths a dict of path and permissions; the owner's come first."""
        return self._run(_operations.get_permissions(paths))

    def set_permissions(self, path: str, permissions: Mapping[int, Permission]) -> Pending[None]:
        """Replace the permissions of a node."""
        return self._run(_operations.set_permissions(path, permissions))


class Xenstore(Operations):
    """A client of the store at `path`, by default this system's own (XENSTORED_PATH counts), with its own connection.

    It connects when it is used first, as by `async with`, and belongs to the loop of that time.

    reconnect: whether to connect again after the connection was lost. What was under way then fails all the same, and
    so do transactions; watches are restored, and each fires once.
    timeout: how many seconds to wait for an answer before Timeout is raised; by default, for ever.
    """

    def __init__(self, path: str | None = None, *, reconnect: bool = False, timeout: float | None = None) -> None:
        self.path = _transport.default_path() if path is None else path
        self.reconnect = reconnect
        self.timeout = timeout
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._closed = False
        self._watches: dict[str, Watch] = {}  # by token
        self._tokens = itertools.count(1)
        self._restoring: asyncio.Task[None] | None = None

    # The connection.

    async def _connected(self) -> Connection:
        """The connection, made at first and, if that is wanted, again."""
        connection = self._connection
        if connection is not None and (connection.failure is None or not self.reconnect):
            return connection
        async with self._connecting:
            if self._closed:
                raise closed()
            if self._connection is connection:
                new = await _aio_connection.connect(self.path, self.timeout, self._ended)
                try:
                    for watch in list(self._watches.values()):
                        await watch._restore(new)
                except BaseException as error:
                    new.fail(error if isinstance(error, XenstoreException) else closed())
                    raise
                self._connection = new
                if new.failure is not None:
                    self._ended(new)  # It ended when it was not yet ours.
            assert self._connection is not None
            return self._connection

    def _ended(self, connection: Connection) -> None:
        """The connection has ended, and with it the watches, unless they are to be restored."""
        if connection is not self._connection:
            return
        if self.reconnect and not self._closed:
            if self._watches:
                self._restoring = asyncio.get_running_loop().create_task(self._restore())
        else:
            for watch in list(self._watches.values()):
                watch._end()
            self._watches.clear()

    async def _restore(self) -> None:
        delay = RETRY_FIRST
        while self._watches:
            try:
                await self._connected()
                return
            except XenstoreException:
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_MOST)

    def _run(self, steps: Steps[T]) -> Pending[T]:
        connection = self._connection
        if connection is None or connection.failure is not None:
            return self._connect_and_run(steps)
        return connection.run(steps, 0, self.timeout)

    async def _connect_and_run(self, steps: Steps[T]) -> T:
        return await (await self._connected()).run(steps, 0, self.timeout)

    async def close(self) -> None:
        """End the connection, and with it the watches and what is under way."""
        self._closed = True
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.wait([self._restoring])
        async with self._connecting:
            if self._connection is not None:
                self._connection.fail(closed())
            for watch in list(self._watches.values()):
                watch._end()
            self._watches.clear()

    async def __aenter__(self) -> Xenstore:
        await self._connected()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Watches.

    def watch(self, path: str, depth: int | None = None) -> Watch:
        """A watch, for `async with`; it iterates over an Event for each change of the node or of one below it.

        The store reports each watch once at its start as well. path, depth: as in `xenstore`.
        """
        return Watch(self, path, depth)

    async def unwatch_all(self) -> None:
        """End all watches; their iterators end."""
        for watch in list(self._watches.values()):
            await watch.stop()

    # Domains and the daemon.

    def introduce(self, domid: int, gfn: int, port: int) -> Pending[None]:
        """Let a domain use the store: its ring is in guest frame `gfn`, and `port` is its event channel."""
        return self._run(_operations.introduce(domid, gfn, port))

    def release(self, domid: int) -> Pending[None]:
        """Let a domain use the store no more."""
        return self._run(_operations.release(domid))

    def resume(self, domid: int) -> Pending[None]:
        """Forget that a domain has shut down, so that its next shutdown is noticed too."""
        return self._run(_operations.resume(domid))

    def set_target(self, domid: int, target: int) -> Pending[None]:
        """Give a domain all rights of the domain `target`, as a stub domain needs."""
        return self._run(_operations.set_target(domid, target))

    def get_domain_path(self, domid: int) -> Pending[str]:
        """The folder of a domain, such as `/local/domain/7`, whether it exists or not. Any domain may ask."""
        return self._run(_operations.get_domain_path(domid))

    def is_domain_introduced(self, domid: int) -> Pending[bool]:
        """Whether a domain has been introduced, and not released since."""
        return self._run(_operations.is_domain_introduced(domid))

    async def reset_watches(self) -> None:
        """Drop all watches and transactions at the store. Any domain may ask."""
        await self._run(_operations.reset_watches())
        for watch in list(self._watches.values()):
            watch._end()
        self._watches.clear()

    def control(self, command: str, *arguments: str) -> Pending[str]:
        """A command to the daemon itself, as of xenstore-control; its answer. `help` lists those that it knows."""
        return self._run(_operations.control(command, arguments))

    def get_features(self, domid: int | None = None) -> Pending[int]:
        """What the store can do (bits), or what it offers to this domain. Xen 4.21 and later; others raise ENOSYS."""
        return self._run(_operations.get_features(domid))

    def set_features(self, domid: int, features: int) -> Pending[None]:
        """What the store shall offer to a domain, before that is introduced. Xen 4.21 and later."""
        return self._run(_operations.set_features(domid, features))

    def quota_names(self) -> Pending[builtins.list[str]]:
        """The names of the quotas. Xen 4.22 and later; others raise ENOSYS."""
        return self._run(_operations.quota_names())

    def get_quota(self, name: str, domid: int | None = None) -> Pending[int]:
        """A quota of this domain, or what new domains get; 0 is no limit. Xen 4.22 and later."""
        return self._run(_operations.get_quota(name, domid))

    def set_quota(self, name: str, value: int, domid: int | None = None) -> Pending[None]:
        """Set a quota of this domain, or what new domains get; 0 is no limit. Xen 4.22 and later."""
        return self._run(_operations.set_quota(name, value, domid))

    # Transactions.

    def transaction(self) -> Transaction:
        """A new transaction, for an `async with` block: committed at its end, aborted if it raises."""
        return Transaction(self)

    async def transact(self, function: Callable[[Transaction], Awaitable[T]], attempts: int = ATTEMPTS) -> T:
        """Await `function(transaction)` and commit, again and again while there are conflicts; returns its result.

        TransactionConflict after that many attempts, between which it sleeps at random, up to 0.1 s.
        """
        delays = _operations.delays(attempts)
        while True:
            try:
                async with self.transaction() as transaction:
                    return await function(transaction)
            except TransactionConflict:
                delay = next(delays, None)
                if delay is None:
                    raise
                await asyncio.sleep(delay)


class Transaction(Operations):
    """Operations that are done at once or not at all: `start`, operations, then `commit` or `abort`."""

    def __init__(self, store: Xenstore) -> None:
        self.store = store
        self._connection: Connection | None = None
        self._id = 0

    async def _run(self, steps: Steps[T]) -> T:
        connection = self._connection
        if connection is None:
            raise InvalidRequest(errno.EINVAL, "EINVAL: expected a transaction that has been started and not ended")
        if connection.failure is not None:
            raise ConnectionLost(connection.failure.errno, f"the transaction ended with its connection: "
                                 f"{connection.failure}")
        return await connection.run(steps, self._id, self.store.timeout)

    async def start(self) -> None:
        """Begin; also again after an end."""
        if self._connection is not None:
            raise InvalidRequest(errno.EBUSY, "EBUSY: expected a transaction that is not started, or has ended")
        connection = await self.store._connected()
        self._id = await connection.run(_operations.start(), 0, self.store.timeout)
        self._connection = connection

    async def commit(self) -> None:
        """Do it. TransactionConflict if somebody has changed meanwhile what this has used; then nothing is done."""
        await self._end(commit=True)

    async def abort(self) -> None:
        """Drop it."""
        await self._end(commit=False)

    async def _end(self, commit: bool) -> None:
        try:
            await self._run(_operations.end(commit))
        finally:
            self._connection = None

    async def __aenter__(self) -> Transaction:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        if self._connection is None:
            return  # It was ended in the block.
        if kind is None:
            await self.commit()
            return
        try:
            await self.abort()
        except XenstoreException:
            pass  # The block's own exception says more.
