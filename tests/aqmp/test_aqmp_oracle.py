# SPDX-License-Identifier: BSD-3-Clause
"""Beside the published library, qemu.qmp: its names are here, and what it does with a monitor is done here alike.

It is Debian sid's python3-qemu-qmp; PYTHONPATH can lead to it where it is not installed.
"""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest

import aqmp
from aqmp_loop import run
from aqmp_real import Monitor

published: Any = pytest.importorskip("qemu.qmp", reason="Debian's python3-qemu-qmp is not here")


def test_its_names() -> None:
    for name in published.__all__:
        assert hasattr(aqmp, name), name
    for module in ("error", "message", "models", "events", "protocol", "qmp_client"):
        theirs = getattr(__import__(f"qemu.qmp.{module}").qmp, module)
        for name, value in vars(theirs).items():
            if inspect.isclass(value) and value.__module__ == theirs.__name__ and not name.startswith("_"):
                if name != "Model":
                    assert hasattr(aqmp, name), name


@pytest.mark.parametrize("name", ["QMPClient", "EventListener", "Message"])
def test_its_methods_take_what_they_took(name: str) -> None:
    """Each public method is here, with its parameters in their order; ours may have more, by keyword."""
    theirs, ours = getattr(published, name), getattr(aqmp, name)
    for method, function in inspect.getmembers(theirs):
        if method.startswith("_") and method != "_raw" or name == "Message" and not inspect.isfunction(function):
            continue
        assert hasattr(ours(), method), method
        if inspect.isfunction(function) and method not in dir(dict):
            theirs_take = list(inspect.signature(function).parameters.values())
            ours_take = list(inspect.signature(getattr(ours, method)).parameters.values())
            assert [p.name for p in ours_take][:len(theirs_take)] == [p.name for p in theirs_take], method
            assert all(p.kind is p.KEYWORD_ONLY for p in ours_take[len(theirs_take):]), method


async def report(library: Any, path: str) -> list[object]:
    """What a session with this library comes to."""
    client = library.QMPClient("oracle")
    seen: list[object] = [client.runstate.name]
    await client.connect(path)
    seen += [client.runstate.name, client.greeting.QMP.capabilities, client.greeting._asdict()]
    seen.append(dict(library.QMPClient.make_execute_msg("a", {"b": 1}, True)))
    seen.append(dict(library.QMPClient.make_execute_msg("a", {"b": 1})))
    commands: list[tuple[str, dict[str, object] | None]] = [
        ("query-version", None), ("query-commands", {}), ("nope", None), ("cont", {"x": 1}),
        ("cont", None), ("stop", None)]
    for command, arguments in commands:
        try:
            seen.append(await client.execute(command, arguments))
        except library.ExecuteError as error:
            seen.append((str(error), error.error_class, error.error.error.desc, sorted(error.received),
                         sorted(error.sent)))
    seen.append(await client.execute("query-status"))
    seen.append([e["event"] for e in client.events.history])
    with client.listener("STOP") as listener:
        await client.execute("cont")
        await client.execute("stop")
        seen.append([(await listener.get())["event"], listener.empty(), len(listener.history)])
    for raw in ({"execute": "nope", "id": "mine"}, b'{"execute": "nope", "id": "x"}', b'{"execute": "nope"}'):
        seen.append(dict(await client._raw(raw, assign_id=False)))
    reply = await client._raw({"execute": "nope"})
    seen.append([reply["error"], type(reply["id"])])
    seen.append(dict(await client._raw({"execute": "nope"}, assign_id=False)))
    seen.append(await client.execute_msg(library.Message({"execute": "query-status"})))
    try:
        await client.execute("query-status", oob=True)
    except library.ExecuteError as error:
        seen.append(str(error))
    await client.disconnect()
    seen.append(client.runstate.name)
    for wrong in (client.execute("query-status"), client.accept(), client.connect("/nowhere")):
        try:
            await wrong
        except library.QMPError as error:
            seen.append(type(error).__name__ if not isinstance(error, library.ConnectError) else
                        (type(error).__name__, type(error.exc).__name__))
    return seen


def test_a_session_with_each(machine: Monitor) -> None:
    async def session() -> None:
        theirs, ours = await report(published, machine.socket), await report(aqmp, machine.socket)
        for a, b in zip(theirs, ours):
            assert a == b
        assert len(theirs) == len(ours)

    run(session())


def test_its_client_and_our_server(folder: Path) -> None:
    async def session() -> None:
        path = str(folder / "s")
        async with aqmp.QMPServer() as server:

            @server.command("urgent", oob=True)
            async def urgent() -> None:
                server.emit("DONE", {"x": 1})

            await server.serve(path)
            client = published.QMPClient()
            await client.connect(path)
            assert client.greeting.QMP.capabilities == ["oob"]
            assert await client.execute("urgent", oob=True) == {}
            assert (await client.events.get())["data"] == {"x": 1}
            with pytest.raises(published.ExecuteError, match="The command nope has not been found"):
                await client.execute("nope")
            await client.disconnect()

    run(session())


def test_its_server_and_our_server_as_a_peer_that_connects(folder: Path) -> None:
    async def session() -> None:
        path = str(folder / "s")
        client, server = published.QMPClient(), aqmp.QMPServer()
        await client.start_server(path)
        await asyncio.gather(client.accept(), server.connect(path))
        assert await client.execute("query-version") == server.version
        await client.disconnect()
        await server.close()

    run(session())


def test_what_ours_does_and_theirs_does_not(machine: Monitor) -> None:
    """An iteration that the connection's end does not end is why one moves."""

    async def ends(library: Any) -> bool:
        client = library.QMPClient()
        await client.connect(machine.socket)

        async def follow() -> None:
            async for _ in client.events:
                pass

        following = asyncio.create_task(follow())
        await asyncio.sleep(0)
        await client.disconnect()
        await asyncio.wait({following}, timeout=0.5)
        ended = following.done()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return ended

    async def session() -> None:
        assert (await ends(published), await ends(aqmp)) == (False, True)

    run(session())
