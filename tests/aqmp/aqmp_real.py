# SPDX-License-Identifier: BSD-3-Clause
"""Real monitors for the tests: qemu-storage-daemon and qemu-system-x86_64, started on a socket of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

TIMEOUT = 60  # seconds; what any one step may take on a slow machine

STORAGE_DAEMON = ["qemu-storage-daemon", "--chardev", "{chardev}", "--monitor", "chardev=monitor{pretty}"]
# A machine that has nothing, and one with a processor that runs its firmware.
NO_MACHINE = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "none", "-S",
              "-chardev", "{chardev}", "-mon", "chardev=monitor,mode=control{pretty}"]
MACHINE = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "q35,accel=tcg", "-cpu", "qemu64",
           "-m", "64", "-device", "virtio-scsi-pci,id=scsi0",
           "-chardev", "{chardev}", "-mon", "chardev=monitor,mode=control{pretty}"]


def environment() -> dict[str, str]:
    """This process's environment without what would change how others' Python behaves."""
    return {k: v for k, v in os.environ.items() if k not in {"PYTHONUNBUFFERED", "VIRTUAL_ENV", "PYTHONPATH"}}


class Monitor:
    """A running program with a monitor. `socket` is the path that it listens on, unless it was told to connect."""

    def __init__(self, folder: Path, command: list[str], *more: str, chardev: str | None = None,
                 pretty: bool = False) -> None:
        self.socket = str(folder / "monitor.sock")
        self.log = folder / "monitor.log"
        self.chardev = "socket,id=monitor," + (chardev or f"path={self.socket},server=on,wait=off")
        fields = {"chardev": self.chardev, "pretty": ",pretty=on" if pretty else ""}
        words = [word.format(**fields) for word in command] + list(more)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment())
        if chardev is None:
            self._wait_until_it_listens()

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not is_listening(self.socket):
            assert self.process.poll() is None, f"it ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.005)

    def stop(self) -> None:
        """Kill it, if it still runs."""
        self.process.kill()
        self.process.wait()


Start = Callable[..., Monitor]  # what the fixture `start` is


def is_listening(path: str) -> bool:
    """Whether a socket is not only bound to the path, but listens."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(row[-1] == path and row[3] == "00010000" for row in rows)


def free_port() -> int:
    """A TCP port that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
