# SPDX-License-Identifier: BSD-3-Clause
"""The synchronous client: `Xenstore` and `Transaction`."""

from __future__ import annotations

import builtins
import errno
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TypeVar, overload

from . import _connection, _operations, _transport
from ._connection import Connection
from ._operations import ATTEMPTS, Steps
from ._watch import Watch, Watcher
from ._wire import Permission
from .error import ConnectionLost, InvalidRequest, TransactionConflict, XenstoreException, closed

T = TypeVar("T")


class Operations:
    """What a store and a transaction both can do. Each raises XenstoreException; several paths are done in order."""

    def _run(self, steps: Steps[T]) -> T:
        raise NotImplementedError

    @overload
    def read(self, path: str, /) -> str: ...

    @overload
    def read(self, path: str, second: str, /, *paths: str) -> dict[str, str]: ...

    def read(self, *paths: str) -> str | dict[str, str]:
        """The value of a node, or with several paths a dict of path and value, as text.

        Text is UTF-8; a byte that is none comes as a lone surrogate (`surrogateescape`), so that a write of the same
        str restores it. Exact bytes: `read_bytes`. ENOENT if there is no such node.
        """
        return self._run(_operations.read(paths))

    @overload
    def read_bytes(self, path: str, /) -> bytes: ...

    @overload
    def read_bytes(self, path: str, second: str, /, *paths: str) -> dict[str, bytes]: ...

    def read_bytes(self, *paths: str) -> bytes | dict[str, bytes]:
        """The value of a node, or with several paths a dict of path and value, as bytes."""
        return self._run(_operations.read_bytes(paths))

    def write(self, values: Mapping[str, str | bytes]) -> None:
        """Write each value to its path; nodes that are missing, folders included, are made."""
        self._run(_operations.write(values))

    def mkdir(self, *paths: str) -> None:
        """Make nodes with empty values, and the folders they are in. One that exists already is left as it is."""
        self._run(_operations.mkdir(paths))

    def rm(self, *paths: str) -> None:
        """Remove nodes and all that is below them. A node that is missing is no error, if its folder exists."""
        self._run(_operations.rm(paths))

    def list(self, path: str) -> builtins.list[str]:
        """The names of the nodes right below a node, in the store's order."""
        return self._run(_operations.list(path))

    def exists(self, path: str) -> bool:
        """Whether there is such a node. EACCES if it may not be read."""
        return self._run(_operations.exists(path))

    def walk(self, path: str) -> Iterator[tuple[str, str, builtins.list[str]]]:
        """Each node from `path` downward as (path, value, names below), a node before those below it.

        ENOENT if there is none at `path`; other nodes that vanish meanwhile are left out. Names can be removed from
        the list before the next node is asked for: then they are not visited.
        """
        waiting = [path]
        while waiting:
            here = waiting.pop()
            found = self._run(_operations.visit(here, optional=here != path))
            if found is not None:
                value, names = found
                yield here, value, names
                waiting += [_operations.join(here, name) for name in reversed(names)]

    @overload
    def get_permissions(self, path: str, /) -> dict[int, Permission]: ...

    @overload
    def get_permissions(self, path: str, second: str, /, *paths: str) -> dict[str, dict[int, Permission]]: ...

    def get_permissions(self, *paths: str) -> dict[int, Permission] | dict[str, dict[int, Permission]]:
        """The permissions of a node, or with several paths a dict of path and permissions.

        Permissions are an ordered dict of domid and Permission. The first entry is the owner, who may do everything:
        its Permission is that of every domain that is not in the dict.
        """
        return self._run(_operations.get_permissions(paths))

    def set_permissions(self, path: str, permissions: Mapping[int, Permission]) -> None:
        """Replace the permissions of a node; in what order, see `get_permissions`."""
        self._run(_operations.set_permissions(path, permissions))


