# SPDX-License-Identifier: BSD-3-Clause
"""Where nbdkit's own Python plugin fails: loading a script, and the interpreter it runs in. Every test fails on it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from disks import disk, telling
from harness import PLUGIN, TIMEOUT, Server, environment, nbdkit, write_script

pytestmark = pytest.mark.peer_fails

PATIENCE = 30  # seconds; a server that has not answered by then never will
PYTHON = "/usr/bin/python3"


def tells(expression: str) -> str:
    """A disk that holds the value of an expression, asked for in a callback."""
    return telling(f"def told():\n    return {expression}\n")


def told(server: Server) -> str:
    """What a disk made by tells() holds."""
    return bytes(server.connect().pread(4096, 0)).rstrip(b"\0").decode()


# A script that cannot be loaded: exit status 1 and one message, which takes the way of all of nbdkit's messages.

def test_no_script() -> None:
    done = nbdkit("--run=true")
    assert done.returncode == 1, done.stderr
    assert re.search(r"^nbdkit: error: .*script", done.stderr), done.stderr


@pytest.mark.parametrize("status", ["7", "0", "", "'no disk here'"])
def test_sys_exit_at_top_level(start_fails: Callable[..., str], status: str) -> None:
    said = start_fails(disk(f"import sys\n\nsys.exit({status})\n"), "--run=true")
    assert re.search(r"^nbdkit: error: .*disk\.py: .*" + re.escape(status.strip("'")), said), said
    assert "exit" in said


BROKEN = {
    "exception": ("1 / 0\n", "ZeroDivisionError: division by zero"),
    "syntax": ("def pread(h, buf, offset, flags)\n    pass\n", "SyntaxError"),
    "import": ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_load_error_is_one_message_in_the_log(start_fails: Callable[..., str], kind: str) -> None:
    text, expected = BROKEN[kind]
    said = start_fails(disk(text), "--run=true")
    assert re.search(r"\Anbdkit: error: .*disk\.py: ", said), said
    assert said.count("nbdkit: error: ") == 1, said
    assert expected in said


@pytest.mark.parametrize("kind", BROKEN)
def test_a_load_error_keeps_to_the_log(start_fails: Callable[..., str], kind: str) -> None:
    assert start_fails(disk(BROKEN[kind][0]), "--run=true", "--log=null") == ""


# A script finds itself and what is beside it.

def test_a_module_beside_the_script(serve: Serve, tmp_path: Path) -> None:
    write_script(tmp_path, "NAME = 'sibling'\n", "beside.py")
    script = write_script(tmp_path, "import beside\n" + tells("beside.NAME"))
    assert told(serve(script)) == "sibling"


def test_the_scripts_folder_comes_before_pythons_own(serve: Serve, tmp_path: Path) -> None:
    script = write_script(tmp_path, "import os\n" + tells("'\\n'.join([os.path.dirname(os.__file__), *sys.path])"))
    library, *path = told(serve(script)).splitlines()
    assert str(tmp_path) in path
    assert path.index(str(tmp_path)) < path.index(library)


@pytest.mark.parametrize("expression", ["sys.argv[0]", "__file__"])
def test_the_scripts_own_path_in_a_callback(serve: Serve, tmp_path: Path, expression: str) -> None:
    script = write_script(tmp_path, tells(expression))
    assert told(serve(script)) == str(script)


# The interpreter is the one that the plugin was linked to, whatever comes first on PATH.

def made_venv(folder: Path) -> Path:
    """A venv of the system's Python with one module in its site-packages; its folder."""
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", folder], check=True, timeout=TIMEOUT, env=environment())
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "only_here.py").write_text("PLACE = __file__\n")
    return folder


def test_another_python_first_on_the_path(serve: Serve, tmp_path: Path) -> None:
    other = tmp_path / "bin" / "python3"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    env = environment(PATH=f"{other.parent}:{environment()['PATH']}")
    server = serve(tells("'\\n'.join([sys.executable, sys.prefix, str(tuple(sys.version_info))])"), env=env)
    executable, prefix, version = told(server).splitlines()
    done = subprocess.run([executable, "-c", "import sys; print(sys.prefix, tuple(sys.version_info), sep='\\n')"],
                          text=True, capture_output=True, timeout=TIMEOUT, env=environment())
    assert done.stdout.splitlines() == [prefix, version], (executable, done)
    assert Path(executable).parent == Path(PYTHON).parent


