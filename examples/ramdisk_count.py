# SPDX-License-Identifier: BSD-3-Clause
"""A RAM disk in API version 2, whose `pread` returns the bytes instead of filling a buffer.

    nbdkit python ramdisk_count.py size=64M

It is the disk of ramdisk.py, which explains each function. Only `pread` differs: its second argument is named `count`,
and that name is what tells the two forms apart. This one suits a disk that gets its bytes from somewhere as an object
of their own; the other saves a copy where they can be read straight into the buffer.
"""

import nbdkit

API_VERSION = 2

size = nbdkit.parse_size("64M")
disk = memoryview(b"")

def config(key: str, value: str) -> None:
    global size
    if key != "size":
        raise ValueError(f"unknown parameter {key!r}: this disk has one, size=SIZE")
    size = nbdkit.parse_size(value)

def config_complete() -> None:
    global disk
    disk = memoryview(bytearray(size))

def open(readonly: bool) -> None:
    return None

def get_size(h: None) -> int:
    return size

def can_multi_conn(h: None) -> bool:
    return True

def pread(h: None, count: int, offset: int, flags: int) -> memoryview:
    """Read: return `count` bytes, as bytes, a bytearray or a memoryview."""
    return disk[offset : offset + count]

def pwrite(h: None, buf: memoryview, offset: int, flags: int) -> None:
    disk[offset : offset + len(buf)] = buf

def zero(h: None, count: int, offset: int, flags: int) -> None:
    disk[offset : offset + count] = bytes(count)

def trim(h: None, count: int, offset: int, flags: int) -> None:
    disk[offset : offset + count] = bytes(count)
