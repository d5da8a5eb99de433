# SPDX-License-Identifier: BSD-3-Clause
"""A disk on which each block can be written once: for logs and archives that nobody is to rewrite.

    nbdkit --filter=python file disk.img translator=write_once.py written=FILE

FILE has a byte for each block of 512: 1 once it has been written. A second write is refused with EPERM, all of it, and
so is any trim. A write that fails may be tried again.
"""

import errno
import mmap
import threading

import nbdkit

BLOCK = 512
path = None
written = None  # of each block, in the file
lock = threading.Lock()


def config(next, key, value):
    global path
    if key != "written":
        return next.config(key, value)
    path = nbdkit.absolute_path(value)


def config_complete():
    if path is None:
        raise nbdkit.Error(errno.EINVAL, "written=FILE is missing")


def prepare(h, next, readonly):
    global written
    with lock:
        if written is None:
            file = open(path, "a+b")
            file.truncate(-(-next.get_size() // BLOCK))
            written = mmap.mmap(file.fileno(), 0)


def can_trim(h, next):
    return False


def pwrite(h, next, buf, offset, flags):
    """Zeros come this way too, since there is no zero here."""
    first, end = offset // BLOCK, (offset + len(buf) - 1) // BLOCK + 1
    with lock:
        again = written.find(b"\1", first, end)
        if again != -1:
            raise nbdkit.Error(errno.EPERM, f"block {again} has been written already")
        written[first:end] = b"\1" * (end - first)
    try:
        next.pwrite(buf, offset, flags)
    except OSError:
        with lock:
            written[first:end] = bytes(end - first)
        raise


def flush(h, next, flags):
    next.flush(flags)
    written.flush()


def extents(h, next, count, offset, flags):
    """Reads are not touched: what is a hole below is one."""
    return next.extents(count, offset, flags)
