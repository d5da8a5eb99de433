# SPDX-License-Identifier: BSD-3-Clause
"""The soak's client: many requests at a time, of which it knows what each must be answered with."""

from __future__ import annotations

import itertools
import os
import random
import select
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import nbd

import layout
from harness import PLUGIN, TIMEOUT, Server
from layout import LANE, LANES

CONNECTIONS = 4
OTHER = PLUGIN == "python"  # nbdkit's own plugin: the errno of an exception is lost, and some wrong answers succeed
SIZES = [1, 512, 512, 4096, 4096, 4096, 10_000, LANE]
WEIGHTS = {"pread": 36, "pwrite": 30, "zero": 7, "trim": 6, "flush": 7, "cache": 7, "extents": 7}
EVENTS = {
    nbd.AIO_DIRECTION_READ: select.POLLIN,
    nbd.AIO_DIRECTION_WRITE: select.POLLOUT,
    nbd.AIO_DIRECTION_BOTH: select.POLLIN | select.POLLOUT,
}
# As NBD has it: magic number, flags, NBD_CMD_WRITE, cookie, offset, count; then half of the data.
HALF_A_WRITE = struct.pack(">IHHQQI", 0x25609513, 0, 1, 0, 0, 4096) + bytes(2048)
NOISE = random.Random(0).randbytes(4 * LANE)


@dataclass(frozen=True)
class Step:
    """One request: `offset` counts from the start of a lane, or of the fault's part of the disk."""

    operation: str
    count: int
    offset: int
    source: int  # where in NOISE a pwrite's data are
    flags: int
    fault: str | None


def make_plan(shape: str, failing: float, length: int = 20_011) -> list[Step]:
    """A mix of requests, the same in each run, of which a share is failing."""
    noise = random.Random(shape)
    plan = []
    for operation in noise.choices(list(WEIGHTS), list(WEIGHTS.values()), k=length):
        count = noise.choice(SIZES)
        flags = {"pwrite": nbd.CMD_FLAG_FUA, "zero": nbd.CMD_FLAG_NO_HOLE}.get(operation, 0) * noise.randrange(2)
        fault = None
        if noise.random() < failing:
            # A flush has no offset to tell by how it is to fail.
            operation = "pread" if operation == "flush" else operation
            fault = noise.choice(layout.faults(operation, shape))
            if OTHER and fault in {"wrong", "midway", "kept"}:
                fault = "deep"
        plan.append(Step(operation, count, noise.randrange(LANE - count + 1), noise.randrange(3 * LANE), flags, fault))
    return plan


