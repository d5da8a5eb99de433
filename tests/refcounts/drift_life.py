# SPDX-License-Identifier: BSD-3-Clause
"""The same of the callbacks that come once in a server's life, and of the functions of the module.

When nbdkit calls after_fork, it is over with most of those callbacks. So the script calls them again from there, as
nbdkit does: through the plugin's struct. load and unload are left out: the plugin loads one script, once.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nbd
import pytest

from drift import CONNECTING, DECLARES, FEWER, NOT_A_LEVEL, REQUESTS, SLACK, TIMES, UNDONE, Record, controlled, measure
from harness import PLUGIN, ROOT, serving, write_script
from steered import WELL, script

LIFE = {
    "dump_plugin": UNDONE,
    "config": UNDONE,
    "config_complete": UNDONE,
    "thread_model": ["None", *NOT_A_LEVEL],
    "get_ready": UNDONE,
    "after_fork": UNDONE,
    "cleanup": UNDONE,
}
LIFE["thread_model"].remove("3")
# The struct's members in their order, after two numbers.
MEMBERS = """name longname version description load unload config config_complete config_help open close get_size
    can_write can_flush is_rotational can_trim pread_v1 pwrite_v1 flush_v1 trim_v1 zero_v1 errno_is_preserved
    dump_plugin can_zero can_fua pread pwrite flush trim zero magic_config_key can_multi_conn can_extents extents
    can_cache cache thread_model can_fast_zero preconnect get_ready after_fork list_exports default_export
    export_description cleanup block_size""".split()

AGAIN = f"""
import ctypes
import json
import os

after_fork_again = after_fork
serves = False


class Plugin(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint64), ("versions", ctypes.c_int * 2)]
    _fields_ += [(name, ctypes.c_void_p) for name in {MEMBERS}]


def after_fork():
    global serves
    if serves:
        return after_fork_again()
    serves = True
    # Not CDLL, which would release the GIL: this thread is in a callback already, and the core knows that.
    plugin_init = ctypes.PyDLL(PLUGIN).plugin_init
    plugin_init.restype = ctypes.POINTER(Plugin)
    arguments = [b"key", b"value"] if CALLBACK == "config" else []
    returned = None if CALLBACK in ("cleanup", "dump_plugin") else ctypes.c_int
    prototype = ctypes.PYFUNCTYPE(returned, *[ctypes.c_char_p] * len(arguments))
    callback = prototype(getattr(plugin_init().contents, CALLBACK))
    figures = []
    for expression, times in WAYS:
        listen(CALLBACK + " " + expression)
        for left in reversed(range(times + times // 10)):
            result = callback(*arguments)
            if returned and (result < 0) == (expression == "{WELL}"):
                raise ValueError(f"{{expression}}: {{result}}")
            if left == times:
                gc.collect()
                before = sys.gettotalrefcount()
        gc.collect()
        figures.append((expression, calls, sys.gettotalrefcount() - before))
    os.write(os.open(FIGURES, os.O_WRONLY | os.O_CREAT), json.dumps(figures).encode())
"""


@pytest.mark.parametrize("callback", LIFE)
def test_life(tmp_path: Path, record_property: Record, callback: str) -> None:
    ways = [(WELL, TIMES), ("RuntimeError('on purpose')", TIMES), (DECLARES, TIMES)]
    ways += [(way, FEWER) for way in LIFE[callback]]
    figures = tmp_path / "figures"
    given = f"CALLBACK, WAYS, PLUGIN, FIGURES = {callback!r}, {ways!r}, {PLUGIN!r}, {str(figures)!r}\n"
    # Without a client: after its cleanup, a server would let it wait.
    with serving(tmp_path, write_script(tmp_path, script("v2-buf") + AGAIN + given)) as server:
        os.truncate(server.logfile, 0)  # a traceback for each exception
    found = json.loads(figures.read_text())
    assert len(found) == len(ways)
    for (_, times), (way, called, drift) in zip(ways, found):
        record_property("drift", (callback, way, called, drift))
        assert called >= times, f"{callback}: {way}: {called} calls"
        assert abs(drift) <= SLACK, f"{callback}: {way}: {drift} references more after {called} calls"


# Those with a purpose of their own are left out: shutdown and disconnect.
FUNCTIONS = [
    "debug('text')", "debug(b'bytes')", "debug(Odd())", "set_error(5)", "set_error('5')", "set_error(10 ** 30)",
    "debug_hexdump(bytes(32))", "debug_hexdump('text')", "debug_hexdiff(bytes(32), bytes(32))",
    "debug_hexdiff(bytes(32), bytes(31))",
    "parse_size('1M')", "parse_size('much')", "parse_size(5)", "parse_bool('yes')", "parse_bool('perhaps')",
    "parse_probability('p', '1:4')", "parse_probability('p', 'x')", "parse_delay('d', '2.5s')", "parse_delay('d', 'x')",
    "parse_int('i', '5')", "parse_int('i', 'x')", "parse_uint64_t('i', '5')", "parse_int8_t('i', '500')",
    "read_password('secret')", "read_password('+/nonexistent')", "realpath('/usr/bin')", "realpath('/nonexistent')",
    "absolute_path('x')", "absolute_path(5)",
    "nanosleep(0, 1)", "nanosleep(-1, 0)", "stdio_safe()", "name()", "timestamp()",
    "export_name()", "is_tls()", "peer_name()", "peer_pid()", "peer_uid()", "peer_gid()", "peer_security_context()",
    "peer_tls_dn()", "peer_tls_issuer_dn()", "Error(28)", "Error('28')", "Error(-1)", "no_such_function()",
]


def test_functions(tmp_path: Path, record_property: Record) -> None:
    with controlled(tmp_path, script("v2-buf")) as (server, control):
        h = server.connect("main")

        def ask(times: int) -> None:
            for _ in range(times):
                try:
                    h.flush()
                except nbd.Error:
                    pass

        for function in FUNCTIONS:
            # Once for the good result and for the exception: this one's own, not an answer that is raised.
            measure(control, "flush", f"[nbdkit.{function}] and None", FEWER, ask,
                    lambda _, figures: record_property("drift", ("the functions", *figures[1:])))


def test_every_callback_is_here() -> None:
    table = (ROOT / "src" / "plugin" / "callbacks.def").read_text()
    names = set(re.findall(r"^CALLBACK \((\w+),", table, re.MULTILINE))
    assert {*REQUESTS, *CONNECTING, *LIFE} == names - {"load", "unload"}
