# SPDX-License-Identifier: BSD-3-Clause
"""The command line's parameters: the script, from a file or from standard input, and what it gets of the rest."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbd
import pytest

from conftest import Serve
from disks import disk
from harness import PLUGIN, TIMEOUT, environment, nbdkit, write_script

StartFails = Callable[..., str]

RECORD = disk("""
    parameters = []

    def config(key, value):
        parameters.append((key, value))

    def dump_plugin():
        print(ascii(parameters))
""")
MAGIC = RECORD + "magic_config_key = 'file'\n"


def parameters(script: Path, *words: str, **options: Any) -> list[tuple[str, str]]:
    """The (key, value) pairs that config() got."""
    done = nbdkit("--dump-plugin", script, *words, **options)
    assert done.returncode == 0, done.stderr
    return eval(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("words, expected", [
    ([], []),
    (["a=1", "b=2", "a=3"], [("a", "1"), ("b", "2"), ("a", "3")]),
    (["a="], [("a", "")]),
    (["a=b=c"], [("a", "b=c")]),
    (["a= two  words "], [("a", " two  words ")]),
    (["a-b.c_1=x"], [("a-b.c_1", "x")]),
    (["a=\u00e9\U0001f40d"], [("a", "é🐍")]),
    (["a=\udcff\udcfe."], [("a", "\udcff\udcfe.")]),  # bytes that are not UTF-8, as in sys.argv
    (["a=100% %s %n\n\t"], [("a", "100% %s %n\n\t")]),
    (["a=" + "x" * 100_000], [("a", "x" * 100_000)]),
], ids=lambda words: ascii(words)[:30])
def test_config(tmp_path: Path, words: list[str], expected: list[tuple[str, str]]) -> None:
    assert parameters(write_script(tmp_path, RECORD), *words) == expected


def test_a_value_that_is_not_utf8_names_the_same_file(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff\xfe")
    odd.write_text("content")
    script = write_script(tmp_path, disk("""
        def config(key, value):
            with __builtins__.open(value) as file:
                print(file.read())
    """))
    assert nbdkit("--dump-plugin", script, f"file={odd}").stdout.count("content\n") == 1


def test_the_script_by_its_key(tmp_path: Path) -> None:
    assert parameters(Path(f"script={write_script(tmp_path, RECORD)}"), "a=1") == [("a", "1")]


@pytest.mark.parametrize("words, expected", [
    (["disk.img"], [("file", "disk.img")]),
    (["a=1", "disk.img", "b=2", "more"], [("a", "1"), ("file", "disk.img"), ("b", "2"), ("file", "more")]),
    (["file=disk.img"], [("file", "disk.img")]),
    (["script=disk.img"], [("file", "disk.img")]),  # nbdkit calls a bare word `script`, so this is one
    (["1=2", "/a=b", "\u00e9=2", ""], [("file", "1=2"), ("file", "/a=b"), ("file", "é=2"), ("file", "")]),
    (["\udcff"], [("file", "\udcff")]),
    (["-"], [("file", "-")]),
])
def test_magic_config_key(tmp_path: Path, words: list[str], expected: list[tuple[str, str]]) -> None:
    assert parameters(write_script(tmp_path, MAGIC), *words) == expected


def test_magic_config_key_may_be_script(tmp_path: Path) -> None:
    assert parameters(write_script(tmp_path, RECORD + "magic_config_key = 'script'\n"), "x") == [("script", "x")]


NOT_NEEDED = "this plugin does not need command line configuration"
REFUSED = {
    "a bare word": (RECORD, ["foo"], r"\bunexpected parameter 'foo'"),
    "an odd bare word": (RECORD, ["100% %s\udcff"], r"\bunexpected parameter '100% %s"),
    "a bare word after a key": (RECORD, ["a=1", "foo"], r"\bunexpected parameter 'foo'"),
    "a second script": (RECORD, ["script=foo"], r"\bunexpected parameter 'foo'"),
    "no key": (RECORD + "magic_config_key = None\n", ["foo"], r"\bunexpected parameter 'foo'"),
    "no config": (disk(), ["a=1"], rf"\ba\b.*{NOT_NEEDED}"),
    "no config, a bare word": (disk(), ["foo"], r"\bunexpected parameter 'foo'"),
    "a magic key without config": (disk("magic_config_key = 'file'\n"), ["foo"], rf"\bfile\b.*{NOT_NEEDED}"),
    "config is None": (disk("config = None\n"), ["a=1"], rf"\ba\b.*{NOT_NEEDED}"),
    "config is not a function": (disk("config = {}\n"), ["a=1"], rf"\ba\b.*{NOT_NEEDED}"),
    **{f"magic_config_key = {value}":
       (f"{RECORD}magic_config_key = {value}\n", [], rf"^magic_config_key: expected .*, got {got}")
       for value, got in (("5", "int 5"), ("b'file'", "bytes b'file'"), ("['file']", "list"), ("'\\udcff'", "str"),
                          ("'a\\0b'", "str"))},
    "a script that refuses":
        (disk("def config(key, value): raise ValueError(f'unknown parameter {key}')\n"), ["a=1"],
         r"(?s)^config: Traceback.*ValueError: unknown parameter a$"),
    "a script that refuses in a line":
        (disk("def config(key, value): raise nbdkit.Error(22, f'unknown parameter {key}')\n"), ["a=1"],
         r"^config: unknown parameter a\b.*$"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(start_fails: StartFails, case: str) -> None:
    text, words, expected = REFUSED[case]
    said = start_fails(text, *words)
    found = re.findall(r"^nbdkit: error: \S*disk\.py: (.*(?:\n(?!nbdkit: ).*)*)", said, re.MULTILINE)
    errors = [error for error in found if not error.startswith("warning: ")]
    assert len(errors) == 1, said
    assert re.search(expected, errors[0].rstrip()), said


@pytest.mark.parametrize("words", [[], ["a=1"], ["a=1", "disk.py"]])
def test_the_script_must_come_first(start_fails: StartFails, tmp_path: Path, words: list[str]) -> None:
    write_script(tmp_path, RECORD)
    said = nbdkit(*words, cwd=tmp_path)
    assert said.returncode == 1
    assert re.fullmatch(r"nbdkit: error: .*\bscript\b.*\n", said.stderr, re.IGNORECASE)


STANDARD_INPUT = """\
import sys
import nbdkit

