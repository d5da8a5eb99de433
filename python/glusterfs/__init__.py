# SPDX-License-Identifier: BSD-3-Clause
"""What the script of a GlusterFS translator imports: `Translator`, `Error`, and the types of what comes and goes.

It works inside GlusterFS only, in a graph that has the translator python.so: the built-in module `_glusterfs` is there.
"""

import os
import re
from collections.abc import MutableMapping

from _glusterfs import (
    ENTRYLK_LOCK,
    ENTRYLK_LOCK_NB,
    ENTRYLK_RDLCK,
    ENTRYLK_UNLOCK,
    ENTRYLK_WRLCK,
    FOPS,
    GF_SEEK_DATA,
    GF_SEEK_HOLE,
    GF_SET_ATTR_ATIME,
    GF_SET_ATTR_CTIME,
    GF_SET_ATTR_GID,
    GF_SET_ATTR_MODE,
    GF_SET_ATTR_MTIME,
    GF_SET_ATTR_SIZE,
    GF_SET_ATTR_UID,
    GF_XATTROP_ADD_ARRAY,
    GF_XATTROP_ADD_ARRAY64,
    GF_XATTROP_ADD_ARRAY64_WITH_DEFAULT,
    GF_XATTROP_ADD_ARRAY_WITH_DEFAULT,
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
    "GF_SET_ATTR_ATIME",
    "GF_SET_ATTR_CTIME",
    "GF_SET_ATTR_GID",
    "GF_SET_ATTR_MODE",
    "GF_SET_ATTR_MTIME",
    "GF_SET_ATTR_SIZE",
    "GF_SET_ATTR_UID",
    "GF_XATTROP_ADD_ARRAY",
    "GF_XATTROP_ADD_ARRAY64",
    "GF_XATTROP_ADD_ARRAY64_WITH_DEFAULT",
    "GF_XATTROP_ADD_ARRAY_WITH_DEFAULT",
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
    "Gfid",
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


# What all mappings have beside what is made in C++.
MutableMapping.register(Dict)
for _name in ("__eq__", "pop", "popitem", "clear", "update", "setdefault"):
    setattr(Dict, _name, getattr(MutableMapping, _name))


class Gfid(str):
    """What a file, folder or other is known by in the whole volume: a str as 01234567-89ab-cdef-0123-456789abcdef.

    Dicts have gfids in a form of their own: a Gfid is stored in that, which any other str is not.

    text: also a uuid.UUID. Raises ValueError for what is no gfid.
    """

    __slots__ = ()

    def __new__(cls, text: object) -> "Gfid":
        if not re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", str(text)):
            raise ValueError(f"glusterfs.Gfid: expected a str as 01234567-89ab-cdef-0123-456789abcdef, got {text!r}")
        return super().__new__(cls, text)


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
