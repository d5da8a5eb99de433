# SPDX-License-Identifier: BSD-3-Clause
"""QMPClient with real monitors: commands, replies, errors, file descriptors."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from pathlib import Path

import pytest

from aqmp import (
    ConnectError,
    DeserializationError,
    ExecInterruptedError,
    ExecuteError,
    Message,
    QMPClient,
    Runstate,
    StateError,
)
from aqmp_loop import run
from aqmp_real import MACHINE, NO_MACHINE, STORAGE_DAEMON, Monitor, Start

@pytest.mark.parametrize("command", [STORAGE_DAEMON, NO_MACHINE, [*MACHINE, "-S"], MACHINE],
                         ids=["storage-daemon", "no machine", "machine -S", "running machine"])
def test_a_session(start: Start, command: list[str]) -> None:
    monitor = start(command)

    async def session() -> None:
        client = QMPClient("test")
        assert client.runstate.name == "IDLE" and client.greeting is None
        await client.connect(monitor.socket)
        assert client.runstate.name == "RUNNING"
        assert client.greeting is not None and client.greeting.QMP.capabilities == ["oob"]
        assert await client.execute("query-version") == client.greeting.QMP.version
        commands = await client.execute("query-commands")
        assert isinstance(commands, list) and {"name": "quit"} in commands
        assert await client.execute("quit") == {}
        while client.runstate is not Runstate.IDLE:
            await client.runstate_changed()
        await client.disconnect()

    run(session())
    assert monitor.process.wait(60) == 0


def test_an_error_is_an_exception_that_has_it_all(storage_daemon: Monitor) -> None:
    async def session() -> None:
        client = QMPClient()
        await client.connect(storage_daemon.socket)
        with pytest.raises(ExecuteError, match="^The command nope has not been found$") as info:
            await client.execute("nope", {"a": 1})
        assert info.value.error_class == "CommandNotFound"
        assert info.value.sent["execute"] == "nope" and info.value.sent["arguments"] == {"a": 1}
        assert info.value.received["id"] == info.value.sent["id"]
        assert info.value.error.error.desc == str(info.value)
        with pytest.raises(ExecuteError, match="Parameter 'id' is missing") as info:
            await client.execute("block-export-del", {})
        assert info.value.error_class == "GenericError"
        await client.disconnect()

    run(session())


def test_commands_with_ids_of_ones_own_or_none(storage_daemon: Monitor) -> None:
    async def session() -> None:
        client = QMPClient()
        await client.connect(storage_daemon.socket)
        nope = {"class": "CommandNotFound", "desc": "The command nope has not been found"}
        for identifier in ("x", 1, True, None, [1, {"a": 2}], 1.5):
            assert await client._raw({"execute": "nope", "id": identifier}) == {"id": identifier, "error": nope}
        assert await client._raw({"execute": "nope"}, assign_id=False) == {"error": nope}
        reply = await client._raw(b'{"execute": "nope"}')
        assert reply["error"] == nope and isinstance(reply["id"], str)
        assert await client.execute_msg(Message({"execute": "query-commands", "id": 7})) != []
        with pytest.raises(ValueError, match="expected a message with 'execute' or 'exec-oob', got {'id': 7}"):
            await client.execute_msg(Message({"id": 7}))
        # 1 and true are two ids, though Python has them equal.
        both = await asyncio.gather(*(client._raw({"execute": "nope", "id": identifier}) for identifier in (1, True)))
        assert [reply["id"] is True for reply in both] == [False, True]
        await client.disconnect()

    run(session())


def test_an_id_in_use_is_refused(storage_daemon: Monitor) -> None:
    async def session() -> None:
        client = QMPClient()
        await client.connect(storage_daemon.socket)
        first = asyncio.create_task(client._raw({"execute": "query-commands", "id": "x"}))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="the id 'x' is in use"):
            await client._raw({"execute": "query-commands", "id": "x"})
        with pytest.raises(ValueError, match="an out-of-band command needs an id"):
            await client._raw({"exec-oob": "query-commands"}, assign_id=False)
        assert "return" in await first
        await client.disconnect()

    run(session())


def test_many_commands_at_once(storage_daemon: Monitor) -> None:
    async def session() -> None:
        client = QMPClient()
        await client.connect(storage_daemon.socket)
        replies = await asyncio.gather(*(client._raw({"execute": "nope", "id": n}) for n in range(500)))
        assert [reply["id"] for reply in replies] == list(range(500))
        await client.disconnect()

    run(session())


def test_a_big_reply_and_a_bigger_command(no_machine: Monitor) -> None:
    """query-qmp-schema answers 200 kB on one line; asyncio's readline has a limit of 64 KiB."""

    async def session() -> None:
        client = QMPClient()
        await client.connect(no_machine.socket)
        schema = await client.execute("query-qmp-schema")
        assert isinstance(schema, list) and len(schema) > 500
        identifier = "x" * 500_000
        assert (await client._raw({"execute": "query-version", "id": identifier}))["id"] == identifier
        await client.disconnect()

    run(session())


def test_the_limit(no_machine: Monitor) -> None:
    async def session() -> None:
        client = QMPClient(limit=100_000)
        await client.connect(no_machine.socket)
        with pytest.raises(ExecInterruptedError) as info:
            await client.execute("query-qmp-schema")
        assert isinstance(info.value.__cause__, DeserializationError)
        with pytest.raises(DeserializationError, match="a message is longer than the limit of 100000 bytes"):
            await client.disconnect()
        await client.disconnect()

    run(session())


