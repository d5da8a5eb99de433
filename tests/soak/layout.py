# SPDX-License-Identifier: BSD-3-Clause
"""What the soak's disk and its client have to agree on: what is where, what fails, and what the client gets then."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

SHAPES = ["v1", "v2-count", "v2-buf"]
COROUTINES = "v2-async"  # as v2-buf

LANE = 65536  # bytes; each lane of the client's has its own, so that it knows what is in them
LANES = 64
FAULTS = LANES * LANE  # from here on, each request fails; which LANE it is in says how
FIGURES = FAULTS + 16 * LANE  # a read here is answered with figures of the server's process, as JSON
SIZE = FIGURES + LANE

FAULT = {  # and the errno that the client gets
    "error": errno.ENOSPC,  # nbdkit.Error
    "os_error": errno.EPERM,  # an OSError: EACCES
    "deep": errno.EIO,  # an exception with a cause, from many frames down
    "cycle": errno.EIO,  # one that refers to itself, by way of its traceback
    "wrong": errno.EIO,  # no exception, but an answer that is none
    "midway": errno.EIO,  # a generator raises after its first item
    "kept": errno.EIO,  # the request's buffer is still in use afterwards
}
FAULT_NAMES = list(FAULT)


def faults(operation: str, shape: str) -> list[str]:
    """In which ways a request can fail."""
    return ["error", "os_error", "deep", "cycle"] + {
        "pread": ["wrong", "kept"] if shape in ("v2-buf", COROUTINES) else ["wrong"],
        "pwrite": ["kept"],
        "extents": ["wrong", "midway"],
    }.get(operation, [])


def fault_at(offset: int) -> str:
    return FAULT_NAMES[(offset - FAULTS) // LANE]


def offset_of(fault: str) -> int:
    return FAULTS + FAULT_NAMES.index(fault) * LANE


def extents(count: int, offset: int) -> Iterator[tuple[int, int, int]]:
    """What the disk says of a range: a type for each block, unlike its neighbours'."""
    block = LANE // 4
    end = offset + count
    while offset < end:
        length = min(block - offset % block, end - offset)
        yield offset, length, offset // block % 4
        offset += length


def environment(shape: str) -> dict[str, str]:
    """What the disk needs beside what any server has: its shape, and this module."""
    return {"SOAK_SHAPE": shape, "PYTHONPATH": os.path.dirname(__file__)}
