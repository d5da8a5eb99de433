# SPDX-License-Identifier: BSD-3-Clause
"""What a translator does not define passes through; what it defines is wound down and unwound."""

from __future__ import annotations

import errno

import nbd
import pytest

from filter_kit import SIZE, Requests, Translate
from harness import extents, raises_errno

# Every request, passed on: by next, and logged on both ways.
TRACE = """
import nbdkit

def around(name):
    def callback(h, next, *arguments):
        nbdkit.debug(f"down {name}")
        answer = getattr(next, name)(*arguments)
        nbdkit.debug(f"up {name} {type(answer).__name__}")
        return answer
    return callback

for name in ("get_size export_description block_size can_write can_flush is_rotational can_trim can_zero can_fast_zero "
             "can_extents can_fua can_multi_conn can_cache pread pwrite flush trim zero extents cache").split():
    globals()[name] = around(name)
"""

# Nothing but a name.
NOTHING = """
def config_complete(): pass
"""


@pytest.mark.parametrize("translators", [[NOTHING], [TRACE], [NOTHING, TRACE], [TRACE, NOTHING, TRACE]],
                         ids=["nothing", "trace", "nothing-trace", "trace-nothing-trace"])
def test_every_request_reaches_the_plugin(translate: Translate, translators: list[str]) -> None:
    server = translate(*translators, verbose=True)
    h = server.connect()
    assert h.get_size() == SIZE
    assert not h.is_read_only() and h.can_flush() and h.can_trim() and h.can_zero() and h.can_fua() and h.can_cache()
    data = bytes(range(256)) * 256
    h.pwrite(data, 65536)
    h.pwrite(data, 262144, nbd.CMD_FLAG_FUA)
    assert h.pread(len(data), 65536) == data
    assert extents(h, SIZE, 0) == [(65536, 3), (65536, 0), (131072, 3), (65536, 0), (SIZE - 327680, 3)]
    h.flush()
    h.cache(4096, 0)
    h.trim(32768, 65536)
    h.zero(32768, 98304)
    assert h.pread(65536, 65536) == bytes(65536)
    assert h.pread(65536, 262144) == data
    assert extents(h, SIZE, 0) == [(262144, 3), (65536, 0), (SIZE - 327680, 3)]
    h.zero(65536, 262144, nbd.CMD_FLAG_FAST_ZERO)
    assert h.pread(65536, 262144) == bytes(65536)
    log = server.log()
    for name in ("get_size", "can_write", "pread", "pwrite", "flush", "trim", "zero", "extents", "cache"):
        if TRACE in translators:
            assert log.count(f"down {name}") == log.count(f"up {name}") > 0, name
        else:
            assert f"down {name}" not in log


XOR = """
def xor(data):
    return (int.from_bytes(data, "big") ^ int.from_bytes(b"\\x5a" * len(data), "big")).to_bytes(len(data), "big")

def pread(h, next, buf, offset, flags):
    next.pread(buf, offset, flags)
    buf[:] = xor(buf)

def pwrite(h, next, buf, offset, flags):
    next.pwrite(xor(buf), offset, flags)
"""


def test_data_is_changed_on_its_way(translate: Translate) -> None:
    h = translate(XOR).connect()
    h.pwrite(b"secret" * 100, 512)
    assert h.pread(600, 512) == b"secret" * 100
    # What was never written reads as the zeros of the disk, translated.
    assert h.pread(16, 0) == b"\x5a" * 16


def test_zeros_are_written_where_only_writes_are_translated(translate: Translate) -> None:
    h = translate(XOR).connect()
    h.pwrite(b"x" * 4096, 0)
    h.zero(4096, 0)
    # Zeroed below, it would read as 0x5a.
    assert h.pread(4096, 0) == bytes(4096)
    with raises_errno(errno.ENOTSUP):
        h.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO)


def test_no_holes_where_only_reads_are_translated(translate: Translate) -> None:
    h = translate(XOR).connect()
    # The memory plugin has nothing but holes, which would mean zeros.
    assert extents(h, SIZE, 0) == [(SIZE, 0)]


def test_a_read_may_return_bytes(translate: Translate) -> None:
    server = translate("""
def pread(h, next, count, offset, flags):
    return next.pread(count, offset).replace(b"a", b"b")
""")
    h = server.connect()
    h.pwrite(b"banana", 0)
    assert h.pread(6, 0) == b"bbnbnb"


def test_an_operation_is_answered_early(translate: Translate) -> None:
    """Without winding: what the plugin has never been asked for."""
    server = translate("""
import errno, nbdkit
absent = set()
def pread(h, next, buf, offset, flags):
    if offset in absent:
        raise nbdkit.Error(errno.EIO, "known to be absent")
    next.pread(buf, offset)
def pwrite(h, next, buf, offset, flags):
    if bytes(buf[:6]) == b"absent":
        absent.add(offset)
    else:
        next.pwrite(buf, offset, flags)
""", verbose=True, options=("-D", "nbdkit.backend.datapath=1"))
    h = server.connect()
    h.pwrite(b"absent", 1024)
    with raises_errno(errno.EIO):
        h.pread(512, 1024)
    assert "memory: pread count=512 offset=1024" not in server.log()
    assert "memory: pwrite" not in server.log()
    assert h.pread(512, 2048) == bytes(512)
    assert "memory: pread count=512 offset=2048" in server.log()
    assert "known to be absent [EIO]" in server.log()


def test_a_request_has_data_of_its_own_from_the_way_down_to_the_way_up(translate: Translate) -> None:
    """Local variables, whatever else is going on at the same time."""
    server = translate("""
import threading
started = threading.Barrier(2)
def pread(h, next, buf, offset, flags):
    mine = offset
    started.wait(20)
    next.pread(buf, offset)
    buf[:8] = mine.to_bytes(8, "big")
""")
    h = server.connect()
    buffers = {offset: nbd.Buffer(512) for offset in (512, 1024)}
    for offset, buffer in buffers.items():
        h.aio_pread(buffer, offset, lambda error: 1)
    while h.aio_in_flight():
        h.poll(-1)
    for offset, buffer in buffers.items():
        assert buffer.to_bytearray()[:8] == offset.to_bytes(8, "big")


def test_a_changed_size_and_what_passes_beyond_it(translate: Translate) -> None:
    server = translate("""
def get_size(h, next): return next.get_size() * 2
""")
    h = server.connect()
    assert h.get_size() == 2 * SIZE
    assert h.pread(512, SIZE - 512) == bytes(512)
    requests: Requests = [lambda: h.pread(512, SIZE), lambda: h.pwrite(b"x" * 512, SIZE), lambda: h.trim(512, SIZE),
                          lambda: h.zero(512, SIZE), lambda: h.cache(512, SIZE), lambda: h.pread(512, SIZE - 256)]
    for request in requests:
        with raises_errno(errno.EIO):
            request()
    assert "pread: the translator has no such callback, and what is below cannot be asked for this: expected a range " \
           f"within the {SIZE} bytes of what is below, got 512 at offset {SIZE}" in server.log()
