# SPDX-License-Identifier: BSD-3-Clause
"""No callback leaves references behind, whichever way it goes: `./test debug-python` runs this.

A debug CPython counts the references to all objects. Each callback is called TIMES times in each way: well, with an
exception, with nbdkit's own exception; and fewer times with each wrong answer. If a call left one reference, there
would be as many as there were calls. What is allowed is SLACK, for what is made once and kept: caches of types,
dictionaries, and code that is seen often enough.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbd
import pytest

from harness import TIMEOUT, Server, extents, serving, write_script
from recorder import SHAPES
from steered import WELL, Control, script

TIMES = 10_000
FEWER = 1_000
COLLECTED = 200  # the garbage collector runs in each of these
SLACK = 50

RAISES = "RuntimeError('on purpose', {argument})"
DECLARES = "nbdkit.Error(28, 'on purpose')"
UNDONE = ["generator()", "coroutine()"]
NOT_BYTES = ["None", "b''", "'text'", "memoryview(bytes(4096))[::2]", *UNDONE]
NOT_TRUTH = ["'yes'", "[]", "object()", "Odd()", *UNDONE]
NOT_A_LEVEL = ["3", "-1", "2 ** 70", "'1'", "Odd()", *UNDONE]
NOT_A_TEXT = ["5", "'\\udcff'", "'a\\0b'", "b'a\\0b'", *UNDONE]
KEPT = ["keep(buf)", "keep(buf[1:])", "keep(buf.cast('c'))", "knot(buf)"]

REQUESTS: dict[str, Callable[[nbd.NBD], object]] = {
    "pread": lambda h: h.pread(512, 0),
    "pwrite": lambda h: h.pwrite(bytes(512), 0),
    "flush": lambda h: h.flush(),
    "trim": lambda h: h.trim(512, 0),
    "zero": lambda h: h.zero(512, 0),
    "cache": lambda h: h.cache(512, 0),
    "extents": lambda h: extents(h, 512, 0),
}
WRONG_ANSWERS = {
    "pwrite": [*UNDONE, "5"],
    "flush": UNDONE,
    "trim": UNDONE,
    "zero": [*UNDONE, "nbdkit.set_error(95)", "nbdkit.Error(95)"],
    "cache": UNDONE,
    "extents": ["None", "[]", "'text'", "[5]", "[(0, 1)]", "[(0, -1, 0)]", "[(0, 512, 9)]", "[(1 << 40, 1, 0)]",
                "Odd()", "[(Odd(), 1, 0)]", "generator((0, 512, 0))", "coroutine()"],
    "preconnect": UNDONE,
    "list_exports": ["None", "'text'", "[5]", "[('a', 5)]", "[('a', 'b', 'c')]", "['\\udcff']", "Odd()",
                     "generator('a')", "coroutine()"],
    "default_export": NOT_A_TEXT,
    "open": UNDONE,
    "close": UNDONE,
    "export_description": NOT_A_TEXT,
    "get_size": ["-1", "2 ** 70", "'1'", "1.5", "Odd()", *UNDONE],
    "block_size": ["5", "(1, 512)", "(1, 512, -1)", "[1, 512, '1']", "(1, 512, Odd())", "Odd()", *UNDONE],
    "is_rotational": NOT_TRUTH,
    "can_write": NOT_TRUTH,
    "can_flush": NOT_TRUTH,
    "can_trim": NOT_TRUTH,
    "can_zero": NOT_TRUTH,
    "can_fast_zero": NOT_TRUTH,
    "can_extents": NOT_TRUTH,
    "can_multi_conn": NOT_TRUTH,
    "can_fua": NOT_A_LEVEL,
    "can_cache": NOT_A_LEVEL,
}
CONNECTING = [name for name in WRONG_ANSWERS if name not in REQUESTS]
# nbdkit asks these once for each client, and lets a client whose block_size fails ask nothing more.
ONCE_A_CONNECTION = ["list_exports", "default_export", "block_size"]
OPTIONS = 20  # that one client asks for; nbdkit bears with 32


@contextmanager
def controlled(folder: Path, text: str, *arguments: object) -> Iterator[tuple[Server, Control]]:
    """A server of this script, and the control of it."""
    with serving(folder, write_script(folder, text), *arguments) as server:
        yield server, Control(server.connect())
        # A traceback for each exception is much to read, and all of them are alike.
        os.truncate(server.logfile, 0)


def drift(control: Control, before: int) -> int:
    """How many references have come since; a connection that has just been closed is given the time to end."""
    deadline = time.monotonic() + TIMEOUT / 3
    while abs(found := control.references() - before) > SLACK and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


Record = Callable[[str, Any], None]


def measure(control: Control, callback: str, way: str, times: int, ask: Callable[[int], None], record: Record) -> None:
    """Have a callback called so many times in this way; the references must not have become more or fewer."""
    control.tell(callback, way)
    ask(times // 10)
    # What is made once can come late; what leaks does so each time.
    for _ in range(3):
        before, called = control.references(), control.calls()
        ask(times)
        after = drift(control, before)
        called = control.calls() - called
        if abs(after) <= SLACK:
            break
    record("drift", (callback, way, called, after))
    assert called >= times, f"{callback}: {way}: {called} calls"
    assert abs(after) <= SLACK, f"{callback}: {way}: {after} references more after {called} calls"


def measure_all(control: Control, callback: str, shape: str, ask: Callable[[int], None], record: Record,
                times: int = TIMES) -> None:
    argument = "readonly" if callback in ("preconnect", "list_exports", "default_export", "open") else "h"
    by_count = callback == "pread" and shape != "v2-buf"
    for way in WELL, RAISES.format(argument=argument), DECLARES:
        measure(control, callback, way, times, ask, record)
    wrong_answers = WRONG_ANSWERS.get(callback) or (NOT_BYTES if by_count else ["b''", *UNDONE])
    for way in wrong_answers:
        measure(control, callback, way, FEWER, ask, record)
    if callback == "pwrite" or callback == "pread" and not by_count:
        for way in KEPT:
            measure(control, callback, way, COLLECTED, ask, record)


@pytest.mark.parametrize("callback", REQUESTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_requests(tmp_path: Path, record_property: Record, shape: str, callback: str) -> None:
    with controlled(tmp_path, script(shape)) as (server, control):
        h = server.connect("main")

        def ask(times: int) -> None:
            for _ in range(times):
                with suppress(nbd.Error):
                    REQUESTS[callback](h)

        measure_all(control, callback, shape, ask, record_property)


def negotiate(server: Server, times: int, ask: Callable[[nbd.NBD], object]) -> None:
    """A connection that asks so many times, and then for no export."""
    h = nbd.NBD()
    h.set_opt_mode(True)
    h.set_full_info(True)
    # The client goes away without a word where the server has refused it.
    with suppress(nbd.Error):
        h.connect_unix(str(server.socket))
        for _ in range(times):
            with suppress(nbd.Error):
                ask(h)
        h.opt_abort()


@pytest.mark.parametrize("callback", CONNECTING)
@pytest.mark.parametrize("shape", SHAPES)
def test_connections(tmp_path: Path, record_property: Record, shape: str, callback: str) -> None:
    # Nothing of this depends on the API's version but can_fua: often in one shape is enough.
    times = TIMES if shape == "v2-buf" else FEWER
    with controlled(tmp_path, script(shape)) as (server, control):

        def ask(times: int) -> None:
            if callback == "preconnect":
                for _ in range(times):
                    negotiate(server, 0, nbd.NBD.opt_info)
            elif callback in ONCE_A_CONNECTION:
                what = (lambda h: h.opt_list(lambda *_: 0)) if callback == "list_exports" else nbd.NBD.opt_info
                for _ in range(times):
                    negotiate(server, 1, what)
            else:
                # Each opens the disk, asks all about it, and closes it.
                for _ in range(0, times, OPTIONS):
                    negotiate(server, OPTIONS, nbd.NBD.opt_info)

        measure_all(control, callback, shape, ask, record_property, times)
