# SPDX-License-Identifier: BSD-3-Clause
"""A translator that finds what a disk has changed by itself: a checksum for each 4 KiB of each file's data.

    volume checksum
      type user/python
      option script examples/gluster/checksum.py
      subvolumes posix
    end-volume

A read of data that are not those that were written fails with EIO, so that a replicated volume takes them from another
brick. The checksums of each MiB are an extended attribute of the file. What changes data in other ways than by a write
takes them away, and data without are not looked at.
"""

import array
import errno
import os
import threading
import zlib

from glusterfs import Error, Translator

BLOCK, GROUP = 4096, 256  # bytes; blocks in one attribute
UNKNOWN = 0


def checksum(block):
    return zlib.crc32(block) or 1


class xlator(Translator):
    guard = threading.Lock()

    def lock(self, inode):
        """The file's lock: a write and its checksums are one."""
        with self.guard:
            if inode.ctx is None:
                inode.ctx = threading.Lock()
            return inode.ctx

    def load(self, next, fd, group):
        """The checksums of these 256 blocks."""
        key = f"trusted.checksum.{group}"
        try:
            return array.array("I", next.fgetxattr(fd, key).dict[key])
        except Error as error:
            if error.errno != errno.ENODATA:
                raise
            return array.array("I", [UNKNOWN] * GROUP)

    def writev(self, next, fd, data, offset, flags, xdata):
        with self.lock(fd.inode):
            reply = next.writev(fd, data, offset, flags, xdata)
            if fd.flags & os.O_APPEND:
                offset = reply.prebuf.size
            first, last = offset // BLOCK, (offset + len(data) - 1) // BLOCK
            # What stood beyond the end before is zeros now, and the block that was the last one is another.
            if offset > reply.prebuf.size:
                first = reply.prebuf.size // BLOCK
            for group in range(first // GROUP, last // GROUP + 1):
                sums = self.load(next, fd, group)
                for block in range(max(first, group * GROUP), min(last, group * GROUP + GROUP - 1) + 1):
                    sums[block % GROUP] = checksum(next.readv(fd, BLOCK, block * BLOCK, 0).data)
                next.fsetxattr(fd, {f"trusted.checksum.{group}": sums.tobytes()}, 0)
            return reply

    def readv(self, next, fd, size, offset, flags, xdata):
        start = offset - offset % BLOCK
        end = -(-(offset + size) // BLOCK) * BLOCK
        with self.lock(fd.inode):
            reply = next.readv(fd, end - start, start, flags, xdata)
            data = memoryview(reply.data)
            sums, loaded = array.array("I"), -1
            for at in range(0, len(data), BLOCK):
                block = (start + at) // BLOCK
                if block // GROUP != loaded:
                    loaded = block // GROUP
                    sums = self.load(next, fd, loaded)
                if sums[block % GROUP] not in (UNKNOWN, checksum(data[at:at + BLOCK])):
                    print(f"{fd.inode.gfid}: byte {start + at}: these data are not what was written", flush=True)
                    raise Error(errno.EIO)
        return reply._replace(data=data[offset - start:offset - start + size])

    def open(self, next, loc, flags, fd, xdata):
        return next.open(loc, readable(flags), fd, xdata)

    def create(self, next, loc, flags, mode, umask, fd, xdata):
        return next.create(loc, readable(flags), mode, umask, fd, xdata)

    def forget(self, target, get, remove):
        for key in get(target, None).dict or ():
            if key.startswith("trusted.checksum."):
                remove(target, key)

    def truncate(self, next, loc, *rest):
        with self.lock(loc.inode):
            self.forget(loc, next.getxattr, next.removexattr)
            return next.truncate(loc, *rest)

    def copy_file_range(self, next, fd_in, off_in, fd_out, *rest):
        with self.lock(fd_out.inode):
            self.forget(fd_out, next.fgetxattr, next.fremovexattr)
            return next.copy_file_range(fd_in, off_in, fd_out, *rest)


def readable(flags):
    """To be able to read what is around a write."""
    return flags & ~os.O_ACCMODE | os.O_RDWR if flags & os.O_ACCMODE == os.O_WRONLY else flags


def changes_data(fop):
    def method(self, next, fd, *rest):
        with self.lock(fd.inode):
            self.forget(fd, next.fgetxattr, next.fremovexattr)
            return getattr(next, fop)(fd, *rest)

    return method


for name in ("ftruncate", "fallocate", "discard", "zerofill"):
    setattr(xlator, name, changes_data(name))
