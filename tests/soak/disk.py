# SPDX-License-Identifier: BSD-3-Clause
"""The soak's disk: memory, a range where each request fails in its own way, and a place to read figures from.

SOAK_SHAPE in the environment says by which signatures it is called; layout.py has the offsets. Nothing in it grows:
whatever does is the server's doing. It runs on nbdkit's own Python plugin, too.
"""

import collections
import ctypes
import errno
import gc
import json
import os
import sys
import threading
import weakref

import layout
import nbdkit
from layout import FAULTS, FIGURES, LANE, SIZE

SHAPE = os.environ["SOAK_SHAPE"]
API_VERSION = 1 if SHAPE == "v1" else 2
DEPTH = 25  # frames of a deep traceback

disk = memoryview(bytearray(FAULTS)) if SHAPE == "v2-count" else bytearray(FAULTS)  # what is read: views or copies
lock = threading.Lock()
connections = 0
handles = weakref.WeakSet()
kept = collections.deque(maxlen=100)  # more than there are requests at a time, so that each keeps its own


class Handle:
    """What lasts as long as a connection; that it can be referred to weakly shows whether it is gone afterwards."""


def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL


def list_exports(readonly, is_tls):
    yield "main", "the only one"


def default_export(readonly, is_tls):
    return "main"


def open(readonly):
    global connections
    h = Handle()
    with lock:
        connections += 1
        handles.add(h)
    return h


def close(h):
    global connections
    with lock:
        connections -= 1


def get_size(h):
    return SIZE


def export_description(h):
    return "the soak's disk"


def block_size(h):
    return 1, 4096, 1 << 25


def can_multi_conn(h):
    return True


def can_fua(h):
    return nbdkit.FUA_EMULATE if SHAPE == "v1" else nbdkit.FUA_NATIVE


def can_cache(h):
    return nbdkit.CACHE_NATIVE


# The requests. Version 1 has no flags, hence flags=0.


def read(count, offset, buf):
    if offset < FAULTS:
        return disk[offset : offset + count]
    if offset == FIGURES:
        return json.dumps(figures()).encode().ljust(count, b"\0")
    return fail(offset, buf)


if SHAPE in ("v2-buf", layout.COROUTINES):

    def pread(h, buf, offset, flags):
        answer = read(len(buf), offset, buf)
        if len(answer) < len(buf):
            return answer
        buf[:] = answer

else:

    def pread(h, count, offset, flags=0):
        return read(count, offset, None)


def pwrite(h, buf, offset, flags=0):
    if offset >= FAULTS:
        fail(offset, buf)
    else:
        disk[offset : offset + len(buf)] = buf


def flush(h, flags=0):
    pass


def clear(count, offset):
    if offset >= FAULTS:
        fail(offset, None)
    disk[offset : offset + count] = bytes(count)


def trim(h, count, offset, flags=0):
    clear(count, offset)


def zero(h, count, offset, flags_or_may_trim):
    if count % 3 == 0:
        nbdkit.set_error(errno.EOPNOTSUPP)  # nbdkit writes zeros, then
    else:
        clear(count, offset)


def extents(h, count, offset, flags):
    return layout.extents(count, offset) if offset < FAULTS else fail(offset, None)


def cache(h, count, offset, flags):
    if offset >= FAULTS:
        fail(offset, None)


# The ways to fail.


def fail(offset, buf):
    """Fail as the offset says; where it is the answer that is wrong, that is returned."""
    return globals()["fail_" + layout.fault_at(offset)](buf)


def fail_error(buf):
    if hasattr(nbdkit, "Error"):
        raise nbdkit.Error(errno.ENOSPC, "no space is left, for example")
    nbdkit.set_error(errno.ENOSPC)
    raise RuntimeError("no space is left, for example")


def fail_os_error(buf):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/some/file")


def fail_deep(buf, depth=DEPTH):
    payload = bytes(LANE // DEPTH)  # what is lost with a frame is seen
    if depth > 0:
        fail_deep(buf, depth - 1)
    try:
        {}[depth]
    except KeyError as error:
        raise ValueError(f"{len(payload)} bytes and nothing to do with them") from error


def fail_cycle(buf):
    try:
        fail_deep(buf, 3)
    except ValueError as error:
        itself = error  # from its traceback to this frame, and from there back
        raise itself  # noqa: B904


def fail_wrong(buf):
    return b""


def fail_midway(buf):
    yield FAULTS, LANE, 0
    raise ValueError("no more of it")


def fail_kept(buf):
    kept.append(buf)
    return bytes(len(buf))


# The figures.


class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]


mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Mallinfo2


def figures():
    """What is in use, to the byte: unlike resident memory, free memory that an allocator holds back is not in it."""
    gc.collect()
    info = mallinfo2()
    return {
        "blocks": sys.getallocatedblocks(),  # Python's objects up to 512 bytes, which malloc knows nothing of
        "malloc": info.uordblks + info.hblkhd,
        "connections": connections,
        "handles": len(handles),
    }


if SHAPE == layout.COROUTINES:
    import asyncio

    def coroutine(callback):
        async def run(*arguments):
            await asyncio.sleep(0)
            return callback(*arguments)

        return run

    for name in "open close get_size pread pwrite flush trim zero extents cache".split():
        globals()[name] = coroutine(globals()[name])
