# SPDX-License-Identifier: BSD-3-Clause
"""The watches of one Xenstore, and the thread that calls their callbacks."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from . import _operations
from ._connection import Connection, Listener
from ._operations import RETRY_FIRST, RETRY_MOST
from .error import ConnectionLost, XenstoreException, refusal

if TYPE_CHECKING:
    from ._client import Xenstore

log = logging.getLogger("xenstore")
_tokens = itertools.count(1)  # unique in this process, and so on each connection


class Watch(NamedTuple):
    """What `watch` was called with."""

    path: str
    depth: int | None
    callback: Callable[..., object]
    arguments: tuple[object, ...]


class Watcher:
    """The watches of `store`; a thread runs while there is one, and keeps the store alive for so long."""

    def __init__(self, store: Xenstore) -> None:
        self._store = store
        self._watches: dict[str, Watch] = {}  # by token
        self._listener = Listener()
        self._connection: Connection | None = None  # where they are watched
        self._thread: threading.Thread | None = None
        self._changing = threading.RLock()  # for all of the above, and their requests to the store

    def add(self, watch: Watch) -> str:
        """Watch at the store; returns the token."""
        with self._changing:
            connection = self._connect()
            token = f"{next(_tokens):x}"
            self._watches[token] = watch
            try:
                self._watch_at(connection, self._listener, token, watch)
            except BaseException:
                self._forget(token)
                raise
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, args=(connection, self._listener),
                                                name="xenstore watches", daemon=True)
                self._thread.start()
            return token

    def remove(self, path: str, token: str) -> None:
        """Unwatch at the store. ENOENT if there is no such watch; else, the callback is not called again."""
        with self._changing:
            watch = self._watches.get(token)
            if watch is not None and watch.path != path:
                raise refusal("ENOENT", path)
            connection = self._connection or self._store._connected()
            self._forget(token)
            try:
                connection.run(_operations.unwatch(path, token), 0, self._store.timeout)
            except ConnectionLost:
                pass  # And so is the watch.

    def remove_all(self) -> None:
        """Unwatch all of them. The first failure is raised, once all have been tried."""
        failures = []
        with self._changing:
            for token, watch in list(self._watches.items()):
                try:
                    self.remove(watch.path, token)
                except XenstoreException as error:
                    failures.append(error)
        if failures:
            raise failures[0]

    def forget_all(self) -> None:
        """They are gone at the store."""
        with self._changing:
            for token in list(self._watches):
                self._forget(token)
            self._end_thread_if_idle()

    def stop(self) -> None:
        """Unwatch all, and wait until the thread has ended, unless it is the thread that asks."""
        thread = self._thread
        try:
            self.remove_all()
        finally:
            self.forget_all()
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    def _watch_at(self, connection: Connection, listener: Listener, token: str, watch: Watch) -> None:
        connection.listen(token, listener)
        connection.run(_operations.watch(watch.path, token, watch.depth), 0, self._store.timeout)

    def _connect(self) -> Connection:
        """The connection on which all watches are, made anew if the store says so."""
        if self._connection is None or self._connection.failure is not None:
            connection, listener = self._store._connected(), Listener()
            for token, watch in list(self._watches.items()):
                try:
                    self._watch_at(connection, listener, token, watch)
                except XenstoreException as error:
                    if not _operations.is_final(error):
                        raise
                    log.error("the watch of %s could not be restored: %s", watch.path, error)
                    connection.ignore(token)
                    del self._watches[token]
            self._connection, self._listener = connection, listener
        return self._connection

    def _forget(self, token: str) -> None:
        """Drop a watch; with the last one the thread ends."""
        self._watches.pop(token, None)
        if self._connection is not None:
            self._connection.ignore(token)
            self._end_thread_if_idle()

    def _end_thread_if_idle(self) -> None:
        if not self._watches and self._connection is not None:
            self._connection.stop(self._listener)
            self._connection = self._thread = None

    # The thread.

    def _run(self, connection: Connection, listener: Listener) -> None:
        while True:
            try:
                event = connection.next_event(listener)
            except XenstoreException as failure:
                restored = self._restore(failure, listener)
                if restored is None:
                    return
                connection, listener = restored
                continue
            if event is None:
                return
            watch = self._watches.get(event.token)
            if watch is not None:
                try:
                    watch.callback(event.path, event.token, *watch.arguments)
                except Exception:
                    log.exception("the callback of the watch of %s failed", watch.path)

    def _restore(self, failure: XenstoreException, listener: Listener) -> tuple[Connection, Listener] | None:
        """Connect and watch again, if the store is to do so: as often as it takes, or until all have been unwatched."""
        delay = RETRY_FIRST
        while True:
            with self._changing:
                if self._thread is not threading.current_thread():
                    return None
                if not self._store.reconnect:
                    log.warning("%d watches have ended: %s", len(self._watches), failure)
                    for token in list(self._watches):
                        self._forget(token)
                    return None
                try:
                    connection = self._connect()
                    self._end_thread_if_idle()
                    return connection, self._listener
                except XenstoreException:
                    pass
            listener.sleep(delay)
            delay = min(2 * delay, RETRY_MOST)
