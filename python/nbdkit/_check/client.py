# SPDX-License-Identifier: BSD-3-Clause
"""Requests by libnbd, any number of them at once, each of which is answered in time or is a fault."""

from __future__ import annotations

import time
from collections.abc import Callable

try:
    import nbd
except ModuleNotFoundError:
    raise ModuleNotFoundError("this needs libnbd's Python module: Debian's package is python3-libnbd") from None

from .steps import Request

PATIENCE = 15.0  # seconds for an answer; a server that has not answered by then never will


class NoAnswer(Exception):
    """The server has not answered in time."""


def new_handle(export: str = "") -> nbd.NBD:
    """A handle that is not connected yet, which is going to ask for extents as well."""
    handle = nbd.NBD()
    if export:
        handle.set_export_name(export)
    handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    return handle


class Client:
    """A connection. Raises nbd.Error for what fails."""

    def __init__(self, socket: str, export: str, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.handle = new_handle(export)
        self.handle.aio_connect_unix(socket)
        self._wait(self.handle.aio_is_ready, "a client that connects is not answered")

    def _wait(self, done: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + self.patience
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoAnswer(f"{what} within {self.patience:g} s")
            self.handle.poll(max(1, int(left * 1000)))

    def leave(self) -> bool:
        """Say goodbye, if there is a connection, whatever it is busy with."""
        there = bool(self.handle.aio_is_ready() or self.handle.aio_is_processing())
        if there:
            self.handle.aio_disconnect()
        return there

    def disconnect(self) -> None:
        """Say goodbye, and wait until the server has closed the connection."""
        if self.leave():
            self._wait(lambda: self.handle.aio_is_closed() or self.handle.aio_is_dead(),
                       "the connection of a client that has left is not closed")

    def start(self, request: Request) -> Flight:
        """Send a request."""
        return Flight(self, request)


class Flight:
    """A request on its way, and what came of it.

    data: of a pread.
    extents: of a block_status, as (length, type).
    declined: whether zeros would not have been fast.
    """

    def __init__(self, client: Client, request: Request) -> None:
        self.client = client
        self.request = request
        self.data: bytes | None = None
        self.extents: list[tuple[int, int]] | None = None
        self.declined = False
        self._buffer: nbd.Buffer | None = None
        self._cookie = self._send()

    def _send(self) -> int:
        h, offset, count = self.client.handle, self.request.offset, self.request.count
        flags = sum(getattr(nbd, f"CMD_FLAG_{flag}") for flag in self.request.flags)
        match self.request.op:
            case "flush":
                cookie = h.aio_flush(flags=flags)
            case "pread":
                self._buffer = nbd.Buffer(count)
                cookie = h.aio_pread(self._buffer, offset, flags=flags)
            case "pwrite":
                self._buffer = nbd.Buffer.from_bytearray(self.request.data)
                cookie = h.aio_pwrite(self._buffer, offset, flags=flags)
            case "block_status":
                cookie = h.aio_block_status(count, offset, self._collect, flags=flags)
            case op:
                cookie = getattr(h, f"aio_{op}")(count, offset, flags=flags)
        return int(cookie)

    def _collect(self, context: str, _offset: int, entries: list[int], _error: object) -> int:
        if context == nbd.CONTEXT_BASE_ALLOCATION:
            self.extents = list(zip(entries[::2], entries[1::2]))
        return 0

    def finish(self) -> None:
        """Wait for the answer."""
        h = self.client.handle
        self.client._wait(lambda: h.aio_command_completed(self._cookie), f"{self.request} is not answered")
        if self.request.op == "pread" and self._buffer:
            self.data = bytes(self._buffer.to_bytearray())
