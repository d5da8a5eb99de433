# SPDX-License-Identifier: BSD-3-Clause
"""Each planted fault is found, called by its name, and shown by few requests; the disks without it are good."""

from __future__ import annotations

from pathlib import Path

import pytest

from check_disks import FILE, PLANTED, RAM, SPARSE
from nbdkit._check.run import Options, run
from nbdkit.testing import Report

ROUNDS = 40


def checked(folder: Path, text: str, **options: float) -> Report:
    """The report on a script's text; a disk in a file has a new one."""
    script = folder / "disk.py"
    script.write_text(text)
    words = [f"file={folder / 'disk.img'}"] if "def config(" in text else []
    return run(script, words, Options(rounds=ROUNDS, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("disk", [RAM, FILE, SPARSE], ids=["RAM", "FILE", "SPARSE"])
def test_a_good_disk(tmp_path: Path, disk: str) -> None:
    report = checked(tmp_path, disk)
    assert report.ok, report
    assert report.requests > ROUNDS * 20
    assert "requests one by one: 40 rounds" in report.tried


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(tmp_path: Path, name: str) -> None:
    planted = PLANTED[name]
    report = checked(tmp_path, planted.script())
    found = [fault for fault in report.faults if fault.kind == planted.kind]
    assert found, report
    assert planted.says in str(found[0]), report
    assert len(found[0].requests) <= planted.requests, report
    assert found[0].seen[0] > 0, report
