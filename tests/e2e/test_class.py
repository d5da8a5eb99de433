# SPDX-License-Identifier: BSD-3-Clause
"""A disk as a class: served as one of functions is, and what is wrong with it is said when the script is loaded."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from harness import extents, nbdkit, write_script

StartFails = Callable[..., str]

RAMDISK = '''
"""A RAM disk as a class."""

import nbdkit

shared = memoryview(bytearray(1 << 20))
log = []


@nbdkit.disk
class Ramdisk:
    """What it is for one client."""

    size = 1 << 20

    def __init__(self, readonly):
        log.append(f"open {readonly} {nbdkit.export_name()}")
        self.name = nbdkit.export_name()

    def close(self):
        log.append(f"close {self.name}")
        print(log[-1])

    def get_size(self):
        return self.size

    def pread(self, buf, offset, flags):
        buf[:] = shared[offset : offset + len(buf)]

    def pwrite(self, buf, offset, flags):
        shared[offset : offset + len(buf)] = buf

    def extents(self, count, offset, flags):
        yield offset, count, nbdkit.EXTENT_HOLE

    def export_description(self):
        return f"{self.name}: {', '.join(log)}"

    @staticmethod
    def config(key, value):
        Ramdisk.size = nbdkit.parse_size(value)

    @classmethod
    def list_exports(cls, readonly, is_tls):
        return [("a", cls.__name__), ("b", None)]

    @staticmethod
    def thread_model():
        return nbdkit.THREAD_MODEL_PARALLEL


def default_export(readonly, is_tls):
    return "a"
'''

LEAST = """\
    import nbdkit

    @nbdkit.disk
    class Mine:
        def __init__(self, readonly): pass
        def get_size(self): return 1 << 20
        def pread(self, buf, offset, flags): buf[:] = bytes(len(buf))
