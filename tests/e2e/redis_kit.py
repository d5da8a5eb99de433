# SPDX-License-Identifier: BSD-3-Clause
"""A Redis server of a test's own."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from harness import TIMEOUT, environment


class Redis:
    """A server of our own, on a Unix socket, with its file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/sock"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", "sock", "--appendonly", "yes", "--appendfsync", "always",
             "--save", ""],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment())
        deadline = time.monotonic() + TIMEOUT
        while self.ask("PING", check=False) != "PONG\n":
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)

    def ask(self, *words: object, check: bool = True) -> str:
        done = subprocess.run(["redis-cli", "-s", self.folder / "sock", *map(str, words)], text=True,
                              capture_output=True, timeout=TIMEOUT)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def stop(self, sign: int = signal.SIGKILL) -> None:
        self.process.send_signal(sign)
        self.process.wait(TIMEOUT)
