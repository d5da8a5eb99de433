# SPDX-License-Identifier: BSD-3-Clause
"""Control, how `detach` reaches a running `attach`: a Unix socket, to which a connection is the request to detach.

The answer, one line of JSON, comes when the disk is gone or could not be taken out: {"error": null}, or a text.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from .errors import AttachError


class Control:
    """The end that attach has. `asked` is called for each request; answer() answers all that wait."""

    def __init__(self, path: Path, asked: Callable[[], None]) -> None:
        self._path = path
        self._asked = asked
        self._server: asyncio.Server | None = None
        self._waiting: list[asyncio.StreamWriter] = []

    async def listen(self) -> None:
        """Take requests from now on."""
        try:
            self._server = await asyncio.start_unix_server(self._connected, str(self._path))
        except OSError as error:
            raise AttachError(f"cannot listen on {self._path}: {error}") from error

    def answer(self, error: str | None) -> None:
        """Tell all who wait that the disk is gone, or why it is not."""
        waiting, self._waiting = self._waiting, []
        for writer in waiting:
            writer.write(json.dumps({"error": error}).encode() + b"\n")
            writer.close()

    def close(self) -> None:
        """Take no more requests. Those that wait can still be answered."""
        if self._server:
            self._server.close()

    async def _connected(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._waiting.append(writer)
        self._asked()


async def request(path: Path) -> bool:
    """Ask the attach that listens there to detach, and wait until it has. False if none is there any more.

    Raises AttachError with the reason if it does not.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    try:
        line = await reader.readline()
    except ConnectionError:
        line = b""
    finally:
        writer.close()
    if not line:
        raise AttachError("attach has ended without an answer")
    if error := json.loads(line)["error"]:
        raise AttachError(error)
    return True
