# SPDX-License-Identifier: BSD-3-Clause
"""A script that takes its own names away while it serves: callbacks are settled, and Python's parts can be missed."""

from __future__ import annotations

import errno
import re

import pytest

from conftest import Serve
from disks import disk
from harness import extents, raises_errno

SCRIPT = disk("""
    import builtins, sys, types

    here = builtins.open(__file__).read()

    def get_size(h): return 4096
    def can_write(h): return True
    def close(h): pass
    def extents(h, count, offset, flags): return [(offset, count, 1)]

    def pread(h, buf, offset, flags, error=LookupError):
        buf[:5] = b"first"
        if offset:
            raise error("on purpose")

    def pwrite(h, buf, offset, flags):
        exec(bytes(buf), globals())
""")

STATEMENTS = [
    "del pread, pwrite, open, get_size, can_write, close, extents",
    "pread = pwrite = open = get_size = can_write = close = extents = None",
    "async def pread(): pass\nopen = get_size = can_write = close = extents = pwrite = pread",
    "def pread(h, buf, offset, flags): buf[:5] = b'other'\ndef get_size(h): return 512",
    "API_VERSION = 1",
    "globals().clear()",
    "exec(compile(here, __file__, 'exec'), globals())",
    "import importlib, nbdkit; importlib.reload(nbdkit)",
    "import importlib\ntry: importlib.reload(sys.modules['__main__'])\nexcept ImportError: pass\nelse: 1 / 0",
    "del sys.modules['__main__']",
    "sys.modules['__main__'] = types.ModuleType('__main__')",
    "sys.modules['nbdkit'] = sys.modules['_nbdkit'] = None",
    "nbdkit = sys.modules['nbdkit'] = types.ModuleType('nbdkit')",
    "sys.modules.pop('warnings', None); sys.modules['nbdkit'] = sys.modules['_nbdkit'] = None\nimport warnings",
    "sys.modules.pop('warnings', None); sys.modules['nbdkit._process'].__dict__.clear()\nimport warnings",
    "for name in [n for n in sys.modules if 'nbdkit' in n]: del sys.modules[name]\nimport nbdkit; nbdkit.debug('')",
    "for name in dir(nbdkit): setattr(nbdkit, name, None)",
    "for name in ('nbdkit._process', 'nbdkit._script', 'nbdkit._errors'): sys.modules[name].__dict__.clear()",
    "sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None",
    "del sys.stdout, sys.stderr, sys.excepthook, sys.unraisablehook",
    "sys.stderr.close(); sys.stdout.close(); sys.stdin.close()",
    "import gc; gc.disable(); gc.freeze()",
    "import threading; threading.Thread = threading.current_thread = None; del sys.modules['threading']",
]
# These take away what makes a traceback.
BREAKING = [
    "sys.path = sys.argv = sys.meta_path = sys.path_hooks = None",
    "sys.modules['traceback'] = sys.modules['errno'] = sys.modules['gc'] = sys.modules['atexit'] = None",
    "sys.modules.clear()",
    "builtins.__dict__.clear()",
]


@pytest.mark.parametrize("statement", STATEMENTS + BREAKING)
def test_what_was_settled_goes_on(serve: Serve, statement: str) -> None:
    server = serve(SCRIPT)
    before = server.connect()
    before.pwrite(statement.encode(), 0)
    for h in before, server.connect():
        assert (h.get_size(), h.is_read_only()) == (4096, False)
        assert h.pread(8, 0) == b"first\0\0\0"
        assert extents(h, 4096, 0) == [(4096, 1)]
        with raises_errno(errno.EIO):
            h.pread(512, 512)
        h.shutdown()
    assert server.stop() == 0
    said = server.log()
    assert len(re.findall(r"^nbdkit: ", said, re.MULTILINE)) == 2, said
    assert len(re.findall(r"^nbdkit: .*error: \S*disk\.py: pread: ", said, re.MULTILINE)) == 2, said
    assert len(re.findall(r"\bLookupError: on purpose$", said, re.MULTILINE)) == 2, said
    assert said.count(", in pread\n") == (2 if statement in STATEMENTS else 0), said


def test_a_function_is_the_same_with_other_code(serve: Serve) -> None:
    h = serve(SCRIPT).connect()
    h.pwrite(b"def other(h, buf, offset, flags): buf[:5] = b'other'\npread.__code__ = other.__code__", 0)
    assert h.pread(5, 0) == b"other"
    h.pwrite(b"pread.__code__ = (lambda: None).__code__", 0)
    with raises_errno(errno.EIO):
        h.pread(5, 0)


def test_a_method_is_the_same_without_its_class(serve: Serve) -> None:
    h = serve(disk("""
        class Disk:
            def pread(self, h, buf, offset, flags): buf[:5] = b"first"
            def pwrite(self, h, buf, offset, flags): exec(bytes(buf), globals())

        disk = Disk()
        pread, pwrite = disk.pread, disk.pwrite
    """)).connect()
    h.pwrite(b"del Disk.pread, Disk.pwrite, disk, Disk", 0)
    assert h.pread(5, 0) == b"first"
