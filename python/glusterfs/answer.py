# SPDX-License-Identifier: BSD-3-Clause
"""The answers of file operations: a named tuple for each, `answer.readv(data, buf, xdata)` and so on.

Their fields are those that GlusterFS answers the file operation with, and `ret`, the number that is its result where
the fields do not tell: the bytes written, say. An Iatt that is None is sent as zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from _glusterfs import FOPS

if TYPE_CHECKING:
    from _glusterfs import Attributes, Bytes, Dirent, Fd, Flock, Iatt, Inode, Lease, Locks, Statvfs


class stat(NamedTuple):
    buf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class readlink(NamedTuple):
    path: str | None = None
    buf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class mknod(NamedTuple):
    inode: Inode | None = None
    buf: Iatt | None = None
    preparent: Iatt | None = None
    postparent: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class mkdir(NamedTuple):
    inode: Inode | None = None
    buf: Iatt | None = None
    preparent: Iatt | None = None
    postparent: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class unlink(NamedTuple):
    preparent: Iatt | None = None
    postparent: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class rmdir(NamedTuple):
    preparent: Iatt | None = None
    postparent: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class symlink(NamedTuple):
    inode: Inode | None = None
    buf: Iatt | None = None
    preparent: Iatt | None = None
    postparent: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class rename(NamedTuple):
    buf: Iatt | None = None
    preoldparent: Iatt | None = None
    postoldparent: Iatt | None = None
    prenewparent: Iatt | None = None
    postnewparent: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class link(NamedTuple):
    inode: Inode | None = None
    buf: Iatt | None = None
    preparent: Iatt | None = None
    postparent: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class truncate(NamedTuple):
    prebuf: Iatt | None = None
    postbuf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class open(NamedTuple):
    fd: Fd | None = None
    xdata: Attributes = None
    ret: int | None = None


class readv(NamedTuple):
    data: Bytes | None = None
    buf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class writev(NamedTuple):
    prebuf: Iatt | None = None
    postbuf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class statfs(NamedTuple):
    buf: Statvfs | None = None
    xdata: Attributes = None
    ret: int | None = None


class flush(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class fsync(NamedTuple):
    prebuf: Iatt | None = None
    postbuf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class setxattr(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class getxattr(NamedTuple):
    dict: Attributes = None
    xdata: Attributes = None
    ret: int | None = None


class removexattr(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class opendir(NamedTuple):
    fd: Fd | None = None
    xdata: Attributes = None
    ret: int | None = None


class fsyncdir(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class access(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class create(NamedTuple):
    fd: Fd | None = None
    inode: Inode | None = None
    buf: Iatt | None = None
    preparent: Iatt | None = None
    postparent: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class ftruncate(NamedTuple):
    prebuf: Iatt | None = None
    postbuf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class fstat(NamedTuple):
    buf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class lk(NamedTuple):
    lock: Flock | None = None
    xdata: Attributes = None
    ret: int | None = None


class lookup(NamedTuple):
    inode: Inode | None = None
    buf: Iatt | None = None
    xdata: Attributes = None
    postparent: Iatt | None = None
    ret: int | None = None


class readdir(NamedTuple):
    entries: list[Dirent] | None = None
    xdata: Attributes = None
    ret: int | None = None


class inodelk(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class finodelk(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class entrylk(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class fentrylk(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class xattrop(NamedTuple):
    dict: Attributes = None
    xdata: Attributes = None
    ret: int | None = None


class fxattrop(NamedTuple):
    dict: Attributes = None
    xdata: Attributes = None
    ret: int | None = None


class fgetxattr(NamedTuple):
    dict: Attributes = None
    xdata: Attributes = None
    ret: int | None = None


class fsetxattr(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class rchecksum(NamedTuple):
    weak: int | None = None
    strong: bytes | None = None
    xdata: Attributes = None
    ret: int | None = None


class setattr(NamedTuple):
    prebuf: Iatt | None = None
    postbuf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class fsetattr(NamedTuple):
    prebuf: Iatt | None = None
    postbuf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class readdirp(NamedTuple):
    entries: list[Dirent] | None = None
    xdata: Attributes = None
    ret: int | None = None


class fremovexattr(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class fallocate(NamedTuple):
    prebuf: Iatt | None = None
    postbuf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class discard(NamedTuple):
    prebuf: Iatt | None = None
    postbuf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class zerofill(NamedTuple):
    prebuf: Iatt | None = None
    postbuf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class ipc(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class seek(NamedTuple):
    offset: int | None = None
    xdata: Attributes = None
    ret: int | None = None


class lease(NamedTuple):
    lease: Lease | None = None
    xdata: Attributes = None
    ret: int | None = None


class getactivelk(NamedTuple):
    locks: Locks | None = None
    xdata: Attributes = None
    ret: int | None = None


class setactivelk(NamedTuple):
    xdata: Attributes = None
    ret: int | None = None


class put(NamedTuple):
    inode: Inode | None = None
    buf: Iatt | None = None
    preparent: Iatt | None = None
    postparent: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class icreate(NamedTuple):
    inode: Inode | None = None
    buf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class namelink(NamedTuple):
    prebuf: Iatt | None = None
    postbuf: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


class copy_file_range(NamedTuple):
    buf: Iatt | None = None
    prebuf_dst: Iatt | None = None
    postbuf_dst: Iatt | None = None
    xdata: Attributes = None
    ret: int | None = None


# By the numbers that file operations have in the translator.
_TYPES = tuple(globals()[name] for name in FOPS)
