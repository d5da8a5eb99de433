# SPDX-License-Identifier: BSD-3-Clause
"""Keeps a checksum of each block that is written, and fails a read that does not match: bit rot is seen, not served.

    nbdkit --filter=python file disk.img translator=checksum.py sums=FILE

FILE has four bytes for each block of 4096. A block without a checksum, such as one from before, gets one when it is
written. After a crash, blocks that were being written may be refused until they are written anew.
"""

import errno
import mmap
import zlib

import nbdkit

BLOCK = 4096
path = None
sums = None  # all of them, in the file


def config(next, key, value):
    global path
    if key != "sums":
        return next.config(key, value)
    path = nbdkit.absolute_path(value)


def config_complete():
    if path is None:
        raise nbdkit.Error(errno.EINVAL, "sums=FILE is missing")


def thread_model():
    """A block and its checksum are two things: nobody is to see one changed without the other."""
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def prepare(h, next, readonly):
    global sums
    if sums is None:
        file = open(path, "a+b")
        file.truncate(-(-next.get_size() // BLOCK) * 4)
        sums = memoryview(mmap.mmap(file.fileno(), 0)).cast("I")


def blocks(next, count, offset):
    """The whole blocks that have this range in them, checked; and where they begin."""
    start = offset // BLOCK * BLOCK
    end = min(-(-(offset + count) // BLOCK) * BLOCK, next.get_size())
    data = next.pread(end - start, start)
    for at in range(0, len(data), BLOCK):
        known = sums[(start + at) // BLOCK]
        if known and known != checksum(data[at:at + BLOCK]):
            raise nbdkit.Error(errno.EIO, f"the block at {start + at} is not what was written: its checksum differs")
    return data, start


def checksum(block):
    return zlib.crc32(block) or 1  # 0 stands for none


def pread(h, next, buf, offset, flags):
    data, start = blocks(next, len(buf), offset)
    buf[:] = data[offset - start:offset - start + len(buf)]


def pwrite(h, next, buf, offset, flags):
    data, start = blocks(next, len(buf), offset)
    data[offset - start:offset - start + len(buf)] = buf
    next.pwrite(buf, offset, flags)
    for at in range(0, len(data), BLOCK):
        sums[(start + at) // BLOCK] = checksum(data[at:at + BLOCK])


def trim(h, next, count, offset, flags):
    """What is trimmed may read as anything."""
    next.trim(count, offset, flags)
    for number in range(offset // BLOCK, -(-(offset + count) // BLOCK)):
        sums[number] = 0
