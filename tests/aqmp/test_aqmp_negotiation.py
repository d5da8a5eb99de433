# SPDX-License-Identifier: BSD-3-Clause
"""The start of a connection: the greeting, and the negotiation, with monitors that do as told."""

from __future__ import annotations

import pytest

from aqmp import (
    BadReplyError,
    ConnectError,
    DeserializationError,
    ExecuteError,
    GreetingError,
    NegotiationError,
    QMPClient,
)
from aqmp_life import connected
from aqmp_loop import run
from aqmp_scripted import GREETING, Connection, answer_the_rest, scripted

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
