# SPDX-License-Identifier: BSD-3-Clause
"""One script served in the foreground, in the background and under --run, and what is left when it has ended.

`launch(SCRIPT)` starts it in the way that the test's parameter `way` says. Nothing here waits for ever for a server,
nor for a connection to be closed by it: a process that was forked in a callback may have that connection, too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import nbd
import pytest

from daemon import PATIENCE, Daemon, adopt
from harness import Server, write_script

FORKS = ["background", "run"]  # the ways in which nbdkit forks between get_ready and after_fork
WAYS = ["foreground", *FORKS]
MARK = "NBDKIT_PYTHON_TEST_MARK"


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


class Captive(Daemon):
    """An nbdkit under --run, whose command waits until a FIFO is opened."""

    def __init__(self, folder: Path, script: Path) -> None:
        self.fifo = folder / "fifo"
        os.mkfifo(self.fifo)
        super().__init__(folder, script, options=(f"--run=exec cat {self.fifo}",))

    def wait_until_it_listens(self) -> None:
        wait_until(lambda: self.socket.exists() and self.pidfile.exists() and self.pidfile.read_text(), self.log())

    def stop(self, sign: int = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Let the command end, and with it the server; the result is the status of nbdkit, which has waited for it."""
        self.fifo.write_text("")
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"nbdkit did not end:\n{self.log()}") from None


def ask(server: Server) -> str:
    """The text that the disk holds, read as by a client that leaves without waiting."""
    h = nbd.NBD()

    def wait_for(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"nbdkit does not answer:\n{server.log()}"
            h.poll(50)

    h.aio_connect_unix(str(server.socket))
    wait_for(h.aio_is_ready)
    data = nbd.Buffer(4096)
    cookie = h.aio_pread(data, 0)
    wait_for(lambda: h.aio_command_completed(cookie))
    h.aio_disconnect()
    return data.to_bytearray().rstrip(b"\0").decode()


def left(mark: str) -> list[str]:
    """The processes that have this mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(f"{process.name}: " + (process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def kill_what_is_left(mark: str) -> None:
    for line in left(mark):
        with suppress(ProcessLookupError):
            os.kill(int(line.split(":")[0]), signal.SIGKILL)


class Launched:
    """A server, whichever way it was started."""

    def __init__(self, server: Server, mark: str) -> None:
        self.server = server
        self.mark = mark

    def ask(self) -> str:
        return ask(self.server)

    def stop(self) -> None:
        """It ends in time, with status 0 and with all processes that it has started."""
        assert self.server.stop(timeout=PATIENCE) == 0
        wait_until(lambda: not left(self.mark), f"processes are left behind: {left(self.mark)}\n{self.server.log()}")


Launch = Callable[[str], Launched]


@pytest.fixture
def launch(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launch]:
    """launch(SCRIPT): a Launched that serves it; what is left of it is killed after the test."""
    mark = str(tmp_path)
    monkeypatch.setenv(MARK, mark)
    with ExitStack() as stack:

        def start(text: str) -> Launched:
            script = write_script(tmp_path, text)
            if way == "foreground":
                server = Server(tmp_path, script)
                stack.callback(server.process.wait)
                stack.callback(kill_what_is_left, mark)
                return Launched(server, mark)
            adopt(True)
            stack.callback(adopt, False)
            daemon = (Daemon if way == "background" else Captive)(tmp_path, script)
            stack.callback(daemon.end)
            daemon.wait_until_it_listens()
            return Launched(daemon, mark)

        yield start
