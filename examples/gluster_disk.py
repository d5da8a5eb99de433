# SPDX-License-Identifier: BSD-3-Clause
"""A disk whose data are a file on a GlusterFS volume: on a replicated one, it lives on when a brick dies.

    nbdkit python gluster_disk.py volume=VOLUME server=HOST file=/disk.img [size=10G]
    nbdkit python gluster_disk.py volfile=client.vol file=/disk.img [size=10G]

It talks to the bricks itself, through GlusterFS's library libgfapi: nothing is mounted. With size, a file that is not
there is made, and one that is shorter gets longer. libgfapi logs to standard error what it has to say.
"""

import ctypes
import errno
import os
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_ssize_t, c_void_p

import nbdkit

API_VERSION = 2
settings = {"volume": "", "server": "", "volfile": "", "file": "", "size": ""}
fs, fd = None, None  # from after_fork on: the volume and the file

def library():
    """libgfapi's functions. Each tells of an error by -1 or a null pointer, and errno."""
    gfapi = ctypes.CDLL("libgfapi.so.0", use_errno=True)
    stat = c_void_p  # of the file before and after, which nobody here wants: null
    for name, result, *arguments in (
        ("new", c_void_p, c_char_p),
        ("set_volfile", c_int, c_void_p, c_char_p),
        ("set_volfile_server", c_int, c_void_p, c_char_p, c_char_p, c_int),
        ("set_logging", c_int, c_void_p, c_char_p, c_int),
        ("init", c_int, c_void_p),
        ("creat", c_void_p, c_void_p, c_char_p, c_int, c_int),
        ("open", c_void_p, c_void_p, c_char_p, c_int),
        ("close", c_int, c_void_p),
        ("lseek", c_int64, c_void_p, c_int64, c_int),
        ("ftruncate", c_int, c_void_p, c_int64, stat, stat),
        ("pread", c_ssize_t, c_void_p, c_void_p, c_size_t, c_int64, c_int, stat),
        ("pwrite", c_ssize_t, c_void_p, c_char_p, c_size_t, c_int64, c_int, stat, stat),
        ("fsync", c_int, c_void_p, stat, stat),
        ("discard", c_int, c_void_p, c_int64, c_size_t),
        ("zerofill", c_int, c_void_p, c_int64, c_int64),
    ):
        function = getattr(gfapi, f"glfs_{name}")
        function.restype, function.argtypes = result, arguments
    return gfapi

gfapi = library()

def call(name, *arguments):
    """A function of libgfapi: its result, or an OSError."""
    result = getattr(gfapi, f"glfs_{name}")(*arguments)
    if result is None or result == -1:
        number = ctypes.get_errno() or errno.EIO
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result

def config(key: str, value: str) -> None:
    if key not in settings:
        raise nbdkit.Error(errno.EINVAL, f"unknown parameter {key!r}: this disk has {', '.join(settings)}")
    settings[key] = nbdkit.absolute_path(value) if key == "volfile" else value

def config_complete() -> None:
    if not settings["file"] or bool(settings["volfile"]) == bool(settings["volume"] and settings["server"]):
        raise nbdkit.Error(errno.EINVAL, "expected file=PATH, and volume=NAME with server=HOST or else volfile=FILE")

def after_fork() -> None:
    """libgfapi has threads of its own, which would not survive the server's going into the background."""
    global fs, fd
    fs = call("new", (settings["volume"] or "volume").encode())
    call("set_logging", fs, b"/dev/stderr", 4)  # errors
    if settings["volfile"]:
        call("set_volfile", fs, settings["volfile"].encode())
    else:
        call("set_volfile_server", fs, b"tcp", settings["server"].encode(), 24007)
    call("init", fs)
    path = settings["file"].encode()
    try:
        fd = call("open", fs, path, os.O_RDWR)
    except FileNotFoundError:
        if not settings["size"]:
            raise
        fd = call("creat", fs, path, os.O_RDWR, 0o600)
    if settings["size"] and nbdkit.parse_size(settings["size"]) > get_size(None):
        call("ftruncate", fd, nbdkit.parse_size(settings["size"]), None, None)

def thread_model() -> int:
    return nbdkit.THREAD_MODEL_PARALLEL  # while libgfapi waits for a brick, other requests go on

def open(readonly: bool) -> None:
    return None  # all clients share the file

def get_size(h: None) -> int:
    return call("lseek", fd, 0, os.SEEK_END)

def can_multi_conn(h: None) -> bool:
    return True  # they share the open file, so that one's flush is for all

def can_fua(h: None) -> int:
    return nbdkit.FUA_EMULATE

def pread(h: None, buf: memoryview, offset: int, flags: int) -> None:
    done = 0
    while done < len(buf):
        rest = (ctypes.c_char * (len(buf) - done)).from_buffer(buf, done)
        count = call("pread", fd, rest, len(rest), offset + done, 0, None)
        if count == 0:
            raise nbdkit.Error(errno.EIO, f"the file ends at {offset + done}: something else has made it shorter")
        done += count

def pwrite(h: None, buf: memoryview, offset: int, flags: int) -> None:
    data, done = bytes(buf), 0
    while done < len(data):
        done += call("pwrite", fd, data[done:], len(data) - done, offset + done, 0, None, None)

def flush(h: None, flags: int) -> None:
    call("fsync", fd, None, None)

def trim(h: None, count: int, offset: int, flags: int) -> None:
    call("discard", fd, offset, count)

def zero(h: None, count: int, offset: int, flags: int) -> None:
    call("zerofill", fd, offset, count)

def cleanup() -> None:
    if fd is not None:
        call("close", fd)
