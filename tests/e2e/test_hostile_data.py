# SPDX-License-Identifier: BSD-3-Clause
"""What clients write, and ask to be zeroed: data stays data, and lands where it belongs."""

from __future__ import annotations

import errno
import random
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import nbd
import pytest

import wire
from conftest import Serve
from disks import disk
from harness import EXAMPLES, Server, raises_errno
from test_examples_web import IMAGE, Nginx
from wire import Wire, option, request

MiB = 1 << 20
SIZE = MiB
PATTERNS = {
    "zeros": bytes(4096), "ones": b"\xff" * 4096, "one bit": bytes(4095) + b"\x01",
    "every byte": bytes(range(256)) * 16, "text of SQL": b"'); DROP TABLE block; --\0\"" * 100,
    "a database": b"SQLite format 3\0" + bytes(8000),
    "formats": b"%s%n{}{0.__class__}$HOME" * 100, "escapes": b"\x1b[2J\x1b]0;x\x07\r\n" * 100,
    "not UTF-8": b"\xff\xfe\xed\xa0\x80" * 999, "chance": random.Random(1).randbytes(70000), "a byte": b"\n",
    "messages": request(wire.WRITE, 0, 8, b"embedded") + request(wire.DISCONNECT) + option(wire.ABORT) + wire.GREETING,
    "replies": struct.pack(">IIQ", wire.SIMPLE_REPLY, 0, 1) * 99,
}
# Each is refused by nbdkit, and leaves the connection as it was.
REFUSED = [
    request(wire.WRITE, SIZE - 4, 8, b"too long"), request(wire.WRITE, 2**64 - 4, 8, b"negative"), request(wire.WRITE),
    request(wire.WRITE, 0, 8, b"bad flag", flags=1 << 15), request(wire.WRITE, 2**63, 8, b"half way"),
    *(request(kind, offset, count) for kind in (wire.ZERO, wire.TRIM, wire.READ, wire.CACHE, wire.STATUS)
      for offset, count in ((SIZE, 1), (SIZE - 4, 8), (2**64 - 4, 4), (0, 0), (0, 2**32 - 1), (2**63, 2**31))),
    request(77, 0, 8), request(wire.ZERO, 0, 4096, flags=wire.DF), request(wire.READ, 0, 4096, flags=1 << 10),
]


@pytest.fixture(params=["ramdisk.py", "ramdisk_v1.py", "ramdisk_count.py", "sqlite.py", "file.py"])
def example(request: pytest.FixtureRequest, serve: Serve, tmp_path: Path) -> Iterator[Server]:
    """A disk of zeros; what is done to it is no error of its own."""
    (tmp_path / "disk.img").write_bytes(bytes(SIZE))
    parameters = {
        "sqlite.py": ["size=1M", f"file={tmp_path / 'disk.db'}"],
        "file.py": [f"file={tmp_path / 'disk.img'}"],
    }.get(request.param, ["size=1M"])
    server = serve(EXAMPLES / request.param, *parameters)
    yield server
    assert " error: " not in server.log().replace("error: invalid request: ", "")
    if request.param == "sqlite.py":
        with closing(sqlite3.connect(tmp_path / "disk.db")) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("block",)]
            good = "typeof(data) = 'blob' AND length(data) = 4096 AND number BETWEEN 0 AND 255"
            assert db.execute(f"SELECT count(*) FROM block WHERE NOT ({good})").fetchall() == [(0,)]


def test_data_is_only_data(example: Server) -> None:
    model = bytearray(SIZE)
    with Wire(example.socket).ready() as writer, Wire(example.socket).ready() as reader:
        for data in PATTERNS.values():
            for offset in (0, 8192, 100001, SIZE - len(data)):
                assert writer.do(wire.WRITE, offset, len(data), data).error == 0
                model[offset : offset + len(data)] = data
                assert reader.do(wire.READ, offset, len(data)).data == data
        assert reader.do(wire.READ, 0, SIZE).data == model


def test_what_is_refused_changes_nothing(example: Server) -> None:
    with Wire(example.socket).ready() as client:
        assert client.do(wire.WRITE, 0, 12, b"as it was...").error == 0
        for number, message in enumerate(REFUSED):
            client.send(message)
            assert client.reply().error in (wire.EINVAL, wire.ENOSPC), number
        assert client.do(wire.READ, 0, SIZE).data == b"as it was...".ljust(SIZE, b"\0")


