# SPDX-License-Identifier: BSD-3-Clause
"""The competitors: how each serves a RAM disk, and what a server of it takes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("BENCHMARKS_BUILD", HERE.parent / "build"))
PLUGIN = BUILD / "nbdkit-python-plugin.so"
PATIENCE = 60  # seconds
MiB = 1 << 20


def arguments(name: str, size: int, model: str) -> list[str]:
    """nbdkit's arguments for a RAM disk of `size` bytes; `model` is a thread model, of those who can choose."""
    disk = [str(HERE / "disks/ram.py"), f"size={size}", f"model={model}"]
    match name:
        case "ours":
            return [str(PLUGIN), *disk]
        case "python":
            return ["python", *disk]
        case "perl" | "lua":
            return [name, str(HERE / f"disks/ram.{'pl' if name == 'perl' else 'lua'}"), f"size={size}"]
        case "memory" | "null":
            return [name, str(size)]
    raise ValueError(f"expected one of the competitors, got {name!r}")


@dataclass
class Server:
    """A server that runs."""

    socket: str
    pid: int

    @property
    def uri(self) -> str:
        return f"nbd+unix:///?socket={self.socket}"

    def cpu(self) -> float:
        """The seconds of processor time that all of its threads have taken."""
        return time.clock_gettime(~self.pid << 3 | 2)  # what clock_getcpuclockid() makes of a process

    def memory(self) -> int:
        """Its resident memory in KiB."""
        return int(Path(f"/proc/{self.pid}/status").read_text().partition("VmRSS:")[2].split()[0])


@contextmanager
def running(arguments: Sequence[str | Path]) -> Iterator[Server]:
    """An nbdkit with these arguments, once it listens."""
    with TemporaryDirectory(prefix="benchmark-") as folder:
        socket = f"{folder}/socket"
        log = Path(folder, "log")
        with log.open("w") as errors:
            process = subprocess.Popen(["nbdkit", "-f", "-U", socket, "-P", f"{folder}/pid", *arguments], stderr=errors)
        try:
            begin = time.monotonic()
            while not os.path.exists(f"{folder}/pid"):  # which it writes once it listens
                if process.poll() is not None or time.monotonic() > begin + PATIENCE:
                    raise RuntimeError(f"nbdkit {arguments} does not serve: {log.read_text()}")
                time.sleep(0.001)
            yield Server(socket, process.pid)
        finally:
            process.terminate()
            process.wait(PATIENCE)


@contextmanager
def serving(name: str, size: int = 64 * MiB, model: str = "parallel", *, full: bool = True) -> Iterator[Server]:
    """A server of this competitor; `full`: each byte has been written, so that none is a page of the kernel's zeros."""
    with running(arguments(name, size, model)) as server:
        if full and name != "null":
            client(server.socket, "fill", min(size, MiB), 4, 1, 0)
        yield server


@dataclass
class Load:
    """What a client has seen."""

    requests: int
    seconds: float
    median: float  # microseconds of a request
    p99: float


def client(socket: str, operation: str, size: int, depth: int, connections: int, seconds: float) -> Load:
    command: list[str | Path] = [BUILD / "benchmarks/client", socket, operation,
                                 *map(str, (size, depth, connections, seconds))]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, timeout=PATIENCE + seconds)
    requests, taken, median, p99 = done.stdout.split()
    return Load(int(requests), float(taken), float(median), float(p99))


def in_process(plugin: str, script: str, seconds: float, *subjects: str) -> dict[str, float]:
    """Nanoseconds of each subject, as `plugin` ("ours", "python" or "floor") serves one of disks/."""
    path = f"{HERE}/disks/{script}"
    programs: dict[str, list[str | Path]] = {
        "floor": [BUILD / "benchmarks/floor", path],
        "ours": [BUILD / "benchmarks/in_process", PLUGIN, f"script={path}"],
        "python": [BUILD / "benchmarks/in_process", plugin_folder() / "nbdkit-python-plugin.so", f"script={path}"],
    }
    size = [] if script == "noop.py" else ["size=64M"]
    done = subprocess.run([*programs[plugin], *size, str(seconds), *subjects], check=True, text=True,
                          stdout=subprocess.PIPE, timeout=PATIENCE)
    return {word: float(taken) for word, taken in map(str.split, done.stdout.splitlines())}


@cache
def plugin_folder() -> Path:
    """Where nbdkit's own plugins are."""
    config = subprocess.run(["nbdkit", "--dump-config"], check=True, text=True, stdout=subprocess.PIPE).stdout
    return Path(dict(line.split("=", 1) for line in config.splitlines())["plugindir"])
