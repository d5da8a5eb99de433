# SPDX-License-Identifier: BSD-3-Clause
"""What a disk should do with a client's requests: a bytearray, and the rules of nbdkit and of model_disk.py.

`DISKS` are the disks of test_model.py. A `Model` knows what one of them holds and how it answers.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import nbd

from model_faults import FAILURES, HARMLESS, fault

PAGE = 4096
SIZE = 6 * PAGE + 3 * 512
DATA, ZERO, HOLE = 0, nbd.STATE_ZERO, nbd.STATE_ZERO | nbd.STATE_HOLE
SMALL = 512
FUA, FAST, NO_HOLE, REQ_ONE = (
    nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_FAST_ZERO, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_REQ_ONE)
FLAGS = {"FUA": FUA, "FAST": FAST, "NO_HOLE": NO_HOLE, "REQ_ONE": REQ_ONE}
CHANGES = {"pwrite", "zero", "trim"}

VERSION_1 = """
def pread(h, count, offset): return h.pread(count, offset)
def pwrite(h, buf, offset): h.pwrite(buf, offset)
def flush(h): h.flush()
def trim(h, count, offset): h.trim(count, offset)
def zero(h, count, offset, may_trim): h.zero(count, offset, may_trim)
"""
VERSION_2 = """
API_VERSION = 2
def pwrite(h, buf, offset, flags): h.pwrite(buf, offset, flags & nbdkit.FLAG_FUA)
def flush(h, flags): h.flush()
def trim(h, count, offset, flags): h.trim(count, offset, flags & nbdkit.FLAG_FUA)
def zero(h, count, offset, flags):
    h.zero(count, offset, flags & nbdkit.FLAG_MAY_TRIM, flags & nbdkit.FLAG_FAST_ZERO, flags & nbdkit.FLAG_FUA)
"""
SHAPES = {
    "v1": VERSION_1,
    "v2-count": VERSION_2 + "def pread(h, count, offset, flags): return h.pread(count, offset)\n",
    "v2-buf": VERSION_2 + "def pread(h, buf, offset, flags): h.pread_into(buf, offset)\n",
}
SHAPES["v2-async"] = SHAPES["v2-buf"].replace("def ", "async def ")
BOTH = """
def open(readonly): return disk.connect(nbdkit.export_name())
def get_size(h): return h.size
def can_write(h): return not h.readonly
def cache(h, count, offset, flags): h.cache(count, offset)
def extents(h, count, offset, flags): return h.extents(count, offset, flags & nbdkit.FLAG_REQ_ONE)
"""


@dataclass(frozen=True)
class Disk:
    """How a disk is written, and what it can do."""

    shape: str
    threads: str = "SERIALIZE_ALL_REQUESTS"
    without: str = ""  # callbacks that it does not have
    fua: str = "EMULATE"
    cache: str = "NATIVE"
    fast_zero: bool = False
    multi_conn: bool = False
    told: bool = True  # whether it has the callbacks can_…, which say the above; otherwise that is what holds anyhow
    sector: int = 1
    more: str = ""  # the end of the script

    def has(self, callback: str) -> bool:
        return callback not in self.without.split()

    def script(self, behind: str = "model_disk.Disk") -> str:
        """Its script. `behind` is the class that has the bytes."""
        module, name = behind.split(".")
        text = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport nbdkit\n"
        text += f"from {module} import {name}\ndisk = {name}({SIZE}, {self.sector})\n"
        text += f"def thread_model(): return nbdkit.THREAD_MODEL_{self.threads}\n{BOTH}{SHAPES[self.shape]}"
        for callback in self.without.split():
            text += f"del {callback}\n"
        if self.told:
            text += f"def can_fua(h): return nbdkit.FUA_{self.fua}\n"
            text += f"def can_cache(h): return nbdkit.CACHE_{self.cache}\n"
            text += f"def can_fast_zero(h): return {self.fast_zero}\n"
            text += f"def can_multi_conn(h): return {self.multi_conn}\n"
        if self.sector > 1:
            text += f"def block_size(h): return ({self.sector}, {PAGE}, 0xFFFFFFFF)\n"
        return text + self.more


# Ways to say the same.
LISTS = """
def extents(h, count, offset, flags): return list(h.extents(count, offset, flags & nbdkit.FLAG_REQ_ONE))
"""
NATIVE = "def can_fua(h): return nbdkit.FUA_NATIVE\n"  # emulated in version 1, whose pwrite has no flags
DISKS = {
    "version 1": Disk("v1", told=False),
    "version 1, parallel": Disk("v1", "PARALLEL", fast_zero=True, multi_conn=True, more=LISTS + NATIVE),
    "version 1, no flush": Disk("v1", "SERIALIZE_REQUESTS", without="flush trim extents", fua="NONE", cache="EMULATE"),
    "count": Disk("v2-count", fua="NATIVE", fast_zero=True, multi_conn=True),
    "count, parallel": Disk("v2-count", "PARALLEL", fua="NATIVE", fast_zero=True, more=LISTS),
    "count, sectors": Disk("v2-count", "SERIALIZE_REQUESTS", fast_zero=True, multi_conn=True, sector=512),
    "buf": Disk("v2-buf", told=False),
    "buf, parallel": Disk("v2-buf", "PARALLEL", fua="NATIVE", cache="NONE", fast_zero=True, multi_conn=True),
    "buf, no zero": Disk("v2-buf", "PARALLEL", without="zero cache", fua="NATIVE", cache="NONE", fast_zero=True),
    "buf, sectors": Disk("v2-buf", "SERIALIZE_REQUESTS", fua="NATIVE", cache="EMULATE", fast_zero=True, sector=512),
    "async": Disk("v2-async", told=False),
    "async, parallel": Disk("v2-async", "PARALLEL", fua="NATIVE", fast_zero=True, multi_conn=True),
    "only pread and pwrite": Disk("v2-buf", without="flush trim zero extents cache", fua="NONE", cache="NONE",
                                  fast_zero=True, told=False),
}


@dataclass(frozen=True)
class Request:
    """One request of a client's. `content` is the number of the bytes that a pwrite writes, 0 for zeros."""

    op: str
    offset: int = 0
    count: int = 0
    flags: int = 0
    content: int = 0

    @property
    def data(self) -> bytes:
        return Random(self.content).randbytes(self.count) if self.content else bytes(self.count)

    def __repr__(self) -> str:
        words = [self.op] + ([str(self.offset), str(self.count)] if self.op != "flush" else [])
        words += [name for name, flag in FLAGS.items() if self.flags & flag]
        words += [f"content={self.content}"] if self.op == "pwrite" else []
        return f"<{' '.join(words)}>"


