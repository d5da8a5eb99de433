# SPDX-License-Identifier: BSD-3-Clause
"""What the script of a GlusterFS translator imports: `Translator`, `Error`, and the types of what comes and goes.

It works inside GlusterFS only, in a graph that has the translator python.so: the built-in module `_glusterfs` is there.
"""

import os

from _glusterfs import (
    ENTRYLK_LOCK,
    ENTRYLK_LOCK_NB,
    ENTRYLK_RDLCK,
    ENTRYLK_UNLOCK,
    ENTRYLK_WRLCK,
    FOPS,
    GF_SEEK_DATA,
    GF_SEEK_HOLE,
    GF_XATTROP_ADD_ARRAY,
    GF_XATTROP_ADD_ARRAY64,
    GF_XATTROP_AND_ARRAY,
    GF_XATTROP_GET_AND_SET,
    GF_XATTROP_OR_ARRAY,
    IA_IFBLK,
    IA_IFCHR,
    IA_IFDIR,
    IA_IFIFO,
    IA_IFLNK,
    IA_IFREG,
    IA_IFSOCK,
    IA_INVAL,
    AsyncNext,
    Child,
    Data,
    Dict,
    Dirent,
    Fd,
    Flock,
    Frame,
    Iatt,
    Inode,
    Lease,
    Loc,
    Locks,
    Next,
    Statvfs,
)

from . import answer
from ._translator import Translator

__all__ = [
    "ENTRYLK_LOCK",
    "ENTRYLK_LOCK_NB",
    "ENTRYLK_RDLCK",
    "ENTRYLK_UNLOCK",
    "ENTRYLK_WRLCK",
    "FOPS",
    "GF_SEEK_DATA",
    "GF_SEEK_HOLE",
    "GF_XATTROP_ADD_ARRAY",
    "GF_XATTROP_ADD_ARRAY64",
    "GF_XATTROP_AND_ARRAY",
    "GF_XATTROP_GET_AND_SET",
    "GF_XATTROP_OR_ARRAY",
    "IA_IFBLK",
    "IA_IFCHR",
    "IA_IFDIR",
    "IA_IFIFO",
    "IA_IFLNK",
    "IA_IFREG",
    "IA_IFSOCK",
    "IA_INVAL",
    "AsyncNext",
    "Child",
    "Data",
    "Dict",
    "Dirent",
    "Error",
    "Expired",
    "Fd",
    "Flock",
    "Frame",
    "Iatt",
    "Inode",
    "Lease",
    "Loc",
    "Locks",
    "Next",
    "Statvfs",
    "Translator",
    "answer",
]


class Error(OSError):
    """An answer that is an error: raised by `next`, or by a script that means it. It is not logged.

    errno: a positive error number, such as errno.ENOENT.
    message: Default: the system's text for errno.
    answer: what goes to the parent beside errno, of the type glusterfs.answer has for the file operation; from `next`,
        what the child has answered. Default: None, nothing.

    Raises TypeError or ValueError for an errno that is not an int above 0.
    """

    def __init__(self, errno: int, message: str | None = None, answer: object = None) -> None:
        if not isinstance(errno, int) or isinstance(errno, bool):
            raise TypeError(f"glusterfs.Error: errno: expected an int such as errno.ENOENT, got {errno!r}")
        if not 0 < errno < 4096:
            raise ValueError(f"glusterfs.Error: errno: expected an error number such as errno.ENOENT, got {errno}")
        super().__init__(errno, os.strerror(errno) if message is None else message)
        self.answer = answer


class Expired(RuntimeError):
    """What was used belongs to a request that has been answered, or the request itself has been."""
