# SPDX-License-Identifier: BSD-3-Clause
"""Which errno a client gets for what a script raised or set, and what the log says of it.

The scripts here execute the export's name, so that one server serves a whole table of statements.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from harness import Server, extents, raises_errno, serving, write_script

SCRIPT = """
import asyncio, errno, os
import nbdkit

API_VERSION = 2
SIZE = 1 << 20
disk = bytearray(b"!" * SIZE)

class Full(nbdkit.Error): pass
class Numbered(Exception): errno = errno.ENOSPC
class Odd(Exception):
    def __str__(self): raise ValueError("no text")
class OddErrno(OSError):
    errno = property(lambda self: 1 / 0)

def recurse(): return recurse()
def fail(code): raise nbdkit.Error(code, "on purpose")

def open(readonly): return nbdkit.export_name()
def get_size(h): return SIZE
def can_fast_zero(h): return True

def pread(h, buf, offset, flags):
    if h:
        exec(h)
    buf[:] = disk[offset:offset + len(buf)]

def pwrite(h, buf, offset, flags):
    disk[offset:offset + len(buf)] = buf

def zero(h, count, offset, flags):
    exec(h)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("errno")
    with serving(folder, write_script(folder, SCRIPT)) as running:
        yield running


def errno_of(request: Callable[[], object]) -> int:
    """The errno that a request fails with; 0 if it does not."""
    try:
        request()
    except nbd.Error as error:
        return error.errnum
    return 0


def log_of(server: Server, request: Callable[[], object]) -> tuple[int, str]:
    """A request's errno, and what it added to the log."""
    before = len(server.log())
    return errno_of(request), server.log()[before:]


STATEMENTS = {
    # The first that is there counts: nbdkit.Error's, set_error's, OSError's, the class's, EIO.
    "raise nbdkit.Error(errno.ENOSPC, 'full')": errno.ENOSPC,
    "raise Full(errno.ENOSPC, 'full')": errno.ENOSPC,
    "fail(errno.ENOMEM)": errno.ENOMEM,
    "nbdkit.set_error(errno.ENOSPC); raise nbdkit.Error(errno.EPERM, 'no')": errno.EPERM,
    "nbdkit.set_error(errno.ENOSPC); raise OSError(errno.EPERM, 'no')": errno.ENOSPC,
    "nbdkit.set_error(errno.ENOSPC); raise MemoryError": errno.ENOSPC,
    "nbdkit.set_error(errno.ENOSPC); 1 / 0": errno.ENOSPC,
    "nbdkit.set_error(errno.EPERM); nbdkit.set_error(errno.ENOSPC); 1 / 0": errno.ENOSPC,
    "nbdkit.set_error(errno.ENOSPC); nbdkit.set_error(0); 1 / 0": errno.EIO,
    "nbdkit.set_error(errno.ENOSPC); nbdkit.set_error(0); raise OSError(errno.EPERM, 'no')": errno.EPERM,
    "os.write(os.open('/dev/full', os.O_WRONLY), b'x')": errno.ENOSPC,
    "raise OSError(errno.EINVAL, 'odd')": errno.EINVAL,
    "raise PermissionError(errno.EACCES, 'closed')": errno.EPERM,
    "__builtins__.open('/no/such/file')": errno.EIO,
    "raise PermissionError": errno.EPERM,
    "raise MemoryError": errno.ENOMEM,
    "bytearray(1 << 62)": errno.ENOMEM,
    "raise NotImplementedError": errno.EINVAL,  # nbdkit has ENOTSUP only for a fast zero
    **dict.fromkeys((
        "1 / 0", "raise TimeoutError", "raise ConnectionResetError", "raise KeyboardInterrupt", "raise SystemExit(3)",
        "raise GeneratorExit", "raise StopIteration", "raise asyncio.CancelledError", "recurse()", "raise Odd",
        "raise OSError('no errno')", "raise OSError('a', 'b')", "raise OSError(0, 'zero')",
        "raise OSError(-28, 'negative')", "raise OSError(2**70, 'large')", "raise OddErrno", "raise Numbered",
        "raise nbdkit.Error('ENOSPC', 'no number')", "raise nbdkit.Error(0, 'zero')",
        "raise nbdkit.Error(-28, 'negative')", "nbdkit.set_error(-28)",
        "raise ValueError from OSError(errno.ENOSPC, 'its cause')", "raise BaseExceptionGroup('', [MemoryError()])",
    ), errno.EIO),
    # No exception, no error; and what one request set is nothing to the next.
    "nbdkit.set_error(errno.ENOSPC)": 0,
    "nbdkit.set_error(errno.EOPNOTSUPP)": 0,
    "pass": 0,
}


def test_order(server: Server) -> None:
    assert {s: errno_of(lambda: server.connect(s).pread(512, 0)) for s in STATEMENTS} == STATEMENTS