API_VERSION = 2
state = [__name__, sys.argv, "__file__" in globals(), sys.stdin.read(), sys.path[0]]

def config(key, value):
    state.append((key, value))

def dump_plugin():
    print(ascii(state))

def open(readonly): pass
def get_size(h): return 8192

def pread(h, buf, offset, flags):
    raise KeyError(len(buf))
"""


def from_standard_input(folder: Path, text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """nbdkit ARGUMENTS… - with a script as its standard input."""
    with write_script(folder, text, "standard input").open() as file:
        return nbdkit(*arguments, stdin=file, cwd=folder)


def test_a_script_from_standard_input(tmp_path: Path) -> None:
    done = from_standard_input(tmp_path, STANDARD_INPUT, "--dump-plugin", "-", "a=1")
    assert done.returncode == 0, done.stderr
    assert "\npython_script=-\n" in done.stdout
    assert eval(done.stdout.splitlines()[-1]) == ["__main__", ["-"], False, "", str(tmp_path), ("a", "1")]


def test_serving_a_script_from_standard_input(tmp_path: Path) -> None:
    command = '--run=nbdinfo --size "$uri"; nbdcopy "$uri" null:'
    done = from_standard_input(tmp_path, STANDARD_INPUT, command, "-")
    assert (done.returncode, done.stdout) == (1, "8192\n")
    line = STANDARD_INPUT.splitlines().index("    raise KeyError(len(buf))") + 1
    assert re.search(rf'error: -: pread: Traceback .*\n  File "<stdin>", line {line}, in pread\n    raise KeyError.*\n'
                     r"KeyError: 8192\n", done.stderr)


@pytest.mark.parametrize("text, said", [
    ("import nbdkit\ndef open(readonly: pass\n", r'File "<stdin>", line 2\b.*SyntaxError: '),
    ("import nbdkit\n\n1 / 0\n", r'File "<stdin>", line 3, in <module>\n    1 / 0\n.*ZeroDivisionError'),
    ("", r"\bopen\b.*missing"),
])
def test_a_bad_script_from_standard_input(tmp_path: Path, text: str, said: str) -> None:
    done = from_standard_input(tmp_path, text, "-")
    assert done.returncode == 1
    assert re.match(rf"(?s)nbdkit: error: -: .*{said}", done.stderr), done.stderr


def test_standard_input_is_the_clients_under_single(tmp_path: Path) -> None:
    with write_script(tmp_path, STANDARD_INPUT).open() as file:
        done = subprocess.run(["nbdkit", "-s", PLUGIN, "-"], stdin=file, capture_output=True, text=True,
                              env=environment(), timeout=TIMEOUT)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"^nbdkit: error: .*standard input", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("name", [b"disk\xff.py", "odd name é🐍.py".encode(), b"100% %s %n.py", b"no suffix", b"-x"])
def test_odd_names_of_scripts(serve: Serve, tmp_path: Path, name: bytes) -> None:
    script = tmp_path / os.fsdecode(name)
    script.write_text(disk("""
        import os
        NAME = __file__
        def get_size(h): return 4096 + (os.fsencode(NAME) == os.fsencode(__file__))
        def export_description(h): return ascii(os.path.basename(__file__))
        def flush(h, flags): raise KeyError
        def pwrite(h, buf, offset, flags): pass
    """))
    server = serve(script)
    h = server.connect(full_info=True)
    assert (h.get_size(), h.get_export_description()) == (4097, ascii(script.name))
    with pytest.raises(nbd.Error):
        h.flush()
    assert name in server.logfile.read_bytes()
