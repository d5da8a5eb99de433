# SPDX-License-Identifier: BSD-3-Clause
"""The example that keeps blocks in SQLite: restarts, crashes, holes, and no room left."""

from __future__ import annotations

import errno
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from example_kit import KiB, MiB, altered, data_map, exercise, in_background, run, sparse_image
from harness import EXAMPLES, Server, extents, nbdkit, raises_errno

SQLITE = EXAMPLES / "sqlite.py"
HOLE_ZERO = nbd.STATE_HOLE | nbd.STATE_ZERO


def rows(database: Path) -> int:
    with closing(sqlite3.connect(database)) as db:
        return db.execute("SELECT count(*) FROM block").fetchone()[0]


def test_sqlite_against_a_model_and_after_a_restart(serve: Serve, tmp_path: Path) -> None:
    parameters = f"file={tmp_path}/disk.db", f"size={MiB + 999}"
    server = serve(SQLITE, *parameters)
    model = exercise(server, MiB + 999)
    server.stop()
    again = serve(SQLITE, *parameters)
    assert again.connect().pread(MiB + 999, 0) == model
    assert exercise(again, MiB + 999) != model


def test_sqlite_keeps_a_disk_image_and_its_holes(serve: Serve, tmp_path: Path) -> None:
    image = sparse_image(tmp_path / "image", 64 * MiB, at_1024=MiB, at_40000=10000)
    parameters = f"file={tmp_path}/disk.db", "size=64M"
    server = serve(SQLITE, *parameters)
    run("nbdcopy", "--connections=4", image, server.uri)  # leaves without a flush
    server.stop()
    assert rows(tmp_path / "disk.db") == 256 + 3, "holes take no room"
    again = serve(SQLITE, *parameters)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, again.uri)
    assert data_map(again.uri) == [(MiB, MiB), (40000 * KiB, 12288)]
    again.stop()
    assert [path.name for path in tmp_path.glob("disk.db*")] == ["disk.db"], "one file, with nothing beside it"


def test_sqlite_holes(serve: Serve, tmp_path: Path) -> None:
    disk = serve(SQLITE, f"file={tmp_path}/disk.db", "size=1M").connect()
    assert extents(disk, MiB, 0) == [(MiB, HOLE_ZERO)]
    disk.pwrite(b"x" * 16384, 8190)  # from 2 bytes before block 2 to 2 bytes before the end of block 5
    assert extents(disk, MiB, 0) == [(4096, HOLE_ZERO), (20480, 0), (MiB - 24576, HOLE_ZERO)]
    assert extents(disk, MiB, 0, nbd.CMD_FLAG_REQ_ONE) == [(4096, HOLE_ZERO)]
    assert extents(disk, 10000, 5000, nbd.CMD_FLAG_REQ_ONE) == [(10000, 0)]
    disk.zero(4096, 8192)
    disk.trim(8191, 12288)  # block 3, and not the whole of block 4
    assert extents(disk, 28672, 0) == [(4096, HOLE_ZERO), (4096, 0), (8192, HOLE_ZERO), (8192, 0), (4096, HOLE_ZERO)]
    assert disk.pread(4, 8189) == b"\0xx\0"
    assert disk.pread(2, 24573) == b"x\0"
    disk.zero(100, 16384 + 50)  # within a block
    assert disk.pread(102, 16384 + 49) == b"x" + bytes(100) + b"x"


def committed(database: Path, number: int) -> bytes:
    """The beginning of a block, as another program sees it."""
    with closing(sqlite3.connect(database)) as db:
        row = db.execute("SELECT substr(data, 1, 5) FROM block WHERE number = ?", (number,)).fetchone()
        return row[0] if row else b""


def test_sqlite_crash_keeps_what_was_answered(serve: Serve, tmp_path: Path) -> None:
    database = tmp_path / "disk.db"
    parameters = f"file={database}", "size=1M"
    server = Server(tmp_path, SQLITE, *parameters)  # not `serve`, which forbids a death by a signal
    try:
        disk, other = server.connect(), server.connect()
        assert disk.can_flush() and disk.can_fua()
        for number, flags in enumerate([0, nbd.CMD_FLAG_FUA, 0]):
            disk.pwrite(b"kept.", number * 4096, flags)
            assert committed(database, number) == b"kept."
            assert other.pread(5, number * 4096) == b"kept."
        disk.flush()
        other.pwrite(b"more", 2)
        disk.zero(4096, 4096)
        disk.trim(4096, 8192)
    finally:
        server.stop(signal.SIGKILL)
    after = serve(SQLITE, *parameters).connect()
    assert after.pread(8, 0) == b"kemore\0\0"
    assert extents(after, MiB, 0) == [(4096, 0), (MiB - 4096, HOLE_ZERO)]


