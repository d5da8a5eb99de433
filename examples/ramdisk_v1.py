# SPDX-License-Identifier: BSD-3-Clause
"""A RAM disk in API version 1, the one that old scripts use.

    nbdkit python ramdisk_v1.py size=64M

It is the disk of ramdisk.py, which explains each function. In version 1 `pread` returns the bytes instead of filling a
buffer, and no function has flags but `zero`, whose last argument tells whether the range may become a hole. New
scripts are better off with version 2: only there is a request told that it must reach the disk before it is answered.
"""

import nbdkit

API_VERSION = 1  # also what a script without this line gets

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

def pread(h: None, count: int, offset: int) -> memoryview:
    """Read: return `count` bytes, as bytes, a bytearray or a memoryview."""
    return disk[offset : offset + count]

def pwrite(h: None, buf: memoryview, offset: int) -> None:
    disk[offset : offset + len(buf)] = buf

def zero(h: None, count: int, offset: int, may_trim: bool) -> None:
    disk[offset : offset + count] = bytes(count)

def trim(h: None, count: int, offset: int) -> None:
    disk[offset : offset + count] = bytes(count)
