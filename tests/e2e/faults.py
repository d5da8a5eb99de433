# SPDX-License-Identifier: BSD-3-Clause
"""A script that has every callback, each of which can fail by any statement, and what is to come of that.

The environment's FAULT says which callback is to fail first, and by which statement, as in `load: raise MemoryError`.
What is written at SIZE or beyond says the same of the next.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import NamedTuple

import nbd

from harness import Server, extents
from recorder import PREAD

SIZE = 4096

FAULTS = """
import builtins, os, resource, sys, warnings

import nbdkit

SIZE = 4096
armed = {}
hold = []
LIMITS = resource.getrlimit(resource.RLIMIT_AS)
if "FAULT" in os.environ:
    armed.update([os.environ["FAULT"].split(": ", 1)])

def step(name):
    if name in armed:
        exec(armed.pop(name))

def recurse(): return recurse()

def warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.warn("careful")

def exhaust():
    # What is held is not a local variable: there is still no memory when the exception is reported.
    with builtins.open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (16 << 20), LIMITS[1]))
    hold.append(None)
    for size in 1 << 20, 1 << 16, 1 << 12, 1 << 9, 1 << 6:
        try:
            while True: hold[0] = hold[0], bytes(size)
        except MemoryError: pass
    while True: hold[0] = hold[0],

class Own(BaseException): pass
class Deep(Exception):
    def __str__(self): return str(self)
class DeepInside(KeyError):
    def __repr__(self): return repr(self)
class Untold(Exception):
    def __str__(self): sys.exit("no text")
class Strange(OSError):
    errno = strerror = filename = property(lambda self: 1 / 0)
class Noted(Exception):
    __notes__ = property(lambda self: sys.exit("no notes"))
class Unborn(Exception):
    def __init__(self): 1 / 0

def in_a_circle(link):
    one, other = ValueError("one"), ValueError("other")
    setattr(one, link, other)
    setattr(other, link, one)
    return one

class Truth:
    def __bool__(self):
        step("can_write's answer")
        return True

def items(name, item):
    yield item
    step(f"{name}'s answer")

class Dying:
    def __init__(self, last): self.last = last
    def __del__(self): self.last()
"""


class Fault(NamedTuple):
    """What a statement leads to: the client's errno, and what the log has of it."""

    errno: int
    said: str
    tracebacks: int = 1


EXCEPTIONS = {
    "raise SystemExit": Fault(errno.EIO, r"\nSystemExit$"),
    "raise SystemExit(0)": Fault(errno.EIO, r"\nSystemExit: 0$"),
    "sys.exit('text')": Fault(errno.EIO, r"\nSystemExit: text$"),
    "raise KeyboardInterrupt": Fault(errno.EIO, r"\nKeyboardInterrupt$"),
    "raise GeneratorExit": Fault(errno.EIO, r"\nGeneratorExit$"),
    "raise StopIteration(7)": Fault(errno.EIO, r"\nStopIteration: 7$"),
    "raise StopAsyncIteration": Fault(errno.EIO, r"\nStopAsyncIteration$"),
    "raise Own('mine')": Fault(errno.EIO, r"\nOwn: mine$"),
    "raise MemoryError": Fault(errno.ENOMEM, r"\nMemoryError$"),
    "bytearray(1 << 62)": Fault(errno.ENOMEM, r"\nMemoryError$"),
    "recurse()": Fault(errno.EIO, r"in recurse\n.*\nRecursionError: maximum recursion depth exceeded"),
    "raise Deep": Fault(errno.EIO, r"\nDeep: <exception str\(\) failed>$"),
    "raise KeyError(DeepInside())": Fault(errno.EIO, r"\nKeyError: <exception str\(\) failed>$"),
    "raise Untold": Fault(errno.EIO, r"\nUntold: <exception str\(\) failed>$"),
    "raise Strange(28, 'odd')": Fault(errno.EIO, r"\nStrange: \[Errno 28\] odd$"),
    "raise Noted('secretly')": Fault(errno.EIO, r"Noted: secretly$", 0),
    "raise Unborn": Fault(errno.EIO, r"\nZeroDivisionError: division by zero$"),
    "raise ExceptionGroup('two', [ValueError(1), MemoryError()])":
        Fault(errno.EIO, r"ExceptionGroup: two \(2 sub-exceptions\)\n.*ValueError: 1\n.*MemoryError"),
    "raise BaseExceptionGroup('one', [SystemExit(0)])":
        Fault(errno.EIO, r"BaseExceptionGroup: one \(1 sub-exception\)\n.*SystemExit: 0"),
    "raise in_a_circle('__cause__')": Fault(errno.EIO, r"ValueError: other\n.*direct cause.*ValueError: one$"),
    "raise in_a_circle('__context__')": Fault(errno.EIO, r"ValueError: other\n.*During handling.*ValueError: one$"),
    "warn()": Fault(errno.EIO, r"\nUserWarning: careful$"),
}

