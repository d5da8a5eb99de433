# SPDX-License-Identifier: BSD-3-Clause
"""The life of a connection: its runstates, how it ends, and what its log and its hooks see."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket

import pytest

from aqmp import (
    BadReplyError,
    DeserializationError,
    ExecInterruptedError,
    Message,
    ProtocolError,
    QMPClient,
    QMPError,
    Runstate,
    ServerParseError,
    UnexpectedTypeError,
)
from aqmp_life import connected, idle
from aqmp_loop import run
from aqmp_real import Monitor
from aqmp_scripted import GREETING, Connection, answer_all, answer_the_rest, scripted


def test_the_runstates(path: str) -> None:
    async def session() -> None:
        async with scripted(path, answer_all):
            client = QMPClient()
            seen: list[Runstate] = []

            async def watch() -> None:
                while not seen or seen[-1] is not Runstate.IDLE:
                    seen.append(await client.runstate_changed())

            watching = asyncio.create_task(watch())
            await asyncio.sleep(0)
            await client.connect(path)
            await client.disconnect()
            await watching
            assert seen == [Runstate.CONNECTING, Runstate.RUNNING, Runstate.DISCONNECTING, Runstate.IDLE]

    run(session())


def test_a_monitor_that_is_killed(storage_daemon: Monitor) -> None:
    """Commands in flight are interrupted, and the connection is gone by itself."""

    async def session() -> None:
        client = await connected(storage_daemon.socket)
        storage_daemon.process.send_signal(signal.SIGSTOP)
        commands = [asyncio.create_task(client.execute(f"command-{n}")) for n in range(3)]
        await asyncio.sleep(0.05)
        storage_daemon.stop()
        for number, command in enumerate(commands):
            with pytest.raises(ExecInterruptedError, match=f"command-{number}: the connection ended before the reply"):
                await command
        await idle(client)
        await client.disconnect()

    run(session())


def test_a_monitor_that_hangs_up(storage_daemon: Monitor) -> None:
    """Between two messages that is no error."""

    async def session() -> None:
        client = await connected(storage_daemon.socket)
        storage_daemon.stop()
        await idle(client)
        await client.disconnect()

    run(session())


def test_a_monitor_that_leaves_something_unread() -> None:
    """Its end is a reset then, and no error either."""

    async def session() -> None:
        ours, theirs = socket.socketpair()
        theirs.sendall(GREETING + b'{"return": {}, "id": "aqmp#negotiation"}\n')
        client = QMPClient()
        await client.connect(ours)
        theirs.close()
        await idle(client)
        await client.disconnect()

    run(session())


BROKEN: list[tuple[bytes, type[QMPError], str]] = [
    (b"garbage\n", DeserializationError, "expected JSON, got b'garbage'"),
    (b'{"return": \n', DeserializationError, "expected JSON"),
    (b'{"return": {}, "id"', DeserializationError, "the connection ended within a message"),
    (b'{"return": "\xff"}\n', DeserializationError, "expected JSON"),
    (b'{"return": NaN}\n', DeserializationError, "NaN is not JSON"),
    (b"[" * 200_000 + b"\n", DeserializationError, r"expected JSON, got .*… \(200000 bytes\)"),
    (b"1" * 10_000 + b"\n", DeserializationError, "expected JSON"),
    (b"\n", DeserializationError, "expected JSON, got b''"),
    (b"[1]\n", UnexpectedTypeError, "expected a JSON object, got b'\\[1\\]'"),
    (b'{"return": {}}\n', ProtocolError, "expected an event or a reply with an id"),
    (b'{"error": {"class": "GenericError", "desc": "JSON parse error, stray"}}\n', ServerParseError, "could not parse"),
]


@pytest.mark.parametrize("data, error, text", BROKEN, ids=range(len(BROKEN)))
def test_what_breaks_the_protocol_ends_the_connection_with_one_exception(
        path: str, data: bytes, error: type[QMPError], text: str) -> None:
    async def script(connection: Connection) -> None:
        await connection.greet()
        await connection.command()
        connection.send(data)

    async def session() -> None:
        async with scripted(path, script):
            client = await connected(path)
            with pytest.raises(ExecInterruptedError) as info:
                await client.execute("query-status")
            assert isinstance(info.value.__cause__, error)
            with pytest.raises(error, match=text):
                await client.disconnect()
            # Once.
            await client.disconnect()
            assert client.runstate.name == "IDLE"

    run(session())


@pytest.mark.parametrize("reply, text", [
    ({}, "neither a return nor an error"),
    ({"error": 1}, "expected 'error' to be an object, got 1"),
    ({"error": {"class": "X"}}, "expected a member 'desc', got 'class'"),
])
def test_a_reply_that_is_none_is_the_commands_alone(path: str, reply: dict[str, object], text: str) -> None:
    async def script(connection: Connection) -> None:
        await connection.greet()
        command = await connection.command()
        connection.send(bytes(Message({**reply, "id": command["id"]})) + b"\n")
        await answer_the_rest(connection)

    async def session() -> None:
        async with scripted(path, script):
            client = await connected(path)
            with pytest.raises(BadReplyError, match=text) as info:
                await client.execute("query-status")
            assert info.value.sent["execute"] == "query-status" and info.value.msg.get("error") == reply.get("error")
            assert await client.execute("query-status") == {}
            await client.disconnect()

    run(session())


def test_a_program_that_ends_while_connected_ends_quietly(path: str) -> None:
    """asyncio.run cancels the tasks of the connection in any order."""

    async def session() -> None:
        async with scripted(path, answer_all):
            client = await connected(path)
            assert await client.execute("x") == {}
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if "QMPClient" in task.get_name():
                    task.cancel()
            await idle(client)
            await client.disconnect()

    run(session())


def test_the_log_has_what_goes_in_and_out(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async def session() -> None:
        async with scripted(path, answer_all):
            client = await connected(path)
            await client.execute("query-status")
            await client.disconnect()

    with caplog.at_level(logging.DEBUG, "aqmp"):
        run(session())
    texts = [record.getMessage() for record in caplog.records if record.name == "aqmp.protocol.test"]
    assert any(text.startswith("--> ") and "query-status" in text for text in texts)
    assert any(text.startswith("<-- ") and "return" in text for text in texts)
    assert "CONNECTING -> RUNNING" in texts


def test_the_hooks_see_and_replace_messages(path: str) -> None:
    class Hooked(QMPClient):
        def _cb_outbound(self, msg: Message) -> Message:
            return Message({**msg, "execute": str(msg["execute"]).upper()})

        def _cb_inbound(self, msg: Message) -> Message:
            return Message({**msg, "return": ["seen", msg["return"]]}) if "return" in msg else msg

    async def script(connection: Connection) -> None:
        await connection.greet()
        while True:
            command = await connection.command()
            connection.reply(command, command["execute"])

    async def session() -> None:
        async with scripted(path, script):
            client = Hooked()
            await client.connect(path)
            assert await client.execute("abc") == ["seen", "ABC"]
            await client.disconnect()

    run(session())
