# SPDX-License-Identifier: BSD-3-Clause
"""A translator's declared parameters, and what traces its calls: as a disk's, over any plugin."""

from __future__ import annotations

import errno
import re

from filter_kit import Refused, Translate
from harness import raises_errno

LIMIT = """
import errno, nbdkit

limit = nbdkit.parameter("limit", nbdkit.size, default="1M", help="How much can be read.")
secret = nbdkit.parameter("secret", nbdkit.password, default="")

def pread(h, next, buf, offset, flags):
    if offset + len(buf) > limit.value:
        raise nbdkit.Error(errno.EPERM, f"beyond {limit.value}")
    next.pread(buf, offset, flags)
"""


def test_what_is_declared_is_the_translators_and_the_rest_the_plugins(translate: Translate) -> None:
    h = translate(LIMIT, "limit=4k", "allocator=malloc").connect()
    assert h.pread(4096, 0) == bytes(4096)
    with raises_errno(errno.EPERM):
        h.pread(1, 4096)


def test_each_translator_has_its_own(translate: Translate) -> None:
    """Those that follow it, up to the next one; the first is the outermost."""
    server = translate(LIMIT, "limit=8k", LIMIT, "limit=4k")
    h = server.connect()
    assert h.pread(4096, 0) == bytes(4096)
    for offset in 8192, 4096:
        with raises_errno(errno.EPERM):
            h.pread(1, offset)
    assert re.findall(r"translator(\d)\.py: pread: (beyond .*) \[EPERM\]", server.log()) == [
        ("0", "beyond 8192"), ("2", "beyond 4096")]


def test_config_by_hand_gets_next_too(translate: Translate, refused: Refused) -> None:
    by_hand = LIMIT + """
def config(next, key, value):
    if key == "colour":
        raise nbdkit.Error(errno.EINVAL, "no colours")
    next.config(key, value)
"""
    assert "config: no colours [EINVAL]" in refused(by_hand, "colour=red")
    assert translate(by_hand, "limit=4k", "allocator=malloc").connect().pread(1, 0) == b"\0"


def test_what_is_wrong_is_said(refused: Refused) -> None:
    assert re.search(r"translator0\.py: config: limit: expected a size such as .*, got 'x'", refused(LIMIT, "limit=x"))
    assert "limi" in refused(LIMIT, "limi=1")  # the plugin's word


def test_calls_are_traced(translate: Translate) -> None:
    server = translate(LIMIT, "limit=4k", "secret=xyzzy", options=("-D", "python.calls=1"))
    server.connect().pread(512, 0)
    told = re.findall(r"translator0\.py: calls: (.*), [0-9.]+ us$", server.log(), re.MULTILINE)
    assert [re.sub(r"<[^ ]*Next[^>]*>", "next", line) for line in told if not line.startswith("config_complete")] == [
        "config(next, 'limit', '4k') = None", "config(next, 'secret', ...) = None",
        "pread(None, next, <512 bytes>, 0, 0) = None"]
    assert "xyzzy" not in server.log()
