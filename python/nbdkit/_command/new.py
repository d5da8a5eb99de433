# SPDX-License-Identifier: BSD-3-Clause
"""`nbdkit-python new`: a disk and its test, which pass as they are."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from . import CommandError

_HEAD = '''\
"""NAME: a RAM disk so far, to be made into the disk that you want.

    nbdkit python NAME.py size=64M
"""

import errno

import nbdkit

API_VERSION = VERSION

disk = memoryview(bytearray(nbdkit.parse_size("64M")))


def config(key: str, value: str) -> None:
    """Called for each KEY=VALUE on the command line."""
    global disk
    if key != "size":
        raise nbdkit.Error(errno.EINVAL, f"unknown parameter {key!r}: this disk has one, size=SIZE")
    disk = memoryview(bytearray(nbdkit.parse_size(value)))


def open(readonly: bool) -> None:
    """A client connects. What this returns is the `h` of its later calls."""
    return None


def get_size(h: None) -> int:
    """The disk's size in bytes."""
    return len(disk)


def can_multi_conn(h: None) -> bool:
    """May a client use several connections? Yes: what is written through one is seen through all."""
    return True


'''
_V2 = '''\
def pread(h: None, buf: memoryview, offset: int, flags: int) -> None:
    """Read: fill `buf` with the bytes that start at `offset`."""
    buf[:] = disk[offset : offset + len(buf)]


def pwrite(h: None, buf: memoryview, offset: int, flags: int) -> None:
    """Write `buf` at `offset`. It must not be used after the function has returned."""
    disk[offset : offset + len(buf)] = buf


def zero(h: None, count: int, offset: int, flags: int) -> None:
    """Make a range read as zeros."""
    disk[offset : offset + count] = bytes(count)
'''
_V1 = '''\
def pread(h: None, count: int, offset: int) -> memoryview:
    """Read: return `count` bytes from `offset` on."""
    return disk[offset : offset + count]


def pwrite(h: None, buf: memoryview, offset: int) -> None:
    """Write `buf` at `offset`. It must not be used after the function has returned."""
    disk[offset : offset + len(buf)] = buf


def zero(h: None, count: int, offset: int, may_trim: bool) -> None:
    """Make a range read as zeros."""
    disk[offset : offset + count] = bytes(count)
'''
_TEST = '''\
"""What NAME.py must do. To run it: python3 -m pytest test_NAME.py"""

from pathlib import Path

import pytest

from nbdkit.testing import ServerError, check, serve

SCRIPT = Path(__file__).with_name("NAME.py")


def test_what_was_written_is_read() -> None:
    with serve(SCRIPT, size="1M") as server:
        disk = server.connect()
        assert disk.get_size() == 1 << 20
        disk.pwrite(b"some bytes", 5000)
        assert disk.pread(10, 5000) == b"some bytes"


def test_a_parameter_that_it_does_not_have() -> None:
    with pytest.raises(ServerError, match="unknown parameter 'colour'"), serve(SCRIPT, colour="red"):
        pass


def test_it_is_a_good_disk() -> None:
    report = check(SCRIPT, size="1M")
    assert report.ok, report
'''


def main(program: str, arguments: Sequence[str]) -> int:
    """The exit status is 0 if both files were written."""
    parser = argparse.ArgumentParser(program, description="""
        Write NAME.py, a RAM disk to be changed into the disk that you want, and test_NAME.py, which passes. Files that
        are there already are left alone.""")
    parser.add_argument("name", metavar="NAME", help="what to call the disk; it may have folders in front of it")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--v1", action="store_true", help="in API version 1, as old scripts are")
    given = parser.parse_args(arguments)
    path = Path(given.name.removesuffix(".py"))
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", path.name):
        raise CommandError(f"NAME: expected letters, digits and _, as for a module of Python, got {path.name!r}")
    text = _HEAD.replace("VERSION", "1" if given.v1 else "2", 1) + (_V1 if given.v1 else _V2)
    files = {path.with_name(f"{path.name}.py"): text, path.with_name(f"test_{path.name}.py"): _TEST}
    for file in files:
        if file.exists():
            raise CommandError(f"{file} is there already")
    for file, text in files.items():
        try:
            file.write_text(text.replace("NAME", path.name))
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}") from None
    script, test = files
    print(f"{script} and {test} are written. To try them:\n\n"
          f"    nbdkit -U - python {script} --run 'nbdinfo \"$uri\"'\n    python3 -m pytest {test}")
    return 0
