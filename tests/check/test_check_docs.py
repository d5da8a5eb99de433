# SPDX-License-Identifier: BSD-3-Clause
"""docs/testing.md and docs/nbdkit-python.md say what is so: their programs run, and what they list is what there is."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from check_planted import PLANTED
from nbdkit import testing
from nbdkit._check.report import KINDS
from test_check_command import ROOT, command

TESTING, COMMAND = (ROOT / "docs" / f"{name}.md" for name in ("testing", "nbdkit-python"))


def blocks(page: Path, language: str) -> list[str]:
    """The texts between ```language and ```."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for of, text in found if of == language]


def section(page: Path, title: str) -> str:
    return re.split(rf"^#+ {title}\n", page.read_text(), flags=re.MULTILINE)[1].split("\n## ")[0]


def test_the_programs(tmp_path: Path) -> None:
    first, *files = blocks(TESTING, "py")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    subprocess.run([sys.executable, "-c", first], cwd=ROOT, env=env, check=True)
    for text in files:
        (tmp_path / text.splitlines()[0].removeprefix("# ")).write_text(text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conftest.py", "test_disk.py"]
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", tmp_path],
                          cwd=ROOT, env=env, text=True, capture_output=True)
    assert "2 passed" in done.stdout, done.stdout


def test_the_signatures() -> None:
    serve, check = (text.strip() for text in blocks(TESTING, ""))
    assert serve == "serve(script, *words, **parameters)"
    parameters = inspect.signature(testing.check).parameters.values()
    shown = [str(p.replace(annotation=p.empty)).replace(" = ", "=") for p in parameters]
    assert check == f"check({', '.join(shown)}) -> Report"


def rows(text: str) -> list[str]:
    """The names in the first column of a table."""
    return [name for cell in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)", cell)]


def test_what_a_server_has() -> None:
    public = {name for name in dir(testing.Server) if not name.startswith("_")} | {"uri", "socket"}
    assert set(rows(section(TESTING, "A server for a test"))) == public


def test_what_a_fault_has() -> None:
    text = section(TESTING, "Looking for faults").split("### What is tried")[0]
    assert set(rows(text)) >= set(testing.Fault.__dataclass_fields__)
    words = re.findall(r"`(\w+)", text)
    assert set(testing.Report.__dataclass_fields__) | {"ok", "as_dict"} <= set(words)


def test_the_kinds_of_faults() -> None:
    assert re.findall(r"^\| `(.*?)` \| ", TESTING.read_text().split("| `kind` | |")[1], re.MULTILINE) == list(KINDS)


@pytest.mark.parametrize("name", ["new", "check", "bench", "help"])
def test_the_options(name: str) -> None:
    usage = section(COMMAND, name).split("```")[1]
    told = set(re.findall(r"--[a-z0-9-]+", command(name, "--help").split("options:")[1]))
    assert set(re.findall(r"--[a-z0-9-]+", usage)) == told - {"--help"}


def test_the_example_of_a_check(tmp_path: Path) -> None:
    """Line by line, but for the figures in the last one."""
    [example] = [text for text in section(COMMAND, "check").split("```") if "$ nbdkit-python" in text]
    script = tmp_path / "disk.py"
    text = (ROOT / "examples" / "ramdisk.py").read_text()
    changed = text.replace("disk[offset : offset + count] = bytes(count)\n\ndef trim", """\
disk[offset : offset + count - 1] = bytes(count - 1)

def trim""")
    assert changed != text
    script.write_text(changed)
    expected = example.strip().splitlines()[1:]
    said = command("check", "disk.py", status=1, cwd=tmp_path).splitlines()
    assert said[:-1] == expected[:-1]
    assert re.sub(r"[\d,.]+", "N", said[-1]) == re.sub(r"[\d,.]+", "N", expected[-1])


def test_the_planted_faults_are_as_many_as_it_says() -> None:
    assert f"{len(PLANTED)} planted faults" in " ".join(TESTING.read_text().split())
