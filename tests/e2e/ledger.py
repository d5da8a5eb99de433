# SPDX-License-Identifier: BSD-3-Clause
"""Clients that write at random and keep a ledger: what was asked, what was answered, and so what must be on the disk.

A disk is divided into lanes. Each has one request under way at a time, so that the order of its writes is known; those
of different lanes are under way together, through a few connections.
"""

from __future__ import annotations

import errno
import itertools
import random
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import nbd

from harness import TIMEOUT, Server

SECTOR = 512  # what a disk must write wholly or not at all
LANE = 64  # sectors
CONNECTIONS, LANES = 3, 4  # connections, and how many lanes each has
SIZE = CONNECTIONS * LANES * LANE * SECTOR


@dataclass
class Write:
    """A write, or a zero; `answered` and the ledger's `flushed` are times of one clock, that of the requests."""

    number: int
    first: int
    count: int
    fua: bool
    zero: bool
    answered: int | None = None

    def sector(self, index: int) -> bytes:
        """What this request puts there: every 16 bytes of it tell which request and which sector."""
        return bytes(SECTOR) if self.zero else struct.pack("<QQ", self.number, index) * (SECTOR // 16)

    def data(self) -> bytes:
        return b"".join(map(self.sector, range(self.first, self.first + self.count)))


@dataclass
class Request:
    """What is under way: a write, or a flush."""

    lane: int
    asked: int
    write: Write | None = None
    data: nbd.Buffer | None = None  # to be kept until then


class Lost(AssertionError):
    """A disk does not hold what it promised."""


@dataclass
class Ledger:
    """All requests of one server's life, upon a disk that held `before`."""

    before: bytes
    lanes: list[list[Write]] = field(default_factory=lambda: [[] for _ in range(CONNECTIONS * LANES)])
    flushed: int = 0  # when the last flush that was answered had been asked for
    clock: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def answered(self) -> int:
        return sum(write.answered is not None for lane in self.lanes for write in lane)

    def lasts(self, write: Write) -> bool:
        """Was it promised that this write outlives the server?"""
        return write.answered is not None and (write.fua or write.answered < self.flushed)

    def check(self, found: bytes) -> None:
        """Each sector must be that of its last promised write, or of a later one: never older, never a mix."""
        for number, lane in enumerate(self.lanes):
            allowed = {index: {self.before[index * SECTOR :][:SECTOR]} for index in sectors(number)}
            for write in lane:
                for index in range(write.first, write.first + write.count):
                    if self.lasts(write):
                        allowed[index].clear()
                    allowed[index].add(write.sector(index))
            for index, values in allowed.items():
                if (value := found[index * SECTOR :][:SECTOR]) not in values:
                    raise Lost(f"sector {index} begins with {value[:48].hex(' ', 8)} and may be one of "
                               f"{[allowed[:16].hex(' ', 8) for allowed in values]}; its lane has {lane[-4:]}")

    def check_whole(self, found: bytes) -> None:
        """Each answered write is there, and one that was not is there wholly or not at all: a transaction each."""
        for number, lane in enumerate(self.lanes):
            area = slice(number * LANE * SECTOR, (number + 1) * LANE * SECTOR)
            disk, states = bytearray(self.before), []
            for write in lane:
                if write.answered is None:
                    states.append(disk[area])
                disk[write.first * SECTOR : (write.first + write.count) * SECTOR] = write.data()
            states.append(disk[area])
            if found[area] not in states:
                raise Lost(f"lane {number} is not as after a whole number of requests; the last ones: {lane[-4:]}")


def sectors(lane: int) -> range:
    return range(lane * LANE, (lane + 1) * LANE)


class Writer(threading.Thread):
    """One connection, with a request of each of its lanes under way, until the server goes."""

    def __init__(self, server: Server, ledger: Ledger, number: int, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.ledger, self.chance = ledger, chance
        self.lanes = range(number * LANES, (number + 1) * LANES)
        self.disk = server.connect()
        self.under_way: dict[int, Request] = {}  # by libnbd's cookie
        self.refused: list[int] = []  # errnos

    def ask(self, lane: int) -> None:
        """Send a random request: a write with or without FUA, a zero or a flush."""
        now, chance = next(self.ledger.clock), self.chance
        if chance.random() < 0.1:
            self.under_way[self.disk.aio_flush()] = Request(lane, now)
            return
        count = chance.choice([1, 1, 2, 8, 9, 24])
        first = chance.randrange(lane * LANE, (lane + 1) * LANE - count + 1)
        write = Write(now, first, count, fua=chance.random() < 0.2, zero=chance.random() < 0.1)
        self.ledger.lanes[lane].append(write)  # before it is sent: it may be on the disk from then on
        flags = nbd.CMD_FLAG_FUA if write.fua else 0
        data = nbd.Buffer.from_bytearray(bytearray(write.data()))
        if write.zero:
            cookie = self.disk.aio_zero(count * SECTOR, first * SECTOR, flags=flags)
        else:
            cookie = self.disk.aio_pwrite(data, first * SECTOR, flags=flags)
        self.under_way[cookie] = Request(lane, now, write, data)

    def hear(self, cookie: int) -> None:
        """If a request has been answered, write that down and send the next."""
        try:
            if not self.disk.aio_command_completed(cookie):
                return
        except nbd.Error as error:
            self.refused.append(error.errnum)
        request = self.under_way.pop(cookie)
        if self.refused:
            return
        if request.write:
            request.write.answered = next(self.ledger.clock)
        else:
            self.ledger.flushed = max(self.ledger.flushed, request.asked)
        self.ask(request.lane)

    def run(self) -> None:
        with suppress(nbd.Error):  # the server has hung up
            for lane in self.lanes:
                self.ask(lane)
            while self.under_way:
                self.disk.poll(-1)
                for cookie in list(self.under_way):
                    self.hear(cookie)
        self.disk = None  # hang up as well: an nbdkit that was told to end may wait for that


class Load:
    """Writers at work on a server."""

    def __init__(self, server: Server, before: bytes, chance: random.Random) -> None:
        self.ledger = Ledger(before)
        seeds = [random.Random(chance.random()) for _ in range(CONNECTIONS)]
        self.writers = [Writer(server, self.ledger, number, seed) for number, seed in enumerate(seeds)]
        for writer in self.writers:
            writer.start()

    def wait_for(self, answers: int) -> None:
        """Let that many writes be answered."""
        deadline = time.monotonic() + TIMEOUT
        while self.ledger.answered() < answers:
            assert time.monotonic() < deadline
            assert all(writer.is_alive() for writer in self.writers), [writer.refused for writer in self.writers]
            time.sleep(0.001)

    def join(self) -> Ledger:
        """Wait for the writers, which end with the server."""
        for writer in self.writers:
            writer.join(TIMEOUT)
            assert not writer.is_alive(), "a client still waits for an answer"
            assert set(writer.refused) <= {errno.ESHUTDOWN, errno.ENOTCONN}, writer.refused
        return self.ledger
