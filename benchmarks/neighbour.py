# SPDX-License-Identifier: BSD-3-Clause
"""What a connection whose callbacks compute leaves to another one, by Python's switch interval, and what that costs it.

    ./test neighbour
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

import nbd

from servers import HERE, PLUGIN, running

ROUNDS, SECONDS = 7, 1.0
INTERVALS = 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4


def reads(socket: str, export: str) -> float:
    """How many reads a second of 512 bytes this export gives, in SECONDS after the first one."""
    h = nbd.NBD()
    h.set_export_name(export)
    h.connect_unix(socket)
    h.pread(512, 0)
    print("ready", flush=True)
    begin, count = time.perf_counter(), 0
    while (taken := time.perf_counter() - begin) < SECONDS:
        h.pread(512, 0)
        count += 1
    h.shutdown()
    return count / taken


def measure(interval: float) -> list[float]:
    """The reads per second of a busy connection and of another at the same time."""
    with running([PLUGIN, HERE / "disks/busy.py", f"interval={interval}"]) as server:
        clients = [subprocess.Popen([sys.executable, __file__, server.socket, export], text=True,
                                    stdout=subprocess.PIPE) for export in ("busy", "other")]
        return [float(client.communicate()[0].split()[-1]) for client in clients]


def main() -> None:
    found: dict[float, list[list[float]]] = {interval: [] for interval in INTERVALS}
    for _ in range(ROUNDS):
        for interval in INTERVALS:
            found[interval].append(measure(interval))
    print("| switch interval | reads/s of the other | of the busy one |\n|---|---|---|")
    for interval, pairs in found.items():
        busy, other = (median(column) for column in zip(*pairs))
        print(f"| {interval * 1000:g} ms | {other:,.0f} | {busy:.1f} |")


if __name__ == "__main__":
    if sys.argv[1:]:
        print(reads(*sys.argv[1:]))
    else:
        main()
