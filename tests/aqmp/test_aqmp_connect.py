# SPDX-License-Identifier: BSD-3-Clause
"""The ways in which QMPClient gets a connection to a real monitor, which serves one client at a time."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest

from aqmp import ConnectError, QMPClient, SocketAddrT, StateError
from aqmp_loop import run
from aqmp_real import STORAGE_DAEMON, Monitor, Start, free_port


def test_a_second_client_is_told_so_in_time(storage_daemon: Monitor) -> None:
    """QEMU's queue holds two that wait; the next cannot even connect, which asyncio takes for a connection."""

    async def session() -> None:
        first = QMPClient()
        await first.connect(storage_daemon.socket)
        waiting = [QMPClient() for _ in range(5)]
        results = await asyncio.gather(*(client.connect(storage_daemon.socket, timeout=0.5) for client in waiting),
                                       return_exceptions=True)
        for result in results:
            assert isinstance(result, ConnectError) and isinstance(result.exc, TimeoutError)
            assert "within 0.5 s (a monitor serves one client at a time)" in str(result)
        assert {"no session", "no connection"} == {str(result).split(": ")[1].split(" within")[0] for result in results}
        await first.disconnect()
        await waiting[0].connect(storage_daemon.socket)
        await waiting[0].disconnect()

    run(session())


def test_a_client_that_waits_gets_its_turn(storage_daemon: Monitor) -> None:
    async def session() -> None:
        first, *others = (QMPClient() for _ in range(5))
        await first.connect(storage_daemon.socket)

        async def one(client: QMPClient) -> None:
            await client.connect(storage_daemon.socket)
            await client.execute("query-commands")
            await client.disconnect()

        async with asyncio.TaskGroup() as group:
            for client in others:
                group.create_task(one(client))
            await asyncio.sleep(0.2)
            await first.disconnect()

    run(session())


# The ways to get a connection.

def test_tcp(start: Start) -> None:
    port = free_port()
    monitor = start(STORAGE_DAEMON, chardev=f"host=127.0.0.1,port={port},server=on,wait=off")

    async def session() -> None:
        client = QMPClient()
        while True:
            try:
                await client.connect(("127.0.0.1", port))
                break
            except ConnectError:
                assert monitor.process.poll() is None
                await asyncio.sleep(0.01)
        assert await client.execute("query-commands")
        with pytest.raises(ValueError, match="over a UNIX socket without TLS only"):
            client.send_fd_scm(0)
        await client.disconnect()

    run(session())


def test_a_socket(storage_daemon: Monitor) -> None:
    async def session() -> None:
        for method in ("connect", "open_with_socket"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(storage_daemon.socket)
            client = QMPClient()
            await getattr(client, method)(sock)
            assert await client.execute("query-commands")
            await client.disconnect()
            assert sock.fileno() == -1

    run(session())


@pytest.mark.parametrize("where", ["path", "abstract", "port"])
def test_a_monitor_that_connects_to_us(start: Start, folder: Path, where: str) -> None:
    port = free_port()
    ways: dict[str, tuple[SocketAddrT, str]] = {
        "path": (str(folder / "ours"), f"path={folder}/ours"),
        "abstract": (f"\0{folder}", f"path={folder},abstract=on,tight=on"),
        "port": (("127.0.0.1", port), f"host=127.0.0.1,port={port}")}
    address, chardev = ways[where]

    async def session() -> None:
        client = QMPClient()
        for _ in range(2):
            await client.start_server(address)
            with pytest.raises(StateError):
                await client.start_server(address)
            monitor = start(STORAGE_DAEMON, chardev=chardev)
            await client.accept(timeout=60)
            assert not (folder / "ours").exists()
            assert await client.execute("query-commands")
            await client.execute("quit")
            monitor.process.wait(60)
            await client.disconnect()
        with pytest.raises(ConnectError, match="no peer came: no connection within 0.1 s"):
            await client.start_server_and_accept(address, timeout=0.1)
        assert not (folder / "ours").exists()

    run(session())


def test_a_path_that_is_in_use_is_left_alone_and_a_stale_one_replaced(storage_daemon: Monitor, folder: Path) -> None:
    async def session() -> None:
        client = QMPClient()
        with pytest.raises(ConnectError, match="in use"):
            await client.start_server(storage_daemon.socket)
        await client.connect(storage_daemon.socket)
        await client.disconnect()
        stale = str(folder / "stale")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(stale)
        await client.start_server(stale)
        await client.disconnect()
        assert not os.path.exists(stale)

    run(session())


def test_tls_with_a_real_monitor(start: Start, certificate: Path, client_context: ssl.SSLContext) -> None:
    port = free_port()
    monitor = start(["qemu-storage-daemon", "--object",
                     f"tls-creds-x509,id=tls0,endpoint=server,dir={certificate},verify-peer=off",
                     "--chardev", "{chardev}", "--monitor", "chardev=monitor"],
                    chardev=f"host=127.0.0.1,port={port},server=on,wait=off,tls-creds=tls0")

    async def session() -> None:
        client = QMPClient()
        while True:
            try:
                await client.connect(("127.0.0.1", port), client_context)
                break
            except ConnectError as error:
                assert isinstance(error.exc, ConnectionRefusedError), error
                assert monitor.process.poll() is None
                await asyncio.sleep(0.01)
        assert await client.execute("query-commands")
        with pytest.raises(ValueError, match="without TLS"):
            client.send_fd_scm(0)
        await client.disconnect()
        with pytest.raises(ConnectError, match="certificate verify failed"):
            await client.connect(("127.0.0.1", port), ssl.create_default_context())

    run(session())
