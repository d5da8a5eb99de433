# SPDX-License-Identifier: BSD-3-Clause
"""Measurements in a process that is nbdkit itself: the least of several short ones, which holds on a busy machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROUNDS, SECONDS = 9, "0.01"


def least(commands: dict[str, list[str | Path]]) -> dict[str, dict[str, float]]:
    """The least nanoseconds of each subject by each command, which tell "SUBJECT NANOSECONDS"."""
    found: dict[str, dict[str, float]] = {name: {} for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            told = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, timeout=60).stdout
            for subject, taken in map(str.split, told.splitlines()):
                found[name][subject] = min(float(taken), found[name].get(subject, float("inf")))
    return found
