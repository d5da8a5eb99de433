# SPDX-License-Identifier: BSD-3-Clause
"""What the soak measures of the server's process, and whether it grows."""

from __future__ import annotations

import json
import os
import re
import statistics
import time
from dataclasses import astuple, dataclass
from pathlib import Path

import nbd

from harness import TIMEOUT, Server
from layout import FIGURES


@dataclass(frozen=True)
class Sample:
    """One look at the memory while no request is on its way.

    `resident` is all that the process has in memory, `anonymous` that without files, which the system maps and drops
    as it likes. Both are from smaps_rollup, which counts pages; /proc/PID/status adds them up late.

    Neither falls when memory is freed, and both rise for a while, as allocators meet new sizes on new threads. So the
    disk tells what is in use as well: `malloc`, in bytes, with the few that glibc keeps at hand for each thread, and
    `blocks`, Python's own objects. There, one object lost with each exception shows long before it is a page.
    """

    resident: int
    anonymous: int
    malloc: int
    blocks: int


@dataclass(frozen=True)
class Counts:
    """What must be as before when the clients have gone."""

    threads: int
    descriptors: int
    connections: int  # open() and not yet close(), as the script sees it
    handles: int  # what open() returned and is still alive

    def __str__(self) -> str:
        return "/".join(map(str, astuple(self)))


def sample(server: Server, h: nbd.NBD) -> Sample:
    text = Path(f"/proc/{server.pid}/smaps_rollup").read_text()
    kilobytes = {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
    told = ask(h)
    return Sample(kilobytes["Rss"] * 1024, kilobytes["Anonymous"] * 1024, told["malloc"], told["blocks"])


def ask(h: nbd.NBD) -> dict[str, int]:
    """What the disk tells about its process."""
    figures: dict[str, int] = json.loads(h.pread(512, FIGURES).rstrip(b"\0"))
    return figures


def outer_counts(server: Server) -> tuple[int, int]:
    """Threads and descriptors."""
    return len(os.listdir(f"/proc/{server.pid}/task")), len(os.listdir(f"/proc/{server.pid}/fd"))


def counts(server: Server, before: Counts | None = None, patience: float = TIMEOUT) -> Counts:
    """What is there once it is as before, or when patience is at an end; at first, once nbdkit has but its thread."""
    deadline = time.monotonic() + patience
    while True:
        threads, descriptors = outer_counts(server)
        as_before = (threads, descriptors) == (before.threads, before.descriptors) if before else threads == 1
        if as_before or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    h = server.connect()
    told = ask(h)
    h.shutdown()
    # Less the connection that asked.
    return Counts(threads, descriptors, told["connections"] - 1, told["handles"] - 1)


def growth(values: list[int], positions: list[int]) -> float:
    """By how much they rise over their second half, along a straight line fitted to it."""
    half = len(values) // 2
    slope = statistics.linear_regression(positions[half:], values[half:]).slope
    return slope * (positions[-1] - positions[half])