def test_a_venv_by_its_variable_alone(serve: Serve, tmp_path: Path) -> None:
    venv = made_venv(tmp_path / "venv")
    server = serve("import only_here\n" + tells("'\\n'.join([only_here.PLACE, sys.prefix, sys.base_prefix])"),
                   env=environment(VIRTUAL_ENV=str(venv)))
    place, prefix, base = told(server).splitlines()
    assert Path(place).is_relative_to(venv)
    assert prefix == str(venv)
    assert base == sys.base_prefix
    assert "VIRTUAL_ENV" not in server.log()


@pytest.mark.parametrize("kind", ["of another version", "of another folder", "that is not there"])
def test_a_venv_of_another_python_is_ignored_with_a_warning(serve: Serve, tmp_path: Path, kind: str) -> None:
    venv = tmp_path / "venv"
    if kind != "that is not there":
        settings = made_venv(venv) / "pyvenv.cfg"
        text = settings.read_text()
        if kind == "of another version":
            text = re.sub(r"^version = .*$", "version = 3.2.1", text, flags=re.MULTILINE)
        text = re.sub(r"^home = .*$", "home = /opt/another/bin", text, flags=re.MULTILINE)
        text = re.sub(r"^executable = .*$", "executable = /opt/another/bin/python3", text, flags=re.MULTILINE)
        settings.write_text(text)
    server = serve(tells("sys.prefix"), env=environment(VIRTUAL_ENV=str(venv)))
    assert told(server) == sys.base_prefix
    assert "VIRTUAL_ENV" in server.log()
    assert str(venv) in server.log()


# Standard input and output belong to the client under `nbdkit -s`.

def served_on_standard_input_and_output(script: Path, *arguments: str) -> bytes:
    """What a client reads from an nbdkit that it has started as its own child, with `-s`."""
    h = nbd.NBD()
    # libnbd's own connect would wait for ever for a server that waits for its client's words on standard input.
    h.aio_connect_command(["env", "PYTHONUNBUFFERED=1", "nbdkit", "-s", PLUGIN, str(script), *arguments])
    deadline = time.monotonic() + PATIENCE
    while not h.aio_is_ready():
        assert time.monotonic() < deadline, "nbdkit does not answer"
        h.poll(100)
    data = h.pread(512, 0)
    h.shutdown()
    return bytes(data)


@pytest.mark.parametrize("where", ["import", "config"])
def test_print_under_s(tmp_path: Path, capfd: pytest.CaptureFixture[str], where: str) -> None:
    use = "print('this line is no part of the protocol, however long it is')"
    text = {"import": f"{use}\n\n\ndef config(key, value):\n    pass\n",
            "config": f"def config(key, value):\n    {use}\n"}
    script = write_script(tmp_path, disk(text[where]))
    assert served_on_standard_input_and_output(script, "key=value") == bytes(512)
    assert "this line is no part of the protocol" in capfd.readouterr().err


def test_standard_input_is_empty_under_s(tmp_path: Path) -> None:
    script = write_script(tmp_path, disk("import sys\n\nassert sys.stdin.read() == ''\n"))
    assert served_on_standard_input_and_output(script) == bytes(512)


# What runs at the end runs once.

def test_a_cleanup_that_is_registered_with_atexit(serve: Serve, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    server = serve(disk(f"""
        import atexit
        import builtins


        def note(text):
            with builtins.open({str(notes)!r}, "a") as file:
                print(text, file=file)


        atexit.register(note, "another function")


        @atexit.register
        def cleanup():
            note("cleanup")
    """))
    assert server.connect().pread(512, 0) == bytes(512)
    assert server.stop() == 0
    assert sorted(notes.read_text().splitlines()) == ["another function", "cleanup"]