def test_set_error_is_forgotten_with_its_request(server: Server) -> None:
    setting, failing = server.connect("nbdkit.set_error(errno.ENOSPC)"), server.connect("1 / 0")
    for _ in range(3):
        assert setting.pread(512, 0)
        with raises_errno(errno.EIO):
            failing.pread(512, 0)


def test_handled_exceptions_do_not_count(server: Server) -> None:
    h = server.connect("""
try:
    fail(errno.ENOSPC)
except OSError as error:
    assert (error.errno, error.strerror) == (errno.ENOSPC, "on purpose")
""")
    assert h.pread(512, 0)


# What of an errno a client sees, where that is not EIO.
EXPRESSED = {number: number for number in (errno.EPERM, errno.ENOMEM, errno.EINVAL, errno.ENOSPC, errno.ESHUTDOWN)} | {
    errno.EACCES: errno.EPERM, errno.EROFS: errno.EPERM, errno.EDQUOT: errno.ENOSPC, errno.EFBIG: errno.ENOSPC,
    errno.EOVERFLOW: errno.EINVAL, errno.ENOTSUP: errno.EINVAL,
}


@pytest.mark.parametrize("statement", [
    "raise nbdkit.Error(offset // 512, 'on purpose')", "raise OSError(offset // 512, 'by chance')",
    "nbdkit.set_error(offset // 512); raise Numbered",
])
def test_every_errno(server: Server, statement: str) -> None:
    h = server.connect(statement)
    seen = {number: errno_of(lambda: h.pread(512, number * 512)) for number in errno.errorcode}
    assert seen == {number: EXPRESSED.get(number, errno.EIO) for number in errno.errorcode}


@pytest.mark.parametrize("callback, request_it", [
    ("pwrite(h, buf, offset, flags)", lambda h: h.pwrite(bytes(512), 0)),
    ("flush(h, flags)", lambda h: h.flush()),
    ("trim(h, count, offset, flags)", lambda h: h.trim(512, 0)),
    ("zero(h, count, offset, flags)", lambda h: h.zero(512, 0)),
    ("cache(h, count, offset, flags)", lambda h: h.cache(512, 0)),
    ("extents(h, count, offset, flags)", lambda h: extents(h, 512, 0)),
])
@pytest.mark.parametrize("statement", ["fail(errno.ENOSPC)", "raise OSError(errno.ENOSPC, 'full')",
                                       "nbdkit.set_error(errno.ENOSPC); 1 / 0"])
def test_every_request(serve: Serve, callback: str, request_it: Callable[[nbd.NBD], object], statement: str) -> None:
    server = serve(f"{SCRIPT}\ndef {callback}: {statement}\n")
    with raises_errno(errno.ENOSPC):
        request_it(server.connect())
    assert re.search(rf"error: \S*disk\.py: {callback.split('(')[0]}: ", server.log())


LINES = {  # what nbdkit.Error puts into the log
    "fail(errno.ENOSPC)": "on purpose.*ENOSPC",
    "fail(errno.ETIMEDOUT)": "on purpose.*ETIMEDOUT.*EIO",
    "raise nbdkit.Error(errno.ENOENT, 'block 7 is gone')": "block 7 is gone.*ENOENT.*EIO",
    "raise nbdkit.Error(errno.EACCES, 'locked')": "locked.*EACCES",
    "raise nbdkit.Error(errno.EIO)": "Input/output error.*EIO",
    "raise nbdkit.Error(errno.EIO, '100% %s %n')": "100% %s %n.*EIO",
    "raise nbdkit.Error(errno.EIO, '\\u00e9\\udcff\\0.')": r"é\\udcff\\x00\..*EIO",
    "raise nbdkit.Error(errno.EIO, 'from') from ValueError('a cause')": "from.*EIO",
    "raise nbdkit.Error(4095, 'unheard of')": "unheard of.*4095.*EIO",
    "raise Full(errno.ENOSPC, 'a class of its own')": "a class of its own.*ENOSPC",
}


@pytest.mark.parametrize("statement", LINES)
def test_nbdkit_error_is_one_line(server: Server, statement: str) -> None:
    h = server.connect(statement)
    _, said = log_of(server, lambda: h.pread(512, 0))
    assert re.fullmatch(rf"nbdkit: .*error: \S*disk\.py: pread: {LINES[statement]}.*\n", said), said


