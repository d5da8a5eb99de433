# SPDX-License-Identifier: BSD-3-Clause
"""Keeps what has been read of a slow disk in an SQLite file, and answers from there the next time.

    nbdkit --filter=python curl https://example.com/disk.img translator=copy_on_read.py cache=FILE

Writes go to the disk, and what was kept of their blocks is forgotten. FILE is good for the next start, too, if nobody
else has written to the disk. Without it, blocks are kept in memory.
"""

import sqlite3
import threading

import nbdkit

BLOCK = 64 * 1024
path = ":memory:"
database = None
lock = threading.RLock()  # a block that is read must not be kept when it has been written meanwhile


def config(next, key, value):
    global path
    if key != "cache":
        return next.config(key, value)
    path = nbdkit.absolute_path(value)


def after_fork(next):
    """Not before: SQLite's connections do not survive a fork."""
    global database
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("CREATE TABLE IF NOT EXISTS blocks (number INTEGER PRIMARY KEY, data BLOB)")


def unload():
    database.close()


def block(next, number):
    with lock:
        row = database.execute("SELECT data FROM blocks WHERE number = ?", (number,)).fetchone()
        if row:
            return row[0]
        at = number * BLOCK
        data = next.pread(min(BLOCK, next.get_size() - at), at)
        database.execute("INSERT INTO blocks VALUES (?, ?)", (number, data))
        return data


def forget(count, offset):
    database.execute("DELETE FROM blocks WHERE number BETWEEN ? AND ?",
                     (offset // BLOCK, (offset + count - 1) // BLOCK))


def pread(h, next, buf, offset, flags):
    done = 0
    while done < len(buf):
        number, skip = divmod(offset + done, BLOCK)
        part = block(next, number)[skip:skip + len(buf) - done]
        buf[done:done + len(part)] = part
        done += len(part)


def pwrite(h, next, buf, offset, flags):
    """Zeros come this way too, since there is no zero here."""
    with lock:
        forget(len(buf), offset)
        next.pwrite(buf, offset, flags)


def trim(h, next, count, offset, flags):
    with lock:
        forget(count, offset)
        next.trim(count, offset, flags)


def extents(h, next, count, offset, flags):
    """The data is what it is below."""
    return next.extents(count, offset, flags)
