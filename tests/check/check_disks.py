# SPDX-License-Identifier: BSD-3-Clause
"""Good disks: three that faults are planted in, and others that are unusual."""

from __future__ import annotations

# In memory; pages that are holes are known.
RAM = """
import os
import threading
import time

import nbdkit

API_VERSION = 2
PAGE = 4096
SIZE = 48 * PAGE + 1000
disk = bytearray(SIZE)
holes = set(range(-(-SIZE // PAGE)))


def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL


def open(readonly):
    return {}


def get_size(h):
    return SIZE


def can_multi_conn(h):
    return True


def touched(count, offset):
    return range(offset // PAGE, -(-(offset + count) // PAGE))


def whole(count, offset):
    return range(-(-offset // PAGE), (offset + count) // PAGE)


def pread(h, buf, offset, flags):
    buf[:] = disk[offset : offset + len(buf)]


def pwrite(h, buf, offset, flags):
    disk[offset : offset + len(buf)] = buf
    holes.difference_update(touched(len(buf), offset))


def flush(h, flags):
    pass


def zero(h, count, offset, flags):
    disk[offset : offset + count] = bytes(count)
    if flags & nbdkit.FLAG_MAY_TRIM:
        holes.update(whole(count, offset))


def trim(h, count, offset, flags):
    for page in whole(count, offset):
        disk[page * PAGE : page * PAGE + PAGE] = bytes(PAGE)
        holes.add(page)


def extents(h, count, offset, flags):
    for page in touched(count, offset):
        yield page * PAGE, PAGE, nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO if page in holes else 0


def cache(h, count, offset, flags):
    pass
"""

# In memory, and in a file from the next flush on: file=PATH.
FILE = """
import os

import nbdkit

API_VERSION = 2
SIZE = 256 * 1024
data = bytearray(SIZE)
dirty = set()
path = ""


def config(key, value):
    global path
    path = os.path.abspath(value)


def get_ready():
    if os.path.exists(path):
        with __builtins__.open(path, "rb") as file:
            data[:] = file.read().ljust(SIZE, b"\\0")
    else:
        with __builtins__.open(path, "wb") as file:
            file.truncate(SIZE)


def cleanup():
    write_back(0, SIZE)


def open(readonly):
    return os.open(path, os.O_RDWR)


def close(h):
    os.close(h)


def get_size(h):
    return SIZE


def can_fua(h):
    return nbdkit.FUA_NATIVE


def write_back(offset, end):
    file = os.open(path, os.O_RDWR)
    os.pwrite(file, data[offset:end], offset)
    os.close(file)


def done(offset, end, flags):
    if flags & nbdkit.FLAG_FUA:
        write_back(offset, end)


def pread(h, buf, offset, flags):
    buf[:] = data[offset : offset + len(buf)]


def pwrite(h, buf, offset, flags):
    data[offset : offset + len(buf)] = buf
    done(offset, offset + len(buf), flags)


def zero(h, count, offset, flags):
    data[offset : offset + count] = bytes(count)
    done(offset, offset + count, flags)


def flush(h, flags):
    write_back(0, SIZE)
"""

# The start of a disk of 8 GiB, of which only the pages are kept that have been written.
SPARSE = """
import nbdkit

API_VERSION = 2
PAGE = 4096
SIZE = 8 << 30
disk = {}


def open(readonly):
    return None


def get_size(h):
    return SIZE


def place(number):
    return number


def pread(h, buf, offset, flags):
    at = 0
    while at < len(buf):
        number, skip = divmod(offset + at, PAGE)
        part = disk.get(place(number), bytes(PAGE))[skip : skip + len(buf) - at]
        buf[at : at + len(part)] = part
        at += len(part)


def pwrite(h, buf, offset, flags):
    at = 0
    while at < len(buf):
        number, skip = divmod(offset + at, PAGE)
        part = buf[at : at + PAGE - skip]
        disk.setdefault(place(number), bytearray(PAGE))[skip : skip + len(part)] = part
        at += len(part)
"""

# Disks that are unusual, and right: text that is added to RAM or SPARSE.
ODD = {
    "blocks of 4096 bytes": RAM.replace("48 * PAGE + 1000", "48 * PAGE") + """
def block_size(h):
    return PAGE, PAGE, 64 * PAGE


def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


whole_only = {name: globals()[name] for name in ("pread", "pwrite", "zero", "trim", "extents")}


def checked(name):
    def call(h, range, offset, flags):
        count = range if isinstance(range, int) else len(range)
        if count % PAGE or offset % PAGE or count > 64 * PAGE:
            raise nbdkit.Error(22, f"not whole pages: {count}, {offset}")
        return whole_only[name](h, range, offset, flags)

    return call


pread, pwrite, zero, trim, extents = map(checked, whole_only)
""",
    "one client at a time": RAM + """
def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_CONNECTIONS
""",
    "reads that are stale until the next flush": RAM + """
connections = []


def open(readonly):
    connections.append({})
    return connections[-1]


def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def pread(h, buf, offset, flags):
    for page in touched(len(buf), offset):
        h.setdefault(page, disk[page * PAGE : page * PAGE + PAGE])
        start, end = max(offset, page * PAGE), min(offset + len(buf), page * PAGE + PAGE)
        buf[start - offset : end - offset] = h[page][start - page * PAGE : end - page * PAGE]


def pwrite(h, buf, offset, flags):
    h.clear()
    disk[offset : offset + len(buf)] = buf


def flush(h, flags):
    for cache in connections:
        cache.clear()


zero = trim = extents = None
""",
    "a trim leaves what it likes": RAM + """
def trim(h, count, offset, flags):
    disk[offset : offset + count] = os.urandom(count)
    holes.difference_update(touched(count, offset))
""",
    "zeros only as they suit": RAM + """
good = zero


def can_fast_zero(h):
    return True


def zero(h, count, offset, flags):
    if flags & nbdkit.FLAG_FAST_ZERO or offset % PAGE or count % PAGE:
        raise NotImplementedError
    good(h, count, offset, flags)
""",
    "only to be read": RAM + """
disk[:] = os.urandom(SIZE)
holes.clear()
pwrite = None
""",
    "one byte": RAM + "SIZE = 1\n",
    "4 PiB": SPARSE + "SIZE = 1 << 52\n",
}
