# SPDX-License-Identifier: BSD-3-Clause
"""Tracing: -D python.calls=1 logs each callback, -D python.timing=1 tells at the end how long they took."""

from __future__ import annotations

import re
import sys
from types import ModuleType

import nbd
import pytest

from conftest import Serve
from disks import disk
from harness import raises_errno

TRACED = disk("""
    import atexit, errno

    class Handle:
        def __repr__(self): raise KeyError

    def config(key, value): pass
    def open(readonly): return Handle()
    def pread(h, buf, offset, flags):
        if offset: raise KeyError("odd " + "x" * 100)
        buf[:] = b"x" * len(buf)
    def pwrite(h, buf, offset, flags): buf = None
    def extents(h, count, offset, flags): yield (offset, count, 0)

    @atexit.register
    def cleanup(): print("cleaned up")
""")


def told(log: str, flag: str) -> list[str]:
    """What the log has of one flag's lines, times left out."""
    return re.findall(rf"^nbdkit: (?:\S+: )?error: \S*disk\.py: {flag}: (.*?)(?:, [0-9.]+ us)?$", log, re.MULTILINE)


def use(serve: Serve, text: str, *options: str) -> str:
    server = serve(text, "colour=red", options=options)
    h = server.connect()
    assert h.pread(512, 0) == b"x" * 512
    with raises_errno(5):
        h.pread(1, 4096)
    h.pwrite(b"abc", 0)
    h.block_status(4096, 0, lambda *_: 0)
    h.shutdown()
    assert server.stop() == 0
    return server.log()


def test_calls(serve: Serve) -> None:
    log = use(serve, TRACED, "-D", "python.calls=1")
    assert told(log, "calls") == [
        "config('colour', 'red') = None",
        "open(False) = <Handle>",
        "get_size(<Handle>) = 1048576",
        "pread(<Handle>, <512 bytes>, 0, 0) = None",
        f"pread(<Handle>, <1 bytes>, 4096, 0) raised KeyError: 'odd {'x' * 72}...",
        "pwrite(<Handle>, <3 bytes>, 0, 0) = None",
        "extents(<Handle>, 4096, 0, 0) = [(0, 4096, 0)]",
        "cleanup() = None",
    ]
    assert log.count("cleaned up") == 1
    assert log.count("Traceback") == 1 and told(log, "timing") == []


def test_timing(serve: Serve) -> None:
    log = use(serve, TRACED.replace("buf[:] = b", "import time; time.sleep(0.3); buf[:] = b"),
              "-D", "python.timing=1")
    heads, *rows = (line.split("  ") for line in told(log, "timing"))
    assert [word.strip() for word in heads if word] == [
        "callback", "calls", "failed", "total s", "mean us", "p50 us", "p90 us", "p99 us", "max us"]
    table = {name: [float(cell) for cell in cells] for name, *cells in (" ".join(row).split() for row in rows)}
    assert list(table) == ["config", "cleanup", "open", "get_size", "pread", "pwrite", "extents"]
    calls, failed, total, mean, p50, p90, p99, most = table["pread"]
    assert (calls, failed) == (2, 1)
    # One slept, the other failed at once.
    assert p50 < 290_000 < p90 <= p99 <= most <= total * 1e6 + 1000
    assert mean == pytest.approx(total / 2 * 1e6, rel=0.01)
    assert told(log, "calls") == []


def test_both_and_neither(serve: Serve) -> None:
    log = use(serve, TRACED, "-D", "python.calls=1", "-D", "python.timing=1")
    assert len(told(log, "calls")) == len(told(log, "timing")) == 8
    log = use(serve, TRACED)
    assert told(log, "calls") == told(log, "timing") == []
    log = use(serve, TRACED, "-D", "python.calls=0")
    assert told(log, "calls") == []


def test_a_traced_disk_is_the_same(serve: Serve) -> None:
    """It takes count still, a kept buffer is still found, and the tracer keeps nothing."""
    text = disk("""
        import errno
        kept = []
        def pread(h, count, offset, flags): return b"y" * count
        def pwrite(h, buf, offset, flags):
            if offset: kept.append(buf)
        def zero(h, count, offset, flags): nbdkit.set_error(errno.EOPNOTSUPP)
    """)
    server = serve(text, options=("-D", "python.calls=1", "-D", "python.timing=1"))
    h = server.connect()
    assert h.pread(3, 0) == b"yyy"
    for _ in range(3):
        h.pwrite(b"abc", 0)
    h.zero(512, 0)
    with pytest.raises(nbd.Error):
        h.pwrite(b"abc", 1)
    assert "the request's buffer is still in use" in server.log()


def test_a_class_is_traced(serve: Serve) -> None:
    server = serve("""
import nbdkit
secret = nbdkit.parameter("secret", nbdkit.password)
user = nbdkit.parameter("user", str)

@nbdkit.disk
class Disk:
    def __init__(self, readonly): pass
    def __repr__(self): return "a disk"
    def get_size(self): return 4096
    def pread(self, buf, offset, flags): pass
    @staticmethod
    def list_exports(readonly, is_tls): yield "a"
""", "secret=xyzzy", "user=me", options=("-D", "python.calls=1"))
    server.connect()
    assert told(server.log(), "calls") == [
        "config('secret', ...) = None", "config('user', 'me') = None", "config_complete() = None",
        "open(False) = a disk", "get_size(a disk) = 4096"]
    assert "xyzzy" not in server.log()


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, which without a server has nothing to log to."""
    monkeypatch.setitem(sys.modules, "_nbdkit", ModuleType("_nbdkit"))
    monkeypatch.delitem(sys.modules, "nbdkit._trace", raising=False)
    from nbdkit import _trace

    return _trace


def test_percentiles_are_right_to_two_percent(trace: ModuleType) -> None:
    times = trace.Histogram()
    for nanoseconds in range(1, 100_001):
        times.add(nanoseconds * 10, failed=nanoseconds % 10 == 0)
    for percent in range(1, 101):
        assert times.percentile(percent) == pytest.approx(percent * 10_000, rel=0.02)
    assert (times.calls, times.failed, times.longest, times.total) == (100_000, 10_000, 10**6, 50_000_500_000)
    assert len(times.counts) < 700
