# SPDX-License-Identifier: BSD-3-Clause
"""The classic RAM disk, as people have written it for years, in both API versions, served unchanged."""

from __future__ import annotations

import errno

import nbd

from conftest import Serve, StartFails
from harness import raises_errno

MiB = 1024 * 1024
PATTERN = bytes(range(256)) * 4

CLASSIC_V2 = """
    import errno

    import nbdkit

    API_VERSION = 2

    print("loading the disk")
    size = 0
    disk = bytearray()

    def config(key, value):
        global size
        nbdkit.debug(f"config {key}={value}")
        if key == "size":
            size = nbdkit.parse_size(value)
        else:
            raise RuntimeError(f"unknown parameter {key}")

    def config_complete():
        global disk
        if size == 0:
            raise RuntimeError("the size parameter is missing")
        disk = bytearray(size)

    def get_ready():
        print("ready")

    def open(readonly):
        nbdkit.debug(f"open: readonly={readonly}")
        return 1

    def close(h):
        nbdkit.debug("close")

    def get_size(h):
        return len(disk)

    def can_multi_conn(h):
        return True

    def pread(h, count, offset, flags):
        nbdkit.debug(f"pread {count} at {offset}")
        return disk[offset : offset + count]

    def pwrite(h, buf, offset, flags):
        nbdkit.debug(f"pwrite {len(buf)} at {offset}")
        end = offset + len(buf)
        disk[offset:end] = buf

    def flush(h, flags):
        pass

    def zero(h, count, offset, flags):
        if not flags & nbdkit.FLAG_MAY_TRIM:
            nbdkit.debug("zero: left to pwrite")
            nbdkit.set_error(errno.EOPNOTSUPP)
            return
        print(f"zero: {count} at {offset}")
        disk[offset : offset + count] = bytes(count)
"""

CLASSIC_V1 = """
    import errno

    import nbdkit

    disk = bytearray(1024 * 1024)

    def config(key, value):
        print(f"config: {key} is {value}")

    def open(readonly):
        print("open: readonly=%d" % readonly)
        return {"readonly": readonly}

    def close(h):
        print("close")

    def get_size(h):
        return len(disk)

    def pread(h, count, offset):
        return disk[offset : offset + count]

    def pwrite(h, buf, offset):
        disk[offset : offset + len(buf)] = buf

    def flush(h):
        pass

    def trim(h, count, offset):
        disk[offset : offset + count] = bytearray(count)

    def zero(h, count, offset, may_trim):
        if may_trim:
            print("zero: %d at %d" % (count, offset))
            disk[offset : offset + count] = bytearray(count)
        else:
            nbdkit.set_error(errno.EOPNOTSUPP)
"""


def check_ram_disk(h: nbd.NBD) -> None:
    """Write, read back at odd places, then zero both ways: by the script and by nbdkit's fallback to pwrite."""
    assert h.get_size() == MiB
    assert h.pread(4096, MiB - 4096) == bytes(4096)
    h.pwrite(PATTERN, 511)
    assert h.pread(len(PATTERN) + 2, 510) == b"\0" + PATTERN + b"\0"
    h.zero(100, 611)
    assert h.pread(len(PATTERN), 511) == PATTERN[:100] + bytes(100) + PATTERN[200:]
    h.pwrite(PATTERN, 511)
    h.zero(100, 611, nbd.CMD_FLAG_NO_HOLE)
    assert h.pread(len(PATTERN), 511) == PATTERN[:100] + bytes(100) + PATTERN[200:]
    h.flush()


def test_classic_version_2(serve: Serve) -> None:
    server = serve(CLASSIC_V2, "size=1M", verbose=True)
    h = server.connect()
    assert h.can_multi_conn() and h.can_flush() and h.can_zero() and not h.can_trim()
    check_ram_disk(h)
    h.shutdown()
    server.wait_for_log("debug: close$")
    assert server.stop() == 0
    for line in ("config size=1M", "open: readonly=False", "pread 4096 at 1044480", "zero: left to pwrite"):
        assert f"debug: {line}\n" in server.log()
    for line in ("loading the disk", "ready", "zero: 100 at 611"):
        assert f"{line}\n" in server.log()


def test_classic_version_2_wants_its_parameter(start_fails: StartFails) -> None:
    assert "the size parameter is missing" in start_fails(CLASSIC_V2)
    assert "unknown parameter colour" in start_fails(CLASSIC_V2, "size=1M", "colour=red")


def test_classic_version_1(serve: Serve) -> None:
    server = serve(CLASSIC_V1, "colour=red")
    h = server.connect()
    assert h.can_flush() and h.can_zero() and h.can_trim() and not h.is_read_only()
    check_ram_disk(h)
    h.pwrite(PATTERN, 0)
    h.trim(512, 0)
    assert h.pread(1024, 0) == bytes(512) + PATTERN[512:]
    h.shutdown()
    server.wait_for_log("^close$")
    assert server.stop() == 0
    assert server.log() == "config: colour is red\nopen: readonly=0\nzero: 100 at 611\nclose\n"


def test_classic_read_only(serve: Serve) -> None:
    h = serve(CLASSIC_V1 + """
    def export_description(h):
        return str(h)
    """, options=("-r",)).connect(full_info=True)
    assert h.is_read_only()
    assert h.get_export_description() == "{'readonly': True}"
    with raises_errno(errno.EPERM):
        h.pwrite(bytes(512), 0)
