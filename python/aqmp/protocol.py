# SPDX-License-Identifier: BSD-3-Clause
"""AsyncProtocol, a connection that carries messages of some type T: how it comes about, runs and ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum
from functools import partial
from ssl import SSLContext
from typing import Generic, TypeVar

from . import stream
from .error import ConnectError, DeserializationError, StateError
from .stream import Descriptor, SocketAddrT, Streams

T = TypeVar("T")

CONNECT_TIMEOUT = 30.0  # seconds
LIMIT = 1 << 28  # bytes; a peer that sends more in one message is broken, or wants our memory
# The peer is gone.
HANG_UP = (ConnectionResetError, BrokenPipeError)
_FLUSH_TIMEOUT = 2.0  # seconds; how long disconnect() waits for a peer that does not read


class Runstate(Enum):
    """Where a connection is in its life."""

    IDLE = 0
    CONNECTING = 1
    RUNNING = 2
    DISCONNECTING = 3


class AsyncProtocol(Generic[T]):
    """One connection at a time, with a task that reads and one that writes.

    A subclass says what a message is (`_do_recv`, `_do_send`), what becomes of one that came (`_on_message`), how a
    session begins (`_establish_session`) and what is left to do at its end (`_cleanup`). `_cb_inbound` and
    `_cb_outbound` see every message that comes and goes, and log it.

    `name` appears in the log; `limit` is the most bytes that a message may have, None for no limit.
    """

    logger = logging.getLogger(__name__)

    def __init__(self, name: str | None = None, limit: int | None = LIMIT) -> None:
        self.name = name
        self.limit = limit
        if name:
            self.logger = self.logger.getChild(name)
        self._runstate = Runstate.IDLE
        self._watchers: list[asyncio.Future[Runstate]] = []
        self._listener: socket.socket | None = None
        self._listener_ssl: SSLContext | None = None
        self._opening: asyncio.Timeout | None = None
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: Exception | None = None
        # One connection's own, see _open.
        self._outgoing: asyncio.Queue[bytes | Descriptor | None]
        self._lines: deque[bytes]
        self._partial: list[bytes]
        self._size: int
        self._lost: bool

    def __repr__(self) -> str:
        name = f" name={self.name!r}" if self.name else ""
        return f"<{type(self).__name__}{name} runstate={self._runstate.name}>"

    @property
    def runstate(self) -> Runstate:
        """Where the connection is in its life."""
        return self._runstate

    async def runstate_changed(self) -> Runstate:
        """Wait for the next change of the runstate, and return what it changed to."""
        watcher = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        try:
            return await watcher
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    async def connect(self, address: SocketAddrT | socket.socket, ssl: SSLContext | None = None, *,
                      timeout: float | None = CONNECT_TIMEOUT) -> None:
        """Connect to a path, to (host, port), or over a socket that is connected already, which then is ours.

        Raises ConnectError, also if the session does not stand within `timeout` seconds (None: no limit); StateError
        unless IDLE.
        """
        self._require(Runstate.IDLE, "connect")
        await self._open(partial(stream.dial, address, ssl), timeout, f"cannot connect to {_named(address)}")

    async def open_with_socket(self, sock: socket.socket) -> None:
        """connect() over a socket that is connected already."""
        await self.connect(sock)

    async def start_server(self, address: SocketAddrT, ssl: SSLContext | None = None) -> None:
        """Listen for one peer that accept() waits for. Raises ConnectError; StateError unless IDLE."""
        self._require(Runstate.IDLE, "start_server")
        if self._listener is not None:
            raise StateError("start_server: it listens already", self._runstate, Runstate.IDLE)
        try:
            self._listener = await stream.bind(address)
        except OSError as error:
            raise ConnectError(f"cannot listen on {_named(address)}", error) from error
        self._listener_ssl = ssl

    async def accept(self, *, timeout: float | None = None) -> None:
        """Wait for a peer, and stop listening once it is there. Raises what connect() does."""
        self._require(Runstate.IDLE, "accept")
        try:
            await self._accept(timeout)
        finally:
            self._stop_listening()

    async def start_server_and_accept(self, address: SocketAddrT, ssl: SSLContext | None = None, *,
                                      timeout: float | None = None) -> None:
        """start_server(), then accept()."""
        await self.start_server(address, ssl)
        await self.accept(timeout=timeout)

    async def disconnect(self) -> None:
        """End the connection and wait for its tasks; what was sent before goes out first.

        Raises, once, the exception that ended the connection before: a ProtocolError, or an OSError. That the peer
        hung up between two messages is none. Without a connection it does nothing else.
        """
        self._stop_listening()
        if self._opening is not None:
            self._opening.reschedule(0)
            while self._runstate is Runstate.CONNECTING:
                await self.runstate_changed()
        if self._task is not None:
            self._outgoing.put_nowait(None)
            # Not wait_for(): neither its time-out nor a cancelled disconnect() may leave the task half done.
            done, _ = await asyncio.wait({self._task}, timeout=_FLUSH_TIMEOUT)
            if not done:
                self._task.cancel()
                await asyncio.wait({self._task})
        error, self._error = self._error, None
        if error is not None:
            raise error

    # What a subclass provides.

    async def _establish_session(self) -> None:
        """Greet and negotiate, with _recv() and _send_now(). What it raises becomes a ConnectError."""

    async def _do_recv(self) -> T:
        """Read one message. Raises EOFError at the end; a ProtocolError of what is no message."""
        raise NotImplementedError

    def _do_send(self, msg: T) -> bytes:
        """The bytes of one message."""
        raise NotImplementedError

    def _on_message(self, msg: T) -> None:
        """Do what a message that came asks for. A ProtocolError ends the connection."""
        raise NotImplementedError

    def _cleanup(self, lost: bool) -> None:
        """Let go of what belonged to the connection. `_error` is what ended it, and `lost` tells that nobody here did.
        """

    def _cb_inbound(self, msg: T) -> T:
        """See, or replace, a message that came."""
        self.logger.debug("<-- %r", msg)
        return msg

    def _cb_outbound(self, msg: T) -> T:
        """See, or replace, a message that is about to go."""
        self.logger.debug("--> %r", msg)
        return msg

    # What a subclass calls.

    async def _readline(self) -> bytes:
        """Read a line of any length up to the limit, without its end. Raises EOFError, DeserializationError."""
        while not self._lines:
            chunk = await self._read_some()
            if not chunk:
                if self._size:
                    raise DeserializationError("the connection ended within a message", b"".join(self._partial))
                raise EOFError
            first, *others = chunk.split(b"\n")
            self._partial.append(first)
            self._size += len(first)
            if others:
                self._lines.append(b"".join(self._partial))
                self._partial = [others.pop()]
                self._size = len(self._partial[0])
                self._lines.extend(others)
            elif self.limit is not None and self._size > self.limit:
                raise self._too_long(b"".join(self._partial))
        line = self._lines.popleft()
        if self.limit is not None and len(line) > self.limit:
            raise self._too_long(line)
        return line

    async def _read_some(self) -> bytes:
        """What has come; nothing at the end. That the peer left something of ours unread makes no difference."""
        try:
            return await self._reader.read(stream.CHUNK)
        except HANG_UP:
            return b""

    def _too_long(self, raw: bytes) -> DeserializationError:
        return DeserializationError(f"a message is longer than the limit of {self.limit} bytes", raw)

    async def _recv(self) -> T:
        return self._cb_inbound(await self._do_recv())

    def _send(self, msg: T) -> None:
        """Give a message to the writing task. What cannot be sent fails here, and not there."""
        self._outgoing.put_nowait(self._do_send(self._cb_outbound(msg)))

    async def _send_now(self, msg: T) -> None:
        """Send a message while there is no writing task yet."""
        self._put(self._do_send(self._cb_outbound(msg)))
        await self._writer.drain()

    def _put(self, data: bytes) -> None:
        self._writer.write(data)

    def _spawn(self, coroutine: Coroutine[object, object, None], role: str) -> asyncio.Task[None]:
        """Run a task that ends with the connection at the latest."""
        task = asyncio.create_task(coroutine, name=f"{self!r} {role}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _require(self, state: Runstate, call: str) -> None:
        if self._runstate is not state:
            raise StateError(f"{call}: the connection is {self._runstate.name}, and would have to be {state.name}",
                             self._runstate, state)

    # The life of a connection.

    def _set_state(self, state: Runstate) -> None:
        if state is self._runstate:
            return
        self.logger.debug("%s -> %s", self._runstate.name, state.name)
        self._runstate = state
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(state)

    async def _open(self, streams: Callable[[], Awaitable[Streams]], timeout: float | None, failure: str) -> None:
        """From IDLE to RUNNING, or back."""
        self._error = None
        self._outgoing, self._lines, self._partial, self._size = asyncio.Queue(), deque(), [], 0
        self._set_state(Runstate.CONNECTING)
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(timeout) as self._opening:
                self._reader, self._writer = await streams()
                writer = self._writer
                await self._establish_session()
        except BaseException as error:
            if writer is not None:
                stream.abort(writer)
            stopped = self._opening is not None and self._opening.when() == 0
            self._opening = None
            self._set_state(Runstate.IDLE)
            if stopped and isinstance(error, TimeoutError):
                raise ConnectError(failure, ConnectionAbortedError("disconnect() was called")) from None
            if isinstance(error, TimeoutError) and not error.args:
                error = TimeoutError(
                    f"no {'connection' if writer is None else 'session'} within {timeout:g} s (a monitor serves one "
                    f"client at a time)")
            if isinstance(error, Exception):
                raise ConnectError(failure, error) from error
            raise
        self._opening = None
        self._lost = False
        self._set_state(Runstate.RUNNING)
        self._task = asyncio.create_task(self._run(), name=f"{self!r} supervisor")
        self._task.add_done_callback(self._finish)

    async def _accept(self, timeout: float | None) -> None:
        if self._listener is None:
            raise StateError("accept: call start_server first", self._runstate, Runstate.IDLE)
        await self._open(partial(stream.accept, self._listener, self._listener_ssl), timeout, "no peer came")

    async def _run(self) -> None:
        """The task of a connection: it starts the reading and the writing one, and gathers them and all others."""
        tasks = [self._spawn(self._read(), "reader"), self._spawn(self._write(), "writer")]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # The writing task ends by itself for disconnect() alone.
            self._lost = tasks[1] not in done or tasks[1].exception() is not None
        finally:
            self._set_state(Runstate.DISCONNECTING)
            tasks += self._tasks.difference(tasks)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            errors = [e for e in results if isinstance(e, Exception)]
            self._error = errors[0] if errors else None
            if not errors:
                await self._close()

    def _finish(self, _: asyncio.Task[None]) -> None:
        """The end of a connection: what does not wait, and is done even if _run was cancelled at its start."""
        stream.abort(self._writer)
        while not self._outgoing.empty():
            if isinstance(item := self._outgoing.get_nowait(), Descriptor):
                item.close()
        self._task = None
        self._cleanup(self._lost)
        self._set_state(Runstate.IDLE)

    async def _read(self) -> None:
        try:
            while True:
                self._on_message(await self._recv())
        except EOFError:
            self.logger.debug("the peer hung up")

    async def _write(self) -> None:
        try:
            await self._write_all()
        except HANG_UP:
            # The reading task sees it too, after what came before.
            await asyncio.Event().wait()

    async def _write_all(self) -> None:
        while (item := await self._outgoing.get()) is not None:
            if isinstance(item, bytes):
                self._put(item)
                await self._writer.drain()
            else:
                try:
                    await item.send()
                finally:
                    item.close()

    async def _close(self) -> None:
        """Say goodbye, which takes a moment under TLS."""
        self._writer.close()
        try:
            async with asyncio.timeout(_FLUSH_TIMEOUT):
                await self._writer.wait_closed()
        except (TimeoutError, asyncio.CancelledError) as error:
            self._writer.transport.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
        except OSError as error:
            self.logger.debug("closing: %s", error)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            stream.close(self._listener)
            self._listener = None


def _named(address: object) -> str:
    if isinstance(address, tuple) and len(address) == 2:
        return f"{address[0]}:{address[1]}"
    return "the socket" if isinstance(address, socket.socket) else str(address)
