# SPDX-License-Identifier: BSD-3-Clause
"""`nbdkit python --dump-plugin`, alone and with a script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from disks import LEAST, disk
from harness import PLUGIN, TIMEOUT, environment, nbdkit, write_script

OURS = ["python_version", "python_pep_384_abi_version", "nbdkit_python_maximum_api_version"]
V1 = """
import nbdkit
def open(readonly): pass
def get_size(h): return 0
def pread(h, count, offset): return bytes(count)
"""


def dump(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """--dump-plugin, which must succeed."""
    done = nbdkit("--dump-plugin", *arguments, **options)
    assert done.returncode == 0, done.stderr
    return done


def fields(*arguments: object, **options: Any) -> dict[str, str]:
    """What --dump-plugin printed, in its order; no key may come twice."""
    lines = [line.partition("=") for line in dump(*arguments, **options).stdout.splitlines()]
    found = {key: value for key, _, value in lines}
    assert len(found) == len(lines)
    return found


def of_the_script(found: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in found.items() if key.startswith("python_") and key not in OURS}


def test_without_a_script() -> None:
    found = fields()
    assert found["name"] == "python"
    # The tests run in the interpreter that the plugin is built for.
    assert {key: found[key] for key in OURS} == dict(zip(OURS, [sys.version.split()[0], "3", "2"]))
    assert of_the_script(found) == {}


@pytest.mark.parametrize("text, version, pread", [
    (V1, "1", "count"),
    ("API_VERSION = 1" + V1, "1", "count"),
    (LEAST, "2", "buf"),
    (disk("def pread(h, count, offset, flags): return bytes(count)\n"), "2", "count"),
    (disk("def pread(_, count, *rest): return bytes(count)\n"), "2", "count"),
    (disk("def pread(*_): pass\n"), "2", "buf"),
], ids=["v1", "v1 said", "v2 buf", "v2 count", "v2 count and rest", "v2 anything"])
def test_with_a_script(tmp_path: Path, text: str, version: str, pread: str) -> None:
    script = write_script(tmp_path, text)
    assert of_the_script(fields(script)) == {
        "python_script": str(script), "python_script_api_version": version, "python_pread": pread,
        "python_callbacks": "open get_size pread",
    }


def test_callbacks(tmp_path: Path) -> None:
    script = write_script(tmp_path, disk("""
        def load(): pass
        def config(key, value): pass
        def flush(h, flags): pass
        def can_write(h): return True
        def block_size(h): return 1, 1, 1
        close = None
        cache = {}
        def helper(): pass
    """))
    callbacks = fields(script, "key=value")["python_callbacks"].split(" ")
    assert sorted(callbacks) == ["block_size", "can_write", "config", "flush", "get_size", "load", "open", "pread"]


@pytest.mark.parametrize("doc, line", [
    ('"""A disk."""', "A disk."),
    ('"""A disk.\n\nAnd more on it."""', "A disk."),
    ('"""\n    A disk.\n    More.\n"""', "A disk."),
    ('"""A disk \u00e9\U0001f40d."""', "A disk é🐍."),
    ('""""""', None),
    ("'''   '''", None),
    ("__doc__ = 5", None),
    ("", None),
])
def test_doc(tmp_path: Path, doc: str, line: str | None) -> None:
    assert fields(write_script(tmp_path, f"{doc}\n{LEAST}")).get("python_script_doc") == line


def test_the_scripts_own_come_last(tmp_path: Path) -> None:
    script = write_script(tmp_path, '"""A disk."""\n' + disk("""
        options = []
        def config(key, value): options.append(key)
        def dump_plugin():
            print("my_options=" + " ".join(options))
            print("my_last=1")
    """))
    found = fields(script, "b=1", "a=2")
    assert list(found)[-2:] == ["my_options", "my_last"]
    assert (found["my_options"], found["my_last"]) == ("b a", "1")
    keys = [key for key in found if "python_" in key]
    assert keys == [*OURS, "python_script", "python_script_api_version", "python_pread", "python_callbacks",
                    "python_script_doc"]


def test_which_callbacks_are_called(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    text = f"""
def called(name, answer=None):
    print(name, file=__builtins__.open({str(calls)!r}, "a"))
    return answer

def config(key, value): called("config")
def thread_model(): return called("thread_model", nbdkit.THREAD_MODEL_PARALLEL)
"""
    for name in "load", "config_complete", "get_ready", "after_fork", "dump_plugin", "cleanup", "unload":
        text += f"def {name}(): called({name!r})\n"
    found = fields(write_script(tmp_path, LEAST + text), "key=value")
    assert found["thread_model"] == "parallel"
    called = calls.read_text().split()
    assert called[:2] == ["load", "config"]
    assert called.count("thread_model") == called.count("dump_plugin") == 1
    assert not {"config_complete", "get_ready", "after_fork"} & set(called)


@pytest.mark.parametrize("statement, said", [
    ("raise ValueError('not today')", "ValueError: not today"),
    ("1 / 0", "ZeroDivisionError: division by zero"),
    ("import sys; sys.exit(7)", "SystemExit: 7"),
    ("nbdkit.set_error(5); raise nbdkit.Error(5, 'not today')", "not today"),
    ("raise ValueError('\\udcff\\0')", "ValueError: \\udcff\\x00"),
])
def test_dump_plugin_that_raises(tmp_path: Path, statement: str, said: str) -> None:
    script = write_script(tmp_path, disk(f"def dump_plugin():\n    print('before=1')\n    {statement}\n"))
    done = dump(script)
    assert done.stdout.splitlines()[-1] == "before=1"
    assert "python_callbacks=dump_plugin open get_size pread\n" in done.stdout
    assert f"nbdkit: error: {script}: dump_plugin: " in done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("answer, said", [
    ("99", "thread_model: expected "), ("None", "thread_model: expected "), ("1 / 0", "ZeroDivisionError"),
])
def test_thread_model_that_is_wrong(tmp_path: Path, answer: str, said: str) -> None:
    script = write_script(tmp_path, disk(f"def thread_model(): return {answer}\n"))
    done = nbdkit("--dump-plugin", script)
    assert done.returncode == 1
    assert f"nbdkit: error: {script}: thread_model: " in done.stderr
    assert said in done.stderr


def test_a_script_that_is_wrong(tmp_path: Path) -> None:
    done = nbdkit("--dump-plugin", write_script(tmp_path, "def open(readonly: pass\n"))
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr


def test_a_relative_path(tmp_path: Path) -> None:
    write_script(tmp_path, LEAST, "odd name é.py")
    found = fields("odd name é.py", cwd=tmp_path)
    assert (tmp_path / found["python_script"]).samefile(tmp_path / "odd name é.py")


def test_standard_output_that_cannot_be_written(tmp_path: Path) -> None:
    script = write_script(tmp_path, disk("def dump_plugin(): print('lost=1')\n"))
    with open("/dev/full", "w") as full:
        done = subprocess.run(["nbdkit", "--dump-plugin", PLUGIN, script], stdout=full, env=environment(),
                              timeout=TIMEOUT)
    assert done.returncode >= 0
