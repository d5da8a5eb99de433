#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Millions of requests, then connections, then exceptions, on one server: afterwards it must be as it was before.

Each shape of script (version 1, version 2 with count, version 2 with buf) has a server of its own, and a share of the
requests. nbdkit's own plugin (NBDKIT_PYTHON_PLUGIN=python) does not know the second shape. The exit status is 1 if a
bar is missed.
"""

from __future__ import annotations

import argparse
import math
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import gauge
import layout
from harness import PLUGIN, TIMEOUT, Server, environment
from load import Load, make_plan

FAILING = 0.01  # of the requests
# Of nbdkit's, for each connection. glibc's malloc keeps freed memory at hand for each thread, up to some hundred KiB
# that fill slowly; with nbdkit's own 16, times our connections, that may take longer than the soak.
THREADS = 4
ROUNDS = 40  # of each phase, with a look at the memory after each
KiB, MiB = 1 << 10, 1 << 20
MESSAGE = re.compile(rb"^nbdkit: python\S* error: .*disk\.py: ", re.MULTILINE)

BAR = MiB  # by less than that may memory grow over the second half of a phase
BLOCKS = 1000  # as many of Python's objects; in a short phase, half of one for each request, connection or exception

LEGEND = """\
requests: in the phase `connections`, the number of these. failures: requests that failed, each as it should.
start, half, end: resident memory. grows: over the second half of the phase, along a fitted line: resident memory, what
of it is not of files (anon), bytes in use by malloc, and Python's objects. before, after: the server's threads, file
descriptors, open connections and living handles while it has no client.
"""
HEADER = (f"{'':38}{'':8} {'resident, MiB':^23} {'grows by KiB':^24} {'':8}\n"
          f"{'shape':9}{'phase':11}{'requests':>9}{'failures':>9}{'seconds':>8} {'start':>7}{'half':>8}{'end':>8} "
          f"{'resident':>8}{'anon':>8}{'malloc':>8} {'objects':>8}  {'before':9}after")


@dataclass
class Phase:
    """One kind of load, and what has come of it."""

    shape: str
    name: str
    before: gauge.Counts
    after: gauge.Counts | None = None
    seconds: float = 0
    failures: int = 0
    messages: int = 0
    positions: list[int] = field(default_factory=list)
    samples: list[gauge.Sample] = field(default_factory=list)

    def growth(self, measure: str) -> float:
        return gauge.growth([getattr(sample, measure) for sample in self.samples], self.positions)

    def faults(self) -> Iterator[str]:
        """The bars that it has missed."""
        bars = {"resident": BAR, "anonymous": BAR, "malloc": BAR, "blocks": min(BLOCKS, self.positions[-1] // 4)}
        for measure, bar in bars.items():
            if (grown := self.growth(measure)) >= bar:
                yield f"{measure} grows by {grown:,.0f}, the bar is {bar:,}"
        if self.after != self.before:
            yield f"left behind: {self.after}, not {self.before}"
        if self.messages != self.failures:
            yield f"{self.messages} messages in the log, not {self.failures}"

    def row(self) -> str:
        sizes = [self.samples[number].resident / MiB for number in (0, ROUNDS // 2, -1)]
        grown = [self.growth(measure) / KiB for measure in ("resident", "anonymous", "malloc")]
        return (f"{self.shape:9}{self.name:11}{self.positions[-1]:9}{self.failures:9}{self.seconds:8.0f}"
                + "".join(f"{size:8.2f}" for size in sizes) + " " + "".join(f"{kib:+8.0f}" for kib in grown)
                + f" {self.growth('blocks'):+8.0f}  {self.before!s:9}{self.after}")


class Soak:
    """One server, from before its first client until after its last."""

    def __init__(self, server: Server, shape: str, patience: float) -> None:
        self.server = server
        self.shape = shape
        self.patience = patience
        server.connect().shutdown()  # what nbdkit had open for its start is closed once it serves
        self.before = gauge.counts(server)
        self.load = Load(server)

    def phases(self, requests: int, connections: int, exceptions: int) -> Iterator[Phase]:
        if requests:
            yield self.phase("requests", requests, self.requests, FAILING)
        if connections:
            yield self.phase("connections", connections, self.load.come_and_go)
        if exceptions:
            yield self.phase("exceptions", exceptions, self.requests, 1)

    def requests(self, part: range) -> None:
        self.load.run(len(part))

    def phase(self, name: str, total: int, work: Callable[[range], None], failing: float | None = None) -> Phase:
        """`total` times the work, in rounds; `failing` is None where connections are the work."""
        result = Phase(self.shape, name, self.before)
        started = time.monotonic()
        failures = self.load.failures
        probe = self.server.connect()
        if failing is not None:
            self.load.connect()
            self.load.follow(make_plan(self.shape, failing))
        for number in range(ROUNDS + 1):
            part = range(total * max(number - 1, 0) // ROUNDS, total * number // ROUNDS)
            work(part)
            result.messages += self.messages()
            result.positions.append(part.stop)
            result.samples.append(gauge.sample(self.server, probe))
        self.load.disconnect()
        probe.shutdown()
        result.failures = self.load.failures - failures
        result.after = gauge.counts(self.server, self.before, self.patience)
        result.seconds = time.monotonic() - started
        return result

    def messages(self) -> int:
        """How many of the script's messages the log has got. Then it is emptied: it would fill the file system."""
        log = self.server.logfile.read_bytes()
        self.server.logfile.write_bytes(b"")
        return len(MESSAGE.findall(log))


