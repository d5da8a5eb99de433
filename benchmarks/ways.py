# SPDX-License-Identifier: BSD-3-Clause
"""The ways of docs/performance.md, measured: each of the page's scripts, under the words of its first comment.

    ./test ways
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from cells import KiB, timed
from report import number, table
from servers import BUILD, HERE, PLUGIN, MiB, client, running

sys.path.append(str(HERE.parent / "tests/e2e"))
from disks import disk  # noqa: E402  # the least script, to which the page's are added, as in its tests

PAGE = HERE.parent / "docs/performance.md"
ROUNDS = 7
Figures = dict[str, float]


def scripts() -> dict[str, dict[str, str]]:
    """The page's scripts by section and by their first comment."""
    found: dict[str, dict[str, str]] = {}
    for section, text in re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for name, script in re.findall(r"^```python\n# (.+?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            found.setdefault(section, {})[name] = script
    return found


def calls(script: Path) -> Figures:
    """Microseconds of a read, and of a write if the script has one, without a server."""
    subjects = {f"read of {name}, µs": f"pread:{size}" for name, size in SIZES.items()}
    if "def pwrite" in script.read_text():
        subjects |= {f"write of {name}, µs": f"pwrite:{size}" for name, size in SIZES.items()}
    done = subprocess.run([BUILD / "benchmarks/in_process", PLUGIN, f"script={script}", "0.05", *subjects.values()],
                          check=True, text=True, stdout=subprocess.PIPE)
    taken = dict(line.split() for line in done.stdout.splitlines())
    return {name: float(taken[subject]) / 1000 for name, subject in subjects.items()}


SIZES = {"4 KiB": 4 * KiB, "1 MiB": MiB}


def reads(script: Path) -> Figures:
    """Reads per second of 64 KiB by one client that has eight under way."""
    with running([PLUGIN, script]) as server:
        load = client(server.socket, "read", 64 * KiB, 8, 1, 0.5)
    return {"reads/s": load.requests / load.seconds}


def copy(script: Path) -> Figures:
    """Milliseconds in which nbdcopy reads all of the disk."""
    with running([PLUGIN, script]) as server:
        return {"nbdcopy, ms": timed(["nbdcopy", server.uri, "null:"]) * 1000}


MEASURES: dict[str, Callable[[Path], Figures]] = {
    "Moving bytes": calls,
    "Working on bytes": calls,
    "Waiting and computing": reads,
    "Empty space": copy,
}


def medians(rounds: dict[str, list[Figures]]) -> str:
    """A table of them, with a row for each script."""
    columns = list(dict.fromkeys(column for figures in rounds.values() for column in figures[0]))
    rows = [[name, *(number(median(figure[column] for figure in figures)) if column in figures[0] else ""
                     for column in columns)] for name, figures in rounds.items()]
    return table(["", *columns], rows)


def main() -> None:
    os.environ.pop("PYTHONUNBUFFERED", None)
    found = scripts()
    with TemporaryDirectory(prefix="benchmark-") as folder:
        for section, measure in MEASURES.items():
            paths = {}
            for number, (name, script) in enumerate(found[section].items()):
                paths[name] = Path(folder, f"{number}.py")
                paths[name].write_text(disk(script))
            rounds: dict[str, list[Figures]] = {name: [] for name in paths}
            for _ in range(ROUNDS):
                for name, path in paths.items():
                    rounds[name].append(measure(path))
            print(f"\n### {section}\n\n{medians(rounds)}", end="", flush=True)


if __name__ == "__main__":
    main()
