# SPDX-License-Identifier: BSD-3-Clause
"""NAME: a RAM disk so far, to be made into the disk that you want."""

import nbdkit

API_VERSION = 1

size = nbdkit.parameter("size", nbdkit.size, default="64M", help="The disk's size in bytes.", magic=True)
disk = memoryview(b"")


def config_complete() -> None:
    """Called once, when the parameters have their values."""
    global disk
    disk = memoryview(bytearray(size.value))


def open(readonly: bool) -> None:
    """A client connects. What this returns is the `h` of its later calls."""
    return None


def get_size(h: None) -> int:
    """The disk's size in bytes."""
    return len(disk)


def can_multi_conn(h: None) -> bool:
    """May a client use several connections? Yes: what is written through one is seen through all."""
    return True


def pread(h: None, count: int, offset: int) -> memoryview:
    """Read: return `count` bytes, those that start at `offset`."""
    return disk[offset : offset + count]


def pwrite(h: None, buf: memoryview, offset: int) -> None:
    """Write `buf` at `offset`. It must not be used after the function has returned."""
    disk[offset : offset + len(buf)] = buf


def zero(h: None, count: int, offset: int, may_trim: bool) -> None:
    """Make a range read as zeros."""
    disk[offset : offset + count] = bytes(count)
