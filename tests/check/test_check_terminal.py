# SPDX-License-Identifier: BSD-3-Clause
"""On a terminal, the command shows how far it is, and tables; in a pipe, plain text and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from test_check_command import EXAMPLES, ROOT, command


def on_a_terminal(*words: object, without_rich: Path | None = None) -> str:
    """All that the command writes to a terminal of 100 columns, escape sequences too."""
    path = [str(ROOT / "python")]
    if without_rich:
        (without_rich / "rich.py").write_text("raise ModuleNotFoundError('rich')")
        path.append(str(without_rich))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "TERM": "xterm", "COLUMNS": "100"}
    ours, theirs = os.openpty()
    process = subprocess.Popen([sys.executable, "-m", "nbdkit", *map(str, words)], env=env, stdin=theirs, stdout=theirs,
                               stderr=theirs)
    os.close(theirs)
    said = b""
    with suppress(OSError):  # EIO: nobody has the terminal open any more
        while part := os.read(ours, 65536):
            said += part
    os.close(ours)
    assert process.wait() == 0, said.decode()
    return said.decode()


def test_a_check() -> None:
    pytest.importorskip("rich")
    said = on_a_terminal("check", EXAMPLES / "ramdisk.py", "size=1M", "--rounds=20")
    assert "━" in said and "requests one by one" in said
    *_, last = said.strip().splitlines()
    assert re.search(r"\x1b\[1m.*ramdisk.py: no fault found; .*\x1b\[0m$", last)


def test_a_check_without_rich(tmp_path: Path) -> None:
    said = on_a_terminal("check", EXAMPLES / "ramdisk.py", "size=1M", "--rounds=2", without_rich=tmp_path)
    assert "━" not in said and "no fault found" in said


def test_a_table() -> None:
    pytest.importorskip("rich")
    said = on_a_terminal("bench", EXAMPLES / "ramdisk.py", "size=20000", "--read-only", "--time=0.05")
    assert re.search(r"─{20}", said) and "read 4 KiB, depth 16" in said


def test_in_a_pipe() -> None:
    said = command("bench", EXAMPLES / "ramdisk.py", "size=20000", "--read-only", "--time=0.05")
    assert said.isascii() is False and "\x1b" not in said and "─" not in said
    [heads, *rows] = said.splitlines()[1:]
    assert heads.split() == ["requests/s", "MB/s", "p50", "µs", "p99", "µs", "×", "memory"]
    assert len({len(row) for row in (heads, *rows)}) == 1
