# SPDX-License-Identifier: BSD-3-Clause
"""A disk that fails on purpose, to see what a client makes of it: each block has an error of its own.

    nbdkit python faulty.py

A block has 4096 bytes. A read or write that touches none but block 0 works; any other fails with the error of the first
block that has one. NBD can express few errors, so that a client may see another than the one that was raised:

    block   raised      client sees
        1   EPERM       EPERM
        2   EIO         EIO
        3   ENOMEM      ENOMEM
        4   EINVAL      EINVAL
        5   ENOSPC      ENOSPC
        6   ESHUTDOWN   ESHUTDOWN
        7   EOVERFLOW   EINVAL
        8   ENOTSUP     EINVAL
        9   EROFS       EPERM
       10   EACCES      EPERM
       11   EDQUOT      ENOSPC
       12   EFBIG       ENOSPC
       13   ENOENT      EIO
       14   ETIMEDOUT   EIO
       15   ValueError  EIO

nbdkit.Error is one line in the server's log. Any other exception has its traceback there.
"""

import errno

import nbdkit

API_VERSION = 2
BLOCK = 4096

# What the blocks 1, 2, 3 … raise; block 15 raises something else.
FAULTS = [errno.EPERM, errno.EIO, errno.ENOMEM, errno.EINVAL, errno.ENOSPC, errno.ESHUTDOWN, errno.EOVERFLOW]
FAULTS += [errno.ENOTSUP, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOENT, errno.ETIMEDOUT]

disk = memoryview(bytearray(16 * BLOCK))

def open(readonly: bool) -> None:
    return None

def get_size(h: None) -> int:
    return len(disk)

def fail(count: int, offset: int) -> None:
    """Raise the error of the first block, after block 0, that a request touches."""
    first, last = max(1, offset // BLOCK), (offset + count - 1) // BLOCK
    if first > last:
        return
    if first > len(FAULTS):
        raise ValueError(f"block {first} fails on purpose")
    raise nbdkit.Error(FAULTS[first - 1], f"block {first} fails on purpose")

def pread(h: None, buf: memoryview, offset: int, flags: int) -> None:
    fail(len(buf), offset)
    buf[:] = disk[offset : offset + len(buf)]

def pwrite(h: None, buf: memoryview, offset: int, flags: int) -> None:
    fail(len(buf), offset)
    disk[offset : offset + len(buf)] = buf
