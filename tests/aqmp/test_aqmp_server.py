# SPDX-License-Identifier: BSD-3-Clause
"""QMPServer: commands, events, out of band, one client at a time, and QEMU's own client."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aqmp import CommandError, ConnectError, ExecuteError, QMPClient, QMPServer, Runstate
from aqmp_loop import run
from aqmp_real import environment, free_port


@asynccontextmanager
async def both(path: str, server: QMPServer) -> AsyncIterator[QMPClient]:
    """The server at work, with a client."""
    async with server:
        await server.serve(path)
        client = QMPClient()
        await client.connect(path)
        yield client
        await client.disconnect()


def with_commands() -> QMPServer:
    server = QMPServer("test", version={"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""})

    @server.command("add")
    async def add(first: int, *, second_number: int = 10) -> int:
        if not isinstance(first, int):
            raise CommandError("Invalid parameter type for 'first', expected: integer")
        return first + second_number

    @server.command("nothing")
    async def nothing() -> None:
        pass

    @server.command("any")
    async def takes_any(class_: str = "", **arguments: object) -> object:
        return dict(arguments, **{"class": class_})

    @server.command("missing-file")
    async def missing_file() -> None:
        raise CommandError("no such file", "DeviceNotFound")

    @server.command("broken")
    async def broken() -> None:
        raise RuntimeError("a mistake")

    @server.command("no-json")
    async def no_json() -> object:
        return {"x": object()}

    return server


def test_commands(path: str) -> None:
    async def session() -> None:
        async with both(path, with_commands()) as client:
            assert client.greeting is not None and client.greeting.QMP.version["qemu"]["major"] == 7
            assert await client.execute("query-version") == client.greeting.QMP.version
            commands = await client.execute("query-commands")
            assert isinstance(commands, list)
            assert {"name": "add"} in commands and {"name": "qmp_capabilities"} in commands
            assert await client.execute("add", {"first": 1}) == 11
            assert await client.execute("add", {"first": 1, "second-number": 2}) == 3
            assert await client.execute("add", {"first": 1, "second_number": 2}) == 3
            assert await client.execute("nothing") == {}
            assert await client.execute("any", {"class": "c", "node-name": 1}) == {"class": "c", "node-name": 1}

    run(session())


@pytest.mark.parametrize("command, arguments, error_class, text", [
    ("nope", {}, "CommandNotFound", "The command nope has not been found"),
    ("add", {}, "GenericError", "Parameter 'first' is missing"),
    ("add", {"first": 1, "third": 2}, "GenericError", "Parameter 'third' is unexpected"),
    ("add", {"first": "x"}, "GenericError", "Invalid parameter type for 'first', expected: integer"),
    ("missing-file", {}, "DeviceNotFound", "no such file"),
    ("broken", {}, "GenericError", "RuntimeError: a mistake"),
    ("no-json", {}, "GenericError", "TypeError: Object of type object is not JSON serializable"),
])
def test_a_command_that_fails(path: str, command: str, arguments: dict[str, object], error_class: str,
                              text: str) -> None:
    async def session() -> None:
        async with both(path, with_commands()) as client:
            with pytest.raises(ExecuteError) as info:
                await client.execute(command, arguments)
            assert (info.value.error_class, str(info.value)) == (error_class, text)
            assert await client.execute("nothing") == {}

    run(session())


def test_commands_run_one_after_another_and_out_of_band_ones_at_once(path: str) -> None:
    async def session() -> None:
        server = QMPServer()
        done: list[str] = []
        release = asyncio.Event()

        @server.command("slow")
        async def slow() -> None:
            await release.wait()
            done.append("slow")

        @server.command("next")
        async def following() -> None:
            done.append("next")

        @server.command("urgent", oob=True)
        async def urgent() -> None:
            done.append("urgent")

        async with both(path, server) as client:
            waiting = [asyncio.create_task(client.execute(c)) for c in ("slow", "next")]
            await asyncio.sleep(0)
            assert await client.execute("urgent", oob=True) == {}
            assert done == ["urgent"]
            with pytest.raises(ExecuteError, match="The command next does not support OOB"):
                await client.execute("next", oob=True)
            release.set()
            await asyncio.gather(*waiting)
            assert done == ["urgent", "slow", "next"]

    run(session())


def test_a_client_that_goes_has_its_commands_cancelled(path: str) -> None:
    async def session() -> None:
        server = QMPServer()
        started, ended = asyncio.Event(), asyncio.Event()

        @server.command("for-ever")
        async def for_ever() -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with both(path, server) as client:
            command = asyncio.create_task(client.execute("for-ever"))
            await started.wait()
            await client.disconnect()
            await ended.wait()
            await asyncio.gather(command, return_exceptions=True)
            await client.connect(path)
            assert await client.execute("query-version")

    run(session())


def test_only_so_many_commands_are_read_ahead(path: str) -> None:
    async def session() -> None:
        server = QMPServer()
        release = asyncio.Event()

        @server.command("slow")
        async def slow() -> None:
            await release.wait()

        async with both(path, server) as client:
            waiting = [asyncio.create_task(client.execute("slow")) for _ in range(100)]
            # One of them runs.
            while server._commands.qsize() < 7:
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert server._commands.qsize() <= 8
            release.set()
            await asyncio.gather(*waiting)

    run(session())


def test_events(path: str) -> None:
    async def session() -> None:
        server = QMPServer()
        server.emit("NOBODY")
        async with server:
            await server.serve(path)
            reader, writer = await asyncio.open_unix_connection(path)
            assert b"QMP" in await reader.readline()
            server.emit("BEFORE_NEGOTIATION")
            writer.write(b'{"execute": "qmp_capabilities"}')
            assert await reader.readline() == b'{"return":{}}\r\n'
            server.emit("PLAIN")
            server.emit("WITH", {"data": [1]})
            first, second = json.loads(await reader.readline()), json.loads(await reader.readline())
            assert first["event"] == "PLAIN" and "data" not in first
            assert second["data"] == {"data": [1]} and set(second["timestamp"]) == {"seconds", "microseconds"}
            writer.close()

    run(session())


def test_a_client_that_does_not_read_costs_no_more_than_so_much(path: str) -> None:
    async def session() -> None:
        server = QMPServer()
        async with server:
            await server.serve(path)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b'{"execute": "qmp_capabilities"}')
            await reader.readline()
            await reader.readline()
            for _ in range(12_000):
                server.emit("E")
            assert server.dropped == 2_000
            writer.close()

    run(session())


def test_a_client_that_asks_and_does_not_read_is_kept_waiting(path: str) -> None:
    async def session() -> None:
        server = QMPServer()

        @server.command("big")
        async def big() -> object:
            return "x" * 100_000

        async with server:
            await server.serve(path)
            reader, writer = await asyncio.open_unix_connection(path, limit=1000)
            writer.write(b'{"execute": "qmp_capabilities"}' + b'{"execute": "big"}' * 1000)
            await reader.readuntil(b"return")
            while server._commands.qsize() < 8:
                await asyncio.sleep(0)
            for _ in range(1000):
                await asyncio.sleep(0)
            assert server._commands.qsize() == 8 and server._outgoing.qsize() <= 8
            got = 0
            while got < 100_000_000:
                got += len(await reader.read(1 << 20))
            writer.close()

    run(session())


def test_one_client_at_a_time(path: str) -> None:
    async def session() -> None:
        server = QMPServer()
        async with both(path, server):
            second = QMPClient()
            with pytest.raises(ConnectError, match="a monitor serves one client at a time"):
                await second.connect(path, timeout=0.05)
            waiting = asyncio.create_task(second.connect(path))
            await asyncio.sleep(0.01)
            await server.disconnect()
            await waiting
            await second.disconnect()
        assert server.runstate is Runstate.IDLE and not Path(path).exists()
        # It can serve again.
        async with both(path, server) as client:
            assert await client.execute("query-version")

    run(session())


def test_it_can_connect_to_a_client_as_qemu_can(path: str) -> None:
    async def session() -> None:
        client, server = QMPClient(), with_commands()
        await client.start_server(path)
        await asyncio.gather(client.accept(), server.connect(path))
        assert await client.execute("add", {"first": 1}) == 11
        await client.disconnect()
        await server.close()

    run(session())


def test_tls(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async def session() -> None:
        server, port = with_commands(), free_port()
        async with server:
            await server.serve(("127.0.0.1", port), server_context)
            client = QMPClient()
            for _ in range(2):
                with pytest.raises(ConnectError, match="certificate verify failed"):
                    await client.connect(("127.0.0.1", port), ssl.create_default_context())
            await client.connect(("127.0.0.1", port), client_context)
            assert await client.execute("any", {"x": "y" * 1_000_000}) == {"class": "", "x": "y" * 1_000_000}
            await client.disconnect()

    run(session())


def test_bytes_in_pieces(path: str) -> None:
    async def session() -> None:
        async with with_commands() as server:
            await server.serve(path)
            reader, writer = await asyncio.open_unix_connection(path)
            await reader.readline()
            for byte in b'{"execute":"qmp_capabilities"}{\'execute\':\'add\',"arguments":{"first":\n\n1},"id":[]}':
                writer.write(bytes([byte]))
                await writer.drain()
            assert json.loads(await reader.readline()) == {"return": {}}
            assert json.loads(await reader.readline()) == {"return": 11, "id": []}
            writer.close()

    run(session())


def test_an_id_that_cannot_be_sent_back(path: str) -> None:
    async def session() -> None:
        async with with_commands() as server:
            await server.serve(path)
            reader, writer = await asyncio.open_unix_connection(path)
            await reader.readline()
            writer.write(b'{"execute": "qmp_capabilities"}{"execute": "nothing", "id": 1e999}{"execute": "nothing"}')
            await reader.readline()
            assert "the id cannot be sent back" in json.loads(await reader.readline())["error"]["desc"]
            assert json.loads(await reader.readline()) == {"return": {}}
            writer.close()

    run(session())


def test_too_much(path: str) -> None:
    async def session() -> None:
        async with QMPServer(limit=1000) as server:
            await server.serve(path)
            reader, writer = await asyncio.open_unix_connection(path)
            await reader.readline()
            for data in (b'"' + b"x" * 2000, b'["' + b"x" * 2000 + b'"]', b"[1," * 200 + b"1," * 1000):
                writer.write(data)
                assert "JSON token size limit exceeded" in (await reader.readline()).decode()
                writer.write(b'\n\xff\n{"execute": "x", "id": "END"}')
                while b"END" not in await reader.readline():
                    pass
            writer.close()

    run(session())


# QEMU's own tools, where there are any.

@pytest.mark.skipif(shutil.which("qmp-shell") is None, reason="qmp-shell of Debian's python3-qemu-qmp is not here")
def test_qmp_shell(path: str) -> None:
    async def session() -> None:
        async with with_commands() as server:
            await server.serve(path)
            shell = await asyncio.create_subprocess_exec(
                "qmp-shell", path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env={**environment(), "PYTHONPATH": os.environ.get("PYTHONPATH", "")})
            out, _ = await shell.communicate(b"add first=1 second-number=4\nquery-version\nnope\n")
            text = out.decode()
            assert "Connected to QEMU 7.2.22" in text
            assert '"return": 5' in text and "The command nope has not been found" in text

    run(session())
