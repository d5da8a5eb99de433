# SPDX-License-Identifier: BSD-3-Clause
"""Writes that were promised to last outlive the server, whatever signal it ends by.

What a process has written stays in the system's memory when the process is killed: that the disks also have it written
to the device before they answer is seen in their system calls. `./test durability` repeats the first test's rounds.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sqlite3
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import nbd
import pytest

from example_kit import altered
from harness import TIMEOUT, Server, environment, serving
from ledger import SIZE, Ledger, Load, Lost, Write

ROUNDS = int(os.environ.get("DURABILITY_ROUNDS", "3"))

# A disk in memory that is written out at the end, whatever a client asks for.
FORGETFUL = """
    disk = bytearray()

    def after_fork():
        with os.fdopen(os.open(path, os.O_RDONLY), "rb") as file:
            disk[:] = file.read()

    def cleanup():
        with os.fdopen(os.open(path, os.O_WRONLY), "wb") as file:
            file.write(disk)

    def pread(h, buf, offset, flags): buf[:] = disk[offset : offset + len(buf)]
    def pwrite(h, buf, offset, flags): disk[offset : offset + len(buf)] = buf
    def flush(h, flags): pass
    def can_fua(h): return nbdkit.FUA_NATIVE
    zero = trim = extents = None
"""


@dataclass
class Disk:
    """An example, changed for a test, with what it stores its data in."""

    folder: Path
    name: str
    change: str = ""

    def __post_init__(self) -> None:
        self.store = self.folder / "data" / "store"
        self.store.parent.mkdir()
        self.parameters = [f"file={self.store}"]
        if self.name == "sqlite":
            self.parameters.append(f"size={SIZE}")
        else:
            self.store.touch()
            os.truncate(self.store, SIZE)
        self.script = altered(self.folder, f"{self.name}.py", after=self.change)

    def check(self, ledger: Ledger, found: bytes) -> None:
        ledger.check(found)
        if self.name == "sqlite":
            ledger.check_whole(found)
        self.check_store()

    def check_store(self) -> None:
        if self.name == "sqlite":
            with closing(sqlite3.connect(self.store)) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@dataclass
class Totals:
    rounds: int = 0
    answered: int = 0
    lasting: int = 0


def contents(server: Server) -> bytes:
    disk = server.connect()
    found = bytes(disk.pread(SIZE, 0))
    disk.shutdown()
    return found


def rounds(disk: Disk, sign: signal.Signals, count: int) -> Totals:
    """Load a disk and end its server, again and again; the next server must find what was promised."""
    totals, ledger = Totals(), None
    for number in range(count + 1):
        folder = disk.folder / f"server{number}"
        folder.mkdir()
        with serving(folder, disk.script, *disk.parameters) as server:
            found = contents(server)
            if ledger:
                disk.check(ledger, found)
                totals.rounds += 1
                totals.answered += ledger.answered()
                totals.lasting += sum(map(ledger.lasts, sum(ledger.lanes, [])))
            if number < count:
                chance = random.Random(f"{disk.name} {sign} {number}")
                load = Load(server, found, chance)
                load.wait_for(chance.randrange(10, 60 if disk.name == "sqlite" else 200))
                status = server.stop(sign)
                ledger = load.join()
                assert status == (-signal.SIGKILL if sign == signal.SIGKILL else 0), server.log()
        shutil.rmtree(folder)
    return totals


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=attrgetter("name"))
@pytest.mark.parametrize("name", ["sqlite", "file"])
def test_what_was_promised_outlives(tmp_path: Path, name: str, sign: signal.Signals,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    totals = rounds(Disk(tmp_path, name), sign, ROUNDS)
    if "DURABILITY_ROUNDS" in os.environ:
        with capsys.disabled():
            print(f"\n{name}, {sign.name}: {totals.rounds} rounds, {totals.answered} writes answered, "
                  f"{totals.lasting} of them promised to last; lost: 0", end=" ")


# Writes down its connections and its end.
RECORDS = """
    connect, disconnect = open, close

    def tell(call):
        os.write(calls, call + b" ")

    def after_fork():
        global calls
        calls = os.open(path + ".calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def open(readonly):
        if "calls" in globals():
            tell(b"open")
        return connect(readonly)

    def close(h):
        disconnect(h)
        tell(b"close")

    def cleanup(): tell(b"cleanup")
    def unload(): tell(b"unload")
"""


@pytest.mark.peer_fails
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=attrgetter("name"))
@pytest.mark.parametrize("name", ["sqlite", "file"])
def test_the_end_under_load_has_its_callbacks(tmp_path: Path, name: str, sign: signal.Signals) -> None:
    disk = Disk(tmp_path, name, RECORDS)
    with serving(tmp_path, disk.script, *disk.parameters) as server:
        load = Load(server, contents(server), random.Random(1))
        load.wait_for(50)
        assert server.stop(sign) == 0
        load.join()
    told = disk.store.with_name("store.calls").read_text().split()
    opened = told.count("open")
    assert sorted(told[:-2]) == ["close"] * opened + ["open"] * opened
    assert told[-2:] == ["cleanup", "unload"]


def test_a_disk_that_forgets_is_found(tmp_path: Path) -> None:
    with pytest.raises(Lost):
        rounds(Disk(tmp_path, "file", FORGETFUL), signal.SIGKILL, 1)


def test_the_ledger() -> None:
    """It is the measure of all this: what may be there, and what not."""
    ledger = Ledger(bytes(SIZE))
    first, second, third = (Write(number, 0, 2, fua=number == 1, zero=False) for number in (1, 3, 5))
    first.answered, second.answered = 2, 4
    ledger.lanes[0] = [first, second, third]

    def disk(*sectors: bytes) -> bytes:
        return b"".join(sectors).ljust(SIZE, b"\0")

    for write in (first, second, third):
        ledger.check(disk(write.data()))
    ledger.check(disk(third.sector(0), first.sector(1)))
    for found in (disk(), disk(second.sector(0)), disk(second.sector(1), second.sector(0)),
                  disk(second.sector(0)[:256], third.sector(0)[256:], third.sector(1)),
                  disk(first.data(), first.sector(2))):
        with pytest.raises(Lost):
            ledger.check(found)

    for write in (second, third):
        ledger.check_whole(disk(write.data()))
    for found in (disk(first.data()), disk(second.sector(0), third.sector(1))):
        with pytest.raises(Lost):
            ledger.check_whole(found)

    ledger.flushed = 4
    ledger.check(disk(first.data()))
    ledger.flushed = 5
    with pytest.raises(Lost):
        ledger.check(disk(first.data()))


# A server that kills itself when it has stored half of a request.
DIES_IN_A_REQUEST = """
    import signal

    def enumerate(blocks, first):
        for number, block in zip(range(first, first + 1000), blocks):
            if number == first + 2 and block.startswith(b"die"):
                os.kill(os.getpid(), signal.SIGKILL)
            yield number, block
"""
WITHOUT_TRANSACTIONS = """
    with_transactions = open

    def open(readonly):
        db = with_transactions(readonly)
        db.isolation_level = None
        return db
"""


@pytest.mark.parametrize(("change", "whole"), [("", True), (WITHOUT_TRANSACTIONS, False)], ids=["with", "without"])
def test_sqlite_killed_within_a_transaction(tmp_path: Path, change: str, whole: bool) -> None:
    disk = Disk(tmp_path, "sqlite", textwrap.dedent(DIES_IN_A_REQUEST) + textwrap.dedent(change))
    before = b"live" * 4096
    for number, data in enumerate((before, b"die!" * 4096)):
        (folder := tmp_path / f"server{number}").mkdir()
        with serving(folder, disk.script, *disk.parameters) as server:
            client = server.connect()
            if data == before:
                client.pwrite(data, 0)
                client.shutdown()
            else:
                with pytest.raises(nbd.Error):
                    client.pwrite(data, 0)
                server.stop(signal.SIGKILL)  # by its own hand
    (tmp_path / "after").mkdir()
    with serving(tmp_path / "after", disk.script, *disk.parameters) as server:
        assert (contents(server)[: len(before)] == before) == whole


REPLY = r'"gDf\230'  # how a simple reply begins, as strace shows it
TRACED = "openat,write,pwrite64,pwritev,pwritev2,fallocate,ftruncate,fsync,fdatasync,sendto"


def trace(disk: Disk) -> list[set[str]]:
    """For each of the REQUESTS: what of the store was written, and not yet synchronised, when the reply was sent."""
    (folder := disk.folder / "traced").mkdir()
    calls, command = disk.folder / "trace", folder / "nbdkit"
    # strace in the background, so that the server is still this process's child.
    command.write_text(f'#!/bin/sh\nexec strace -D -f -y -s 16 -e trace={TRACED} -o {calls} '
                       f'{shutil.which("nbdkit")} "$@"\n')
    command.chmod(0o755)
    with serving(folder, disk.script, *disk.parameters,
                 env=environment(PATH=f"{folder}:{os.environ['PATH']}")) as server:
        client = server.connect(request_structured_replies=False)
        for request in REQUESTS:
            request(client)
        client.shutdown()
    deadline = time.monotonic() + TIMEOUT
    while not re.search(rf"^{server.pid} .*exited with 0", text := calls.read_text(), re.MULTILINE):
        assert time.monotonic() < deadline, text
        time.sleep(0.01)
    return [{Path(path).name for path in dirty} for dirty in unsynchronised(text, str(disk.store.parent))]


def unsynchronised(text: str, folder: str) -> list[set[str]]:
    """For each reply in a trace: the files of this folder that were written, and not synchronised since."""
    dirty: set[str] = set()
    found: list[set[str]] = []
    begun: dict[str, str] = {}
    for line in text.splitlines():
        thread, call = line.split(maxsplit=1)
        if call.endswith("<unfinished ...>"):
            begun[thread] = call
            if REPLY not in call:
                continue
        elif call.startswith("<..."):
            call = begun.pop(thread) + call
            if REPLY in call:  # it counted when it began
                continue
        if REPLY in call:
            found.append(set(dirty))
        elif call.startswith("openat") and "O_CREAT" in call and folder in call:
            dirty.add(folder)  # the folder's list of files
        elif (match := re.match(r"(\w+)\(\d+<([^>]*)>", call)) and match[2].startswith(folder):
            if "sync" not in match[1]:
                dirty.add(match[2])
            elif call.endswith(" = 0"):
                dirty.discard(match[2])
    return [{path for path in paths if not path.endswith("-shm")} for paths in found]  # SQLite's is memory


FUA = nbd.CMD_FLAG_FUA
REQUESTS: list[Callable[[nbd.NBD], None]] = [
    lambda disk: disk.pwrite(b"x" * 8192, 0),
    lambda disk: disk.flush(),
    lambda disk: disk.pwrite(b"y" * 8192, 8192, FUA),
    lambda disk: disk.zero(4096, 0, FUA),
    lambda disk: disk.zero(4096, 4096, FUA | nbd.CMD_FLAG_NO_HOLE),
    lambda disk: disk.trim(4096, 8192, FUA),
]


def test_file_synchronises_before_it_answers(tmp_path: Path) -> None:
    assert trace(Disk(tmp_path, "file")) == [{"store"}, *[set()] * 5]


def test_sqlite_synchronises_before_it_answers(tmp_path: Path) -> None:
    assert trace(Disk(tmp_path, "sqlite")) == [set()] * 6


def test_a_disk_that_does_not_synchronise_is_found(tmp_path: Path) -> None:
    assert trace(Disk(tmp_path, "file", "def flush(h, flags): pass")) == [{"store"}] * 6


def test_sqlite_that_does_not_synchronise_is_found(tmp_path: Path) -> None:
    careless = """
        careful = open

        def open(readonly):
            db = careful(readonly)
            db.execute("PRAGMA synchronous = NORMAL")
            return db
    """
    assert {"store-wal"} <= trace(Disk(tmp_path, "sqlite", careless))[1]
