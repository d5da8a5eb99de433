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

from test_check_command import EXAMPLES, ROOT


COMMAND = ("-m", "nbdkit")


def on_a_terminal(*words: object, what: tuple[str, ...] = COMMAND, without_rich: Path | None = None,
                  columns: int = 100, cwd: Path | None = None) -> str:
    """All that the command, or what else Python runs, writes to a terminal, escape sequences too."""
    path = [str(ROOT / "python")]
    if without_rich:
        (without_rich / "rich.py").write_text("raise ModuleNotFoundError('rich')")
        path.append(str(without_rich))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "TERM": "xterm", "COLUMNS": str(columns)}
    ours, theirs = os.openpty()
    process = subprocess.Popen([sys.executable, *what, *map(str, words)], env=env, stdin=theirs, stdout=theirs,
                               stderr=theirs, cwd=cwd)
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
    assert re.search(r"\x1b\[1m\S*ramdisk.py: no fault\s+found; [^\x1b]*\x1b\[0m$", said.strip())


def test_a_check_without_rich(tmp_path: Path) -> None:
    said = on_a_terminal("check", EXAMPLES / "ramdisk.py", "size=1M", "--rounds=2", without_rich=tmp_path)
    assert "━" not in said and "no fault found" in said


def test_lines_end_between_words_on_a_narrow_terminal(tmp_path: Path) -> None:
    script = tmp_path / "d.py"
    script.write_text((EXAMPLES / "ramdisk.py").read_text())
    said = on_a_terminal("check", script, "size=1M", "--rounds=2", columns=40, without_rich=tmp_path)
    assert "when the server\r\n    is killed: what is written ends with\r\n    the server" in said
    assert f"{script}:" in said  # a path is not broken
    lines = on_a_terminal("help", "d.py", columns=40, cwd=tmp_path).splitlines()
    assert [line for line in lines if len(line) > 40 and line.startswith(" ")] == []
    assert "    size=SIZE" in lines


def test_a_table() -> None:
    pytest.importorskip("rich")
    table = "from nbdkit._command.output import print_table; print_table(['', 'figure'], [['a row', '1'], ['b', '23']])"
    said = on_a_terminal(what=("-c", table))
    assert re.search(r"─{10}", said)
    assert re.search(r"a row +1 *\r\n *b +23 ", said)