def test_what_json_does_not_have_fails_in_the_caller_alone(storage_daemon: Monitor) -> None:
    async def session() -> None:
        client = QMPClient()
        await client.connect(storage_daemon.socket)
        for wrong, error in ((object(), TypeError), (float("nan"), ValueError), ({1: {2: b"x"}}, TypeError)):
            with pytest.raises(error):
                await client.execute("x", {"a": wrong})
        assert await client.execute("query-commands")
        await client.disconnect()

    run(session())


def test_a_monitor_that_prints_prettily(start: Start) -> None:
    monitor = start(NO_MACHINE, pretty=True)

    async def session() -> None:
        client = QMPClient()
        await client.connect(monitor.socket)
        assert await client.execute("query-version") == client.greeting.QMP.version  # type: ignore[union-attr]
        with client.listener("STOP") as listener:
            await client.execute("cont")
            await client.execute("stop")
            assert (await listener.get())["event"] == "STOP"
        await client.disconnect()

    run(session())


def test_out_of_band(machine: Monitor) -> None:
    """The daemon has no such command; migrate-pause fails for a reason of its own, which it says out of band."""

    async def session() -> None:
        client = QMPClient()
        await client.connect(machine.socket)
        with pytest.raises(ExecuteError, match="migrate-pause"):
            await client.execute("migrate-pause", oob=True)
        with pytest.raises(ExecuteError, match="The command query-status does not support OOB"):
            await client.execute("query-status", oob=True)
        await client.disconnect()

    run(session())


def test_out_of_band_commands_overtake_a_slow_one(machine: Monitor, folder: Path) -> None:
    """The slow one waits for an NBD server that says nothing."""
    path = str(folder / "silent")

    async def session() -> None:
        client = QMPClient()
        await client.connect(machine.socket)
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(path)
            silent.listen()
            slow = asyncio.create_task(client.execute(
                "blockdev-add", {"driver": "nbd", "node-name": "n", "server": {"type": "unix", "path": path}}))
            silent.setblocking(False)
            connection, _ = await asyncio.get_running_loop().sock_accept(silent)
            with connection:
                for _ in range(3):
                    with pytest.raises(ExecuteError, match="migrate-pause"):
                        await client.execute("migrate-pause", oob=True)
                assert not slow.done()
        with pytest.raises(ExecuteError):
            await slow
        await client.disconnect()

    run(session())


def test_without_a_connection(folder: Path) -> None:
    async def session() -> None:
        client = QMPClient()
        with pytest.raises(StateError, match="query-status: the connection is IDLE, and would have to be RUNNING") as e:
            await client.execute("query-status")
        assert (e.value.state, e.value.required) == (Runstate.IDLE, Runstate.RUNNING)
        with pytest.raises(StateError):
            client.send_fd_scm(0)
        with pytest.raises(StateError, match="call start_server first"):
            await client.accept()
        await client.disconnect()
        with pytest.raises(ConnectError, match="cannot connect to .*/none: .*No such file") as info:
            await client.connect(str(folder / "none"))
        assert isinstance(info.value.exc, FileNotFoundError)
        with pytest.raises(ConnectError, match="cannot connect to 127.0.0.1:1: "):
            await client.connect(("127.0.0.1", 1))
        with pytest.raises(ConnectError, match="cannot listen on /nowhere/x: "):
            await client.start_server("/nowhere/x")
        assert client.runstate.name == "IDLE"

    run(session())


def test_connected_already(storage_daemon: Monitor) -> None:
    async def session() -> None:
        client = QMPClient()
        await client.connect(storage_daemon.socket)
        with pytest.raises(StateError):
            await client.connect(storage_daemon.socket)
        with pytest.raises(StateError):
            await client.start_server(storage_daemon.socket + "2")
        await client.disconnect()
        # And once more.
        await client.connect(storage_daemon.socket)
        assert await client.execute("query-commands")
        await client.disconnect()

    run(session())


def test_it_is_made_without_an_event_loop_and_used_in_several(storage_daemon: Monitor) -> None:
    client = QMPClient()

    async def session() -> None:
        await client.connect(storage_daemon.socket)
        assert await client.execute("query-commands")
        await client.disconnect()

    run(session())
    run(session())


# File descriptors.

def test_a_file_descriptor(machine: Monitor, folder: Path) -> None:
    """The descriptor that QEMU got is a device's file; it comes in its place among commands of any size."""
    (folder / "disk").write_bytes(b"the disk" + bytes(504))

    async def session() -> None:
        client = QMPClient()
        await client.connect(machine.socket)
        with (folder / "disk").open("rb") as disk:
            big = asyncio.create_task(client._raw({"execute": "query-status", "id": "x" * 500_000}))
            await asyncio.sleep(0)
            client.send_fd_scm(disk.fileno())
        added = await client.execute("add-fd", {"fdset-id": 1})
        assert isinstance(added, dict) and added["fdset-id"] == 1
        assert "return" in await big
        path = f"/proc/{machine.process.pid}/fd/{added['fd']}"
        assert os.readlink(path) == str(folder / "disk")
        with pytest.raises(OSError):
            client.send_fd_scm(123456)
        client.send_fd_scm(0)
        await client.disconnect()

    run(session())


def test_no_descriptor_is_left(storage_daemon: Monitor) -> None:
    async def session() -> None:
        gc.collect()  # what other tests have left
        before = sorted(os.listdir("/proc/self/fd"))
        for _ in range(3):
            client = QMPClient()
            await client.connect(storage_daemon.socket)
            client.send_fd_scm(0)
            await client.disconnect()
            with pytest.raises(ConnectError):
                await client.connect("/nowhere")
        await asyncio.sleep(0)
        assert sorted(os.listdir("/proc/self/fd")) == before

    run(session())
