# SPDX-License-Identifier: BSD-3-Clause
"""What is wrong with a script is said in one message that names it, at load where that is possible.

A wrong answer at run time fails that request alone: it is named in the log and the server goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from harness import extents, nbdkit, write_script

StartFails = Callable[..., str]

PARTS = {
    "open": "def open(readonly): return nbdkit.export_name()\n",
    "get_size": "def get_size(h): return 4096\n",
    "pread": "def pread(h, buf, offset, flags): pass\n",
}


def head(version: object) -> str:
    return f"import nbdkit\nAPI_VERSION = {version}\n"


def disk(text: str = "", without: str = "", head: str = head(2)) -> str:
    """A script that serves, but for what `text` defines (again) and the callback that it is `without`."""
    return head + "".join(part for name, part in PARTS.items() if name != without) + text


def message(said: str, script: str = r"\S*disk\.py") -> str:
    """The one error message in what nbdkit said, without what stands before it in the log."""
    found = re.findall(rf"^nbdkit: error: {script}: (.*(?:\n(?!nbdkit: ).*)*)", said, re.MULTILINE)
    assert len(found) == len(re.findall(r"^nbdkit: .*error: ", said, re.MULTILINE)) == 1, said
    return found[0]


LOAD_ERRORS = {
    "a syntax error": ("import nbdkit\ndef open(readonly:\n    pass\n", r"(?s)line 2.*SyntaxError: "),
    "wrong indentation": ("import nbdkit\n  x = 1\n", r"(?s)line 2.*IndentationError: "),
    "a NUL in the source": ("import nbdkit\nx = '\0'\n", "null bytes"),
    "a module that is not there": ("import nbdkit\nimport no_such_module\n",
                                   r"(?s)line 2.*ModuleNotFoundError: .*'no_such_module'"),
    "an exception": ("import nbdkit\n\ndef fail(): 1 / 0\n\nfail()\n",
                     r"(?s)Traceback.*line 5, in <module>.*line 3, in fail.*ZeroDivisionError: division by zero"),
    "an exception that cannot be shown":
        ("class Odd(Exception):\n    def __str__(self): raise OSError\nraise Odd\n", r"\bOdd\b"),
    "sys.exit(7)": ("import sys\nsys.exit(7)\n", r"(?i)exit.*\b7\b"),
    "sys.exit()": ("import sys\nsys.exit()\n", r"(?i)exit"),
    "sys.exit(text)": ("import sys\nsys.exit('no database here')\n", r"no database here"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt\n", r"KeyboardInterrupt"),
    **{f"API_VERSION = {value}": (disk(head=head(value)), rf"expected 1 or 2, got {value}")
       for value in ("3", "0", "-1", "'2'", "2.0", "None", str(2**70))},
    **{f"no {name}": (disk(without=name), rf"\b{name}\b(?!.*did you mean)") for name in PARTS},
    **{f"{near} for {name}": (disk(f"def {near}(*_): pass\n", without=name), rf"\b{name}\b.*did you mean '{near}'\?")
       for near, name in (("get_sise", "get_size"), ("Open", "open"), ("preed", "pread"), ("p_read", "pread"))},
    **{f"{name} = {value}": (disk(f"{name} = {value}\n"), rf"{name}\b.*\b{kind}\b") for name, value, kind in (
        ("pread", "3", "int"), ("get_size", "4096", "int"), ("flush", "'yes'", "str"), ("can_write", "True", "bool"))},
    **{f"async {name}": (disk(f"async def {name}({arguments}): pass\n"), rf"{name}\b.*async") for name, arguments in (
        ("config_complete", ""), ("config", "key, value"))},
    "an async method":
        (disk("class Disk:\n    async def ready(self): pass\nget_ready = Disk().ready\n"), r"get_ready\b.*async"),
    "an async object":
        (disk("class Ready:\n    async def __call__(self): pass\nget_ready = Ready()\n"), r"get_ready\b.*async"),
    "an async partial":
        (disk("from functools import partial\nasync def f(x): pass\nget_ready = partial(f, 1)\n"),
         r"get_ready\b.*async"),
    "a method that does not fit, by a name that scripts share":
        (disk("class Disk:\n    def zero(self, h, count, offset): pass\nzero = Disk().zero\n"),
         r"zero\(h, count, offset, flags\).*zero\(h, count, offset\)"),
    "an async method by a name that scripts share":
        (disk("class Disk:\n    async def config(self, key, value): pass\nconfig = Disk().config\n"),
         r"config\b.*async"),
    "an async generator": (disk("async def pread(h, buf, offset, flags): yield\n"), r"pread\b.*(yield|generator)"),
    **{f"yield in {name}": (disk(f"def {name}({arguments}): yield\n"), rf"(?s){name}\b.*(yield|generator)")
       for name, arguments in (("pread", "h, buf, offset, flags"), ("open", "readonly"), ("get_size", "h"))},
    **{f"{name} raises": (disk(f"def {name}(): raise ValueError('not today')\n"),
                          rf"(?s)^{name}: Traceback.*line 6, in {name}\n.*ValueError: not today")
       for name in ("load", "config_complete", "thread_model", "get_ready", "after_fork")},
    "config_complete exits": (disk("import sys\ndef config_complete(): sys.exit(7)\n"),
                              r"(?s)^config_complete: .*SystemExit: 7"),
    **{f"thread_model returns {answer}":
       (disk(f"def thread_model(): return {answer}\n"), rf"^thread_model: expected .*, got .*{got}")
       for answer, got in (("None", "None"), ("99", "int 99"), ("-1", "int -1"), ("'parallel'", "str 'parallel'"),
                           ("1.0", "float 1.0"), ("2**70", str(2**70)))},
    "config raises": (disk("def config(key, value): raise ValueError(f'{key}={value} is too much')\n"),
                      r"(?s)^config: .*ValueError: size=1 is too much"),
}


@pytest.mark.parametrize("case", LOAD_ERRORS)
def test_load_error(start_fails: StartFails, case: str) -> None:
    text, expected = LOAD_ERRORS[case]
    parameters = ["size=1"] if case == "config raises" else []
    assert re.search(expected, found := message(start_fails(text, *parameters))), found


@pytest.mark.parametrize("name, reason", [("no-such.py", "No such file or directory"), (".", "Is a directory")])
def test_script_that_cannot_be_read(start_fails: StartFails, tmp_path: Path, name: str, reason: str) -> None:
    assert reason in message(start_fails(name, cwd=tmp_path), re.escape(name))


def test_the_scripts_name_is_as_given(start_fails: StartFails, tmp_path: Path) -> None:
    write_script(tmp_path, "1 / 0\n", "odd name é.py")
    assert "ZeroDivisionError" in message(start_fails("odd name é.py", cwd=tmp_path), "odd name é.py")


def test_what_was_printed_before_the_error_is_not_lost(tmp_path: Path) -> None:
    script = write_script(tmp_path, "import sys\nprint('out')\nprint('err', file=sys.stderr)\nraise OSError('gone')\n")
    done = nbdkit(script)
    assert (done.returncode, done.stdout) == (1, "out\n")
    assert done.stderr.startswith("err\n")


@pytest.mark.parametrize("text, warns", [
    *((text, True) for text in ("config = {}", "block_size = 512", "cache = {}", "extents = []", "zero = b'\\0'",
                                "cleanup = 3", "load = 3", "def load(path): pass", "def unload(x, y): pass")),
    *((text, False) for text in ("from json import load", "from functools import cache")),
])
def test_names_that_scripts_use_for_themselves(serve: Serve, text: str, warns: bool) -> None:
    server = serve(disk(text + "\n"))
    h = server.connect()
    assert (h.can_cache(), extents(h, 4096, 0), h.get_block_size(nbd.SIZE_PREFERRED)) == (False, [(4096, 0)], 0)
    name = re.search(r"(\w+)( =|\(|$)", text)[1]  # type: ignore[index]  # what it defines
    assert bool(re.match(rf"nbdkit: .*disk\.py: warning: .*\b{name}\b.*\n", server.log())) == warns
    assert bool(server.log()) == warns


def test_a_warning_comes_once(serve: Serve) -> None:
    assert serve(disk("cache = {}\n")).log().count("warning: ") == 1


@pytest.mark.parametrize("name", ["flush", "config", "load", "can_write", "extents"])
def test_none_means_absent(serve: Serve, name: str) -> None:
    server = serve(disk(f"{name} = None\n"))
    assert server.connect().get_size() == 4096
    assert server.log() == ""


SIGNATURES = {
    **dict.fromkeys(("config_complete", "thread_model", "get_ready", "after_fork", "cleanup", "dump_plugin"), ""),
    **dict.fromkeys(("open", "preconnect"), "readonly"),
    **dict.fromkeys(("list_exports", "default_export"), "readonly, is_tls"),
    **dict.fromkeys(("close", "get_size", "export_description", "block_size", "is_rotational", "can_write", "can_flush",
                     "can_trim", "can_zero", "can_fast_zero", "can_multi_conn", "can_extents", "can_fua",
                     "can_cache"), "h"),
    **dict.fromkeys(("cache", "extents"), "h, count, offset, flags"),
    "config": "key, value",
}
VERSION1 = {"pread": "h, count, offset", "pwrite": "h, buf, offset", "flush": "h", "trim": "h, count, offset",
            "zero": "h, count, offset, may_trim"}
VERSION2 = {"pread": "h, buf, offset, flags", "pwrite": "h, buf, offset, flags", "flush": "h, flags",
            "trim": "h, count, offset, flags", "zero": "h, count, offset, flags"}


@pytest.mark.parametrize("version, name, expected", [
    *((2, *item) for item in (SIGNATURES | VERSION2).items()), *((1, *item) for item in VERSION1.items())])
def test_every_callbacks_signature(start_fails: StartFails, version: int, name: str, expected: str) -> None:
    own = ", ".join(filter(None, [expected, "surplus"]))
    pread = "def pread(h, count, offset): pass\n" if version == 1 else ""
    said = message(start_fails(disk(f"{pread}def {name}({own}): pass\n", head=head(version))))
    assert f"{name}({expected})" in said
    assert f"{name}({own})" in said


DEFINE = """
from functools import lru_cache, partial, wraps