"""


def mine(methods: str = "", functions: str = "") -> str:
    """The least disk that is a class, with these methods as well, which replace what was there, and these functions."""
    return (textwrap.dedent(LEAST) + textwrap.indent(textwrap.dedent(methods), "    ") + "\n"
            + textwrap.dedent(functions))


def test_a_class_is_served(serve: Serve) -> None:
    server = serve(RAMDISK, "size=2M")
    one = server.connect(full_info=True)
    assert (one.get_size(), one.get_export_description()) == (2 << 20, "a: open False a")
    two = server.connect("b")
    two.pwrite(b"hello", 1000)
    assert one.pread(5, 1000) == b"hello"
    two.shutdown()
    server.wait_for_log("^close b$")
    three = server.connect("c", full_info=True)
    assert three.get_export_description() == "c: open False a, open False b, close b, open False c"
    assert extents(three, 4096, 0) == [(4096, nbd.STATE_HOLE)]


def test_exports_of_a_class(serve: Serve) -> None:
    server = serve(RAMDISK)
    h = nbd.NBD()
    h.set_opt_mode(True)
    h.connect_unix(str(server.socket))
    names: list[tuple[str, str]] = []

    def note(name: str, description: str) -> int:
        names.append((name, description))
        return 0

    h.opt_list(note)
    h.opt_abort()
    assert names == [("a", "Ramdisk"), ("b", "")]


def dumped(folder: Path, text: str) -> dict[str, str]:
    done = nbdkit("--dump-plugin", write_script(folder, text))
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_what_dump_plugin_tells_of_a_class(tmp_path: Path) -> None:
    found = dumped(tmp_path, RAMDISK)
    assert found["python_script_api_version"] == "2" and found["python_pread"] == "buf"
    assert found["python_callbacks"].split() == [
        "config", "thread_model", "list_exports", "default_export", "open", "close", "export_description", "get_size",
        "pread", "pwrite", "extents"]
    assert found["thread_model"] == "parallel"


@pytest.mark.parametrize("says, pread, version, shape", [
    ("", "buf, offset, flags", "2", "buf"), ("API_VERSION = 2", "count, offset, flags", "2", "count"),
    ("API_VERSION = 1", "count, offset", "1", "count"),
])
def test_versions_and_shapes(tmp_path: Path, serve: Serve, says: str, pread: str, version: str, shape: str) -> None:
    fills = "buf[:] = b'x' * len(buf)" if shape == "buf" else "return b'x' * count"
    text = mine(f"def pread(self, {pread}): {fills}", says)
    found = dumped(tmp_path, text)
    assert (found["python_script_api_version"], found["python_pread"]) == (version, shape)
    assert serve(text).connect().pread(3, 0) == b"xxx"


FINE = {
    "a subclass of a disk": ("", "class Base(Mine): pass\n@nbdkit.disk\nclass Other(Base):\n    pass\n"),
    "a subclass that is no disk": ("", "class Other(Mine):\n    def get_size(self): return 1\n"),
    "two names of it": ("", "Same = Mine\n"),
    "one from a module": ("", "del Mine\nfrom beside import Theirs\n"),
    "a dataclass": ("", """
        del Mine
        import dataclasses
        @nbdkit.disk
        @dataclasses.dataclass
        class Data:
            readonly: bool
            def get_size(self): return 1 << 20
            def pread(self, buf, offset, flags): pass
    """),
    "a base in C": ("", """
        class Other(Mine, dict):
            def __init__(self, readonly): dict.__init__(self)
        nbdkit.disk(Other)
    """),
    "slots": ("__slots__ = ('size', )", ""),
    "abstract, and made concrete": ("", """
        import abc
        class Base(abc.ABC):
            @abc.abstractmethod
            def get_size(self): ...
        @nbdkit.disk
        class Other(Mine, Base): pass
    """),
    "a decorated method": ("""
        import functools
        @functools.lru_cache
        def get_size(self): return 1 << 20
    """, ""),
    "no flush": ("flush = None", "")
}


@pytest.mark.parametrize("case", FINE)
def test_fine(serve: Serve, tmp_path: Path, case: str) -> None:
    write_script(tmp_path, mine().replace("Mine", "Theirs"), "beside.py")
    methods, functions = FINE[case]
    server = serve(mine(methods, f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n" + textwrap.dedent(functions)))
    h = server.connect()
    assert h.get_size() == 1 << 20 and h.pread(2, 0) == b"\0\0" and not h.can_flush()
    assert server.log() == ""


REFUSED = {
    "no __init__": ("del __init__", "", r"Mine: expected __init__\(self, readonly\), got none"),
    "no argument": ("def __init__(self): pass", "",
                    r"Mine: expected __init__\(self, readonly\), got __init__\(self\)"),
    "one argument more": ("def __init__(self, readonly, name): pass", "",
                          r"Mine: expected __init__\(self, readonly\), got __init__\(self, readonly, name\)"),
    "an asynchronous __init__": ("async def __init__(self, readonly): pass", "",
                                 r"Mine: expected a plain function, got `async def __init__`"),
    "__new__": ("del __init__\ndef __new__(cls, one, two): pass", "",
                r"Mine: expected Mine\(readonly\), got Mine\(one"),
    "abstract": ("", "import abc\n@nbdkit.disk\nclass Other(Mine, abc.ABC):\n    @abc.abstractmethod\n"
                 "    def more(self): ...\n", r"Other: expected a class that can have instances, got one without more"),
    "open": ("def open(self, readonly): pass", "", r"Mine\.open: expected __init__\(self, readonly\) in its place"),
    "missing": ("del get_size\ndef get_sise(self): pass", "",
                r"the callback get_size\(self\) is missing in the class Mine: did you mean 'get_sise'\?"),
    "wrong arguments": ("def pwrite(self, buf, offset): pass", "",
                        r"Mine\.pwrite: expected pwrite\(self, buf, offset, flags\), got pwrite\(self, buf, offset\)"),
    "no self": ("def pread(buf, offset, flags): pass", "",
                r"Mine\.pread: expected pread\(self, buf, offset, flags\), got pread\(buf, offset, flags\)"),
    "asynchronous": ("@staticmethod\nasync def get_ready(): pass", "",
                     r"Mine\.get_ready: expected a plain function, got `async def get_ready`"),
    "a static method of a connection": ("@staticmethod\ndef can_write(h): return True", "",
                                        r"Mine\.can_write: expected a method can_write\(self\), got a staticmethod"),
    "a class method of a connection": ("@classmethod\ndef flush(cls, flags): pass", "",
                                       r"Mine\.flush: expected a method flush\(self, flags\), got a classmethod"),
    "a property": ("@property\ndef can_trim(self): return True", "",
                   r"Mine\.can_trim: expected a function can_trim\(self\), got property"),
    "a method without an instance": (
        "def thread_model(self): return 3", "",
        r"Mine\.thread_model: expected a static or class method thread_model\(\), got a method: there is no instance"),
    "a method config": ("def config(self, value): pass", "",
                        r"Mine\.config: expected a static or class method config\(key, value\), got a method"),
    "a class method's arguments": (
        "@classmethod\ndef list_exports(cls): return []", "",
        r"Mine\.list_exports: expected list_exports\(readonly, is_tls\), got list_exports\(\)"),
    "two": ("", "@nbdkit.disk\nclass Another: pass", r"expected one class with @nbdkit\.disk, got Another and Mine"),
    "a function of a method's name": ("", "def get_size(h): return 0",
                                      r"get_size: expected it in the class Mine or as a function, not both"),
    "a function that opens": ("", "def open(readonly): return 0",
                              r"open: expected it in the class Mine or as a function, not both"),
    "both ways to a class-level one": ("@staticmethod\ndef get_ready(): pass", "def get_ready(): pass",
                                       r"get_ready: expected it in the class Mine or as a function, not both"),
    "a function beside it": ("", "def flush(h, flags): pass",
                             r"flush: expected a method of the class Mine, got a function beside it"),
    "no class": ("", "nbdkit.disk(3)",
                 r"the script failed while .*\n(.*\n)*TypeError: nbdkit\.disk: expected a class, got int 3"),
    "a fault of a function's": ("", "def thread_model(h): pass",
                                r"thread_model: expected thread_model\(\), got thread_model\(h\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(start_fails: StartFails, case: str) -> None:
    methods, functions, expected = REFUSED[case]
    said = start_fails(mine(methods, functions))
    assert re.match(rf"nbdkit: error: \S+/disk\.py: {expected}", said), said


@pytest.mark.parametrize("methods, functions, warning", [
    ("def load(self): pass", "", r"warning: Mine\.load: expected a static or class method load\(\), got a method: "
                                 r"there is no instance when it is called: left alone, since scripts use this name"),
    ("cache = {}", "", r"warning: Mine\.cache: expected a function cache\(self, count, offset, flags\), got dict"),
    ("", "cache, zero = {}, bytes(512)\nfrom functools import lru_cache as extents\nfrom os import open", ""),
])
def test_names_for_other_things(serve: Serve, methods: str, functions: str, warning: str) -> None:
    server = serve(mine(methods, functions))
    h = server.connect()
    assert not h.can_cache() and h.pread(1, 0) == b"\0"
    assert re.match(f"nbdkit: error: .*{warning}" if warning else "$", server.log())


def test_faults_in_methods_name_the_callback(serve: Serve) -> None:
    server = serve(mine("""
        def __init__(self, readonly):
            if nbdkit.export_name(): raise nbdkit.Error(2, f"no export {nbdkit.export_name()}")
        def pread(self, buf, offset, flags): raise KeyError(offset)
    """))
    with pytest.raises(nbd.Error):
        server.connect("other")
    assert re.search(r"disk\.py: open: no export other \[ENOENT\]", server.log())
    with pytest.raises(nbd.Error):
        server.connect().pread(1, 0)
    assert re.search(r"disk\.py: pread: Traceback .*\n(.*\n)*KeyError: 0\n", server.log())


def test_a_class_that_load_replaces(serve: Serve) -> None:
    """Callbacks are settled after config_complete, those of a class too."""
    server = serve(mine("", """
        def load():
            Mine.get_size = lambda self: 4096
        def after_fork():
            Mine.get_size = lambda self: 8192
    """))
    assert server.connect().get_size() == 4096
