# SPDX-License-Identifier: BSD-3-Clause
"""A server told to end: while a callback does not return, while it starts, by other signals, and by a script's own."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from disks import SIZE, disk
from harness import PLUGIN, TIMEOUT, Server, environment, serving, write_script
from late_kit import end_with_a_late_client, late, shake_hands
from test_faults_durability import Disk
from wire import GREETING

# To write down calls in a file beside the script, one a line, and to wait for a file there.
TELLS = """
    import os, signal, sys, time
    folder = os.path.dirname(__file__)
    calls = os.open(os.path.join(folder, "calls"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(call):
        os.write(calls, f"{call}\\n".encode())

    def wait_for(name):
        while not os.path.exists(os.path.join(folder, name)):
            time.sleep(0.01)

    def close(h): tell("close")
    def cleanup(): tell("cleanup")
    def unload(): tell("unload")
"""
END = ["cleanup", "unload"]


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def wait_for_call(folder: Path, call: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while call not in calls(folder):
        assert time.monotonic() < deadline, calls(folder)
        time.sleep(0.005)


def stays(process: subprocess.Popen[bytes], seconds: float = 0.7) -> bool:
    """Is it still there after a while?"""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is None


HANGS = {
    "sleep": "while True: time.sleep(1e6)",
    "lock": "lock.acquire(); lock.acquire()",
    "C": "ctypes.CDLL(None).pause()",
    "C with the GIL": "ctypes.PyDLL(None).pause()",
}
HANGING = """
    import ctypes, os, threading, time
    lock = threading.Lock()
    answering = pread

    def pread(h, buf, offset, flags):
        if offset == 8192:
            os.mkdir(path + ".hangs")
            {hang}
        return answering(h, buf, offset, flags)
"""


@pytest.mark.parametrize("hang", HANGS)
@pytest.mark.parametrize("name", ["sqlite", "file"])
def test_a_callback_that_never_returns(tmp_path: Path, name: str, hang: str) -> None:
    """nbdkit waits for it; to kill the server harms nothing."""
    example = Disk(tmp_path, name, HANGING.format(hang=HANGS[hang]))
    with serving(tmp_path, example.script, *example.parameters) as server:
        client, victim = server.connect(), server.connect()
        client.pwrite(b"1" * 4096, 0, nbd.CMD_FLAG_FUA)
        client.pwrite(b"2" * 4096, 4096)
        client.flush()
        victim.aio_pread(answer := nbd.Buffer(512), 8192)
        deadline = time.monotonic() + TIMEOUT
        while not example.store.with_name("store.hangs").exists():
            assert time.monotonic() < deadline
            victim.poll(10)
        server.process.send_signal(signal.SIGTERM)
        assert stays(server.process)
        del client, victim, answer
        assert stays(server.process, 0.1), "its client has gone, and still the callback is at work"
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    (tmp_path / "after").mkdir()
    with serving(tmp_path / "after", example.script, *example.parameters) as server:
        found = server.connect().pread(8192, 0)
        assert found == b"1" * 4096 + b"2" * 4096
    example.check_store()


@pytest.mark.parametrize("model", ["SERIALIZE_ALL_REQUESTS", "PARALLEL"])
def test_a_slow_callback_is_waited_for(serve: Serve, model: str) -> None:
    """Told to end, nbdkit lets what is under way be done and answered, and refuses what comes after."""
    server = serve(disk(TELLS + f"""
    def thread_model(): return nbdkit.THREAD_MODEL_{model}
    def pwrite(h, buf, offset, flags):
        tell("pwrite")
        wait_for("go")
        tell("written")
    """))
    slow, other = server.connect(), server.connect()
    cookie = slow.aio_pwrite(data := nbd.Buffer.from_bytearray(bytearray(512)), 0)
    slow.poll(100)
    wait_for_call(server.folder, "pwrite")
    server.process.send_signal(signal.SIGTERM)
    assert stays(server.process)
    with pytest.raises(nbd.Error):
        other.pread(512, 0)
    (server.folder / "go").touch()
    while not slow.aio_command_completed(cookie):  # it raises an exception if the answer is an error
        assert slow.poll(1000 * TIMEOUT) == 1
    del slow, other, data
    assert server.stop() == 0
    assert calls(server.folder) == ["pwrite", "written", "close", "close", *END]


@pytest.mark.parametrize("times", [1, 2, 20])
def test_told_to_end_with_idle_clients(serve: Serve, times: int) -> None:
    server = serve(disk(TELLS))
    clients = [server.connect() for _ in range(5)]
    for _ in range(times):
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    # Whether nbdkit hangs up by itself depends on its version.
    clients.clear()
    assert server.process.wait(TIMEOUT) == 0
    assert calls(server.folder) == ["close"] * 5 + END


def test_told_to_end_again_at_its_end(serve: Serve) -> None:
    server = serve(disk(TELLS + """
    def cleanup():
        tell("cleanup")
        wait_for("go")
    """))
    server.connect().pread(512, 0)
    server.process.send_signal(signal.SIGTERM)
    wait_for_call(server.folder, "cleanup")
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        server.process.send_signal(sign)
    assert stays(server.process, 0.2)
    (server.folder / "go").touch()
    assert server.process.wait(TIMEOUT) == 0
    assert calls(server.folder) == ["close", *END]


OPENS = "    def open(readonly): tell('open')\n"


def test_told_to_end_while_clients_connect(tmp_path: Path) -> None:
    """nbdkit does not wait for a client that has just come; its thread must not touch what is gone."""
    script = disk(TELLS + OPENS)
    for number in range(20):
        (folder := tmp_path / str(number)).mkdir()
        server = Server(folder, write_script(folder, script), options=("--threads=1",))
        ended = threading.Event()

        def connect() -> None:
            while not ended.is_set():
                with suppress(nbd.Error):
                    server.connect().pread(512, 0)

        threads = [threading.Thread(target=connect) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for_call(folder, "close")
        time.sleep(0.001 * (number % 5))
        status = server.stop()
        ended.set()
        for thread in threads:
            thread.join()
        told = calls(folder)
        assert status == 0, f"server {number} ended with {status}, called {told[-6:]} last, and said:\n{server.log()}"
        assert told.count("open") == told.count("close") and told[-2:] == END and told.count("cleanup") == 1


@pytest.mark.parametrize("preconnect", ["", "    def preconnect(readonly): pass\n"], ids=["", "preconnect"])
def test_a_client_that_nbdkit_does_not_know_of(serve: Serve, preconnect: str) -> None:
    """It is waited for as any other, and the script's end begins when it has gone."""
    server = serve(disk(TELLS + OPENS + preconnect), env=late())
    with end_with_a_late_client(server) as client:
        assert client.receive(18).startswith(GREETING)
        assert stays(server.process)
        shake_hands(client)
    assert server.process.wait(TIMEOUT) == 0, server.log()
    assert calls(server.folder) == ["open", "close", *END]


@contextmanager
def starting(folder: Path, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """An nbdkit that has not yet come to listen."""
    command = ["nbdkit", "-f", "-U", str(folder / "nbd.sock"), PLUGIN, str(write_script(folder, script))]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment())
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("step", ["import", "config_complete", "thread_model", "get_ready"])
def test_told_to_end_while_it_starts(tmp_path: Path, step: str) -> None:
    """Until nbdkit listens, SIGTERM does what the system has it do: as with any plugin, no callback follows."""
    slow = "tell('there'); time.sleep(1e6)"
    script = disk(TELLS + f"    {slow if step == 'import' else f'def {step}(): {slow}'}\n")
    with starting(tmp_path, script) as server:
        wait_for_call(tmp_path, "there")
        server.terminate()
        assert server.wait(TIMEOUT) == -signal.SIGTERM
    assert calls(tmp_path) == ["there"]


@pytest.mark.parametrize(("imports", "status"), [("", -signal.SIGINT), ("import signal", 1)])
def test_interrupted_while_it_starts(tmp_path: Path, capfd: pytest.CaptureFixture[str], imports: str,
                                     status: int) -> None:
    """A Python that has imported the module signal makes SIGINT an exception, which is then an error as any."""
    script = disk(f"""
        import os, time
        {imports}

        def get_ready():
            calls = os.open({str(tmp_path / "calls")!r}, os.O_WRONLY | os.O_CREAT)
            os.write(calls, b"there\\n")
            time.sleep(1e6)
    """)
    with starting(tmp_path, script) as server:
        wait_for_call(tmp_path, "there")
        server.send_signal(signal.SIGINT)
        assert server.wait(TIMEOUT) == status
    assert ("KeyboardInterrupt" in capfd.readouterr().err) == (status == 1)


def test_told_to_end_in_after_fork(tmp_path: Path) -> None:
    script = TELLS + """
    def after_fork():
        tell("there")
        wait_for("go")
        tell("done")
    """
    with starting(tmp_path, disk(script)) as server:
        wait_for_call(tmp_path, "there")
        server.send_signal(signal.SIGTERM)
        assert stays(server, 0.3)
        (tmp_path / "go").touch()
        assert server.wait(TIMEOUT) == 0
    assert calls(tmp_path) == ["there", "done", *END]


@pytest.mark.parametrize("callback", ["after_fork()", "close(h)", "preconnect(readonly)"])
def test_importing_signal_late(serve: Serve, callback: str) -> None:
    """While it serves, that makes no difference to what SIGINT does."""
    server = serve(disk(f"def {callback}: import signal, subprocess, asyncio\n"))
    server.connect().pread(512, 0)
    assert server.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("sign", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT], ids=attrgetter("name"))
def test_other_signals_that_end_it(serve: Serve, sign: signal.Signals) -> None:
    server = serve(disk(TELLS))
    server.connect().pread(512, 0)
    assert server.stop(sign) == 0
    assert calls(server.folder) == ["close", *END]


def test_signals_of_no_meaning(serve: Serve) -> None:
    server = serve(disk(TELLS))
    client = server.connect()
    for _ in range(100):
        server.process.send_signal(signal.SIGPIPE)
        assert client.pread(512, 0) == bytes(512)
    client.shutdown()
    server.killed = True
    server.process.send_signal(signal.SIGUSR1)  # that it dies of, as any process that does not ask for it
    assert server.process.wait(TIMEOUT) == -signal.SIGUSR1


HANDLERS = "    def handle(number, frame): tell(f'handled {signal.Signals(number).name}')\n"
STEPS = ["import", "get_ready", "after_fork"]


def installing(step: str, sign: signal.Signals) -> str:
    install = f"signal.signal(signal.{sign.name}, handle)"
    return disk(TELLS + HANDLERS + f"    {install if step == 'import' else f'def {step}(): {install}'}\n")


@pytest.mark.parametrize("step", STEPS)
def test_a_handler_runs_at_the_end(serve: Serve, step: str) -> None:
    """A handler in Python is the main thread's to run, and that one waits for clients in C until the server ends."""
    server = serve(installing(step, signal.SIGUSR1))
    client = server.connect()
    for _ in range(100):
        server.process.send_signal(signal.SIGUSR1)
        assert client.pread(SIZE, 0) == bytes(SIZE)
    assert calls(server.folder) == []
    client.shutdown()
    wait_for_call(server.folder, "close")
    assert server.stop() == 0
    assert calls(server.folder) == ["close", "handled SIGUSR1", *END]


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=attrgetter("name"))
@pytest.mark.parametrize("step", STEPS)
def test_a_handler_does_not_keep_the_server_from_ending(serve: Serve, step: str, sign: signal.Signals) -> None:
    server = serve(installing(step, sign))
    server.connect().pread(512, 0)
    server.process.send_signal(sign)
    ended = not stays(server.process, TIMEOUT)
    if not ended:
        server.stop(signal.SIGKILL)
    assert ended, f"{sign.name} does not end a server whose script handles it"
    assert calls(server.folder) == ["close", *END]


def test_a_thread_that_waits_for_a_signal(serve: Serve) -> None:
    """What a script can do instead of a handler."""
    server = serve(disk(TELLS + """
    import threading
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # before there are other threads

    def after_fork():
        threading.Thread(target=wait, daemon=True).start()

    def wait():
        while True:
            tell(f"{signal.Signals(signal.sigwait({signal.SIGUSR1})).name}")
    """))
    client = server.connect()
    server.process.send_signal(signal.SIGUSR1)
    wait_for_call(server.folder, "SIGUSR1")
    assert client.pread(512, 0) == bytes(512)
    client.shutdown()
    assert server.stop() == 0
    assert calls(server.folder) == ["SIGUSR1", "close", *END]
