# SPDX-License-Identifier: BSD-3-Clause
"""What is measured: each cell is one number of each of its competitors, taken anew in every round."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import servers
from servers import MiB, Server, client, in_process, serving

KiB = 1024
C = ["memory", "null"]
SECONDS = 0.3  # of load in each round
Figures = dict[str, float]


@dataclass(frozen=True)
class Cell:
    """One thing to measure."""

    group: str
    name: str
    competitors: list[str]
    measure: Callable[[str], Figures]  # of a competitor: the first figure is what is compared
    more_is_better: bool = field(default=True)


def short(size: int) -> str:
    return f"{size // MiB} MiB" if size >= MiB else f"{size // KiB} KiB" if size >= KiB else f"{size} B"


def calls() -> Iterator[Cell]:
    """The cost of a callback without a server."""
    def cell(group: str, script: str, subject: str, competitors: list[str]) -> Cell:
        callback, _, size = subject.partition(":")
        name = callback + (f" {short(int(size))}" if size and group != "no-op" else "")

        def measure(who: str) -> Figures:
            return {"ns": in_process(who, script, 0.05, subject)[subject]}

        return Cell(group, name, competitors, measure, False)

    for subject in "pread:512", "pwrite:512", "flush", "trim:512", "zero:512", "cache:512":
        yield cell("no-op", "noop.py", subject, ["ours", "python", "floor"])
    for subject in "extents:512", "get_size", "can_write":
        yield cell("no-op", "noop.py", subject, ["ours", "python"])
    for part in "vectorcall", "memoryview", "int", "gil":
        yield cell("parts", "noop.py", part, ["floor"])
    for script, shape in ("ram.py", "buf"), ("ram_count.py", "count"), ("ram_v1.py", "version 1"):
        for size in 512, 4 * KiB, 64 * KiB, MiB, 32 * MiB:
            for callback in "pread", "pwrite":
                # nbdkit's own has no read of version 2 that returns its data.
                against = ["ours"] if shape == "count" and callback == "pread" else ["ours", "python"]
                yield cell(f"RAM disk, {shape}", script, f"{callback}:{size}", against)


def requests() -> Iterator[Cell]:
    """A real server and a client with libnbd."""
    def cell(operation: str, size: int, depth: int, connections: int, model: str, against: list[str]) -> Cell:
        def measure(who: str) -> Figures:
            disk = 256 * MiB if size > MiB else 64 * MiB
            with serving(who, disk, model) as server:
                client(server.socket, operation, size, depth, connections, SECONDS / 10)
                before = server.cpu()
                load = client(server.socket, operation, size, depth, connections, SECONDS)
                return {"requests/s": load.requests / load.seconds, "MB/s": load.requests * size / load.seconds / 1e6,
                        "p50 µs": load.median, "p99 µs": load.p99,
                        "CPU µs/request": (server.cpu() - before) * 1e6 / load.requests}

        also = f", {connections} connections" if connections > 1 else ""
        return Cell(model, f"{operation} {short(size)}, depth {depth}{also}", ["ours", "python", *against], measure)

    for size in 512, 4 * KiB, 64 * KiB, MiB, 32 * MiB:
        for depth in 1, 8, 64:
            if size * depth <= 256 * MiB:
                yield cell("read", size, depth, 1, "parallel", C)
    for operation in "write", "zero", "mix":
        for size in 4 * KiB, 64 * KiB, MiB:
            yield cell(operation, size, 8, 1, "parallel", C)
    for connections in 2, 4:
        yield cell("read", 4 * KiB, 8, connections, "parallel", C)
    scripts = ["perl", "lua"]
    for depth in 1, 8, 64:
        yield cell("read", 4 * KiB, depth, 1, "serialize_all_requests", scripts)
    yield cell("read", 4 * KiB, 8, 4, "serialize_all_requests", scripts)
    for operation, size in ("read", 64 * KiB), ("read", MiB), ("write", 4 * KiB), ("mix", 4 * KiB):
        yield cell(operation, size, 8, 1, "serialize_all_requests", scripts)


def timed(command: list[str]) -> float:
    # Not subprocess's own time-out, for which it looks whether the program has ended only now and then.
    begin = time.perf_counter()
    subprocess.run(["timeout", str(servers.PATIENCE), *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


@cache
def random_file(size: int) -> str:
    """A file in memory, for as long as this process lasts."""
    fd = os.memfd_create("random")
    for _ in range(size // MiB):
        os.write(fd, os.urandom(MiB))
    return f"/proc/{os.getpid()}/fd/{fd}"


def tools() -> Iterator[Cell]:
    """Programs that people use."""
    def copying(name: str, size: int, command: Callable[[Server, str], list[str]]) -> Cell:
        def measure(who: str) -> Figures:
            with serving(who, size) as server, TemporaryDirectory(prefix="benchmark-") as folder:
                return {"MB/s": size / timed(command(server, folder)) / 1e6}

        return Cell("tools", name, ["ours", "python", "memory"], measure)

    size = 1024 * MiB
    yield copying("nbdcopy from, 1 GiB", size, lambda server, _: ["nbdcopy", server.uri, "null:"])
    yield copying("nbdcopy to, 1 GiB", size, lambda server, _: ["nbdcopy", random_file(size), server.uri])
    # All of it, though it is the same bytes again and again; a file system's speed is not asked for.
    image = "driver=null-co,size=268435456,read-zeroes=off"
    yield copying("qemu-img from, 256 MiB", 256 * MiB, lambda server, _: [
        "qemu-img", "convert", "-n", "-S", "0", server.uri, "--target-image-opts", image])
    yield copying("qemu-img to, 256 MiB", 256 * MiB, lambda server, _: [
        "qemu-img", "convert", "-n", "-S", "0", "--image-opts", image, "-O", "raw", server.uri])
    for operation in "randread", "randwrite":
        yield Cell("tools", f"fio {operation}, 4 KiB, depth 8", ["ours", "python", "memory"],
                   lambda who, operation=operation: fio(who, operation))  # type: ignore[misc]


def fio(who: str, operation: str) -> Figures:
    with serving(who) as server, TemporaryDirectory(prefix="benchmark-") as folder:
        # Not from its standard output, where its messages are as well.
        timed(["fio", "--name=it", "--ioengine=nbd", f"--uri={server.uri}", f"--rw={operation}", "--bs=4k",
               "--iodepth=8", "--time_based", "--runtime=1", "--output-format=json", f"--output={folder}/json"])
        text = Path(folder, "json").read_text()
        return {"requests/s": json.loads(text[text.index("{"):])["jobs"][0][operation.removeprefix("rand")]["iops"]}


def resources() -> Iterator[Cell]:
    """What a server takes before anybody asks it anything."""
    everybody = ["ours", "python", "perl", "lua", "memory", "null"]

    def start(who: str) -> Figures:
        command = ["nbdkit", "-U", "-", *servers.arguments(who, MiB, "parallel"), "--run", "exit 0"]
        return {"ms": timed(command) * 1e3}

    def idle(who: str) -> Figures:
        with serving(who, MiB, full=False) as server:
            return {"KiB": server.memory()}

    def after_one_read(who: str) -> Figures:
        with serving(who, MiB, full=False) as server:
            client(server.socket, "read", 512, 1, 1, 0)
            return {"KiB": server.memory()}

    def per_connection(who: str) -> Figures:
        import nbd

        with serving(who, MiB, full=False) as server:
            handles = []
            for number in range(21):
                h = nbd.NBD()
                h.connect_uri(server.uri)
                h.pread(512, 0)
                handles.append(h)
                if number == 0:  # what comes with the first one is counted above
                    first = server.memory()
            last = server.memory()
            for h in handles:
                h.shutdown()
            return {"KiB": (last - first) / 20}

    yield Cell("resources", "start and end", everybody, start, False)
    yield Cell("resources", "memory, idle", everybody, idle, False)
    yield Cell("resources", "memory after one read", everybody, after_one_read, False)
    yield Cell("resources", "memory for each further connection", everybody, per_connection, False)


def all_cells() -> list[Cell]:
    # What would make Python slower: unbuffered streams; modules that are compiled anew at each start.
    for name in "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE":
        os.environ.pop(name, None)
    return [*calls(), *requests(), *tools(), *resources()]
