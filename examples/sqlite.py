# SPDX-License-Identifier: BSD-3-Clause
"""A disk whose blocks are rows in an SQLite file, still there after a restart.

    nbdkit python sqlite.py file=disk.db size=1G

What was never written, or was zeroed or discarded, takes no room: clients see a hole. A larger size makes a disk grow.
"""

import errno
import os
import sqlite3

import nbdkit

API_VERSION = 2
BLOCK = 4096  # bytes in a row
settings = {"file": "disk.db", "size": "1G"}
path, size = "", 0  # from config_complete on, what the settings say

def config(key: str, value: str) -> None:
    if key not in settings:
        raise ValueError(f"unknown parameter {key!r}: this disk has file=PATH and size=SIZE")
    settings[key] = value

def config_complete() -> None:
    global path, size
    path, size = os.path.abspath(settings["file"]), nbdkit.parse_size(settings["size"])  # a daemon changes to "/"
    open(readonly=False).close()  # a file that cannot be used stops the start

def open(readonly: bool) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False)  # nbdkit calls from several threads, but one at a time
    # With these settings each change has reached the disk underneath when the function that made it returns.
    db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE IF NOT EXISTS block (number INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    return db

def close(h: sqlite3.Connection) -> None:
    h.close()

def get_size(h: sqlite3.Connection) -> int:
    return size

def fetch(h: sqlite3.Connection, count: int, offset: int) -> bytearray:
    """The bytes of all blocks that a range touches: zeros where there is no row."""
    first, last = offset // BLOCK, (offset + count - 1) // BLOCK
    rows = dict(h.execute("SELECT number, data FROM block WHERE number BETWEEN ? AND ?", (first, last)))
    return bytearray().join(rows.get(number, bytes(BLOCK)) for number in range(first, last + 1))

def pread(h: sqlite3.Connection, buf: memoryview, offset: int, flags: int) -> None:
    buf[:] = fetch(h, len(buf), offset)[offset % BLOCK :][: len(buf)]

def pwrite(h: sqlite3.Connection, buf: memoryview, offset: int, flags: int) -> None:
    data = fetch(h, len(buf), offset)  # what is around the range is written back as it was
    data[offset % BLOCK : offset % BLOCK + len(buf)] = buf
    blocks = (data[start : start + BLOCK] for start in range(0, len(data), BLOCK))
    with h:  # one transaction
        h.executemany("REPLACE INTO block VALUES (?, ?)", enumerate(blocks, offset // BLOCK))

def flush(h: sqlite3.Connection, flags: int) -> None:
    pass  # all changes are on the disk already; that this function is there tells clients that they can rely on it

def trim(h: sqlite3.Connection, count: int, offset: int, flags: int) -> None:
    first, end = -(-offset // BLOCK), (offset + count) // BLOCK  # rounded up and down: only whole blocks are forgotten
    with h:
        h.execute("DELETE FROM block WHERE number >= ? AND number < ?", (first, end))

def zero(h: sqlite3.Connection, count: int, offset: int, flags: int) -> None:
    if offset % BLOCK == count % BLOCK == 0:
        trim(h, count, offset, flags)
    else:
        nbdkit.set_error(errno.EOPNOTSUPP)  # not a failure: nbdkit calls pwrite with zeros instead

def extents(h: sqlite3.Connection, count: int, offset: int, flags: int):
    """What is data and what a hole in this range? Yields (offset, length, type), each from where the last one ended."""
    block, end, hole = offset // BLOCK, -(-(offset + count) // BLOCK), nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO
    for (found,) in h.execute("SELECT number FROM block WHERE number >= ? AND number < ? ORDER BY 1", (block, end)):
        yield block * BLOCK, (found - block) * BLOCK, hole  # none, if there is no gap
        yield found * BLOCK, BLOCK, 0
        block = found + 1
    yield block * BLOCK, (end - block) * BLOCK, hole
