# SPDX-License-Identifier: BSD-3-Clause
"""docs/aqmp.md says what is so: its programs run, and its tables have every name."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aqmp
from aqmp_real import TIMEOUT, Monitor, environment

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "aqmp.md"
PROGRAMS = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
SAYS = ["GenericError|DeviceNotFound", "SHUTDOWN", "STOP", "DEVICE_TRAY_MOVED"]


@pytest.mark.parametrize("program, says", list(zip(PROGRAMS, SAYS)), ids=SAYS)
def test_a_program_runs(machine: Monitor, folder: Path, program: str, says: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, machine.socket], cwd=folder,
                          capture_output=True, text=True, timeout=TIMEOUT,
                          env={**environment(), "PYTHONPATH": str(ROOT / "python")})
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(says, done.stdout)


def test_each_program_is_run() -> None:
    assert len(PROGRAMS) == len(SAYS)


def first_cells() -> list[str]:
    reference = PAGE.read_text().split("\n## Reference")[1].split("\n## ")[0]
    return re.findall(r"^\| (`.*?`) \|", reference, re.MULTILINE)


def test_every_name_is_in_a_table() -> None:
    named = {name for cell in first_cells() for name in re.findall(r"`(\w+)`", cell)}
    assert set(aqmp.__all__) <= named


def test_the_methods_have_these_parameters() -> None:
    signatures = [s for cell in first_cells() for s in re.findall(r"`(\w+)\((.*?)\)`", cell)]
    assert len(signatures) > 10
    for name, parameters in signatures:
        found = inspect.signature(getattr(aqmp.QMPClient("x"), name)).parameters.values()
        words = ["*" + p.name if p.kind is p.VAR_POSITIONAL else
                 p.name + ("" if p.default is p.empty else f"={p.default:g}" if isinstance(p.default, float)
                           else f"={p.default}") for p in found]
        keywords = [p.kind is p.KEYWORD_ONLY for p in found]
        if True in keywords:
            words.insert(keywords.index(True), "*")
        assert parameters == ", ".join(words), name
