# SPDX-License-Identifier: BSD-3-Clause
"""ReconnectingClient, a QMPClient that outlives its connections."""

from __future__ import annotations

import asyncio
import socket
from ssl import SSLContext
from typing import TypeAlias

from .error import ConnectError, ExecTimeoutError, StateError
from .message import Message
from .protocol import CONNECT_TIMEOUT, LIMIT, Runstate
from .qmp_client import QMPClient, command_name
from .stream import SocketAddrT

_Target: TypeAlias = tuple[SocketAddrT, SSLContext | None, float | None]


class ReconnectingClient(QMPClient):
    """A QMPClient that, once connected, connects again by itself when it loses its connection, until disconnect().

    Commands in flight raise ExecInterruptedError and are not repeated: they may have run. New ones wait for the
    connection. Listeners stay, and their iterations go on; what happened in the meantime they do not learn, so look
    at `connections`, or at connected(), where that matters.

    It waits `first_delay` seconds before the first try, and twice as long before each next, up to `longest_delay`.
    """

    def __init__(self, name: str | None = None, limit: int | None = LIMIT, *, first_delay: float = 0.1,
                 longest_delay: float = 5.0) -> None:
        super().__init__(name, limit)
        self.first_delay = first_delay
        self.longest_delay = longest_delay
        self.connections = 0
        self._target: _Target | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        # Set while RUNNING, and to tell those who wait that there will be no connection.
        self._settled = asyncio.Event()

    async def connect(self, address: SocketAddrT | socket.socket, ssl: SSLContext | None = None, *,
                      timeout: float | None = CONNECT_TIMEOUT) -> None:
        """Connect to a path or (host, port), and keep connected. Raises what QMPClient.connect() does, at first.

        Each try has `timeout` seconds. Raises ValueError for a socket: it cannot be connected again.
        """
        if isinstance(address, socket.socket):
            raise ValueError("expected a path or (host, port), got a socket, which cannot be connected again")
        if self._target is not None:
            raise StateError("connect: the client connects by itself", self.runstate, Runstate.IDLE)
        self._settled = asyncio.Event()
        await super().connect(address, ssl, timeout=timeout)
        self._target = address, ssl, timeout
        self.connections += 1

    async def connected(self) -> int:
        """Wait until there is a connection, and return the how manieth it is. Raises StateError after disconnect()."""
        while self._target is not None and self.runstate is not Runstate.RUNNING:
            await self._settled.wait()
        self._require(Runstate.RUNNING, "connected")
        return self.connections

    async def disconnect(self) -> None:
        """As QMPClient's; the connections that were lost before are no errors of it."""
        self._target = None
        self._settled.set()
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.wait({self._reconnecting})
        await super().disconnect()
        self._set_ended(True)

    async def _exchange(self, msg: Message, assign_id: bool, timeout: float | None) -> Message:
        if self.runstate is not Runstate.RUNNING:
            start = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(timeout):
                    await self.connected()
            except TimeoutError as error:
                raise ExecTimeoutError(f"{command_name(msg)}: no connection within {timeout:g} s") from error
            if timeout is not None:
                timeout -= asyncio.get_running_loop().time() - start
        return await super()._exchange(msg, assign_id, timeout)

    def _set_state(self, state: Runstate) -> None:
        super()._set_state(state)
        if state is Runstate.RUNNING:
            self._settled.set()
        else:
            self._settled.clear()

    def _cleanup(self, lost: bool) -> None:
        if not lost or self._target is None:
            self._target = None
            self._settled.set()
            super()._cleanup(lost)
            return
        self.logger.warning("%r lost its connection: %s", self, self._error or "the server hung up")
        self._interrupt()
        self._error = None
        self._reconnecting = asyncio.create_task(self._reconnect(*self._target), name=f"{self!r} reconnecting")

    async def _reconnect(self, address: SocketAddrT, ssl: SSLContext | None, timeout: float | None) -> None:
        delay = self.first_delay
        while True:
            await asyncio.sleep(delay)
            try:
                await super().connect(address, ssl, timeout=timeout)
            except ConnectError as error:
                self.logger.info("%s", error)
                delay = min(2 * delay, self.longest_delay)
            else:
                self.connections += 1
                return
