# SPDX-License-Identifier: BSD-3-Clause
"""`nbdkit-python bench`: how fast a disk is, beside nbdkit's memory plugin, which is what a server in C can do.

The load is fio's, whose engine for NBD is libnbd in C: a client in Python would measure itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .._check.facts import Facts, KiB, MiB, facts_of
from .._check.plugin import PluginNotFound
from .._check.server import Server, ServerError, serve_script
from . import CommandError, add_disk, seconds
from .output import heading, print_table, progress_bar

SIZES = (4 * KiB, 64 * KiB, MiB)
DEPTHS = (1, 16)
SPAN = 64 * MiB  # how much of the disk is used
ROUNDS = 3  # of each load on each server, in turn; what is told is the median
PERCENTILES = ("50.000000", "99.000000")


@dataclass(frozen=True)
class Load:
    """Random requests of one size in bytes, so many of them under way at a time."""

    operation: str  # read or write
    size: int
    depth: int

    def __str__(self) -> str:
        return f"{self.operation} {_short(self.size)}, depth {self.depth}"


@dataclass(frozen=True)
class Figures:
    """What a load has come to. Latencies are in microseconds."""

    requests_per_second: float
    bytes_per_second: float
    p50_us: float
    p99_us: float


@dataclass(frozen=True)
class Result:
    """A load's figures, medians of all rounds; and the median of the ratios of requests per second in each round."""

    disk: Figures
    memory: Figures
    times_memory: float


Results = dict[Load, Result]


def main(program: str, arguments: Sequence[str]) -> int:
    """The exit status is 0 if all was measured."""
    parser = argparse.ArgumentParser(
        program, formatter_class=argparse.RawDescriptionHelpFormatter, description="""\
Measure a disk, and nbdkit's memory plugin in turn with it. THIS WRITES TO THE FIRST 64 MiB OF THE DISK; with
--read-only, only reads are measured, and nothing is written. The load is fio's: random requests of 4 KiB, 64 KiB and
1 MiB, 1 and 16 at a time on one connection, in three rounds whose medians are told. `× memory` is the disk's requests
per second in proportion to the memory plugin's in the same round: that figure can be compared between machines, others
cannot.""")
    add_disk(parser)
    parser.add_argument("--read-only", action="store_true", help="serve it with nbdkit's -r, and write nothing")
    parser.add_argument("--time", metavar="SECONDS", type=seconds, default=1.0,
                        help="how long each load lasts in a round (default: %(default)g)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw them, as SVG")
    given = parser.parse_intermixed_args(arguments)
    if given.plot:
        _pyplot()  # what is missing for it is said before the work
    words = [*given.words, *(["-r"] if given.read_only else [])]
    try:
        results = measure(given.script, words, given.time)
    except (PluginNotFound, ServerError) as error:
        raise CommandError(str(error)) from None
    if given.json:
        print(json.dumps({"script": given.script, "words": words, "seconds": given.time, "loads": [
            {**asdict(load), **asdict(result)} for load, result in results.items()]}, indent=2))
    else:
        print(heading(f"{given.script} on one connection"))
        print_table(["", "requests/s", "MB/s", "p50 µs", "p99 µs", "× memory"], [
            [str(load), *(f"{n:,.0f}" for n in (
                result.disk.requests_per_second, result.disk.bytes_per_second / 1e6, result.disk.p50_us,
                result.disk.p99_us)), f"{result.times_memory:.2f}"]
            for load, result in results.items()])
    if given.plot:
        plot(results, Path(given.script).name, given.plot)
    return 0


def loads_for(facts: Facts) -> list[Load]:
    """What can be measured of a disk."""
    sizes = [size for size in SIZES if size <= min(facts.size, SPAN, facts.maximum) and size % facts.minimum == 0]
    return [Load(operation, size, depth) for operation in ("read", "write")[:1 + facts.writable]
            for size in sizes for depth in DEPTHS]


