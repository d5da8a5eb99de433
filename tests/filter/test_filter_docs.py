# SPDX-License-Identifier: BSD-3-Clause
"""The page on translators says what is so: its scripts are served, its lists compared with the code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import nbdkit
import pytest

from filter_kit import EVALUATE, EXAMPLES, FILTER, Translate, evaluate
from harness import ROOT, TIMEOUT, environment, write_script

PAGE = ROOT / "docs" / "first-translator.md"
TEXT = PAGE.read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("script", blocks("python"))
def test_a_script_is_served(translate: Translate, script: str) -> None:
    server = translate(script)
    h = server.connect()
    h.pwrite(b"\x01\x02", 512)
    assert h.pread(2, 512) == b"\x01\x02"
    assert h.pread(2, 0) == b"\xff\xff"
    h.shutdown()
    assert server.stop() == 0
    assert server.log() == ""


def test_the_command_works(tmp_path: Path) -> None:
    [command] = blocks("sh")
    write_script(tmp_path, blocks("python")[0], "invert.py")
    (tmp_path / "build").symlink_to(Path(FILTER).parent)
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, text=True, capture_output=True, timeout=TIMEOUT,
                          env=environment())
    assert done.returncode == 0, done.stderr
    assert "export-size: 67108864 (64M)" in done.stdout


def test_every_callback_with_its_parameters() -> None:
    table = (ROOT / "src/filter/callbacks.def").read_text()
    rows = re.findall(r'^CALLBACK \((\w+),.*?"(.*?)"\)', table, re.MULTILINE)
    assert len(rows) > 30
    [listed] = re.findall(r"^## Callbacks\n\n```\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert listed.splitlines() == [f"{name}({parameters})" for name, parameters in rows]


def test_every_operation_of_next(translate: Translate) -> None:
    there = eval(evaluate(translate(EVALUATE).connect(), "sorted(n for n in dir(next) if not n.startswith('_'))"))
    section = TEXT.partition("\n## next\n")[2].partition("\n## ")[0] + TEXT.partition("## In the background")[2]
    named = set(re.findall(r"`(?:next\.)?(\w+)\b[^`]*`", section))
    assert set(there) <= named, set(there) - named


def test_the_types_have_every_operation(translate: Translate) -> None:
    h = translate(EVALUATE + "\ndef after_fork(next):\n    global own\n    own = next.background()\n").connect()
    for real, type_ in ("next", nbdkit.Next), ("own", nbdkit.Background):
        there = eval(evaluate(h, f"sorted(n for n in dir({real}) if not n.startswith('_'))"))
        assert there == sorted(name for name in dir(type_) if not name.startswith("_"))


def test_every_example() -> None:
    assert set(re.findall(r"^\| `(\w+\.py)` \|", TEXT, re.MULTILINE)) == {path.name for path in EXAMPLES.glob("*.py")}
