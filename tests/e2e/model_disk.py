# SPDX-License-Identifier: BSD-3-Clause
"""The disk behind the scripts of test_model.py, in nbdkit's process: pages that are data, zeros or holes, in memory.

What has been flushed, and what the client wants cached, is kept apart: a connection to the export `control` reads all
of it at once, and has the disk start anew when it writes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from threading import Lock

import nbdkit
from model_faults import fault

PAGE = 4096
DATA, ZERO, HOLE = 0, nbdkit.EXTENT_ZERO, nbdkit.EXTENT_ZERO | nbdkit.EXTENT_HOLE
SMALL = 512  # a smaller zero is left to pwrite

Do = Callable[[int, int], None]


class Disk:
    """The bytes, in files: reading and writing these lets other threads run."""

    def __init__(self, size: int, sector: int) -> None:
        self.size = size
        self.sector = sector
        self.pages = -(-size // PAGE)
        self.lock = Lock()
        self.data, self.stable = (os.memfd_create(name) for name in ("data", "stable"))
        self.reset()

    def reset(self) -> None:
        for file in (self.data, self.stable):
            os.truncate(file, 0)
            os.truncate(file, self.size)
        self.cached = bytearray(self.size)
        self.kinds = bytearray([HOLE]) * self.pages

    def connect(self, export: str) -> Connection | Control:
        """The handle for an export's name: `control`, or `NUMBER` or `NUMBER read-only`."""
        if export == "control":
            return Control(self)
        number, _, readonly = export.partition(" ")
        return Connection(self, int(number), bool(readonly))

    def snapshot(self) -> bytes:
        return os.pread(self.data, self.size, 0) + os.pread(self.stable, self.size, 0) + self.cached + self.kinds

    def is_whole(self, page: int, offset: int, count: int) -> bool:
        """Whether a range has all bytes of a page."""
        return offset <= page * PAGE and min(page * PAGE + PAGE, self.size) <= offset + count

    def touched(self, offset: int, count: int) -> range:
        """The pages that have a byte in a range."""
        return range(offset // PAGE, -(-(offset + count) // PAGE))

    def read(self, offset: int, buf: memoryview) -> None:
        os.preadv(self.data, [buf], offset)

    def write(self, offset: int, buf: memoryview) -> None:
        os.pwrite(self.data, buf, offset)
        with self.lock:
            for page in self.touched(offset, len(buf)):
                self.kinds[page] = DATA

    def zero(self, offset: int, count: int, may_trim: bool) -> None:
        os.pwrite(self.data, bytes(count), offset)
        with self.lock:
            for page in self.touched(offset, count):
                if self.is_whole(page, offset, count):
                    self.kinds[page] = HOLE if may_trim else ZERO
                elif self.kinds[page] == HOLE and not may_trim:
                    self.kinds[page] = ZERO

    def trim(self, offset: int, count: int) -> None:
        """Whole pages become holes; what is left of a page at either end stays."""
        for page in self.touched(offset, count):
            if self.is_whole(page, offset, count):
                self.zero(page * PAGE, min(PAGE, self.size - page * PAGE), True)

    def persist(self, offset: int, count: int) -> None:
        os.pwrite(self.stable, os.pread(self.data, count, offset), offset)

    def cache(self, offset: int, count: int) -> None:
        self.cached[offset:offset + count] = b"\1" * count


class Connection:
    """A client's requests, each with its fault if it has one."""

    def __init__(self, disk: Disk, number: int, readonly: bool) -> None:
        self.disk = disk
        self.number = number
        self.readonly = readonly
        self.size = disk.size

    def check(self, offset: int, count: int) -> None:
        if (offset | count) % self.disk.sector:
            raise nbdkit.Error(errno.EINVAL, f"not a multiple of {self.disk.sector}: {offset}, {count}")

    def strike(self, statement: str) -> None:
        exec(statement, {"nbdkit": nbdkit, "errno": errno})

    def serve(self, callback: str, offset: int, count: int, do: Do) -> None:
        """Serve a request by do(offset, count), or in two parts, between which comes the fault."""
        self.check(offset, count)
        due = fault(self.number, callback, offset, count)
        if due is None:
            return do(offset, count)
        if due.served:
            do(offset, due.served)
        self.strike(due.statement)
        if due.served < count:
            do(offset + due.served, count - due.served)

    def pread_into(self, buf: memoryview, offset: int) -> None:
        self.serve("pread", offset, len(buf),
                   lambda at, count: self.disk.read(at, buf[at - offset:at - offset + count]))

    def pread(self, count: int, offset: int) -> bytearray:
        answer = bytearray(count)
        self.pread_into(memoryview(answer), offset)
        return answer

    def pwrite(self, buf: memoryview, offset: int, fua: bool = False) -> None:
        self.serve("pwrite", offset, len(buf),
                   lambda at, count: self.disk.write(at, buf[at - offset:at - offset + count]))
        if fua:
            self.disk.persist(offset, len(buf))

    def flush(self) -> None:
        self.serve("flush", 0, self.size, self.disk.persist)

    def trim(self, count: int, offset: int, fua: bool = False) -> None:
        self.serve("trim", offset, count, self.disk.trim)
        if fua:
            self.disk.persist(offset, count)

    def zero(self, count: int, offset: int, may_trim: bool, fast: bool = False, fua: bool = False) -> None:
        pages = self.disk.touched(offset, count)
        if not all(self.disk.is_whole(page, offset, count) for page in pages) if fast else count < SMALL:
            return nbdkit.set_error(errno.EOPNOTSUPP)
        self.serve("zero", offset, count, lambda at, count: self.disk.zero(at, count, may_trim))
        if fua:
            self.disk.persist(offset, count)

    def cache(self, count: int, offset: int) -> None:
        self.serve("cache", offset, count, self.disk.cache)

    def extents(self, count: int, offset: int, only_one: bool) -> Iterator[tuple[int, int, int]]:
        self.check(offset, count)
        due = fault(self.number, "extents", offset, count)
        for page in self.disk.touched(offset, count):
            yield page * PAGE, PAGE, self.disk.kinds[page]
            if due:
                self.strike(due.statement)
                due = None
            if only_one:
                return


class Control:
    """All that there is to know of the disk as one read, and a fresh start as any write."""

    readonly = False

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.size = len(disk.snapshot())

    def pread(self, count: int, offset: int) -> bytes:
        return self.disk.snapshot()[offset:offset + count]

    def pread_into(self, buf: memoryview, offset: int) -> None:
        buf[:] = self.pread(len(buf), offset)

    def pwrite(self, buf: memoryview, offset: int, fua: bool = False) -> None:
        self.disk.reset()
