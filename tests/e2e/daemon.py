# SPDX-License-Identifier: BSD-3-Clause
"""An nbdkit that has gone into the background, as operators run it, and the fixture `daemonise` that starts one."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from harness import PLUGIN, Server, environment, write_script

PATIENCE = 30  # seconds; a server that has not answered or ended by then never will
PR_SET_CHILD_SUBREAPER = 36


class Daemon(Server):
    """An nbdkit in the background, adopted by this process: that is how its exit status is known."""

    def __init__(self, folder: Path, script: Path, *arguments: object, options: tuple[str, ...] = (),
                 cwd: Path | None = None) -> None:
        # Not Server's own: this one does not stay in the foreground.
        self.folder = folder
        self.killed = False
        self.connections = weakref.WeakSet()
        self.socket = folder / "nbd.sock"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self.logfile = folder / "nbdkit.log"
        self.pidfile = folder / "nbdkit.pid"
        # Verbose: nbdkit then leaves standard error open when it goes to the background.
        command = ["nbdkit", "-v", "--log=stderr", "-U", str(self.socket), "-P", str(self.pidfile), *options,
                   PLUGIN, str(script), *map(str, arguments)]
        # A session of its own: whatever comes of it, processes that the script starts too, is one group to end.
        with self.logfile.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd,
                                            env=environment(), start_new_session=True)

    def wait_until_it_listens(self) -> None:
        """Wait until the server is in the background and has written its pid file."""
        try:
            assert self.process.wait(PATIENCE) == 0, self.log()
        except subprocess.TimeoutExpired:
            raise AssertionError(f"nbdkit neither went to the background nor ended:\n{self.log()}") from None
        deadline = time.monotonic() + PATIENCE
        while not self.pidfile.exists() or not self.pidfile.read_text().endswith("\n"):
            assert time.monotonic() < deadline, f"nbdkit does not listen:\n{self.log()}"
            time.sleep(0.005)

    @property
    def pid(self) -> int:
        return int(self.pidfile.read_text())

    def contents(self) -> str:
        """The text that the disk holds, by a client that cannot wait for ever."""
        try:
            done = subprocess.run(["nbdcopy", self.uri, "-"], capture_output=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"nbdkit does not answer:\n{self.log()}") from None
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip(b"\0").decode()

    def stop(self, sign: int = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Ask it to end and return its exit status, the negative number of the signal that it died of."""
        os.kill(self.pid, sign)
        deadline = time.monotonic() + timeout
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            assert time.monotonic() < deadline, f"nbdkit did not end:\n{self.log()}"
            time.sleep(0.005)
        return os.waitstatus_to_exitcode(ended[1])

    def end(self) -> None:
        """Kill what is left of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-self.process.pid, 0)


def adopt(orphans: bool) -> None:
    """Whether this process, and no longer init, becomes the parent of what its children leave behind."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0) == 0


Daemonise = Callable[..., Daemon]


@pytest.fixture
def daemonise(tmp_path: Path) -> Iterator[Daemonise]:
    """daemonise(SCRIPT, *parameters, options=(), cwd=None): a Daemon that listens, killed after the test.

    before_the_fork is called with it when it has been started.
    """
    with ExitStack() as stack:
        adopt(True)
        stack.callback(adopt, False)
        count = 0

        def start(script: str | Path, *arguments: object, before_the_fork: Callable[[Daemon], None] = lambda _: None,
                  **settings: object) -> Daemon:
            nonlocal count
            count += 1
            folder = tmp_path / f"daemon{count}"
            folder.mkdir()
            if isinstance(script, str):
                script = write_script(folder, script)
            daemon = Daemon(folder, script, *arguments, **settings)  # type: ignore[arg-type]
            stack.callback(daemon.end)
            before_the_fork(daemon)
            daemon.wait_until_it_listens()
            return daemon

        yield start
