# SPDX-License-Identifier: BSD-3-Clause
"""What a client does in the tests of all file operations, and the scripts through which it does it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from gluster_kit import Client

# Scripts that define all file operations, in four ways, and pass each on. They print each that comes.
DIRECT = """
    from glusterfs import FOPS, Translator

    class xlator(Translator):
        pass

    def define(name):
        def method(self, next, *arguments):
            print("came", name, flush=True)
            return getattr(next, name)(*arguments)
        setattr(xlator, name, method)

    for name in FOPS:
        define(name)
"""
ASYNC = DIRECT.replace("def method", "async def method").replace("return getattr", "return await getattr")
CALLBACKS = """
    from glusterfs import FOPS, Translator

    class xlator(Translator):
        pass

    def define(name):
        def fop(self, frame, this, *arguments):
            print("came", name, flush=True)
            getattr(self, f"wind_{name}")(frame, None, *arguments)
        def cbk(self, frame, cookie, this, op_ret, op_errno, *answer):
            getattr(self, f"unwind_{name}")(frame, cookie, this, op_ret, op_errno, *answer)
        setattr(xlator, f"{name}_fop", fop)
        setattr(xlator, f"{name}_cbk", cbk)

    for name in FOPS:
        define(name)
"""
ANSWERS = """
    from glusterfs import FOPS, Translator

    class xlator(Translator):
        pass

    def define(name):
        def cbk(self, frame, cookie, this, op_ret, op_errno, *answer):
            print("came", name, flush=True)
            getattr(self, f"unwind_{name}")(frame, cookie, this, op_ret, op_errno, *answer)
        setattr(xlator, f"{name}_cbk", cbk)

    for name in FOPS:
        define(name)
"""
WAYS = {"direct": DIRECT, "async": ASYNC, "callbacks": CALLBACKS, "answers": ANSWERS}


def run(client: Client) -> list[tuple[str, Any]]:
    """What a client can ask for, and what comes of it: results, or the errno of each error."""
    results: list[tuple[str, Any]] = []

    def step(name: str, function: Callable[[], Any]) -> Any:
        try:
            result = function()
        except OSError as error:
            results.append((name, f"errno {error.errno}"))
            return None
        # A number that stands for an open file differs each time.
        results.append((name, "open" if name.startswith(("open", "creat")) else result))
        return result

    fd = step("creat", lambda: client.creat("/a"))
    step("write", lambda: client.pwrite(fd, bytes(range(256)) * 300, 0))
    step("read", lambda: client.pread(fd, 1000, 5))
    step("read beyond", lambda: client.pread(fd, 1000, 1 << 20))
    step("fsync", lambda: client.fsync(fd))
    step("fstat", lambda: client.fstat(fd)["size"])
    step("ftruncate", lambda: client.ftruncate(fd, 70000))
    step("fallocate", lambda: client.of_fd("fallocate", fd, 0, 0, 80000))
    step("discard", lambda: client.of_fd("discard", fd, 4096, 4096))
    step("zerofill", lambda: client.of_fd("zerofill", fd, 0, 4096))
    step("after", lambda: client.pread(fd, 80000, 0))
    step("seek data", lambda: client.of_fd("lseek", fd, 0, os.SEEK_DATA))
    step("seek hole", lambda: client.of_fd("lseek", fd, 0, os.SEEK_HOLE))
    step("fsetxattr", lambda: client.of_fd("fsetxattr", fd, "user.f", b"v", 1, 0))
    step("fgetxattr", lambda: client.fgetxattr(fd, "user.f"))
    step("fremovexattr", lambda: client.of_fd("fremovexattr", fd, "user.f"))
    step("fchmod", lambda: client.of_fd("fchmod", fd, 0o600))
    step("lock", lambda: client.lock(fd, 6, 1, 0, 10))
    step("unlock", lambda: client.lock(fd, 6, 2, 0, 10))
    step("close", lambda: client.of_fd("close", fd))
    step("stat", lambda: {key: value for key, value in client.stat("/a").items() if key != "ino"})
    step("truncate", lambda: client.path("truncate", "/a", 10))
    step("chmod", lambda: client.path("chmod", "/a", 0o640))
    step("access", lambda: client.path("access", "/a", os.R_OK))
    step("setxattr", lambda: client.setxattr("/a", "user.key", b"\0\1value"))
    step("getxattr", lambda: client.getxattr("/a", "user.key"))
    step("removexattr", lambda: client.path("removexattr", "/a", "user.key"))
    step("getxattr missing", lambda: client.getxattr("/a", "user.key"))
    step("mkdir", lambda: client.path("mkdir", "/d", 0o755))
    step("mkdir again", lambda: client.path("mkdir", "/d", 0o755))
    step("mknod", lambda: client.path("mknod", "/d/fifo", 0o010644, 0))
    step("symlink", lambda: client.path("symlink", "a", "/s"))
    step("readlink", lambda: client.readlink("/s"))
    step("link", lambda: client.path("link", "/a", "/d/b"))
    step("rename", lambda: client.path("rename", "/d/b", "/d/c"))
    step("listdir", lambda: client.listdir("/d"))
    step("nlink", lambda: client.stat("/a")["nlink"])
    step("rmdir full", lambda: client.path("rmdir", "/d"))
    step("unlink", lambda: client.path("unlink", "/d/c"))
    step("unlink fifo", lambda: client.path("unlink", "/d/fifo"))
    step("rmdir", lambda: client.path("rmdir", "/d"))
    step("stat missing", lambda: client.stat("/d"))
    step("statvfs", lambda: client.statvfs("/"))
    step("open missing", lambda: client.open("/nothing"))
    fd = step("open", lambda: client.open("/a"))
    step("read again", lambda: client.pread(fd, 100, 0))
    step("close again", lambda: client.of_fd("close", fd))
    return results


# What of this arrives as a file operation on a brick.
REACHED = {
    "access", "create", "discard", "fallocate", "fgetxattr", "flush", "fremovexattr", "fsetattr", "fsetxattr", "fstat",
    "fsync", "ftruncate", "getxattr", "link", "lk", "lookup", "mkdir", "mknod", "open", "opendir", "readdir",
    "readlink", "readv", "removexattr", "rename", "rmdir", "seek", "setattr", "setxattr", "statfs", "symlink",
    "truncate", "unlink", "writev", "zerofill",
}
