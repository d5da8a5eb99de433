# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark runs, and measures what it says. How fast it is here and now is no test's matter."""

from __future__ import annotations

import re
import subprocess
import sys

from xenstore_daemon import ROOT, TIMEOUT, Daemon

BENCHMARK = ROOT / "benchmarks" / "xenstore_reads.py"


def test_the_benchmark(xenstored: Daemon) -> None:
    done = subprocess.run([sys.executable, BENCHMARK, "--rounds", "2", "--requests", "200", "--socket",
                           xenstored.socket], text=True, capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head == "reads/s: median (least to most) of 2 rounds of 200, and times pyxs"
    assert len(rows) == 7 and rows[0].startswith("pyxs ")
    for row in rows:
        assert re.fullmatch(r"[\w., ]+? +\d+ \(\d+ to \d+\)  \d+\.\d\d", row), row