class Lane:
    """One request after another, in a part of the disk of its own: what is read back is known to the byte."""

    def __init__(self, number: int) -> None:
        self.start = number * LANE
        self.known = bytearray(LANE)
        self.steps: Iterator[Step] = iter(())
        self.failures = 0

    def follow(self, plan: list[Step]) -> None:
        """Go through the plan from here on, each lane from another place in it."""
        self.steps = itertools.islice(itertools.cycle(plan), self.start // LANE * len(plan) // LANES, None)

    def issue(self, h: nbd.NBD, ready: list[Lane]) -> None:
        """Send the next request; when it is answered, the lane is in `ready`."""
        self.step = step = next(self.steps)
        self.error = 0
        self.answer: list[tuple[int, int]] = []
        offset = step.offset + (layout.offset_of(step.fault) if step.fault else self.start)

        def done(error: object) -> int:
            self.error = error.value  # type: ignore[attr-defined]
            ready.append(self)
            return 1

        if step.operation == "pread":
            self.buffer = bytearray(step.count)
            h.aio_pread(self.buffer, offset, done)
        elif step.operation == "pwrite":
            h.aio_pwrite(bytearray(NOISE[step.source : step.source + step.count]), offset, done, step.flags)
        elif step.operation == "flush":
            h.aio_flush(done)
        elif step.operation == "extents":

            def collect(context: str, _offset: int, entries: list[int], _error: object) -> int:
                self.answer.extend(zip(entries[::2], entries[1::2]))
                return 0

            h.aio_block_status(step.count, offset, collect, done)
        else:
            getattr(h, f"aio_{step.operation}")(step.count, offset, done, step.flags)

    def check(self) -> None:
        """The answer must be what it has to be; what was written is what will be read."""
        step = self.step
        if step.fault is not None:
            expected = layout.FAULT[step.fault]
            assert self.error == expected or OTHER and self.error, f"{step}: errno {self.error}, expected {expected}"
            self.failures += 1
            return
        assert self.error == 0, f"{step}: errno {self.error}"
        part = slice(step.offset, step.offset + step.count)
        if step.operation == "pread":
            assert self.buffer == self.known[part], f"{step}: wrong data"
        elif step.operation == "pwrite":
            self.known[part] = NOISE[step.source : step.source + step.count]
        elif step.operation in {"zero", "trim"}:
            self.known[part] = bytes(step.count)
        elif step.operation == "extents":
            told = [(length, kind) for _, length, kind in layout.extents(step.count, self.start + step.offset)]
            assert self.answer == told, f"{step}: {self.answer}, expected {told}"


class Load:
    """All lanes, each at one of a few connections."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.lanes = [Lane(number) for number in range(LANES)]
        self.connections: dict[int, nbd.NBD] = {}

    def connect(self) -> None:
        for _ in range(CONNECTIONS):
            h = self.server.connect()
            self.connections[h.aio_get_fd()] = h
        # nbdkit has a buffer for each thread, which grows to the largest request that it has seen: now, not later.
        self.follow([Step("pread", LANE, 0, 0, 0, None)])
        self.run(20 * LANES)

    def disconnect(self) -> None:
        for h in self.connections.values():
            h.shutdown()
        self.connections.clear()

    @property
    def failures(self) -> int:
        return sum(lane.failures for lane in self.lanes)

    def follow(self, plan: list[Step]) -> None:
        for lane in self.lanes:
            lane.follow(plan)

    def run(self, count: int) -> None:
        """So many requests, as many as there are lanes at a time; at the end, all have been answered."""
        handles = list(self.connections.values())
        homes = {lane: handles[number % CONNECTIONS] for number, lane in enumerate(self.lanes)}
        ready: list[Lane] = []
        issued = answered = 0
        for lane in self.lanes[:count]:
            lane.issue(homes[lane], ready)
            issued += 1
        poll = select.poll()
        while answered < count:
            self.wait(poll)
            finished = ready[:]
            ready.clear()
            for lane in finished:
                lane.check()
                answered += 1
                if issued < count:
                    lane.issue(homes[lane], ready)
                    issued += 1

    def wait(self, poll: select.poll) -> None:
        """Wait until a connection can go on, and let it."""
        for fd, h in self.connections.items():
            poll.register(fd, EVENTS[h.aio_get_direction()])
        able = poll.poll(TIMEOUT * 1000)
        assert able, f"no answer within {TIMEOUT} s"
        for fd, events in able:
            h = self.connections[fd]
            if events & select.POLLIN:
                h.aio_notify_read()
            elif events & select.POLLOUT:
                h.aio_notify_write()
            assert not events & ~(select.POLLIN | select.POLLOUT), f"a connection was lost: {events}"

    def come_and_go(self, numbers: Iterable[int]) -> None:
        """A connection for each number: a read, and the end; one in ten ends without a word to the server."""
        for number in numbers:
            h = self.server.connect()
            lane = self.lanes[number % LANES]
            assert h.pread(512, lane.start) == lane.known[:512]
            if number % 10 != 0:
                h.shutdown()
                continue
            # Not a read, nor several: an answer in several parts can make nbdkit 1.32 itself fail an assertion.
            if number % 20 == 0:
                h.aio_pwrite(lane.known[:512], lane.start)
            else:  # of which only a part arrives
                os.write(h.aio_get_fd(), HALF_A_WRITE)
            del h  # closes the socket
