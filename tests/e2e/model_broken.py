# SPDX-License-Identifier: BSD-3-Clause
"""Disks with one defect each, in nbdkit's process: test_model.py must find every one of them."""

from __future__ import annotations

import os

import nbdkit
from model_disk import PAGE, Connection, Control, Disk, Do


class WriteSlipsAtAPage(Disk):
    """A write that begins with a page lands one byte too far."""

    def write(self, offset: int, buf: memoryview) -> None:
        slip = 1 if offset % PAGE == 0 and offset + len(buf) < self.size else 0
        super().write(offset + slip, buf)


class ReadSlipsAtTheEnd(Disk):
    """A read that ends with the disk has one byte too few, and a zero instead."""

    def read(self, offset: int, buf: memoryview) -> None:
        super().read(offset, buf)
        if offset + len(buf) == self.size:
            buf[-1] = 0


class ZeroForgetsTheLastByte(Disk):
    def zero(self, offset: int, count: int, may_trim: bool) -> None:
        last = os.pread(self.data, 1, offset + count - 1)
        super().zero(offset, count, may_trim)
        os.pwrite(self.data, last, offset + count - 1)


class ZeroAlwaysTrims(Disk):
    def zero(self, offset: int, count: int, may_trim: bool) -> None:
        super().zero(offset, count, True)


class TrimLiesInExtents(Disk):
    """The page is said to be a hole, and has its data still."""

    def trim(self, offset: int, count: int) -> None:
        before = os.pread(self.data, count, offset)
        super().trim(offset, count)
        os.pwrite(self.data, before, offset)


class ExtentsForgetTheLastPage(Disk):
    """What has been zeroed is said to be as it was, as far as its last page goes."""

    def zero(self, offset: int, count: int, may_trim: bool) -> None:
        last = self.touched(offset, count)[-1]
        kind = self.kinds[last]
        super().zero(offset, count, may_trim)
        self.kinds[last] = kind


class FlushDoesNothing(Disk):
    def persist(self, offset: int, count: int) -> None:
        if count < self.size:
            super().persist(offset, count)


class FuaDoesNothing(Disk):
    def persist(self, offset: int, count: int) -> None:
        if count == self.size:
            super().persist(offset, count)


class WithConnection(Disk):
    connection = Connection

    def connect(self, export: str) -> Connection | Control:
        handle = super().connect(export)
        if isinstance(handle, Connection):
            handle.__class__ = self.connection
        return handle


class SwallowsErrors(WithConnection):
    """A write that has failed halfway is said to have succeeded."""

    class connection(Connection):
        def pwrite(self, buf: memoryview, offset: int, fua: bool = False) -> None:
            try:
                super().pwrite(buf, offset, fua)
            except BaseException:
                pass


class WrongErrno(WithConnection):
    """Any error of a flush is EPERM."""

    class connection(Connection):
        def flush(self) -> None:
            try:
                super().flush()
            except BaseException:
                raise PermissionError from None


class ReadsAreStale(WithConnection):
    """Each connection keeps the pages that it has read, and does not learn of other connections' writes."""

    class connection(Connection):
        def pread_into(self, buf: memoryview, offset: int) -> None:
            known = self.__dict__.setdefault("known", {})
            super().pread_into(buf, offset)
            for page in self.disk.touched(offset, len(buf)):
                if page not in known:
                    known[page] = os.pread(self.disk.data, PAGE, page * PAGE)
                start, end = max(offset, page * PAGE), min(offset + len(buf), page * PAGE + PAGE)
                buf[start - offset:end - offset] = known[page][start - page * PAGE:end - page * PAGE]

        def serve(self, callback: str, offset: int, count: int, do: Do) -> None:
            if callback in {"pwrite", "zero", "trim"}:
                self.__dict__.pop("known", None)
            super().serve(callback, offset, count, do)


class NoLock(Disk):
    """Parallel writes to one page get lost: it is read, changed and written back."""

    def write(self, offset: int, buf: memoryview) -> None:
        end = offset + len(buf)
        start, stop = offset // PAGE * PAGE, min(-(-end // PAGE) * PAGE, self.size)
        pages = bytearray(os.pread(self.data, stop - start, start))
        nbdkit.nanosleep(0, 100_000)
        pages[offset - start:end - start] = buf
        super().write(start, memoryview(pages))
