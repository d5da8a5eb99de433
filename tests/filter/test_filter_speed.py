# SPDX-License-Identifier: BSD-3-Clause
"""A translator stays as cheap as docs/first-translator.md says, in process.

These are the least of several short measurements in turn, so that they hold on a slow or busy machine too.
"""

from __future__ import annotations

from pathlib import Path

from filter_kit import FILTER
from harness import PLUGIN, ROOT
from in_process_kit import SECONDS, least

DISKS = ROOT / "benchmarks/disks"
SUBJECTS = ["pread:4096", "pwrite:4096", "flush"]


def measured(*words: str) -> list[str | Path]:
    return [Path(PLUGIN).parent / "benchmarks/in_process_filter", *words, SECONDS, *SUBJECTS]


def test_what_a_translator_costs() -> None:
    taken = least({
        "none": measured("none"),
        "nothing": measured(FILTER, f"translator={DISKS}/nothing.py"),
        "passes": measured(FILTER, f"translator={DISKS}/passes.py"),
    })
    for subject in SUBJECTS:
        # Nanoseconds. A request that is not defined takes no GIL: that alone would be more.
        assert taken["nothing"][subject] < taken["none"][subject] + 50, (subject, taken)
    for subject in ("pread:4096", "pwrite:4096"):
        assert taken["passes"][subject] < taken["none"][subject] + 2000, (subject, taken)
