# SPDX-License-Identifier: BSD-3-Clause
"""A stack of three translators that are nothing together: every disk of test_model.py is still as its model.

The outer and the inner one change all data, by the same mask; the one between hands copies on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis.errors import Flaky

from filter_kit import FILTER
from harness import write_script
from model import DISKS
from model_real import running
from test_model import EXAMPLES, ROUND, SEARCH, check

MASKS = """
import nbdkit

table = bytes(byte ^ 0x5a for byte in range(256))

@nbdkit.translator
class Mask:
    def pread(self, next, buf, offset, flags):
        next.pread(buf, offset, flags)
        buf[:] = bytes(buf).translate(table)

    def pwrite(self, next, buf, offset, flags):
        next.pwrite(bytes(buf).translate(table), offset, flags)

    def zero(self, next, count, offset, flags):
        next.zero(count, offset, flags)

    def extents(self, next, count, offset, flags):
        return next.extents(count, offset, flags)
"""
COPIES = """
def pread(h, next, count, offset, flags): return bytes(next.pread(count, offset, flags))
def pwrite(h, next, buf, offset, flags): next.pwrite(bytearray(buf), offset, flags=flags)
def flush(h, next, flags): next.flush(flags)
def trim(h, next, count, offset, flags): next.trim(count, offset, flags)
def zero(h, next, count, offset, flags): next.zero(offset=offset, count=count, flags=flags)
def cache(h, next, count, offset, flags): next.cache(count, offset)
def extents(h, next, count, offset, flags): yield from next.extents(count, offset, flags)
def get_size(h, next): return next.get_size()
def can_zero(h, next): return next.can_zero()
"""


def stack(folder: Path, outer: str = MASKS) -> list[str]:
    return [f"translator={write_script(folder, text, name)}" for text, name in
            [(outer, "outer.py"), (COPIES, "copies.py"), (MASKS, "inner.py")]]


@pytest.mark.parametrize("disk", DISKS)
def test_a_disk_is_as_its_model(tmp_path: Path, disk: str, record_property: Callable[[str, object], None]) -> None:
    with running(tmp_path, DISKS[disk], arguments=stack(tmp_path), options=(f"--filter={FILTER}",)) as real:
        try:
            for number in range(0, EXAMPLES, ROUND):
                check(real, number=number)
        finally:
            record_property("model", dict(real.figures))


@pytest.mark.parametrize(("good", "bad"), [
    ("next.zero(count, offset, flags)", "next.zero(count, offset)"),
    ("next.pwrite(bytes(buf).translate(table), offset, flags)", "next.pwrite(bytes(buf), offset, flags)"),
    ("next.pwrite(bytes(buf).translate(table), offset, flags)", "next.pwrite(bytes(buf).translate(table), offset)"),
    ("return next.extents(count, offset, flags)", "return [(offset, count, 0)]"),
])
def test_a_defect_is_found(tmp_path: Path, good: str, bad: str) -> None:
    outer = MASKS.replace(good, bad)
    assert outer != MASKS
    with running(tmp_path, DISKS["buf, parallel"], arguments=stack(tmp_path, outer),
                 options=(f"--filter={FILTER}",)) as real:
        with pytest.raises((AssertionError, Flaky)):
            check(real, SEARCH)
