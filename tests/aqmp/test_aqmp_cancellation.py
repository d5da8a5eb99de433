# SPDX-License-Identifier: BSD-3-Clause
"""Time-outs and cancellation: of commands, of connecting and of disconnecting."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from aqmp import ConnectError, ExecInterruptedError, ExecTimeoutError, QMPClient
from aqmp_life import connected
from aqmp_loop import run
from aqmp_real import Monitor
from aqmp_scripted import GREETING, Connection, answer_all, answer_the_rest, scripted


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
