# SPDX-License-Identifier: BSD-3-Clause
"""Several disks on one server: each file in a folder is an export, by its name.

    nbdkit python exports.py folder=disks

A client asks for a list, then for a disk by its name; without a name it gets the first. Files may come and go while the
server runs. A client chooses the name, so it is not trusted: no name leads out of the folder.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterator

import nbdkit

API_VERSION = 2
folder = ""

def config(key: str, value: str) -> None:
    global folder
    if key != "folder":
        raise nbdkit.Error(errno.EINVAL, f"unknown parameter {key!r}: this disk has one, folder=PATH")
    folder = os.path.realpath(value)  # a server in the background changes to the folder "/"

def config_complete() -> None:
    if not os.path.isdir(folder):
        raise nbdkit.Error(errno.EINVAL, f"folder=PATH must be a folder, not {folder!r}")

def find(name: str) -> str | None:
    """The path of the file for an export; None if there is none."""
    if "/" in name or not name.isprintable():  # bytes that are not UTF-8 arrive as characters that are not printable
        return None
    path = os.path.realpath(os.path.join(folder, name))  # where it leads to, if it is a symbolic link
    return path if os.path.dirname(path) == folder and os.path.isfile(path) else None

def describe(about: os.stat_result) -> str:
    return f"{about.st_size} bytes, changed {time.strftime('%Y-%m-%d', time.gmtime(about.st_mtime))}"

def list_exports(readonly: bool, is_tls: bool) -> Iterator[tuple[str, str]]:
    """The names that a client may ask for, each with a description."""
    for name in sorted(os.listdir(folder)):
        if path := find(name):
            with contextlib.suppress(FileNotFoundError):  # deleted since find() looked
                yield name, describe(os.stat(path))

def default_export(readonly: bool, is_tls: bool) -> str:
    """The name for a client that gave none: the first in the list."""
    return next(list_exports(readonly, is_tls), ("", ""))[0]

def open(readonly: bool) -> int:
    name = nbdkit.export_name()
    if not (path := find(name)):
        raise nbdkit.Error(errno.ENOENT, f"there is no disk named {name!r}")
    return os.open(path, os.O_NOFOLLOW | (os.O_RDONLY if readonly else os.O_RDWR))  # not what has become a link since

def close(h: int) -> None:
    os.close(h)

def export_description(h: int) -> str:
    """For a client that already uses the disk."""
    return describe(os.fstat(h))

def get_size(h: int) -> int:
    return os.fstat(h).st_size

def pread(h: int, buf: memoryview, offset: int, flags: int) -> None:
    while buf:  # one preadv may read less than was asked for
        if not (done := os.preadv(h, [buf], offset)):
            raise nbdkit.Error(errno.EIO, f"the file ends at {offset}: it was made smaller while being served")
        buf, offset = buf[done:], offset + done

def pwrite(h: int, buf: memoryview, offset: int, flags: int) -> None:
    while buf:
        done = os.pwritev(h, [buf], offset)
        buf, offset = buf[done:], offset + done

def flush(h: int, flags: int) -> None:
    os.fdatasync(h)
