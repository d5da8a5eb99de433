# SPDX-License-Identifier: BSD-3-Clause
"""Remembers which blocks were written, so that an incremental backup reads only those.

    nbdkit --filter=python file disk.img translator=changed_blocks.py changed=FILE

The disk has a second export, `changed`: the same data, read-only, of which the block status tells what has been written
since FILE was new. Data: this block has changed; hole: it has not, and what reads there is not of interest:

    nbdinfo --map nbd://localhost/changed

To begin anew, after a backup, remove FILE while the disk is not served.
"""

import errno
import mmap

import nbdkit

BLOCK = 64 * 1024
path = None
marks = None  # a byte for each block, in the file: 1 if it has changed


def config(next, key, value):
    global path
    if key != "changed":
        return next.config(key, value)
    path = nbdkit.absolute_path(value)


def config_complete():
    if path is None:
        raise nbdkit.Error(errno.EINVAL, "changed=FILE is missing")


def list_exports(next, readonly, is_tls):
    return [*next.list_exports(), ("changed", "the blocks that have changed")]


def mark(count, offset):
    """Before the change, so that none is missed."""
    first, last = offset // BLOCK, (offset + count - 1) // BLOCK
    marks[first:last + 1] = b"\1" * (last + 1 - first)


@nbdkit.translator
class Tracked:
    def __init__(self, next, readonly, export_name, is_tls):
        self.changed = export_name == "changed"
        next.open(readonly=readonly or self.changed, export_name="" if self.changed else export_name)

    def prepare(self, next, readonly):
        global marks
        if marks is None:
            file = open(path, "a+b")
            file.truncate(-(-next.get_size() // BLOCK))
            marks = mmap.mmap(file.fileno(), 0)

    def pwrite(self, next, buf, offset, flags):
        """Zeros come this way too, since there is no zero here."""
        mark(len(buf), offset)
        next.pwrite(buf, offset, flags)

    def trim(self, next, count, offset, flags):
        mark(count, offset)
        next.trim(count, offset, flags)

    def can_extents(self, next):
        return True

    def extents(self, next, count, offset, flags):
        if not self.changed:
            return next.extents(count, offset, flags)
        return [(number * BLOCK, BLOCK, 0 if marks[number] else nbdkit.EXTENT_HOLE)
                for number in range(offset // BLOCK, (offset + count - 1) // BLOCK + 1)]