class Xenstore(Operations):
    """A client of the store at `path`: a Unix socket or a device, by default this system's own (XENSTORED_PATH counts).

    In one process all that have the same path share one connection, and any thread may use any of them at any time.

    reconnect: whether to connect again after the connection was lost. What was under way then fails all the same, and
    so do transactions; watches are restored, and each fires once.
    timeout: how many seconds to wait for an answer before Timeout is raised; by default, for ever.
    """

    def __init__(self, path: str | None = None, *, reconnect: bool = False, timeout: float | None = None) -> None:
        self.path = _transport.default_path() if path is None else path
        self.reconnect = reconnect
        self.timeout = timeout
        self._connecting = threading.Lock()
        self._watcher: Watcher | None = None
        self._closed = False
        self._hold(_connection.shared(self.path, timeout))

    # The connection.

    def _hold(self, connection: Connection) -> None:
        self._connection = connection
        self._finalizer = weakref.finalize(self, _connection.release, connection)
        self._finalizer.atexit = False

    def _connected(self) -> Connection:
        """The connection; if that was lost and another is wanted, a new one."""
        if self._closed:
            raise closed()
        connection = self._connection
        if connection.failure is not None and self.reconnect and connection.ours:
            with self._connecting:
                if self._connection is connection:
                    new = _connection.shared(self.path, self.timeout)
                    self._finalizer()
                    self._hold(new)
                connection = self._connection
        return connection

    def _run(self, steps: Steps[T]) -> T:
        return self._connected().run(steps, 0, self.timeout)

    def close(self) -> None:
        """End the watches of this object and its use of the connection; the last one that uses it closes it."""
        if not self._closed:
            self._closed = True
            try:
                self.watch_stop()
            finally:
                self._finalizer()

    def __enter__(self) -> Xenstore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Watches.

    def watch(self, path: str, callback: Callable[..., object], *arguments: object, depth: int | None = None) -> str:
        """Call `callback(changed path, token, *arguments)` whenever the node at `path`, or one below it, changes.

        Returns the token, which `unwatch` takes. The store reports each watch once at its start as well. Callbacks
        run one after the other in a background thread; they may use the store, and unwatch. One that raises is logged
        (logger `xenstore`), and is called again next time.

        path: may be special: `@introduceDomain` or `@releaseDomain`. Paths of events are relative if it is.
        depth: how many levels below `path` count, by default all; needs Xen 4.22, and others raise EINVAL.
        """
        self._connected().check()
        with self._connecting:
            if self._watcher is None:
                self._watcher = Watcher(self)
        return self._watcher.add(Watch(path, depth, callback, arguments))

    def unwatch(self, path: str, token: str) -> None:
        """End a watch: its callback is not called any more, though it may still be running. ENOENT if there is none."""
        watcher = self._own_watcher()
        if watcher is not None:
            watcher.remove(path, token)
        else:
            self._run(_operations.unwatch(path, token))

    def unwatch_all(self) -> None:
        """End the watches that were made with this object."""
        watcher = self._own_watcher()
        if watcher is not None:
            watcher.remove_all()

    def watch_stop(self) -> None:
        """End the watches that were made with this object, and wait for the thread that calls back."""
        watcher = self._own_watcher()
        if watcher is not None:
            watcher.stop()

    def _own_watcher(self) -> Watcher | None:
        """The watcher, but not the copy that a fork made: its lock may be held for ever."""
        return self._watcher if self._connection.ours else None

    # Domains and the daemon: for domain 0 alone, but for what says otherwise.

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        """Let a domain use the store: its ring is in guest frame `gfn`, and `port` is its event channel."""
        self._run(_operations.introduce(domid, gfn, port))

    def release(self, domid: int) -> None:
        """Let a domain use the store no more."""
        self._run(_operations.release(domid))

    def resume(self, domid: int) -> None:
        """Forget that a domain has shut down, so that its next shutdown is noticed too."""
        self._run(_operations.resume(domid))

    def set_target(self, domid: int, target: int) -> None:
        """Give a domain all rights of the domain `target`, as a stub domain needs."""
        self._run(_operations.set_target(domid, target))

    def get_domain_path(self, domid: int) -> str:
        """The folder of a domain, such as `/local/domain/7`, whether it exists or not. Any domain may ask."""
        return self._run(_operations.get_domain_path(domid))

    def is_domain_introduced(self, domid: int) -> bool:
        """Whether a domain has been introduced, and not released since."""
        return self._run(_operations.is_domain_introduced(domid))

    def reset_watches(self) -> None:
        """Drop all watches and transactions of this connection at the store. Any domain may ask.

        Watches that were made with this object end; those of other objects that share the connection fire no more.
        """
        self._run(_operations.reset_watches())
        if self._watcher is not None:
            self._watcher.forget_all()

    def control(self, command: str, *arguments: str) -> str:
        """A command to the daemon itself, as of xenstore-control; its answer. `help` lists those that it knows."""
        return self._run(_operations.control(command, arguments))

    def get_features(self, domid: int | None = None) -> int:
        """What the store can do (bits), or what it offers to this domain. Xen 4.21 and later; others raise ENOSYS."""
        return self._run(_operations.get_features(domid))

    def set_features(self, domid: int, features: int) -> None:
        """What the store shall offer to a domain, before that is introduced. Xen 4.21 and later."""
        self._run(_operations.set_features(domid, features))

    def quota_names(self) -> builtins.list[str]:
        """The names of the quotas. Xen 4.22 and later; others raise ENOSYS."""
        return self._run(_operations.quota_names())

    def get_quota(self, name: str, domid: int | None = None) -> int:
        """A quota of this domain, or what new domains get; 0 is no limit. Xen 4.22 and later."""
        return self._run(_operations.get_quota(name, domid))

    def set_quota(self, name: str, value: int, domid: int | None = None) -> None:
        """Set a quota of this domain, or what new domains get; 0 is no limit. Xen 4.22 and later."""
        self._run(_operations.set_quota(name, value, domid))

    # Transactions.

    def transaction(self) -> Transaction:
        """A new transaction, for a `with` block: committed at its end, aborted if it raises."""
        return Transaction(self)

    def transact(self, function: Callable[[Transaction], T], attempts: int = ATTEMPTS) -> T:
        """Call `function(transaction)` and commit, again and again while there are conflicts; returns its result.

        TransactionConflict after that many attempts, between which it sleeps at random, up to 0.1 s.
        """
        delays = _operations.delays(attempts)
        while True:
            try:
                with self.transaction() as transaction:
                    return function(transaction)
            except TransactionConflict:
                delay = next(delays, None)
                if delay is None:
                    raise
                time.sleep(delay)