@contextmanager
def serving(script: Path, shape: str, threads: int, translators: int) -> Iterator[Server]:
    above = [f"translator={Path(__file__).with_name('passes.py')}"] * translators
    options = ["-t", str(threads)]
    if translators:
        options += [f"--filter={Path(PLUGIN).with_name('nbdkit-python-filter.so')}"]
    with tempfile.TemporaryDirectory(prefix="nbdkit-") as folder:
        server = Server(Path(folder), script, *above, options=tuple(options),
                        env=environment(**layout.environment(shape)))
        try:
            yield server
        except BaseException:
            server.stop(signal.SIGKILL)
            print(f"The server's log ends with:\n{server.log()[-2000:]}", file=sys.stderr)
            raise
        status = server.stop()
        assert status == 0, f"nbdkit ended with {status}:\n{server.log()}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requests", nargs="?", type=int, default=10_000_000, help="in all; default 10,000,000")
    parser.add_argument("--connections", type=int, help="to each server; default: one for 500 requests, at least 200")
    parser.add_argument("--exceptions", type=int, help="on each server; default: one for 100 requests, at least 3000")
    parser.add_argument("--threads", type=int, default=THREADS, help="nbdkit's -t; default: %(default)s")
    parser.add_argument("--shape", choices=[*layout.SHAPES, layout.COROUTINES],
                        help="only this one")
    parser.add_argument("--script", type=Path, default=Path(__file__).with_name("disk.py"), help="another disk.py")
    parser.add_argument("--translators", type=int, default=0, help="so many on top of it; default: none")
    parser.add_argument("--patience", type=float, default=TIMEOUT, metavar="SECONDS",
                        help="how long threads and files may take to go with the clients; default: %(default)s")
    chosen = parser.parse_args()
    if chosen.connections is None:
        chosen.connections = max(chosen.requests // 500, 200)
    if chosen.exceptions is None:
        chosen.exceptions = max(chosen.requests // 100, 3000)
    return chosen


def main() -> int:
    chosen = arguments()
    shapes = [chosen.shape] if chosen.shape else ["v1", "v2-buf"] if PLUGIN == "python" else layout.SHAPES
    missed = []
    print(LEGEND)
    print(HEADER)
    for shape in shapes:
        with serving(chosen.script, shape, chosen.threads, chosen.translators) as server:
            share = math.ceil(chosen.requests / len(shapes))
            for phase in Soak(server, shape, chosen.patience).phases(share, chosen.connections, chosen.exceptions):
                print(phase.row(), flush=True)
                missed += [f"{shape}, {phase.name}: {fault}" for fault in phase.faults()]
    print("", *(missed or ["Nothing lost, nothing left behind."]), sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
