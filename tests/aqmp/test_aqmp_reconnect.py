# SPDX-License-Identifier: BSD-3-Clause
"""ReconnectingClient: it comes back by itself, with its listeners, and repeats nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from aqmp import (
    ConnectError,
    ExecInterruptedError,
    ExecTimeoutError,
    ListenerError,
    QMPServer,
    ReconnectingClient,
    Runstate,
    StateError,
)
from aqmp_loop import run
from aqmp_real import STORAGE_DAEMON, Monitor
from aqmp_scripted import Connection, answer_the_rest, scripted


def eager() -> ReconnectingClient:
    return ReconnectingClient("test", first_delay=0.01, longest_delay=0.05)


async def lost(client: ReconnectingClient) -> None:
    while client.runstate is Runstate.RUNNING:
        await client.runstate_changed()


def test_a_real_monitor_that_is_started_again(start: Callable[..., Monitor], folder: Path) -> None:
    where = f"path={folder}/fixed.sock,server=on,wait=off"
    path = str(folder / "fixed.sock")

    async def session() -> None:
        client = eager()
        monitor = start(STORAGE_DAEMON, chardev=where)
        while True:
            try:
                await client.connect(path)
                break
            except ConnectError:
                await asyncio.sleep(0.01)
        for number in range(1, 4):
            assert await client.connected() == client.connections == number
            assert await client.execute("query-commands")
            monitor.stop()
            monitor = start(STORAGE_DAEMON, chardev=where)
            await lost(client)
        assert await client.execute("query-commands", timeout=60)
        await client.disconnect()

    run(session())


def test_listeners_go_on_until_disconnect(path: str) -> None:
    async def session() -> None:
        async with QMPServer() as server:
            await server.serve(path)
            client = eager()
            await client.connect(path)
            seen: list[object] = []

            async def follow() -> None:
                with client.listener("E") as listener:
                    async for event in listener:
                        seen.append(event["data"])

            following = asyncio.create_task(follow())
            for number in range(3):
                await client.execute("query-version")
                server.emit("E", {"n": number})
                while len(seen) <= number:
                    await asyncio.sleep(0)
                await server.disconnect()
                await lost(client)
            assert not following.done()
            await client.disconnect()
            await following
            assert seen == [{"n": 0}, {"n": 1}, {"n": 2}]
            client.events.clear()
            with pytest.raises(ListenerError):
                await client.events.get()

    run(session())


def test_a_command_in_flight_is_interrupted_and_not_repeated(path: str) -> None:
    commands: list[object] = []

    async def script(connection: Connection) -> None:
        await connection.greet()
        while True:
            command = await connection.command()
            commands.append(command["execute"])
            if command["execute"] == "die":
                return
            connection.reply(command)

    async def session() -> None:
        async with scripted(path, script):
            client = eager()
            await client.connect(path)
            with pytest.raises(ExecInterruptedError, match="die: the connection ended before the reply came"):
                await client.execute("die")
            # Waits for the next connection.
            assert await client.execute("next", timeout=30) == {}
            assert commands == ["die", "next"] and client.connections == 2
            await client.disconnect()

    run(session())


def test_a_command_waits_for_the_connection_no_longer_than_it_may(path: str) -> None:
    async def session() -> None:
        client = eager()
        async with QMPServer() as server:
            await server.serve(path)
            await client.connect(path)
        await lost(client)
        with pytest.raises(ExecTimeoutError, match="query-version: no connection within 0.1 s"):
            await client.execute("query-version", timeout=0.1)
        waiting = asyncio.create_task(client.execute("query-version"))
        await asyncio.sleep(0.05)
        await client.disconnect()
        with pytest.raises(StateError):
            await waiting
        with pytest.raises(StateError):
            await client.execute("query-version")
        assert client.runstate is Runstate.IDLE

    run(session())


def test_the_delay_grows(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []
    real = asyncio.sleep

    async def sleep(delay: float) -> None:
        delays.append(delay)
        await real(0)

    async def session() -> None:
        client = ReconnectingClient(first_delay=0.5, longest_delay=3)
        async with QMPServer() as server:
            await server.serve(path)
            await client.connect(path)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        while len(delays) < 5:
            await client.runstate_changed()
        monkeypatch.undo()
        await client.disconnect()
        assert delays[:5] == [0.5, 1, 2, 3, 3]

    run(session())


def test_a_broken_protocol_is_a_loss_too(path: str) -> None:
    broken = iter([b"garbage\n", b'{"return": ', b"[]\n", b""])

    async def script(connection: Connection) -> None:
        await connection.greet()
        data = next(broken)
        if not data:
            await answer_the_rest(connection)
        connection.send(data)

    async def session() -> None:
        async with scripted(path, script):
            client = eager()
            await client.connect(path)
            while client.connections < 4:
                await client.runstate_changed()
            assert await client.execute("x", timeout=30) == {}
            await client.disconnect()

    run(session())


def test_what_it_refuses(path: str) -> None:
    async def session() -> None:
        client = eager()
        with pytest.raises(ConnectError):
            await client.connect(path)
        with pytest.raises(StateError):
            await client.connected()
        with pytest.raises(ValueError, match="expected a path or"), socket.socket() as sock:
            await client.connect(sock)
        async with QMPServer() as server:
            await server.serve(path)
            await client.connect(path)
            await server.close()
            while client.runstate is not Runstate.IDLE:
                await client.runstate_changed()
            with pytest.raises(StateError, match="the client connects by itself"):
                await client.connect(path)
            await client.disconnect()
        async with QMPServer() as server:
            await server.serve(path)
            await client.connect(path)
            await client.disconnect()

    run(session())


def test_a_program_that_ends_meanwhile_ends_quietly(path: str) -> None:
    async def session() -> None:
        client = eager()
        async with QMPServer() as server:
            await server.serve(path)
            await client.connect(path)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if "ReconnectingClient" in task.get_name():
                    task.cancel()
            while client.runstate is not Runstate.IDLE:
                await client.runstate_changed()
            with pytest.raises(StateError):
                await client.execute("query-version")

    run(session())
