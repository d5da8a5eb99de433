# SPDX-License-Identifier: BSD-3-Clause
"""What `cmake --install` and pip put in place works from there, without the source."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import PLUGIN, ROOT, TIMEOUT, environment

BUILD = Path(PLUGIN).parent
DISK = """
import nbdkit, sys

API_VERSION = 2

def open(readonly):
    return None

def get_size(h):
    return 4096

def pread(h, buf, offset, flags):
    words = nbdkit.__file__.encode()
    buf[:] = words.ljust(4096, b"\\0")[offset:offset + len(buf)]
"""


def run(*command: object, **changes: str | None) -> str:
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=4 * TIMEOUT,
                          env=environment(**changes), cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


def pkg_config(variable: str) -> Path:
    """One of nbdkit's folders, beneath its prefix."""
    found = run("pkg-config", f"--variable={variable}", "nbdkit").strip()
    return Path(found).relative_to(run("pkg-config", "--variable=prefix", "nbdkit").strip())


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", BUILD, "--prefix", folder)
    return folder


def test_the_plugin_serves_from_where_it_is_installed(prefix: Path, tmp_path: Path) -> None:
    script = tmp_path / "disk.py"
    script.write_text(DISK)
    plugin = prefix / pkg_config("plugindir") / "nbdkit-python-plugin.so"
    told = run("nbdkit", "-U", "-", plugin, script, "--run",
               'nbdsh --uri "$uri" --command "print(h.pread(4096, 0).rstrip(b\'\\0\').decode())"')
    assert Path(told.strip()).resolve() == prefix / "lib/python3/dist-packages/nbdkit/__init__.py"


def test_it_is_linked_with_the_core_that_is_installed(prefix: Path) -> None:
    plugin = prefix / pkg_config("plugindir") / "nbdkit-python-plugin.so"
    [core] = re.findall(r"libnbdkit-python\.so => (\S+)", run("ldd", plugin))
    assert Path(core).resolve() == prefix / pkg_config("libdir") / "libnbdkit-python.so"


def test_a_start_finds_the_package_compiled(prefix: Path) -> None:
    package = prefix / "lib/python3/dist-packages/nbdkit"
    compiled = {path.name.partition(".")[0] for path in (package / "__pycache__").glob("*.pyc")}
    assert compiled == {path.stem for path in package.glob("*.py")}


def test_nothing_of_the_source_folder_is_installed(prefix: Path) -> None:
    texts = [path for path in prefix.rglob("*") if path.is_file() and path.suffix in {".py", "", ".bash"}]
    assert texts
    assert [path for path in texts if str(ROOT) in path.read_text(errors="replace")] == []


def test_the_command(prefix: Path) -> None:
    told = run(prefix / "bin/nbdkit-python", "--help", PYTHONPATH=str(prefix / "lib/python3/dist-packages"))
    assert "check" in told


def test_completion_knows_the_commands_and_their_options(prefix: Path) -> None:
    completion = prefix / "share/bash-completion/completions/nbdkit-python"
    offer = f"source {completion}; COMP_WORDS=(nbdkit-python %s); COMP_CWORD=%d; _nbdkit_python nbdkit-python; " \
        "printf '%%s\\n' \"${COMPREPLY[@]}\""
    environ = {"PYTHONPATH": str(prefix / "lib/python3/dist-packages"), "PATH": f"{prefix}/bin:{os.environ['PATH']}"}
    assert run("bash", "-c", offer % ("ch", 1), **environ).split() == ["check"]
    assert "--json" in run("bash", "-c", offer % ("check --j", 2), **environ).split()


@pytest.mark.parametrize("page", sorted((ROOT / "packaging").glob("*.[1-8]")), ids=lambda page: page.name)
def test_manual_pages_have_no_fault(page: Path) -> None:
    name = page.name.rpartition(".")[0]
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", page], text=True, capture_output=True,
                          timeout=TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")
    assert name in page.read_text()


def test_pip_installs_the_packages_in_python(tmp_path: Path) -> None:
    # A copy, since setuptools leaves things behind where it builds.
    source = tmp_path / "source"
    shutil.copytree(ROOT / "python", source / "python", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in "pyproject.toml", "README.md":
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "venv", "--system-site-packages", tmp_path / "venv")
    run(tmp_path / "venv/bin/pip", "install", "--no-build-isolation", "--no-deps", "--no-index", "--quiet", source)
    told = run(tmp_path / "venv/bin/python", "-c",
               "import nbdkit, aqmp, xenstore; print(nbdkit.parse_size('1M'), nbdkit.__file__)")
    assert told.startswith(f"1048576 {tmp_path}/venv/")
    assert "check" in run(tmp_path / "venv/bin/nbdkit-python", "--help")


def test_a_script_that_is_a_program(prefix: Path, tmp_path: Path) -> None:
    """The page's own lines. Here nbdkit takes the plugin by its path, since it is not in nbdkit's folder."""
    [lines] = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs/shipping.md").read_text(), re.MULTILINE | re.DOTALL)
    assert "nbdkit python\n" in lines
    plugin = prefix / pkg_config("plugindir") / "nbdkit-python-plugin.so"
    lines = lines.replace("nbdkit python\n", f"nbdkit {plugin}\n")
    assert run("bash", "-euc", f"cd {tmp_path}\n{lines}") == "1048576\n"