def test_sqlite_grows(serve: Serve, tmp_path: Path) -> None:
    server = serve(SQLITE, f"file={tmp_path}/disk.db", "size=10000")
    server.connect().pwrite(b"last", 9996)
    server.stop()
    disk = serve(SQLITE, f"file={tmp_path}/disk.db", "size=1M").connect()
    assert disk.get_size() == MiB
    assert disk.pread(1000, 9500) == bytes(496) + b"last" + bytes(500)
    assert extents(disk, MiB, 0) == [(8192, HOLE_ZERO), (4096, 0), (MiB - 12288, HOLE_ZERO)]


def test_sqlite_settings_that_make_a_commit_last(serve: Serve, tmp_path: Path) -> None:
    tell = """
        import sys
        connect = open
        def open(readonly):
            db = connect(readonly)
            settings = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
            print(settings, file=sys.stderr)
            return db
    """
    server = serve(altered(tmp_path, "sqlite.py", after=tell), f"file={tmp_path}/disk.db")
    seen = len(server.log())
    server.connect()
    assert server.log()[seen:] == "['wal', 2]\n"  # 2 is FULL


def test_sqlite_without_room(serve: Serve, tmp_path: Path) -> None:
    limit = """
        connect = open
        def open(readonly):
            db = connect(readonly)
            db.execute("PRAGMA max_page_count = 200")
            return db
    """
    script = altered(tmp_path, "sqlite.py", after=limit)
    server = serve(script, f"file={tmp_path}/disk.db", "size=10M")
    disk = server.connect()
    disk.pwrite(b"first", 0)
    disk.pwrite(b"second", 3)
    with raises_errno(errno.EIO):
        disk.pwrite(b"x" * 8 * MiB, MiB)
    server.wait_for_log("database or disk is full")
    # That request has failed as a whole; what was answered before it is still there, and so is the disk.
    everything = b"firsecond".ljust(10 * MiB, b"\0")
    assert disk.pread(10 * MiB, 0) == everything
    disk.flush()
    disk.pwrite(b"x" * 100, MiB)
    disk.trim(MiB, MiB)
    disk.shutdown()  # nbdkit would wait for its client
    server.stop()
    assert serve(SQLITE, f"file={tmp_path}/disk.db", "size=10M").connect().pread(10 * MiB, 0) == everything


def test_sqlite_parameters(serve: Serve, start_fails: Callable[..., str], tmp_path: Path) -> None:
    assert serve(SQLITE, f"file={tmp_path}/other.db").connect().get_size() == 1024 * MiB
    assert nbdkit('--run=nbdinfo --size "$uri"', SQLITE, "size=1M", cwd=tmp_path).stdout == f"{MiB}\n"
    assert (tmp_path / "disk.db").exists()
    assert "this disk has file=PATH and size=SIZE" in start_fails(SQLITE, "files=1M")
    assert "big" in start_fails(SQLITE, f"file={tmp_path}/other.db", "size=big")
    (tmp_path / "text").write_text("This is not a database. " * 100)
    assert "file is not a database" in start_fails(SQLITE, f"file={tmp_path}/text")
    assert "unable to open database file" in start_fails(SQLITE, f"file={tmp_path}/nowhere/disk.db")


def test_sqlite_in_the_background(tmp_path: Path) -> None:
    image = sparse_image(tmp_path / "image", 4 * MiB, at_100=100000)
    with in_background(tmp_path, "sqlite.py", "file=disk.db", "size=4M") as uri:
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, uri)
    assert rows(tmp_path / "disk.db") == 25, "relative to where the server was started"
    with in_background(tmp_path, "sqlite.py", "file=disk.db", "size=4M") as uri:
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri)
    (tmp_path / "text").write_text("This is not a database. " * 100)
    with pytest.raises(AssertionError, match="file is not a database"):  # said before it goes there
        with in_background(tmp_path, "sqlite.py", "file=text"):
            pass