TRACEBACKS = {
    "recurse()": "in recurse\n.*RecursionError: maximum recursion depth exceeded",
    "raise OSError(errno.ENOENT, 'gone')": "FileNotFoundError: .*gone.*ENOENT.*EIO",
    "nbdkit.set_error(errno.ENOENT); raise KeyError('block')": "KeyError: 'block'.*ENOENT.*EIO",
    "raise KeyError('a') from ValueError('b')": "ValueError: b\n.*direct cause.*KeyError: 'a'",
    "try: 1 / 0\nexcept Exception: [][1]": "ZeroDivisionError: .*\n.*IndexError: list index",
    "raise Odd": r"Odd: <exception str\(\) failed>",
    "raise ValueError('100% %s %n')": "ValueError: 100% %s %n",
    "raise ValueError('\\u00e9\\udcff\\0.')": r"ValueError: é\\udcff\\x00\.",
    "raise ValueError('x' * 100_000)": "ValueError: x{100000}",
    "raise SystemExit(3)": "SystemExit: 3",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise nbdkit.Error('ENOSPC', 'x')": "TypeError: .*errno.*'ENOSPC'",
    "nbdkit.set_error(-28)": "ValueError: .*-28",
    "assert offset, 'told you'": "AssertionError: told you",
}
LINE = SCRIPT.splitlines().index("        exec(h)") + 1


@pytest.mark.parametrize("statement", TRACEBACKS)
def test_another_exception_has_its_traceback(server: Server, statement: str) -> None:
    h = server.connect(statement)
    _, said = log_of(server, lambda: h.pread(512, 0))
    assert re.match(r"nbdkit: .*error: \S*disk\.py: pread: ", said), said
    assert "Traceback (most recent call last):\n" in said
    assert f'disk.py", line {LINE}, in pread\n' in said
    assert re.search(f"(?s){TRACEBACKS[statement]}", said), said
    assert len(re.findall("^nbdkit: .*error: ", said, re.MULTILINE)) == 1


# The ways in which a zero says that pwrite should do it.
DECLINING = [
    "nbdkit.set_error(errno.EOPNOTSUPP)",
    "nbdkit.set_error(errno.ENOTSUP)",
    "nbdkit.set_error(errno.EOPNOTSUPP); raise ValueError",
    "nbdkit.set_error(errno.EOPNOTSUPP); raise OSError(errno.EPERM, 'no')",
    "nbdkit.set_error(errno.EPERM); nbdkit.set_error(errno.EOPNOTSUPP)",
    "fail(errno.EOPNOTSUPP)",
    "fail(errno.ENOTSUP)",
    "raise OSError(errno.EOPNOTSUPP, 'cannot')",
    "raise NotImplementedError",
    "raise NotImplementedError('not for small ranges')",
]


@pytest.mark.parametrize("statement", DECLINING)
def test_zero_falls_back_to_pwrite_quietly(server: Server, statement: str) -> None:
    reader, h = server.connect(), server.connect(statement)
    h.pwrite(b"!" * 1024, 0)
    assert log_of(server, lambda: h.zero(512, 256)) == (0, "")
    assert reader.pread(1024, 0) == b"!" * 256 + bytes(512) + b"!" * 256


@pytest.mark.parametrize("statement", DECLINING)
def test_a_fast_zero_does_not(server: Server, statement: str) -> None:
    reader, h = server.connect(), server.connect(statement)
    h.pwrite(b"!" * 1024, 0)
    assert log_of(server, lambda: h.zero(512, 256, nbd.CMD_FLAG_FAST_ZERO)) == (errno.ENOTSUP, "")
    assert reader.pread(1024, 0) == b"!" * 1024


@pytest.mark.parametrize("statement, expected", [
    ("pass", 0), ("nbdkit.set_error(errno.ENOSPC)", 0), ("nbdkit.set_error(errno.EOPNOTSUPP); nbdkit.set_error(0)", 0),
    ("fail(errno.EPERM)", errno.EPERM), ("raise OSError(errno.EPERM, 'no')", errno.EPERM), ("1 / 0", errno.EIO),
    ("nbdkit.set_error(errno.EOPNOTSUPP); fail(errno.EPERM)", errno.EPERM),
    ("nbdkit.set_error(errno.EPERM); raise NotImplementedError", errno.EPERM),
    ("fail(errno.ENOENT)", errno.EIO),
])
def test_zero_does_not_fall_back(server: Server, statement: str, expected: int) -> None:
    reader, h = server.connect(), server.connect(statement)
    h.pwrite(b"!" * 1024, 0)
    failed, said = log_of(server, lambda: h.zero(512, 256))
    assert failed == expected
    assert bool(said) == bool(expected)
    assert reader.pread(1024, 0) == b"!" * 1024


def test_zero_of_version_1_falls_back_too(serve: Serve, tmp_path: Path) -> None:
    server = serve("""
import errno, nbdkit
wrote = []
def open(readonly): return 1
def get_size(h): return 1024
def pread(h, count, offset): return bytes(wrote).ljust(count, b"!")
def pwrite(h, buf, offset): wrote.extend(buf)
def zero(h, count, offset, may_trim):
    nbdkit.set_error(errno.EOPNOTSUPP)
""")
    h = server.connect()
    h.zero(100, 7)
    assert h.pread(200, 0) == bytes(100) + b"!" * 100
    assert server.log() == ""
