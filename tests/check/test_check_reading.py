# SPDX-License-Identifier: BSD-3-Clause
"""What a script's source shows without being run, and the table of callbacks that this rests on."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from check_disks import FILE, RAM, SPARSE
from nbdkit._check.callbacks import CALLBACKS, LENIENT, MAY_YIELD, REQUIRED
from nbdkit._check.reading import read_source
from nbdkit.testing import check

ROOT = Path(__file__).resolve().parents[2]
LEAST = """
API_VERSION = 2
def open(readonly): return None
def get_size(h): return 4096
def pread(h, buf, offset, flags): buf[:] = bytes(len(buf))
"""
CLASS = """
import nbdkit

@nbdkit.disk
class Disk:
    def __init__(self, readonly): self.size = 4096
    def get_size(self): return self.size
    def pread(self, buf, offset, flags): buf[:] = bytes(len(buf))
"""


def test_the_table_is_the_plugins() -> None:
    text = (ROOT / "src" / "plugin" / "callbacks.def").read_text()
    rows = re.findall(r'^CALLBACK \((\w+),\s+(\w+),\s+(\w+),\s+"(.*?)",\s+"(.*?)"\)', text, re.MULTILINE)
    assert {name: (v1, v2) for name, _, _, v1, v2 in rows} == {
        name: tuple(", ".join(callback.parameters(version)) for version in (1, 2))
        for name, callback in CALLBACKS.items()}
    assert [name for name, need, *_ in rows if need == "required"] == list(REQUIRED)
    assert {name for name, need, *_ in rows if need in ("shared", "added")} == set(LENIENT)
    assert {name for name, _, may_yield, *_ in rows if may_yield == "true"} == set(MAY_YIELD)


def read(text: str) -> list[str]:
    """What is said of a script, each with its line."""
    faults, _ = read_source(text.encode(), "disk.py")
    assert all(fault.kind == "source" for fault in faults)
    return [str(fault) for fault in faults]


GOOD = [LEAST, CLASS, RAM, FILE, SPARSE, *(path.read_text() for path in (ROOT / "examples").glob("*.py"))]


@pytest.mark.parametrize("text", GOOD, ids=range(len(GOOD)))
def test_nothing_is_said_of_a_good_script(text: str) -> None:
    assert read(text) == []


FAULTY = {
    LEAST + "def pwrite(h, buf, offset): pass": [
        "line 6: expected pwrite(h, buf, offset, flags), got pwrite(h, buf, offset); that is how version 1 has it: "
        "is it API_VERSION = 1?"],
    LEAST + "async def pwrite(h, buf, offset): pass": [
        "line 6: expected pwrite(h, buf, offset, flags), got pwrite(h, buf, offset); that is how version 1 has it: "
        "is it API_VERSION = 1?"],
    LEAST.replace("API_VERSION = 2", ""): [
        "line 5: expected pread(h, count, offset), got pread(h, buf, offset, flags); that is how version 2 has it: "
        "is it API_VERSION = 2?"],
    LEAST.replace("= 2", "= 3"): ["line 2: API_VERSION: expected 1 or 2, got 3"],
    LEAST + "def close(): pass": ["line 6: expected close(h), got close()"],
    LEAST + "def close(h, *, why): pass": ["line 6: expected close(h), got close(h, *, why)"],
    LEAST.replace("get_size", "getsize"): [
        "the callback get_size(h) is missing: did you mean 'getsize'?",
        "line 4: getsize is no callback, and nothing calls it: did you mean get_size?"],
    LEAST + "def flsh(h, flags): pass": ["line 6: flsh is no callback, and nothing calls it: did you mean flush?"],
    LEAST + "def can_multiconn(h): return True": [
        "line 6: can_multiconn is no callback, and nothing calls it: did you mean can_multi_conn?"],
    LEAST + "def can_flush(h): return True": [
        "line 6: can_flush is there, and flush is not: requests that it promises would fail"],
    LEAST + "can_trim = lambda h: True": [
        "line 6: can_trim is there, and trim is not: requests that it promises would fail"],
    LEAST + "def flush(h, flags): yield": [
        "line 6: flush: a function with `yield` in it does not run when it is called"],
    LEAST + """
