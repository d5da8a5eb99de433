# SPDX-License-Identifier: BSD-3-Clause
"""A monitor that does what a test says, right or wrong: a function of the connection's two streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

GREETING = (b'{"QMP": {"version": {"qemu": {"major": 1, "minor": 2, "micro": 3}, "package": ""}, '
            b'"capabilities": []}}\r\n')


class Connection:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def command(self) -> dict[str, object]:
        """The next command that comes; EOFError at the end."""
        line = await self.reader.readline()
        if not line:
            raise EOFError
        value = json.loads(line)
        assert isinstance(value, dict)
        return value

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def reply(self, command: dict[str, object], value: object = None) -> None:
        """Return a value, or an empty object, from the command."""
        self.send(json.dumps({"return": {} if value is None else value, "id": command["id"]}).encode() + b"\n")

    def event(self, name: str, **data: object) -> None:
        self.send(json.dumps({"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 2}}).encode()
                  + b"\n")

    async def greet(self) -> None:
        """Greet and negotiate."""
        self.send(GREETING)
        self.reply(await self.command())


Script = Callable[[Connection], Awaitable[None]]


@asynccontextmanager
async def scripted(path: str, script: Script) -> AsyncIterator[None]:
    """Serve each connection by the script, then close it. An exception in it is the test's, EOFError apart."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(Connection(reader, writer))
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_unix_server(start, path)
    try:
        yield
    finally:
        # Who has just connected is taken before the end.
        for _ in range(5):
            await asyncio.sleep(0)
        server.close()
        for task in serving:
            task.cancel()
        for result in await asyncio.gather(*serving, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def answer_the_rest(connection: Connection) -> None:
    """Return an empty object from everything."""
    while True:
        connection.reply(await connection.command())


async def answer_all(connection: Connection) -> None:
    """The script of a monitor that does nothing else."""
    await connection.greet()
    await answer_the_rest(connection)