def measure(script: str, words: Sequence[str], seconds: float) -> Results:
    """All loads that the disk allows, each on both servers."""
    with progress_bar() as progress, closing(serve_script(script, words)) as disk:
        handle = disk.connect()
        facts = facts_of(handle)
        handle.shutdown()
        span = min(facts.size, SPAN)
        loads = loads_for(facts)
        if not loads:
            raise CommandError(f"the disk is too small to be measured: {facts.size} bytes")
        with closing(Server("memory", str(facts.size))) as memory:
            # Bytes that were never written may cost less than others.
            for server in (memory, *([disk] if facts.writable else [])):
                progress("writing the disks", 0.0)
                _fio(server, Load("write", max(load.size for load in loads), 4), span, "--rw=write")
            results = {}
            for number, load in enumerate(loads):
                rounds = []
                for part in range(ROUNDS):
                    progress(str(load), (number + part / ROUNDS) / len(loads))
                    rw = f"--rw=rand{load.operation}", "--time_based", f"--runtime={seconds}"
                    rounds.append((_fio(disk, load, span, *rw), _fio(memory, load, span, *rw)))
                results[load] = result_of(rounds)
    return results


def result_of(rounds: Sequence[tuple[Figures, Figures]]) -> Result:
    """The medians of what the disk and the memory plugin have come to in each round."""
    disk, memory = (Figures(*(median(values) for values in zip(*(vars(figures).values() for figures in side))))
                    for side in zip(*rounds))
    ratios = (ours.requests_per_second / theirs.requests_per_second for ours, theirs in rounds)
    return Result(disk, memory, median(ratios))


@contextmanager
def closing(server: Server) -> Iterator[Server]:
    """The server, which is stopped at the end of the block."""
    try:
        yield server
    except BaseException:
        server.kill()
        raise
    server.stop()


def _fio(server: Server, load: Load, span: int, *options: str) -> Figures:
    """Have fio do it."""
    with tempfile.TemporaryDirectory(prefix="nbdkit-python-") as folder:
        # Not from standard output, where its messages are as well.
        output = Path(folder, "json")
        command = ["fio", "--name=it", "--ioengine=nbd", f"--uri={server.uri}", f"--size={span}", f"--bs={load.size}",
                   f"--iodepth={load.depth}", "--lat_percentiles=1", "--output-format=json", f"--output={output}",
                   *options]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder)
        except FileNotFoundError:
            raise CommandError("there is no fio, which makes the load; Debian's package is called fio") from None
        text = output.read_text() if output.exists() else ""
        if done.returncode != 0 or "{" not in text:
            said = f"{done.stderr}{done.stdout}{text}"
            raise CommandError(f"fio has failed:\n{said}\nnbdkit's log:\n{server.log()}")
    job = json.loads(text[text.index("{"):])["jobs"][0][load.operation]
    times = job["lat_ns"].get("percentile", {})
    p50, p99 = (times.get(key, 0) / 1000 for key in PERCENTILES)
    return Figures(job["iops"], job["bw_bytes"], p50, p99)


def plot(results: Results, name: str, file: Path) -> None:
    """Requests per second of both, a pair of bars for each load."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(9, 0.45 * len(results) + 1.2))
    for number, (who, figures) in enumerate({
            name: [result.disk for result in results.values()],
            "nbdkit's memory plugin": [result.memory for result in results.values()]}.items()):
        rows = [row + 0.4 * number for row in range(len(results))]
        axes.barh(rows, [each.requests_per_second for each in figures], 0.4, label=who)
    axes.set_yticks([row + 0.2 for row in range(len(results))], [str(load) for load in results])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("requests per second")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise CommandError("--plot needs matplotlib: Debian's package is python3-matplotlib") from None
    matplotlib.use("svg")
    from matplotlib import pyplot

    return pyplot


def _short(size: int) -> str:
    return f"{size // MiB} MiB" if size >= MiB else f"{size // KiB} KiB"
