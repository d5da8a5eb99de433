# SPDX-License-Identifier: BSD-3-Clause
"""QMPServer: commands, events, out of band, one client at a time; and it answers mistakes as a real monitor does."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aqmp import CommandError, ConnectError, ExecuteError, QMPClient, QMPServer, Runstate
from aqmp_loop import run
from aqmp_real import TIMEOUT, Monitor, environment, free_port


@pytest.fixture
def path(folder: Path) -> str:
    return str(folder / "server.sock")


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


# Beside a real monitor.

class Talk:
    """A connection to a monitor; ask() it something, and it says all that comes until a command of ours is answered."""

    def __init__(self, path: str, negotiation: bytes) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(path)
        self.file = self.sock.makefile("rb")
        self.major: int = json.loads(self.file.readline())["QMP"]["version"]["qemu"]["major"]
        self.sock.sendall(negotiation)
        # A QEMU that has just started may greet twice.
        while negotiation and "return" not in json.loads(self.file.readline()):
            pass

    def ask(self, data: bytes) -> list[object]:
        # 0xff is an error that closes whatever is open.
        self.sock.sendall(data + b'\n\xff\n{"execute": "no-such-command", "id": "END"}\n')
        answers: list[object] = []
        while True:
            line = self.file.readline()
            assert line, "the monitor hung up"
            answer = json.loads(POSITION.sub(b'"desc": "', line))
            if answer.get("id") == "END":
                return answers
            if "QMP" not in answer:
                answers.append(answer)

    def close(self) -> None:
        self.file.close()
        self.sock.close()


# QEMU 11 has another parser: it finds mistakes in JSON sooner, and has other words for them, line and column first.
NEW_PARSER = 11
POSITION = re.compile(rb'"desc": "\d+:\d+: ')


def is_json(data: bytes) -> bool:
    try:
        json.loads(data, parse_constant=float.fromhex, object_pairs_hook=list)
    except ValueError:
        return False
    return b"\\" not in data


def compare(storage_daemon: Monitor, path: str, negotiation: bytes, inputs: list[bytes]) -> None:
    """Ask both monitors, and have the same answers."""

    async def session() -> None:
        server = QMPServer()

        @server.command("block-export-del")
        async def block_export_del(id: str) -> None:
            if not isinstance(id, str):
                raise CommandError("Invalid parameter type for 'id', expected: string")

        async with server:
            await server.serve(path)
            real = Talk(storage_daemon.socket, negotiation)
            ours = await asyncio.to_thread(Talk, path, negotiation)
            for data in inputs if real.major < NEW_PARSER else filter(is_json, inputs):
                assert await asyncio.to_thread(ours.ask, data) == real.ask(data), data
            real.close()
            ours.close()

    run(session())


NEGOTIATED = b'{"execute": "qmp_capabilities"}'
WITH_OOB = b'{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}'

MISTAKES = [
    b"", b"foo", b"{", b"}", b"[}", b'{"execute"}', b'{"execute":}', b'{"execute":1}', b"[]", b"1", b'"x"', b"null",
    b"true", b"{}", b'{"id":1}', b'{"execute":"query-commands","foo":1,"id":5}', b'{"execute":null}',
    b'{"execute":"query-commands","arguments":[],"id":5}', b'{"execute":"query-commands","arguments":{"a":1},"id":5}',
    b'{"execute":"nope","id":{"a":[1,2]}}', b"{'execute':'nope'}", b'{"execute":"nope","execute":"x"}',
    b'{"execute":"nope"}{"execute":"nope2"}', b'{"execute":\n"nope"}', b'{"exec-oob":"nope","id":1}',
    b'{"exec-oob":"nope"}', b'{"execute":"qmp_capabilities"}', b"\0", b"\xff", b'"\xff"', b'{"execute":"\xff"}',
    b'{"execute":"nope" "x"}', b'{"execute":"nope",}', b"[1,]", b"[1 2]", b"nan", b"NaN", b"01", b"-", b"1.", b"1e5",
    b'{"execute":"nope","id":1e5}', b'{"execute":"nope","id":123456789012345678901234567890}', b'"\\q"', b'"\\ud800"',
    b'{"execute":"\\u0000"}', b'"a\nb"', b"{1:2}", b'{"a":%s}', b"%p", b"\xef\xbb\xbf{}", b"/*c*/{}",
    b'{"execute":"nope"]', b"[" * 1100, b'{"execute":"nope","id":null}', b'{"x":1}', b"trueish", b"tru e",
    b'{"return":{}}', b'{"execute":""}', b'"\\u12"', b'"\\ufdd0"', b'"\xef\xbf\xbf"', b'"\xed\xa0\x80"',
    b'{"execute":"block-export-del","id":1}', b'{"execute":"block-export-del","arguments":{"id":1}}',
    b'{"execute":"block-export-del","arguments":{"id":"x","foo":1}}',
]


def test_mistakes_are_answered_as_by_a_real_monitor(storage_daemon: Monitor, path: str) -> None:
    compare(storage_daemon, path, NEGOTIATED, MISTAKES)


def test_mistakes_before_the_negotiation(storage_daemon: Monitor, path: str) -> None:
    compare(storage_daemon, path, b"", [
        *MISTAKES[:MISTAKES.index(b'{"execute":"qmp_capabilities"}')],
        b'{"execute":"qmp_capabilities","arguments":{"enable":"x"},"id":1}',
        b'{"execute":"qmp_capabilities","arguments":{"foo":"x"}}',
        b'{"execute":"qmp_capabilities","arguments":{"enable":[1]}}',
        b'{"execute":"qmp_capabilities","arguments":{"enable":["oob","oob"]}}',
        b'{"execute":"qmp_capabilities"}',
    ])


def test_mistakes_out_of_band(storage_daemon: Monitor, path: str) -> None:
    compare(storage_daemon, path, WITH_OOB, [
        b'{"exec-oob":"query-commands","id":1}', b'{"exec-oob":"nope","id":1}', b'{"exec-oob":"nope"}',
        b'{"exec-oob":1,"id":1}', b'{"exec-oob":"qmp_capabilities","id":1}', b'{"execute":"nope"}',
    ])


PIECES = [b"{", b"}", b"[", b"]", b":", b",", b'"a"', b"'b'", b'"', b"'", b"\\", b"\\u", b"d83d", b"\\ude00", b"1",
          b"0", b"-", b".", b"e", b"E", b"+", b"true", b"nul", b"X", b" ", b"\t", b"\n", b"\r", b"\0", b"\x1f", b"\xff",
          b"\xfe", b"\xc3\xa9", b"\xed\xa0\x80", b"\xc0\x80", b"\x7f", b'"execute"', b'"nope"', b'"id"', b"%"]


def test_any_input_is_read_as_by_a_real_monitor(storage_daemon: Monitor, path: str) -> None:
    """Of several mistakes in one object, which one is told depends on how QEMU hashes: no object has two members."""

    async def session() -> None:
        async with QMPServer() as server:
            await server.serve(path)
            real = Talk(storage_daemon.socket, NEGOTIATED)
            ours = await asyncio.to_thread(Talk, path, NEGOTIATED)

            if real.major >= NEW_PARSER:
                pytest.skip("QEMU 11 reads JSON in another way")

            @given(st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join))
            @settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
            def same(data: bytes) -> None:
                if data.count(b":") < 2:
                    assert ours.ask(data) == real.ask(data)

            await asyncio.to_thread(same)
            real.close()
            ours.close()

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