class Model:
    """A disk as it should be."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.data = bytearray(SIZE)
        self.stable = bytearray(SIZE)
        self.cached = bytearray(SIZE)
        self.kinds = bytearray([HOLE]) * SIZE

    def snapshot(self) -> bytes:
        """What the disk's control connection should read."""
        return bytes(self.data + self.stable + self.cached + self.kinds[::PAGE])

    def reach(self, request: Request) -> tuple[int, int, bool]:
        """The first byte, the end, and whether anything changes, of what a request may look at or change."""
        every = request.op == "flush" or (request.flags & FUA and self.disk.fua == "EMULATE")
        if every:
            return 0, SIZE, True
        start, end = request.offset, request.offset + request.count
        if request.op == "block_status":
            start, end = start // PAGE * PAGE, end + PAGE
        return start, end, request.op in CHANGES

    def independent(self, one: Request, other: Request) -> bool:
        """Whether two requests may be under way at once, and everything is still known."""
        (start, end, changes), (start2, end2, changes2) = self.reach(one), self.reach(other)
        return end <= start2 or end2 <= start or not (changes or changes2)

    def answer(self, number: int, readonly: bool, request: Request) -> int:
        """Do what a request of this connection does; the errno that it fails with, or 0."""
        refused = self.refused(readonly, request)
        return refused or getattr(self, request.op)(number, request)

    def refused(self, readonly: bool, request: Request) -> int:
        """What nbdkit says of a request by itself."""
        if readonly and request.op in CHANGES:
            return errno.EPERM
        if request.op != "flush" and request.offset + request.count > SIZE:
            return errno.ENOSPC if request.op in {"pwrite", "zero"} else errno.EINVAL
        unknown = (
            request.flags & FUA and self.disk.fua == "NONE"
            or request.op in {"flush", "trim"} and not self.disk.has(request.op)
            or request.op == "cache" and self.disk.cache == "NONE"
        )
        return errno.EINVAL if unknown else 0

    def run(self, number: int, callback: str, offset: int, count: int, do: Callable[[int, int], None],
            lasts: bool = False) -> int:
        """What a callback does, with its fault, and the errno that it leaves. It `lasts` if the callback has FUA."""
        if (offset | count) % self.disk.sector:
            return errno.EINVAL
        due = fault(number, callback, offset, count)
        if due is None:
            do(offset, count)
        else:
            do(offset, due.served)
            if due.statement in FAILURES:
                err = FAILURES[due.statement]
                return errno.EINVAL if err == errno.EOPNOTSUPP and callback != "zero" else err
            do(offset + due.served, count - due.served)
        if lasts:
            self.persist(offset, count)
        declines = due is not None and HARMLESS[due.statement] == errno.EOPNOTSUPP and callback == "zero"
        return errno.EOPNOTSUPP if declines else 0

    def has_fua(self, request: Request) -> bool:
        """Whether the callback itself is to see that a request lasts."""
        return bool(request.flags & FUA) and self.disk.fua == "NATIVE"

    def flushed(self, number: int, request: Request, err: int) -> int:
        """The end of a request, whose FUA may be for nbdkit to do."""
        if err == 0 and request.flags & FUA and self.disk.fua == "EMULATE":
            return self.flush(number, request)
        return err

    def persist(self, offset: int, count: int) -> None:
        self.stable[offset:offset + count] = self.data[offset:offset + count]

    def pages(self, offset: int, count: int) -> list[slice]:
        """The pages that have bytes in a range."""
        starts = range(offset // PAGE * PAGE, offset + count, PAGE) if count else []
        return [slice(start, min(start + PAGE, SIZE)) for start in starts]

    def pread(self, number: int, request: Request) -> int:
        return self.run(number, "pread", request.offset, request.count, lambda *_: None)

    def pwrite(self, number: int, request: Request) -> int:
        return self.flushed(number, request, self.write(number, request, request.data))

    def write(self, number: int, request: Request, data: bytes) -> int:
        def do(at: int, count: int) -> None:
            self.data[at:at + count] = data[at - request.offset:at - request.offset + count]
            for page in self.pages(at, count):
                self.kinds[page] = bytes([DATA]) * (page.stop - page.start)

        return self.run(number, "pwrite", request.offset, len(data), do, self.has_fua(request))

    def flush(self, number: int, request: Request) -> int:
        return self.run(number, "flush", 0, SIZE, self.persist)

    def trim(self, number: int, request: Request) -> int:
        def do(at: int, count: int) -> None:
            for page in self.pages(at, count):
                if at <= page.start and page.stop <= at + count:
                    self.data[page] = bytes(page.stop - page.start)
                    self.kinds[page] = bytes([HOLE]) * (page.stop - page.start)

        err = self.run(number, "trim", request.offset, request.count, do, self.has_fua(request))
        return self.flushed(number, request, err)

    def zero(self, number: int, request: Request) -> int:
        err = self.zero_callback(number, request)
        if err == errno.EOPNOTSUPP and not request.flags & FAST:
            err = self.write(number, request, bytes(request.count))
        return self.flushed(number, request, err)

    def zero_callback(self, number: int, request: Request) -> int:
        """What comes of the script's zero; EOPNOTSUPP where it declines, is not asked or not there."""
        fast, may_trim = request.flags & FAST, not request.flags & NO_HOLE
        start, end = request.offset, request.offset + request.count
        pages = self.pages(start, request.count)
        if not self.disk.has("zero") or (fast and self.disk.shape == "v1"):
            return errno.EOPNOTSUPP
        if (start > pages[0].start or end < pages[-1].stop) if fast else request.count < SMALL:
            return errno.EOPNOTSUPP

        def do(at: int, count: int) -> None:
            self.data[at:at + count] = bytes(count)
            for page in self.pages(at, count):
                whole = at <= page.start and page.stop <= at + count
                if whole or (self.kinds[page.start] == HOLE and not may_trim):
                    self.kinds[page] = bytes([HOLE if may_trim else ZERO]) * (page.stop - page.start)

        return self.run(number, "zero", start, request.count, do, self.has_fua(request))

    def cache(self, number: int, request: Request) -> int:
        if self.disk.cache == "EMULATE":
            return self.pread(number, request)

        def do(at: int, count: int) -> None:
            self.cached[at:at + count] = b"\1" * count

        return self.run(number, "cache", request.offset, request.count, do)

    def block_status(self, number: int, request: Request) -> int:
        if not self.disk.has("extents"):
            return 0
        return self.run(number, "extents", request.offset, request.count, lambda *_: None)