Request = Callable[[nbd.NBD], object]
REQUESTS: dict[str, Request] = {
    "pread": lambda h: h.pread(512, 0),
    "pwrite": lambda h: h.pwrite(bytes(512), 0),
    "flush": lambda h: h.flush(),
    "trim": lambda h: h.trim(512, 0),
    "zero": lambda h: h.zero(512, 0),
    "extents": lambda h: extents(h, 512, 0),
    "cache": lambda h: h.cache(512, 0),
}


def script(shape: str) -> str:
    """A script that has every callback, each of which can fail."""
    flags = "" if shape == "v1" else ", flags"
    callbacks = {
        **dict.fromkeys(("load()", "dump_plugin()", "config(key, value)", "config_complete()", "get_ready()",
                         "after_fork()", "cleanup()", "unload()", "preconnect(readonly)", "open(readonly)",
                         "close(h)", f"flush(h{flags})", f"trim(h, count, offset{flags})",
                         f"zero(h, count, offset, {'may_trim' if shape == 'v1' else 'flags'})",
                         "cache(h, count, offset, flags)"), "None"),
        "thread_model()": "nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS",
        "list_exports(readonly, is_tls)": "items('list_exports', 'main')", "default_export(readonly, is_tls)": "''",
        "export_description(h)": "'described'", "get_size(h)": "2 * SIZE", "block_size(h)": "(1, 512, 65536)",
        **{f"{name}(h)": "True" for name in ("is_rotational", "can_flush", "can_trim", "can_zero", "can_extents",
                                             "can_multi_conn")},
        "can_write(h)": "Truth()", "can_fast_zero(h)": "False", "can_fua(h)": "nbdkit.FUA_NONE",
        "can_cache(h)": "nbdkit.CACHE_NATIVE",
        "extents(h, count, offset, flags)": "items('extents', (offset, count, 0))",
        PREAD[shape]: "buf.__setitem__(0, len(armed))" if shape == "v2-buf" else "bytes([len(armed)]) * count",
    }
    text = FAULTS + ("" if shape == "v1" else "API_VERSION = 2\n")
    for call, answer in callbacks.items():
        text += f"def {call}:\n    step({call.split('(')[0]!r})\n    return {answer}\n"
    return text + f"""
def pwrite(h, buf, offset{flags}):
    if offset < SIZE:
        step("pwrite")
    else:
        hold.clear()
        resource.setrlimit(resource.RLIMIT_AS, LIMITS)
        armed.update([bytes(buf).decode().split(": ", 1)])
"""


def check_message(said: str, callback: str, fault: Fault) -> None:
    """The log has this failure, once, under the callback's name."""
    assert len(re.findall(r"^nbdkit: .*disk\.py: ", said, re.MULTILINE)) == 1, said
    assert re.match(rf"nbdkit: .*error: \S*disk\.py: {callback}: ", said), said
    assert re.search(f"(?ms){fault.said}", said), said
    assert said.count("Traceback (most recent call last):") == fault.tracebacks, said
    assert not fault.tracebacks or re.search(rf'disk\.py", line \d+, in {callback}\n', said), said


def names(server: Server) -> list[str]:
    """The exports that a server lists."""
    found: list[str] = []
    h = server.connect(opt_mode=True)
    try:
        h.opt_list(lambda name, description: found.append(name))
    finally:
        h.opt_abort()  # until then, nbdkit may let other clients wait
    return found
