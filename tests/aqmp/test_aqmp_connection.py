# SPDX-License-Identifier: BSD-3-Clause
"""The life of a connection: runstates, time-outs, cancellation, and how it ends, with monitors that do as told."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time

import pytest

from aqmp import (
    BadReplyError,
    ConnectError,
    DeserializationError,
    ExecInterruptedError,
    ExecTimeoutError,
    ExecuteError,
    GreetingError,
    Message,
    NegotiationError,
    ProtocolError,
    QMPClient,
    QMPError,
    Runstate,
    ServerParseError,
    UnexpectedTypeError,
)
from aqmp_loop import run
from aqmp_real import Monitor
from aqmp_scripted import GREETING, Connection, answer_all, answer_the_rest, scripted


async def connected(path: str) -> QMPClient:
    client = QMPClient("test")
    await client.connect(path)
    return client


async def idle(client: QMPClient) -> None:
    while client.runstate is not Runstate.IDLE:
        await client.runstate_changed()


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


GREETINGS: list[tuple[bytes, str]] = [
    (b"", "the server hung up"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "expected JSON"),
    (b'{"QMP"', "ended within a message"),
    (b'{"return": {}}\n', "expected a member 'QMP', got 'return'"),
    (b'{"QMP": {"version": {}}}\n', "expected a member 'capabilities'"),
    (b'{"QMP": {"version": {}, "capabilities": 1}}\n', "expected 'capabilities' to be a list, got 1"),
]


@pytest.mark.parametrize("data, text", GREETINGS, ids=range(len(GREETINGS)))
def test_a_greeting_that_is_none(path: str, data: bytes, text: str) -> None:
    async def script(connection: Connection) -> None:
        connection.send(data)

    async def session() -> None:
        async with scripted(path, script):
            client = QMPClient()
            with pytest.raises(ConnectError, match=text) as info:
                await client.connect(path)
            assert isinstance(info.value.exc, GreetingError)
            assert client.runstate.name == "IDLE"

    run(session())


@pytest.mark.parametrize("answer, error", [
    (b'{"error": {"class": "GenericError", "desc": "no"}, "id": "aqmp#negotiation"}\n', ExecuteError),
    (b'{"error": {"class": "GenericError", "desc": "no"}}\n', ExecuteError),
    (b'{"id": "aqmp#negotiation"}\n', BadReplyError),
    (b'{"error": 1}\n', TypeError),
    (b"garbage\n", DeserializationError),
    (b"", EOFError),
])
def test_a_negotiation_that_fails(path: str, answer: bytes, error: type[Exception]) -> None:
    async def script(connection: Connection) -> None:
        connection.send(GREETING)
        await connection.command()
        connection.send(answer)

    async def session() -> None:
        async with scripted(path, script):
            client = QMPClient()
            with pytest.raises(ConnectError) as info:
                await client.connect(path)
            assert isinstance(info.value.exc, NegotiationError)
            assert isinstance(info.value.exc.exc, error)

    run(session())


def test_events_among_the_negotiation_are_not_lost(path: str) -> None:
    async def script(connection: Connection) -> None:
        connection.send(GREETING)
        command = await connection.command()
        connection.event("EARLY")
        connection.reply(command)
        await answer_the_rest(connection)

    async def session() -> None:
        async with scripted(path, script):
            client = await connected(path)
            assert (await client.events.get())["event"] == "EARLY"
            await client.disconnect()

    run(session())


def test_a_monitor_that_greets_twice(path: str) -> None:
    """As QEMU may, to a client that comes while it starts."""

    async def script(connection: Connection) -> None:
        connection.send(GREETING + GREETING)
        connection.reply(await connection.command())
        await answer_the_rest(connection)

    async def session() -> None:
        async with scripted(path, script):
            client = await connected(path)
            assert await client.execute("query-status") == {}
            await client.disconnect()

    run(session())


def test_the_guest_agents_way(path: str) -> None:
    """It neither greets nor negotiates."""

    async def session() -> None:
        async with scripted(path, answer_the_rest):
            client = QMPClient()
            client.await_greeting = client.negotiate = False
            await client.connect(path)
            assert client.greeting is None
            assert await client.execute("guest-ping") == {}
            await client.disconnect()

    run(session())


# Time-outs and cancellation.

def test_a_command_that_takes_too_long(path: str) -> None:
    """Its late reply disturbs nobody, with an id or without."""

    async def script(connection: Connection) -> None:
        await connection.greet()
        late = [await connection.command() for _ in range(3)]
        last = await connection.command()
        connection.reply(late[0], "late")
        connection.send(b'{"return": "late"}\n')
        connection.send(b'{"error": {"class": "GenericError", "desc": "late"}}\n')
        connection.send(b'{"return": "right"}\n')
        assert "id" not in last
        await answer_the_rest(connection)

    async def session() -> None:
        async with scripted(path, script):
            client = await connected(path)
            with pytest.raises(ExecTimeoutError, match="slow: no reply within 0.02 s") as info:
                await client.execute("slow", timeout=0.02)
            assert isinstance(info.value, TimeoutError) and isinstance(info.value, ExecInterruptedError)
            for _ in range(2):
                with pytest.raises(ExecTimeoutError):
                    await client._raw({"execute": "slow"}, assign_id=False, timeout=0.02)
            assert await client._raw({"execute": "next"}, assign_id=False) == {"return": "right"}
            assert await client.execute("next") == {}
            await client.disconnect()

    run(session())


def test_a_cancelled_command_does_not_disturb_the_next(storage_daemon: Monitor) -> None:
    async def session() -> None:
        client = await connected(storage_daemon.socket)
        for _ in range(20):
            cancelled = [asyncio.create_task(client._raw({"execute": "nope"}, assign_id=bool(n % 2)))
                         for n in range(10)]
            await asyncio.sleep(0)
            for task in cancelled:
                task.cancel()
            assert await client.execute("query-commands")
            reply = await client._raw({"execute": "mine"}, assign_id=False)
            assert reply["error"] == {"class": "CommandNotFound", "desc": "The command mine has not been found"}
        await client.disconnect()

    run(session())


def test_a_monitor_that_does_not_read(path: str) -> None:
    """disconnect() waits for it a while, and no longer."""

    async def script(connection: Connection) -> None:
        await connection.greet()
        await asyncio.sleep(3600)

    async def session() -> None:
        async with scripted(path, script):
            client = await connected(path)
            command = asyncio.create_task(client.execute("x", {"data": "x" * 10_000_000}))
            await asyncio.sleep(0)
            start = time.monotonic()
            await client.disconnect()
            assert time.monotonic() - start >= 1.9
            with pytest.raises(ExecInterruptedError):
                await command

    run(session())


def test_what_was_sent_goes_out_before_the_end(path: str) -> None:
    got: list[object] = []

    async def script(connection: Connection) -> None:
        await connection.greet()
        while True:
            got.append((await connection.command())["execute"])

    async def session() -> None:
        async with scripted(path, script):
            client = await connected(path)
            commands = [asyncio.create_task(client.execute(f"c{n}")) for n in range(1000)]
            await asyncio.sleep(0)
            await client.disconnect()
            for result in await asyncio.gather(*commands, return_exceptions=True):
                assert isinstance(result, ExecInterruptedError)
            while len(got) < 1000:
                await asyncio.sleep(0.01)
            assert got == [f"c{n}" for n in range(1000)]

    run(session())


@pytest.mark.parametrize("moment", ["dial", "greeting", "negotiation", "accept"])
def test_connecting_can_be_cancelled_or_called_off(path: str, moment: str) -> None:
    async def script(connection: Connection) -> None:
        if moment == "negotiation":
            connection.send(GREETING)
        await connection.reader.read()

    async def session() -> None:
        async with scripted(path, script):
            client = QMPClient()

            async def connect() -> None:
                if moment == "accept":
                    await client.start_server_and_accept(path + "2")
                else:
                    await client.connect(path)

            for call_off in (True, False):
                connecting = asyncio.create_task(connect())
                if moment != "dial":
                    await asyncio.sleep(0.05)
                else:
                    await asyncio.sleep(0)
                assert client.runstate.name == "CONNECTING"
                if call_off:
                    await client.disconnect()
                    with pytest.raises(ConnectError, match=r"disconnect\(\) was called"):
                        await connecting
                else:
                    connecting.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await connecting
                assert client.runstate.name == "IDLE"
            assert not os.path.exists(path + "2")

    run(session())


def test_a_cancelled_disconnect_is_one_all_the_same(path: str) -> None:
    async def session() -> None:
        async with scripted(path, answer_all):
            client = await connected(path)
            ending = [asyncio.create_task(client.disconnect()) for _ in range(2)]
            await asyncio.sleep(0)
            ending[0].cancel()
            await ending[1]
            assert client.runstate.name == "IDLE"

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