def test_what_is_refused_does_not_reach_the_web(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "nginx").mkdir()
    nginx = Nginx(tmp_path / "nginx")
    try:
        server = serve(EXAMPLES / "web.py", f"url={nginx.url}/disk.img")
        with Wire(server.socket).ready() as client:
            end = len(IMAGE)
            for offset, count in ((end, 1), (end - 1, 2), (2**63, 9), (2**64 - 9, 9), (0, 0), (0, 2**32 - 1)):
                assert client.do(wire.READ, offset, count).error == wire.EINVAL
            for kind in (wire.WRITE, wire.ZERO, wire.TRIM):
                assert client.do(kind, 0, 8, b"readonly" if kind == wire.WRITE else b"").error == wire.EPERM
            assert client.do(wire.READ, len(IMAGE) - 3, 3).data == IMAGE[-3:]
        assert [line[1] for line in nginx.requests(2)] == ["HEAD", "GET"]
    finally:
        nginx.stop()


# Zeros. A zero that declines becomes a pwrite of zeros, whoever arranges that.

DECLINES = {
    "set_error": "nbdkit.set_error(errno.EOPNOTSUPP)", "set_error, ENOTSUP": "nbdkit.set_error(errno.ENOTSUP)",
    "NotImplementedError": "raise NotImplementedError", "OSError": "raise OSError(errno.EOPNOTSUPP, 'not here')",
}
LARGE = """
    import errno, builtins, os

    calls = builtins.open(os.path.join(os.path.dirname(__file__), "calls"), "w", buffering=1)

    def get_size(h): return 1 << 30
    def can_fua(h): return nbdkit.FUA_NATIVE
    def flush(h, flags): pass

    def pwrite(h, buf, offset, flags):
        assert buf[:8].tobytes() == buf[-8:].tobytes() == bytes(8)
        print(offset, len(buf), flags, file=calls)
"""


@pytest.mark.peer_fails
@pytest.mark.parametrize("decline", DECLINES.values(), ids=DECLINES)
@pytest.mark.parametrize("flags", [0, nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_NO_HOLE])
def test_a_large_zero_is_written_where_it_belongs(serve: Serve, decline: str, flags: int) -> None:
    """Above 64 MiB it takes several writes: each byte of the range gets one zero, and no byte beside it."""
    server = serve(disk(LARGE) + f"\ndef zero(h, count, offset, flags):\n    {decline}\n")
    h = server.connect()
    begin, count = 5 * MiB + 1, 200 * MiB + 3
    h.zero(count, begin, flags)
    place = begin
    for line in (server.folder / "calls").read_text().splitlines():
        offset, length, fua = map(int, line.split())
        assert offset == place and length <= 64 * MiB and fua == (2 if flags == nbd.CMD_FLAG_FUA else 0)
        place += length
    assert place == begin + count


@pytest.mark.peer_fails
def test_a_large_zero_on_the_file_example(serve: Serve, tmp_path: Path) -> None:
    """A client that wants to keep the space: the example declines that."""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(160 * MiB)
        for offset in (0, 64, 65, 127, 128, 150):
            file.seek(offset * MiB)
            file.write(b"data")
    h = serve(EXAMPLES / "file.py", f"file={image}").connect()
    h.zero(160 * MiB - 512, 512, nbd.CMD_FLAG_NO_HOLE)
    assert h.pread(4, 0) == b"data"
    assert [h.pread(4, offset * MiB) for offset in (64, 65, 127, 128, 150)] == [bytes(4)] * 5


UNSUPPORTED = ["raise NotImplementedError", "raise OSError(errno.ENOTSUP, 'no')",
               "nbdkit.set_error(errno.EOPNOTSUPP); return 1 / 0"]


@pytest.mark.peer_fails
@pytest.mark.parametrize("fails", ["pwrite", "flush"])
@pytest.mark.parametrize("failure", UNSUPPORTED)
def test_what_a_zero_leads_to_may_be_unsupported(serve: Serve, fails: str, failure: str) -> None:
    """nbdkit would take that for zero's own way to decline, and abort: the client gets EINVAL."""
    h = serve(disk(f"""
        import errno
        def can_fua(h): return nbdkit.FUA_EMULATE
        def zero(h, count, offset, flags): nbdkit.set_error(errno.EOPNOTSUPP)
        def pwrite(h, buf, offset, flags): {failure if fails == "pwrite" else "pass"}
        def flush(h, flags): {failure if fails == "flush" else "pass"}
    """)).connect()
    for flags in (nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE):
        with raises_errno(errno.EINVAL):
            h.zero(4096, 0, flags)
        with raises_errno(errno.EINVAL):
            h.pwrite(bytes(512), 0, nbd.CMD_FLAG_FUA)
    assert h.pread(4, 0) == bytes(4)


@pytest.mark.peer_fails
def test_a_promise_that_is_not_kept_with_a_zero_that_declines(serve: Serve) -> None:
    server = serve(disk("""
        import errno
        def can_write(h): return True
        def zero(h, count, offset, flags): raise NotImplementedError
    """))
    h = server.connect()
    with raises_errno(errno.EINVAL):
        h.zero(4096, 0)
    assert h.pread(4, 0) == bytes(4)