class Transaction(Operations):
    """Operations that are done at once or not at all: `start`, operations, then `commit` or `abort`.

    store: by default, `Xenstore()`.
    """

    def __init__(self, store: Xenstore | None = None) -> None:
        self.store = Xenstore() if store is None else store
        self._connection: Connection | None = None
        self._id = 0

    def _run(self, steps: Steps[T]) -> T:
        connection = self._connection
        if connection is None:
            raise InvalidRequest(errno.EINVAL, "EINVAL: expected a transaction that has been started and not ended")
        if connection.failure is not None:
            raise ConnectionLost(connection.failure.errno, f"the transaction ended with its connection: "
                                 f"{connection.failure}")
        return connection.run(steps, self._id, self.store.timeout)

    def start(self) -> None:
        """Begin; also again after an end."""
        if self._connection is not None:
            raise InvalidRequest(errno.EBUSY, "EBUSY: expected a transaction that is not started, or has ended")
        connection = self.store._connected()
        self._id = connection.run(_operations.start(), 0, self.store.timeout)
        self._connection = connection

    def commit(self) -> None:
        """Do it. TransactionConflict if somebody has changed meanwhile what this has used; then nothing is done."""
        self._end(commit=True)

    def abort(self) -> None:
        """Drop it."""
        self._end(commit=False)

    def _end(self, commit: bool) -> None:
        try:
            self._run(_operations.end(commit))
        finally:
            self._connection = None

    def __enter__(self) -> Transaction:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self._connection is None:
            return  # It was ended in the block.
        if kind is None:
            self.commit()
            return
        try:
            self.abort()
        except XenstoreException:
            pass  # The block's own exception says more.