import nbdkit
def can_fua(h): return nbdkit.FUA_NATIVE
def flush(h, flags): write_back()
def pwrite(h, buf, offset, flags): pass
""": ["line 10: can_fua says FUA_NATIVE, but pwrite does not look at its flags for FLAG_FUA"],
    "def open(:": ["line 1: SyntaxError: invalid syntax"],
    CLASS + "    def pwrite(self, h, buf, offset, flags): pass": [
        "line 9: expected pwrite(self, buf, offset, flags), got pwrite(self, h, buf, offset, flags)"],
    CLASS + "    def can_flush(self): return True": [
        "line 9: can_flush is there, and flush is not: requests that it promises would fail"],
    CLASS + "    def pwrit(self, buf, offset, flags): pass": [
        "line 9: pwrit is no callback, and nothing calls it: did you mean pwrite?"],
    CLASS.replace("readonly", "more, readonly"): [
        "line 6: expected __init__(self, readonly), got __init__(self, more, readonly)"],
}


@pytest.mark.parametrize("text", FAULTY, ids=range(len(FAULTY)))
def test_what_is_said_of_a_faulty_script(text: str) -> None:
    assert read(text) == FAULTY[text]


GOOD_ENOUGH = {
    "a helper that is called": LEAST + "def flsh(): pass\ndef close(h): flsh()",
    "a callback that is asked for is denied": LEAST + "def can_flush(h): return False",
    "other uses of a name": LEAST + "cache = {}\ndef load(path, mode): return path\ndef config(): pass\n",
    "methods": LEAST.replace("def pread", "def _pread") + "pread = _pread",
    "an if": "try:\n    import x\nexcept ImportError:\n    x = None\nif x: pass\nelse:\n"
             + textwrap.indent(LEAST, "    "),
    "all from elsewhere": "from base import *",
    "by globals": "globals().update(base.disk)",
    "defaults": LEAST + "def close(h, why=None): pass\ndef flush(*args): pass",
    "a decorator": LEAST + "@checked\ndef close(): pass",
    "a helper of another shape": LEAST + "def flash(): pass\ndef closes(h, why): pass",
    "an answer that is computed": LEAST + "can_trim = lambda h: TRIMS\ndef can_zero(h): return h is not None",
    "a callback that comes with config_complete": LEAST + """
def can_flush(h): return True
def config_complete():
    global flush
    def flush(h, flags): pass
""",
    "a match": "import sys\nmatch sys.platform:\n    case 'linux':\n" + textwrap.indent(LEAST, "        "),
    "a class by another name": CLASS.replace("import nbdkit", "from nbdkit import disk as mark")
                                    .replace("nbdkit.disk", "mark"),
    "a module by another name": CLASS.replace("import nbdkit", "import nbdkit as n").replace("nbdkit.", "n."),
    "a class that has all from another": CLASS.replace("@nbdkit.disk\nclass Disk", "class Base") + """
    def flush(self, flags): pass
@nbdkit.disk
class Disk(Base):
    def can_flush(self): return True
""",
    "a class that adds nothing": CLASS.replace("@nbdkit.disk\nclass Disk", "class Base")
                                 + "@nbdkit.disk\nclass Disk(Base): pass",
    "a class that is marked later": CLASS.replace("@nbdkit.disk", "") + "nbdkit.disk(Disk)",
    "a class from elsewhere": "from mine import Disk",
    **{f"all lasts at once: {why}": LEAST + f"""
import nbdkit, os
def open(readonly): return os.open("disk", {opened})
def can_fua(h): return nbdkit.FUA_NATIVE
def flush(h, flags): {flush}
def pwrite(h, buf, offset, flags): {pwrite}
""" for why, opened, flush, pwrite in (
        ("there is nothing to flush", "os.O_RDWR", "pass", "disk[offset : offset + len(buf)] = buf"),
        ("as the file is opened", "os.O_RDWR | os.O_DSYNC", "os.fsync(h)", "os.pwrite(h, buf, offset)"),
        ("by a call", "os.O_RDWR", "os.fsync(h)", "os.pwrite(h, buf, offset); os.fdatasync(h)"),
    )},
    "methods by other names": CLASS + """
    def _flush(self, flags): pass
    flush = _flush
    def can_flush(self): return True
    if True:
        def zero(self, count, offset, flags): pass
    def can_zero(self): return True
""",
}


@pytest.mark.parametrize("name", GOOD_ENOUGH)
def test_what_may_be_right_is_left_alone(name: str) -> None:
    assert read(GOOD_ENOUGH[name]) == []


def test_a_disk_that_cannot_start_is_not_served(tmp_path: Path) -> None:
    script = tmp_path / "disk.py"
    script.write_text(LEAST.replace("def open", "open('served', 'w')\ndef open") + "def close(): pass")
    report = check(script)
    assert [fault.kind for fault in report.faults] == ["source"]
    assert report.requests == 0 and report.not_tried


def test_what_only_the_plugin_sees_is_a_fault_as_well(tmp_path: Path) -> None:
    script = tmp_path / "disk.py"
    script.write_text(LEAST + "from functools import partial\ndef other(h): pass\nclose = partial(other, 1)")
    [fault] = check(script).faults
    assert fault.kind == "start"
    assert "close: expected close(h)" in fault.log
