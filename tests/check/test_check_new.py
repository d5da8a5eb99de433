# SPDX-License-Identifier: BSD-3-Clause
"""What `nbdkit-python new` writes passes as it is: its test, a check, and mypy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from test_check_command import ROOT, command


@pytest.mark.parametrize("shape", [[], ["--v1"], ["--class"]], ids=["functions", "version 1", "class"])
def test_it_passes_as_it_is(tmp_path: Path, shape: list[str]) -> None:
    said = command("new", "first", *shape, cwd=tmp_path)
    assert said.startswith("first.py and test_first.py are written.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.py", "test_first.py"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    test = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_first.py"],
                          cwd=tmp_path, env=env, text=True, capture_output=True)
    assert test.returncode == 0 and "3 passed" in test.stdout, test.stdout


def test_the_lines_that_it_prints_work(tmp_path: Path) -> None:
    """As they are, and not only where the plugin and the package are installed."""
    said = command("new", "first", cwd=tmp_path)
    serve, test = (line.strip() for line in said.splitlines() if line.startswith("    "))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert "export-size: 67108864" in subprocess.check_output(serve, shell=True, cwd=tmp_path, env=env, text=True)
    line = test.replace("python3 -m", f"{sys.executable} -m")
    assert "3 passed" in subprocess.check_output(f"{line} -p no:cacheprovider", shell=True, cwd=tmp_path, env=env,
                                                 text=True)


def test_the_shapes_differ(tmp_path: Path) -> None:
    texts = []
    for number, shape in enumerate(("", "--v1", "--class")):
        command("new", f"disk{number}", *shape.split(), cwd=tmp_path)
        texts.append((tmp_path / f"disk{number}.py").read_text())
    assert ["API_VERSION = 2" in texts[0], "API_VERSION = 1" in texts[1], "@nbdkit.disk" in texts[2]] == [True] * 3
    assert all(text.startswith(f'"""disk{number}: ') for number, text in enumerate(texts))


@pytest.mark.skipif(not shutil.which("mypy"), reason="there is no mypy")
def test_the_templates_have_types() -> None:
    files = (ROOT / "python" / "nbdkit" / "_command" / "templates").glob("*.py")
    done = subprocess.run(["mypy", "--strict", *files], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "test_first.py").write_text("mine")
    assert "test_first.py is there already" in command("new", "first", status=2, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["test_first.py"]
    assert (tmp_path / "test_first.py").read_text() == "mine"


def test_a_name_that_is_none(tmp_path: Path) -> None:
    assert "expected letters, digits and _" in command("new", "first-disk", status=2, cwd=tmp_path)
    assert "cannot be written: No such file or directory" in command("new", "no/first", status=2, cwd=tmp_path)
    for name in ("nbdkit", "nbd", "socket", "pytest"):
        said = command("new", name, status=2, cwd=tmp_path)
        assert f"got {name!r}: {name}.py would take the place of a module" in said
    assert not list(tmp_path.iterdir())