def read(h, count, offset, flags): return b"x" * count
def fill(h, buf, offset, flags): buf[:] = b"x" * len(buf)
def more(lock, h, count, offset, flags): return b"x" * count

def logged(function):
    @wraps(function)
    def wrapper(*arguments): return function(*arguments)
    return wrapper

def counted(function):
    @wraps(function)
    def wrapper(h, count, offset, flags): return function(count)
    return wrapper

class Disk:
    def pread(self, h, buf, offset, flags): fill(h, buf, offset, flags)
    def pread3(self, h, buf, offset): pass
    @staticmethod
    def static(h, count, offset, flags): return b"x" * count
    @classmethod
    def cls(cls, h, buf, offset, flags): fill(h, buf, offset, flags)
    def __call__(self, h, count, offset, flags): return b"x" * count
"""
FITTING = [
    "read", "fill", "Disk().pread", "Disk.static", "Disk().static", "Disk.cls", "Disk()",
    "logged(read)", "logged(fill)", "logged(logged(read))", "logged(Disk().pread)", "counted(lambda n: b'x' * n)",
    "partial(read)", "partial(fill)", "partial(more, None)", "partial(partial(more), None)", "lru_cache(read)",
    "lambda h, count, offset, flags: b'x' * count", "lambda h, buf, offset, flags: fill(h, buf, offset, flags)",
    "lambda *a: fill(*a)", "lambda h, *rest: fill(h, *rest)", "lambda h, count, *rest: b'x' * count",
    "lambda h, buf, offset=0, flags=0, more=0: fill(h, buf, offset, flags)", "lambda _, b, o, f, /: fill(_, b, o, f)",
    "lambda h, buf, offset, flags, *, more=0: fill(h, buf, offset, flags)", "lambda *a, **k: fill(*a, **k)",
]
UNFITTING = {  # and what the message says of it
    "lambda h, buf: 1": r"\(h, buf\)", "lambda h, buf, offset, flags, more: 1": r"\(h, buf, offset, flags, more\)",
    "lambda h, buf, offset, flags, *, key: 1": r"\(h, buf, offset, flags, \*, key\)", "lambda: 1": r"\(\)",
    "Disk().pread3": r"\(h, buf, offset\)", "Disk.pread": r"\(self, h, buf, offset, flags\)",
    "partial(read, None)": r"\(count, offset, flags\)", "partial(fill, flags=0)": r"\(h, buf, offset, \*, flags=0\)",
    "lambda h, *, buf, offset, flags: 1": r"\(h, \*, buf, offset, flags\)",
}


@pytest.mark.parametrize("pread", FITTING)
def test_what_fits(serve: Serve, pread: str) -> None:
    assert serve(disk(f"{DEFINE}\npread = {pread}\n")).connect().pread(512, 0) == b"x" * 512


@pytest.mark.parametrize("pread", UNFITTING)
def test_what_does_not_fit(start_fails: StartFails, pread: str) -> None:
    said = message(start_fails(disk(f"{DEFINE}\npread = {pread}\n")))
    assert re.search(r"pread\(h, (buf|count), offset, flags\)", said)
    assert re.search(UNFITTING[pread], said), said


def test_a_callable_without_a_signature_is_taken_as_it_is(serve: Serve) -> None:
    assert serve(disk("get_size = {'': 8192}.pop\n")).connect().get_size() == 8192


def test_callbacks_are_settled_after_config_complete(serve: Serve) -> None:
    server = serve(disk("""
def pread(h, buf, offset, flags): buf[:] = b"1" * len(buf)
def config_complete():
    global pread, block_size
    def pread(h, buf, offset, flags): buf[:] = b"2" * len(buf)
    def block_size(h): return 1, 512, 4096
def get_ready():
    global pread, get_size, flush
    pread, get_size = None, lambda h: 0
    def flush(h, flags): pass
def after_fork():
    global open, block_size
    del open, block_size
"""))
    h = server.connect()
    assert (h.get_size(), h.can_flush(), h.get_block_size(nbd.SIZE_PREFERRED)) == (4096, False, 512)
    assert h.pread(512, 0) == b"2" * 512
