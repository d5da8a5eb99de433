# SPDX-License-Identifier: BSD-3-Clause
"""A client of GlusterFS in a process of its own: libgfapi by ctypes, told what to do by pickles on its standard input.

    gluster_gfapi.py VOLFILE LOG
    gluster_gfapi.py HOST:VOLUME LOG

It is a process of its own since libgfapi keeps threads, and takes ten seconds to end: this one is killed.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_size_t, c_ssize_t, c_uint, c_void_p
from typing import Any

Offset = ctypes.c_int64


class Flock(ctypes.Structure):
    _fields_ = [("type", ctypes.c_short), ("whence", ctypes.c_short), ("start", Offset), ("length", Offset),
                ("pid", c_int)]


class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("offset", Offset), ("length", ctypes.c_ushort), ("type", ctypes.c_ubyte),
                ("name", ctypes.c_char * 256)]


class Stat(ctypes.Structure):
    _fields_ = [("dev", ctypes.c_uint64), ("ino", ctypes.c_uint64), ("nlink", ctypes.c_uint64), ("mode", c_uint),
                ("uid", c_uint), ("gid", c_uint), ("pad", c_int), ("rdev", ctypes.c_uint64), ("size", Offset),
                ("blksize", c_long), ("blocks", Offset), ("times", c_long * 6), ("rest", c_long * 3)]


def _library() -> Any:
    library = ctypes.CDLL("libgfapi.so.0", use_errno=True)
    fd, path = c_void_p, c_char_p

    # The functions that tell more than those of old have versions of their own: those of old are enough.
    def declare(name: str, result: Any, *arguments: Any) -> None:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments

    declare("glfs_new", c_void_p, path)
    declare("glfs_set_volfile", c_int, c_void_p, path)
    declare("glfs_set_volfile_server", c_int, c_void_p, path, path, c_int)
    declare("glfs_set_logging", c_int, c_void_p, path, c_int)
    declare("glfs_init", c_int, c_void_p)
    declare("glfs_creat", fd, c_void_p, path, c_int, c_uint)
    declare("glfs_open", fd, c_void_p, path, c_int)
    declare("glfs_opendir", fd, c_void_p, path)
    declare("glfs_readdir_r", c_int, fd, POINTER(Dirent), POINTER(POINTER(Dirent)))
    for name in ("glfs_close", "glfs_closedir"):
        declare(name, c_int, fd)
    declare("glfs_lseek", Offset, fd, Offset, c_int)
    declare("glfs_fallocate", c_int, fd, c_int, Offset, c_size_t)
    declare("glfs_discard", c_int, fd, Offset, c_size_t)
    declare("glfs_zerofill", c_int, fd, Offset, Offset)
    declare("glfs_posix_lock", c_int, fd, c_int, POINTER(Flock))
    for name in ("glfs_stat", "glfs_lstat"):
        declare(name, c_int, c_void_p, path, POINTER(Stat))
    declare("glfs_fstat", c_int, fd, POINTER(Stat))
    declare("glfs_statvfs", c_int, c_void_p, path, c_void_p)
    for name in ("glfs_unlink", "glfs_rmdir"):
        declare(name, c_int, c_void_p, path)
    for name in ("glfs_mkdir", "glfs_chmod"):
        declare(name, c_int, c_void_p, path, c_uint)
    declare("glfs_access", c_int, c_void_p, path, c_int)
    declare("glfs_truncate", c_int, c_void_p, path, Offset)
    declare("glfs_mknod", c_int, c_void_p, path, c_uint, ctypes.c_uint64)
    for name in ("glfs_rename", "glfs_link", "glfs_symlink"):
        declare(name, c_int, c_void_p, path, path)
    declare("glfs_readlink", c_int, c_void_p, path, c_char_p, c_size_t)
    declare("glfs_setxattr", c_int, c_void_p, path, path, c_void_p, c_size_t, c_int)
    declare("glfs_fsetxattr", c_int, fd, path, c_void_p, c_size_t, c_int)
    declare("glfs_getxattr", c_ssize_t, c_void_p, path, path, c_void_p, c_size_t)
    declare("glfs_fgetxattr", c_ssize_t, fd, path, c_void_p, c_size_t)
    declare("glfs_listxattr", c_ssize_t, c_void_p, path, c_void_p, c_size_t)
    declare("glfs_removexattr", c_int, c_void_p, path, path)
    declare("glfs_fremovexattr", c_int, fd, path)
    declare("glfs_fchmod", c_int, fd, c_uint)
    return library


class Volume:
    """What a test calls, over a pipe: the names are POSIX's. An error is an OSError."""

    def __init__(self, volfile: str, log: str) -> None:
        self.lib = _library()
        # Their versions differ in arguments, of which ctypes would get the newest.
        handle = self.lib._handle
        dlvsym = ctypes.CDLL(None).dlvsym
        dlvsym.restype, dlvsym.argtypes = c_void_p, (c_void_p, c_char_p, c_char_p)

        def old(name: str, result: Any, *arguments: Any) -> Any:
            address = dlvsym(handle, name.encode(), b"GFAPI_3.4.0") or dlvsym(handle, name.encode(), b"GFAPI_3.5.0")
            return ctypes.CFUNCTYPE(result, *arguments, use_errno=True)(address)

        self._pread = old("glfs_pread", c_ssize_t, c_void_p, c_char_p, c_size_t, Offset, c_int)
        self._pwrite = old("glfs_pwrite", c_ssize_t, c_void_p, c_char_p, c_size_t, Offset, c_int)
        self._fsync = old("glfs_fsync", c_int, c_void_p)
        self._ftruncate = old("glfs_ftruncate", c_int, c_void_p, Offset)
        host, colon, volume = volfile.partition(":")
        self.fs = self.lib.glfs_new((volume or "test").encode())
        self.lib.glfs_set_logging(self.fs, log.encode(), 4)
        if colon:
            failed = self.lib.glfs_set_volfile_server(self.fs, b"tcp", host.encode(), 24007)
        else:
            failed = self.lib.glfs_set_volfile(self.fs, volfile.encode())
        if failed or self.lib.glfs_init(self.fs):
            raise OSError(ctypes.get_errno(), "cannot reach the volume")

    @staticmethod
    def _good(result: Any) -> Any:
        if result is None or result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    def path(self, name: str, path: str, *arguments: Any) -> int:
        """A function of a path whose result is a number: path("mkdir", "/a", 0o755)."""
        encoded = (item.encode() if isinstance(item, str) else item for item in arguments)
        return int(self._good(getattr(self.lib, f"glfs_{name}")(self.fs, os.fsencode(path), *encoded)))

    def of_fd(self, name: str, fd: int, *arguments: Any) -> int:
        """A function of an open file whose result is a number: of_fd("zerofill", fd, 0, 10)."""
        encoded = (item.encode() if isinstance(item, str) else item for item in arguments)
        return int(self._good(getattr(self.lib, f"glfs_{name}")(fd, *encoded)))

    def creat(self, path: str) -> int:
        return int(self._good(self.lib.glfs_creat(self.fs, path.encode(), os.O_RDWR, 0o644)))

    def open(self, path: str, flags: int = os.O_RDWR) -> int:
        return int(self._good(self.lib.glfs_open(self.fs, path.encode(), flags)))

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        count = self._good(self._pread(fd, buffer, size, offset, 0))
        return buffer.raw[:count]

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return int(self._good(self._pwrite(fd, data, len(data), offset, 0)))

    def fsync(self, fd: int) -> int:
        return int(self._good(self._fsync(fd)))

    def ftruncate(self, fd: int, size: int) -> int:
        return int(self._good(self._ftruncate(fd, size)))

    def stat(self, path: str) -> dict[str, int]:
        stat = Stat()
        self._good(self.lib.glfs_stat(self.fs, path.encode(), byref(stat)))
        return {"size": stat.size, "mode": stat.mode, "nlink": stat.nlink, "ino": stat.ino}

    def fstat(self, fd: int) -> dict[str, int]:
        stat = Stat()
        self._good(self.lib.glfs_fstat(fd, byref(stat)))
        return {"size": stat.size, "mode": stat.mode, "nlink": stat.nlink, "ino": stat.ino}

    def listdir(self, path: str) -> list[str]:
        fd = self._good(self.lib.glfs_opendir(self.fs, path.encode()))
        names = []
        entry, found = Dirent(), POINTER(Dirent)()
        while self._good(self.lib.glfs_readdir_r(fd, byref(entry), byref(found))) == 0 and found:
            names.append(entry.name.decode())
        self.lib.glfs_closedir(fd)
        return sorted(names)

    def readlink(self, path: str) -> str:
        buffer = ctypes.create_string_buffer(4096)
        size = self._good(self.lib.glfs_readlink(self.fs, path.encode(), buffer, 4096))
        return buffer.raw[:size].decode()

    def getxattr(self, path: str, name: str) -> bytes:
        buffer = ctypes.create_string_buffer(65536)
        size = self._good(self.lib.glfs_getxattr(self.fs, path.encode(), name.encode(), buffer, 65536))
        return buffer.raw[:size]

    def fgetxattr(self, fd: int, name: str) -> bytes:
        buffer = ctypes.create_string_buffer(65536)
        size = self._good(self.lib.glfs_fgetxattr(fd, name.encode(), buffer, 65536))
        return buffer.raw[:size]

    def setxattr(self, path: str, name: str, value: bytes) -> int:
        return self.path("setxattr", path, name, value, len(value), 0)

    def statvfs(self, path: str) -> int:
        buffer = ctypes.create_string_buffer(256)
        self._good(self.lib.glfs_statvfs(self.fs, path.encode(), buffer))
        return int.from_bytes(buffer.raw[:8], "little")

    def lock(self, fd: int, cmd: int, kind: int, start: int, length: int) -> int:
        """The type that the lock has afterwards, as fcntl(2) has it."""
        flock = Flock(kind, os.SEEK_SET, start, length, 0)
        self._good(self.lib.glfs_posix_lock(fd, cmd, byref(flock)))
        return int(flock.type)

    def many(self, name: str, count: int, *arguments: Any) -> float:
        """Call a method so many times, and tell how many seconds it took."""
        method = getattr(self, name)
        start = time.monotonic()
        for _ in range(count):
            try:
                method(*arguments)
            except OSError:
                pass
        return time.monotonic() - start

    def at_once(self, calls: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """These calls, each in a thread of its own: results, or the exceptions."""
        with ThreadPoolExecutor(len(calls)) as pool:
            futures = [pool.submit(getattr(self, name), *arguments) for name, arguments in calls]
            return [future.exception() or future.result() for future in futures]


def main(volfile: str, log: str) -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def answer(value: object) -> None:
        pickle.dump(value, out)
        out.flush()

    try:
        volume = Volume(volfile, log)
    except OSError as error:
        answer(error)
        return
    answer(None)
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            os._exit(0)
        try:
            answer(getattr(volume, name)(*arguments))
        except Exception as error:
            answer(error)


if __name__ == "__main__":
    main(*sys.argv[1:])
