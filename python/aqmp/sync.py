# SPDX-License-Identifier: BSD-3-Clause
"""SyncQMPClient, a QMPClient for code that is not asynchronous; any number of threads may share one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from ssl import SSLContext
from typing import TypeVar

from .error import ExecInterruptedError, ListenerError, QMPError
from .events import EventFilter, EventListener
from .message import Message
from .models import Greeting
from .protocol import CONNECT_TIMEOUT, Runstate
from .qmp_client import QMPClient
from .stream import SocketAddrT

R = TypeVar("R")


class SyncQMPClient:
    """The methods of `client` (a new QMPClient if None, or a ReconnectingClient …) as calls that wait.

    A thread of its own runs the event loop, until close() or the end of the `with` block. The methods raise what the
    client's do; once it is closed, RuntimeError.
    """

    def __init__(self, client: QMPClient | None = None) -> None:
        self._client = client or QMPClient()
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._closed = False
        # A forgotten client does not keep the process from its end.
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"{self!r}", daemon=True)
        self._thread.start()
        self.events = SyncListener(self, self._client.events)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._client!r}>"

    def __enter__(self) -> SyncQMPClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def runstate(self) -> Runstate:
        """Where the connection is in its life."""
        return self._client.runstate

    @property
    def greeting(self) -> Greeting | None:
        """What the monitor said first."""
        return self._client.greeting

    def connect(self, address: SocketAddrT | socket.socket, ssl: SSLContext | None = None, *,
                timeout: float | None = CONNECT_TIMEOUT) -> None:
        """As QMPClient.connect()."""
        self._wait(self._client.connect(address, ssl, timeout=timeout))

    def start_server_and_accept(self, address: SocketAddrT, ssl: SSLContext | None = None, *,
                                timeout: float | None = None) -> None:
        """As QMPClient.start_server_and_accept()."""
        self._wait(self._client.start_server_and_accept(address, ssl, timeout=timeout))

    def execute(self, cmd: str, arguments: Mapping[str, object] | None = None, oob: bool = False, *,
                timeout: float | None = None) -> object:
        """As QMPClient.execute()."""
        return self._wait(self._client.execute(cmd, arguments, oob, timeout=timeout))

    def execute_msg(self, msg: Message, *, timeout: float | None = None) -> object:
        """As QMPClient.execute_msg()."""
        return self._wait(self._client.execute_msg(msg, timeout=timeout))

    def send_fd_scm(self, fd: int) -> None:
        """As QMPClient.send_fd_scm()."""
        self._run(lambda: self._client.send_fd_scm(fd))

    @contextmanager
    def listener(self, names: str | Iterable[str] | None = None,
                 event_filter: EventFilter | None = None) -> Iterator[SyncListener]:
        """As QMPClient.listener(). The filter is called in the client's thread."""
        listener = EventListener(names, event_filter)
        self._run(lambda: self._client.register_listener(listener))
        try:
            yield SyncListener(self, listener)
        finally:
            self._run(lambda: self._client.remove_listener(listener))

    def disconnect(self) -> None:
        """As QMPClient.disconnect(). The client can connect again."""
        self._wait(self._client.disconnect())

    def close(self) -> None:
        """Disconnect and end the thread; calls that others are waiting in are interrupted. Raises what disconnect()
        does, after all is done. To close twice is to close once.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _shut_down(self) -> None:
        try:
            await self._client.disconnect()
        finally:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _wait(self, coroutine: Coroutine[object, object, R], closed: type[QMPError] = ExecInterruptedError) -> R:
        """Run a coroutine in the client's thread, and wait for its result. Raises `closed` if close() comes first."""
        with self._lock:
            if self._closed or threading.current_thread() is self._thread:
                coroutine.close()
                raise RuntimeError("the client is closed" if self._closed else
                                   "a filter cannot call its own client: it is called in the client's thread")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise closed("the client was closed") from None
        except BaseException:
            # Ctrl-C, or the coroutine's own exception, after which there is nothing to cancel.
            future.cancel()
            raise

    def _run(self, function: Callable[[], R]) -> R:
        """Call a function in the client's thread."""

        async def call() -> R:
            return function()

        return self._wait(call())


class SyncListener:
    """An EventListener whose methods wait. Iteration ends with the connection."""

    def __init__(self, client: SyncQMPClient, listener: EventListener) -> None:
        self._client = client
        self._listener = listener

    @property
    def dropped(self) -> int:
        """How many events the queue has let go of."""
        return self._listener.dropped

    @property
    def history(self) -> tuple[Message, ...]:
        """The last events accepted, from the oldest on."""
        return self._client._run(lambda: self._listener.history)

    def get(self, timeout: float | None = None) -> Message:
        """Take the next event. Raises TimeoutError after `timeout` seconds; ListenerError if none can come any more."""
        return self._client._wait(asyncio.wait_for(self._listener.get(), timeout), ListenerError)

    def empty(self) -> bool:
        """Whether no event is queued."""
        return self._listener.empty()

    def clear(self) -> list[Message]:
        """Take all that is queued."""
        return self._client._run(self._listener.clear)

    def __iter__(self) -> Iterator[Message]:
        while True:
            try:
                yield self.get()
            except ListenerError:
                return
