#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a translator costs: in process, and beside the same server without it and with filters in C.

    benchmarks/translators.py [ROUNDS [SECONDS]]

Each round measures all of them, one after the other; what is told are medians, and the ratios within each round. The
build that is measured is that of BENCHMARKS_BUILD, build/ by default; for figures worth keeping, a release build.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections import defaultdict
from contextlib import ExitStack

from servers import BUILD, HERE, PATIENCE, client, running

FILTER = BUILD / "nbdkit-python-filter.so"
NOTHING, PASSES = (f"translator={HERE}/disks/{name}.py" for name in ("nothing", "passes"))
STACK = (PASSES, PASSES, PASSES)
SUBJECTS = ("pread:512", "pread:4096", "pwrite:4096", "pread:65536", "flush")

# Of a server: nbdkit's options, and more of the plugin's.
SERVERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no filter": ((), ()),
    "nofilter, in C": (("--filter=nofilter",), ()),
    "log, in C": (("--filter=log",), ("logfile=/dev/null",)),
    "nothing defined": ((f"--filter={FILTER}",), (NOTHING,)),
    "pread and pwrite": ((f"--filter={FILTER}",), (PASSES,)),
    "three of these": ((f"--filter={FILTER}",), STACK),
}
LOADS = {"read 4 KiB, depth 1": ("read", 4096, 1), "read 4 KiB, depth 8": ("read", 4096, 8),
         "write 4 KiB, depth 8": ("write", 4096, 8), "read 64 KiB, depth 8": ("read", 65536, 8)}


def in_process(seconds: float, *words: str) -> dict[str, float]:
    """Nanoseconds of each subject under a filter with its parameters, or under `none`."""
    done = subprocess.run([BUILD / "benchmarks/in_process_filter", *words, str(seconds), *SUBJECTS], check=True,
                          text=True, stdout=subprocess.PIPE, timeout=PATIENCE)
    return {word: float(taken) for word, taken in map(str.split, done.stdout.splitlines())}


def main(rounds: int = 9, seconds: float = 0.2) -> None:
    calls: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    rates: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    ways = {"none": ("none",), "nothing": (str(FILTER), NOTHING), "passes": (str(FILTER), PASSES),
            "three": (str(FILTER), *STACK)}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(running([*options, "memory", "64M", *more]))
                   for name, (options, more) in SERVERS.items()}
        for server in servers.values():
            client(server.socket, "fill", 1 << 20, 4, 1, 0)
        for _ in range(rounds):
            for way, words in ways.items():
                for subject, taken in in_process(seconds / 10, *words).items():
                    calls[subject][way].append(taken)
            for load, (operation, size, depth) in LOADS.items():
                for name, server in servers.items():
                    seen = client(server.socket, operation, size, depth, 1, seconds)
                    rates[load][name].append(seen.requests / seen.seconds)

    print("In process, nanoseconds of a call, and what is more than without a filter:\n")
    for subject, ways_of in calls.items():
        alone = statistics.median(ways_of["none"])
        more = {way: statistics.median(times) - alone for way, times in ways_of.items() if way != "none"}
        print(f"{subject:12} alone {alone:8.0f}" + "".join(f"   {way} +{ns:.0f}" for way, ns in more.items()))
    print("\nRequests per second, as ratios to the same server without a filter:\n")
    for load, servers_of in rates.items():
        print(f"{load:22} {statistics.median(servers_of['no filter']):10,.0f}")
        for name, values in servers_of.items():
            ratios = [value / alone for value, alone in zip(values, servers_of["no filter"])]
            print(f"    {name:20} {statistics.median(ratios):.3f}   ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main(*(kind(word) for kind, word in zip((int, float), sys.argv[1:])))
