# SPDX-License-Identifier: BSD-3-Clause
"""The real side of test_model.py: a disk on nbdkit, its clients, and their requests on the way."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import nbd

from harness import TIMEOUT, Server, write_script
from model import Disk, Request


class Real:
    """A disk on a real nbdkit, started again where a request has ended it or got no answer."""

    def __init__(self, folder: Path, disk: Disk, behind: str = "model_disk.Disk", arguments: Sequence[str] = (),
                 options: tuple[str, ...] = ()) -> None:
        self.disk = disk
        self.arguments = arguments
        self.options = options
        self.figures: Counter[str] = Counter()
        self.folders = (folder / str(number) for number in itertools.count())
        self.script = write_script(folder, disk.script(behind))
        self.start()

    def start(self) -> None:
        folder = next(self.folders)
        folder.mkdir()
        self.server = Server(folder, self.script, *self.arguments, options=self.options)
        self.control = self.server.connect("control")
        self.control.set_strict_mode(0)
        self.hangs = False

    def reset(self) -> None:
        """Make all as it was at the start."""
        with suppress(nbd.Error):
            os.truncate(self.server.logfile, 0)
            if not self.hangs:
                self.control.pwrite(b"\0", 0)
                return
        self.server.stop(signal.SIGKILL)
        self.start()

    def snapshot(self) -> bytes:
        return bytes(self.control.pread(self.control.get_size(), 0))


@dataclass(eq=False)
class Client:
    """A connection. Calls of a script go wrong on one that has a number, see model_faults.py."""

    h: nbd.NBD
    number: int
    readonly: bool


@dataclass(eq=False)
class Flight:
    """A request on its way, and what came of it."""

    client: Client
    request: Request
    buffer: nbd.Buffer | None = None
    extents: list[int] = field(default_factory=list)
    cookie: int = 0

    def start(self) -> None:
        h, op, offset, count, flags = (
            self.client.h, self.request.op, self.request.offset, self.request.count, self.request.flags)
        if op == "flush":
            self.cookie = h.aio_flush()
        elif op == "pread":
            self.buffer = nbd.Buffer(count)
            self.cookie = h.aio_pread(self.buffer, offset)
        elif op == "pwrite":
            self.cookie = h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(self.request.data)), offset, flags=flags)
        elif op == "block_status":
            self.cookie = h.aio_block_status(count, offset, self.collect, flags=flags)
        else:
            self.cookie = getattr(h, f"aio_{op}")(count, offset, flags=flags)

    def collect(self, context: str, _offset: int, entries: list[int], _error: object) -> int:
        self.extents.extend(entries)
        return 0

    def finish(self) -> int:
        """Wait for the answer: the errno, or 0. No answer is an error of its own."""
        try:
            while not self.client.h.aio_command_completed(self.cookie):
                if self.client.h.poll(TIMEOUT * 1000) == 0:
                    raise AssertionError(f"no answer to {self.request}")
        except nbd.Error as error:
            return int(error.errnum)
        return 0

    def data(self) -> bytes:
        """What a pread has read."""
        assert self.buffer
        return bytes(self.buffer.to_bytearray())


@contextmanager
def running(folder: Path, disk: Disk, behind: str = "model_disk.Disk", arguments: Sequence[str] = (),
            options: tuple[str, ...] = ()) -> Iterator[Real]:
    """A disk until the end of the block. Where the block does not fail, the server must end as it should.

    arguments, options: more of the script's and of nbdkit's.
    """
    real = Real(folder, disk, behind, arguments, options)
    try:
        yield real
        for h in real.server.connections:
            if h.aio_is_ready():
                h.shutdown()
        assert real.server.stop() == 0, real.server.log()
    finally:
        real.server.stop(signal.SIGKILL)
