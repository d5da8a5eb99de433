# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of attach need: a running `attach`, and a second monitor to see what QEMU makes of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nbd
import pytest

from aqmp import SyncQMPClient
from aqmp_real import MACHINE, STORAGE_DAEMON, TIMEOUT, Monitor, Start, environment, is_listening

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "examples" / "file.py"
RAMDISK = ROOT / "examples" / "ramdisk.py"

SIZE = 1 << 20  # bytes; of the image

Guest = Callable[..., "Witness"]
Attach = Callable[..., "Attached"]


def until(condition: Callable[[], Any]) -> Any:
    """Wait until the condition holds, and return what it is then."""
    deadline = time.monotonic() + TIMEOUT
    while not (result := condition()):
        assert time.monotonic() < deadline, f"it did not come to {condition}"
        time.sleep(0.01)
    return result


class Witness(SyncQMPClient):
    """A second monitor of a machine or storage daemon, `monitor` being the first."""

    def __init__(self, monitor: Monitor, socket: str) -> None:
        super().__init__()
        self.monitor = monitor
        until(lambda: is_listening(socket))
        self.connect(socket)

    def ask(self, command: str, **arguments: Any) -> Any:
        """Execute a command. In the arguments' names _ stands for -."""
        return self.execute(command, {name.replace("_", "-"): value for name, value in arguments.items()})

    def nodes(self) -> dict[str, Any]:
        return {node["node-name"]: node for node in self.ask("query-named-block-nodes", flat=True)}

    def exports(self) -> list[str]:
        return [export["id"] for export in self.ask("query-block-exports")]

    def devices(self) -> set[str]:
        """The ids of the machine's devices."""
        return {item["name"] for item in self.ask("qom-list", path="/machine/peripheral")} - {"type"}

    def io(self, name: str, command: str) -> str:
        """What qemu-io says to a command on a device: it goes through what the guest has."""
        said = len(self.monitor.log.read_text())
        answer = self.ask("human-monitor-command", command_line=f'qemu-io -d {name} "{command}"')
        return str(answer) + self.monitor.log.read_text()[said:]


class Aqmp:
    """Runs `python3 -m aqmp` with a runtime directory of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.runtime = folder / "run"
        self.runtime.mkdir()
        self.environment = {**environment(), "XDG_RUNTIME_DIR": str(self.runtime), "PYTHONPATH": str(ROOT / "python")}

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "aqmp", *map(str, arguments)]

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(self.command(*arguments), text=True, capture_output=True, timeout=TIMEOUT,
                              stdin=subprocess.DEVNULL, env={**self.environment, **environment})

    def left(self) -> list[str]:
        """All that is left in the runtime directory, but for the folders that all disks share."""
        base = self.runtime / "aqmp"
        return sorted(str(path.relative_to(base)) for path in base.rglob("*") if path.parent != base)


class Attached:
    """A running `attach`, from when it has said its first line, or has ended."""

    def __init__(self, aqmp: Aqmp, witness: Witness, *arguments: object) -> None:
        self.log = aqmp.runtime / f"attach{len(list(aqmp.runtime.glob('attach*')))}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                aqmp.command("attach", "--qmp", witness.monitor.socket, *arguments), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=aqmp.environment)
        self.wait_for(r"^\S+: .*(writable|read-only).*\n")

    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, pattern: str, times: int = 1) -> None:
        """Wait until that has been said so many times."""
        def found() -> bool:
            ended = self.process.poll() is not None
            if len(re.findall(pattern, self.said(), re.MULTILINE)) >= times:
                return True
            assert not ended, f"attach has ended: {self.said()}"
            return False

        until(found)

    def servers(self) -> list[int]:
        """The process ids of the nbdkit that it has started."""
        return children(self.process.pid)

    def kill_server(self) -> None:
        [pid] = self.servers()
        os.kill(pid, signal.SIGKILL)

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)


def children(parent: int) -> list[int]:
    """The ids of the processes that run and have this parent."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, of, *_ = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == parent and state != "Z":
            found.append(int(stat.parent.name))
    return found


def gone(pid: int) -> bool:
    """Whether no such process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def uri_of(attached: Attached) -> str:
    return attached.said().split("\n")[0].rpartition(": ")[2]


@pytest.fixture
def aqmp(folder: Path) -> Aqmp:
    return Aqmp(folder)


@pytest.fixture
def image(folder: Path) -> Path:
    """The file that is the disk."""
    path = folder / "image"
    path.write_bytes(bytes(SIZE))
    return path


@pytest.fixture
def attach(aqmp: Aqmp, image: Path) -> Iterator[Attach]:
    """attach(WITNESS, *options): a running attach of the image, which is killed after the test."""
    with ExitStack() as stack:

        def start(witness: Witness, *options: object, script: tuple[object, ...] = (FILE, f"file={image}")) -> Attached:
            attached = Attached(aqmp, witness, *script, *options)
            stack.callback(attached.process.wait)
            stack.callback(attached.process.kill)
            return attached

        yield start


def connect(uri: str) -> Any:
    h = nbd.NBD()
    h.connect_uri(uri)
    return h


@pytest.fixture
def daemon(start: Start, folder: Path) -> Iterator[Witness]:
    """The second monitor of a qemu-storage-daemon."""
    second = str(folder / "second.sock")
    monitor = start(STORAGE_DAEMON, "--chardev", f"socket,id=second,path={second},server=on,wait=off",
                    "--monitor", "chardev=second")
    witness = Witness(monitor, second)
    with witness:
        yield witness


@pytest.fixture
def guest(start: Start, folder: Path) -> Iterator[Guest]:
    """guest(*options, command=MACHINE): the second monitor of a machine, which stands still."""
    with ExitStack() as stack:

        def started(*more: str, command: list[str] = MACHINE) -> Witness:
            second = str(folder / "second.sock")
            monitor = start(command, "-S", "-qmp", f"unix:{second},server=on,wait=off", *more)
            witness = Witness(monitor, second)
            stack.callback(witness.close)
            return witness

        yield started
