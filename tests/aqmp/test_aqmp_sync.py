# SPDX-License-Identifier: BSD-3-Clause
"""SyncQMPClient: the client without asyncio, from several threads, and without a thread left."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aqmp import (
    ConnectError,
    ExecInterruptedError,
    ExecTimeoutError,
    ExecuteError,
    ListenerError,
    Message,
    QMPClient,
    QMPError,
    ReconnectingClient,
    StateError,
    SyncQMPClient,
)
from aqmp_real import STORAGE_DAEMON, TIMEOUT, Monitor


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_a_session(storage_daemon: Monitor) -> None:
    with SyncQMPClient() as client:
        assert client.runstate.name == "IDLE" and client.greeting is None
        with pytest.raises(StateError):
            client.execute("query-commands")
        client.connect(storage_daemon.socket)
        assert client.runstate.name == "RUNNING" and client.greeting is not None
        assert client.execute("query-commands")
        assert client.execute_msg(Message({"execute": "query-commands", "id": 1}))
        with pytest.raises(ExecuteError, match="nope has not been found"):
            client.execute("nope")
        client.disconnect()
        with pytest.raises(ConnectError, match="cannot connect to /nowhere"):
            client.connect("/nowhere")
        client.connect(storage_daemon.socket)
    assert client.runstate.name == "IDLE"
    client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.execute("query-commands")


def test_events(machine: Monitor) -> None:
    with SyncQMPClient() as client:
        client.connect(machine.socket)
        with client.listener("STOP") as stops, client.listener(event_filter=lambda e: e["event"] == "RESUME") as others:
            client.execute("cont")
            client.execute("stop")
            assert stops.get()["event"] == "STOP"
            assert stops.empty() and stops.dropped == 0 and len(stops.history) == 1
            with pytest.raises(TimeoutError):
                stops.get(timeout=0.01)
            assert len(others.clear()) == 1 and others.empty()
        client.execute("quit")
        assert [e["event"] for e in client.events][:2] == ["RESUME", "STOP"]
        with pytest.raises(ListenerError):
            client.events.get()


def test_many_threads(storage_daemon: Monitor) -> None:
    with SyncQMPClient() as client, ThreadPoolExecutor(8) as pool:
        client.connect(storage_daemon.socket)

        def ask(number: int) -> str:
            try:
                client.execute(f"command-{number}")
            except ExecuteError as error:
                return str(error)
            return "no error"

        for number, answer in enumerate(pool.map(ask, range(400))):
            assert answer == f"The command command-{number} has not been found"


def test_closing_interrupts_other_threads(storage_daemon: Monitor) -> None:
    client = SyncQMPClient()
    client.connect(storage_daemon.socket)
    os.kill(storage_daemon.process.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(5) as pool:
        calls: list[Callable[[], object]] = [
            lambda: client.execute("x"), lambda: client.execute("y", timeout=TIMEOUT), client.events.get,
            lambda: client.events.get(timeout=TIMEOUT), lambda: list(client.events)]
        futures = [pool.submit(call) for call in calls]
        while len(client._client.events._waiters) < 3:
            pass
        with pytest.raises(ExecTimeoutError):
            client.execute("z", timeout=0.1)
        client.close()
        for future in futures[:4]:
            assert isinstance(future.exception(TIMEOUT), (ExecInterruptedError, ListenerError, RuntimeError))
        assert futures[4].result(TIMEOUT) == []


def test_closing_interrupts_those_who_wait_for_a_connection() -> None:
    client = SyncQMPClient()
    with ThreadPoolExecutor(2) as pool:
        getting, iterating = pool.submit(client.events.get), pool.submit(lambda: list(client.events))
        while len(client._client.events._waiters) < 2:
            pass
        client.close()
        assert isinstance(getting.exception(TIMEOUT), ListenerError)
        assert iterating.result(TIMEOUT) == []


def test_two_close_at_once(storage_daemon: Monitor) -> None:
    client = SyncQMPClient()
    client.connect(storage_daemon.socket)
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(client.close) for _ in range(4)]:
            future.result(TIMEOUT)


def test_ctrl_c_interrupts_the_call_and_not_the_client(storage_daemon: Monitor) -> None:
    with SyncQMPClient() as client:
        client.connect(storage_daemon.socket)
        os.kill(storage_daemon.process.pid, signal.SIGSTOP)
        main = threading.main_thread().ident
        assert main is not None
        timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            client.execute("x")
        timer.join()
        os.kill(storage_daemon.process.pid, signal.SIGCONT)
        assert client.execute("query-commands")


def test_a_filter_that_calls_its_client_is_told_so(machine: Monitor, caplog: pytest.LogCaptureFixture) -> None:
    with SyncQMPClient() as client:
        client.connect(machine.socket)
        with client.listener(event_filter=lambda _: bool(client.execute("query-status"))) as listener:
            client.execute("cont")
            assert listener.empty()
    assert "a filter cannot call its own client" in caplog.text


def test_a_broken_connection_is_closed_all_the_same(storage_daemon: Monitor) -> None:
    client = SyncQMPClient(QMPClient(limit=100))
    with pytest.raises(QMPError, match="longer than the limit"):
        client.connect(storage_daemon.socket)
    client.close()


def test_it_wraps_a_client_that_reconnects(start: Callable[..., Monitor], folder: Path) -> None:
    monitor = start(STORAGE_DAEMON)
    inner = ReconnectingClient(first_delay=0.01)
    with SyncQMPClient(inner) as client:
        client.connect(monitor.socket)
        assert client.execute("query-commands", timeout=TIMEOUT)
        monitor.stop()
        again = start(STORAGE_DAEMON, chardev=f"path={monitor.socket},server=on,wait=off")
        while True:
            try:
                assert client.execute("query-commands", timeout=TIMEOUT)
            except ExecInterruptedError:
                continue
            if inner.connections == 2:
                break
        assert again.process.poll() is None


def test_a_monitor_that_connects_to_us(start: Callable[..., Monitor], folder: Path) -> None:
    path = str(folder / "ours")
    with SyncQMPClient() as client, ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(client.start_server_and_accept, path, timeout=TIMEOUT)
        while not Path(path).exists():
            assert not accepting.done()
        start(STORAGE_DAEMON, chardev=f"path={path}")
        accepting.result(TIMEOUT)
        with (folder / "file").open("w") as file:
            client.send_fd_scm(file.fileno())
        assert client.execute("query-commands")
