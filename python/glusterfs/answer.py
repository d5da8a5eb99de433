# SPDX-License-Identifier: BSD-3-Clause
"""The answers of file operations: a named tuple for each, `answer.readv(data, buf, xdata)` and so on.

Their fields are those that GlusterFS answers the file operation with, and `ret`, the number that is its result where
the fields do not tell: the bytes written, say. All are None by default; an Iatt that is None is sent as zeros.
"""

from collections import namedtuple
from typing import Any

from _glusterfs import FOPS

_TYPES = tuple(
    namedtuple(name, (*fields, "ret"), defaults=(None,) * (len(fields) + 1))  # type: ignore[misc]
    for name, (_, fields) in FOPS.items()
)
globals().update(zip(FOPS, _TYPES))


def __getattr__(name: str) -> Any:
    raise AttributeError(f"glusterfs.answer: {name} is not a file operation of GlusterFS", name=name)
