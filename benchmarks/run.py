# SPDX-License-Identifier: BSD-3-Clause
"""Measures everything in one go, competitors in turn, and writes tables and plots: `./test benchmarks --help`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import report
import servers
from cells import Cell, all_cells


def main() -> None:
    parser = argparse.ArgumentParser(prog="./test benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each cell is measured (7)")
    parser.add_argument("--only", default="", metavar="REGEX", help="only cells whose 'GROUP: NAME' it is found in")
    parser.add_argument("--output", type=Path, default=servers.BUILD / "benchmarks/results", metavar="FOLDER",
                        help="where results.json, results.md and the plots go (%(default)s)")
    given = parser.parse_args()
    cells = [cell for cell in all_cells() if re.search(given.only, f"{cell.group}: {cell.name}")]
    if not cells:
        parser.error(f"--only: no cell is called like {given.only!r}")
    results = {"date": time.strftime("%Y-%m-%d"), "versions": versions(), "rounds": given.rounds,
               "cells": measure(cells, given.rounds)}
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (given.output / "results.md").write_text(report.markdown(results))
    report.plots(results, given.output)
    print(report.bars_table(results["cells"]), end="")
    print(f"All of it: {given.output}/results.md", file=sys.stderr)


def measure(cells: list[Cell], rounds: int) -> list[dict[str, Any]]:
    """Round by round, so that whatever slows the machine down slows down all."""
    figures: list[dict[str, list[dict[str, float]]]] = [{name: [] for name in cell.competitors} for cell in cells]
    for done in range(rounds):
        for number, cell in enumerate(cells):
            print(f"\rround {done + 1} of {rounds}, cell {number + 1} of {len(cells)} ", end="", file=sys.stderr)
            # Each is first as often as the others.
            turn = done % len(cell.competitors)
            for name in cell.competitors[turn:] + cell.competitors[:turn]:
                figures[number][name].append(cell.measure(name))
    print(file=sys.stderr)
    return [{"group": cell.group, "cell": cell.name, "unit": next(iter(next(iter(taken.values()))[0])),
             "more_is_better": cell.more_is_better, "figures": taken} for cell, taken in zip(cells, figures)]


def versions() -> str:
    nbdkit = subprocess.run(["nbdkit", "--version"], check=True, text=True, stdout=subprocess.PIPE).stdout.split()[1]
    return f"nbdkit {nbdkit}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores."


if __name__ == "__main__":
    main()
