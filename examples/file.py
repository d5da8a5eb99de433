# SPDX-License-Identifier: BSD-3-Clause
"""A file, or a block device, as a disk.

    nbdkit python file.py file=disk.img

Clients see the file's holes, and make new ones when they zero or discard a range. nbdkit -r opens it for reading only.
"""

import ctypes
import errno
import os

import nbdkit

API_VERSION = 2
PUNCH_HOLE = 0x02 | 0x01  # linux/falloc.h: FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
libc = ctypes.CDLL(None)  # Python's os module cannot punch a hole into a file, so the C library is asked to
libc.fallocate64.argtypes = ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64
path = ""

def config(key: str, value: str) -> None:
    global path
    if key != "file":
        raise nbdkit.Error(errno.EINVAL, f"unknown parameter {key!r}: this disk has one, file=PATH")
    path = os.path.abspath(value)  # a server in the background changes to the folder "/"

def config_complete() -> None:
    if not os.path.exists(path) or os.path.isdir(path):
        raise nbdkit.Error(errno.EINVAL, f"file=PATH must be a file or a block device, not {path!r}")

def thread_model() -> int:
    return nbdkit.THREAD_MODEL_PARALLEL  # each call below names its own offset: none has to wait for another

def open(readonly: bool) -> int:
    return os.open(path, os.O_RDONLY if readonly else os.O_RDWR)

def close(h: int) -> None:
    os.close(h)

def get_size(h: int) -> int:
    return os.lseek(h, 0, os.SEEK_END)  # os.stat gives 0 for a block device

def can_multi_conn(h: int) -> bool:
    return True  # a flush through any connection flushes the file

def pread(h: int, buf: memoryview, offset: int, flags: int) -> None:
    while buf:  # one preadv may read less than was asked for
        if not (done := os.preadv(h, [buf], offset)):
            raise nbdkit.Error(errno.EIO, f"{path} ends at {offset}: it was made smaller while being served")
        buf, offset = buf[done:], offset + done

def pwrite(h: int, buf: memoryview, offset: int, flags: int) -> None:
    while buf:
        done = os.pwritev(h, [buf], offset)
        buf, offset = buf[done:], offset + done

def flush(h: int, flags: int) -> None:
    os.fdatasync(h)  # nbdkit also calls this after a change that must be on the disk before it is answered (FUA)

def zero(h: int, count: int, offset: int, flags: int) -> None:  # without MAY_TRIM, the client wants to keep the space
    if not flags & nbdkit.FLAG_MAY_TRIM or libc.fallocate64(h, PUNCH_HOLE, offset, count) != 0:
        nbdkit.set_error(errno.EOPNOTSUPP)  # not a failure: nbdkit calls pwrite with zeros instead

def trim(h: int, count: int, offset: int, flags: int) -> None:
    libc.fallocate64(h, PUNCH_HOLE, offset, count)  # a hint: where it cannot be followed, nothing is lost

def extents(h: int, count: int, offset: int, flags: int):
    """What is data and what a hole in this range? Yields (offset, length, type), each from where the last one ended."""
    end = offset + count
    while offset < end:
        try:
            data = os.lseek(h, offset, os.SEEK_DATA)
            hole = os.lseek(h, data, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: there is no data from here on
                raise
            data = hole = end
        yield offset, data - offset, nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO  # none, if there is data at once
        yield data, hole - data, 0
        offset = hole
