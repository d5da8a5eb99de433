# SPDX-License-Identifier: BSD-3-Clause
"""A disk that has every callback, and is told by its client which of them is to go another way than well.

What is written at CONTROL is `CALLBACK WAY`: from then on that callback answers with what the expression WAY makes of
its parameters, or raises it. What is read there is what the server counts: the references to all objects, and the
calls of that callback since then.
"""

from __future__ import annotations

import nbd

from recorder import PREAD, optional

SIZE = 1 << 20
CONTROL = SIZE - 512
REPLY = 32  # bytes
WELL = "WELL"

STEERED = f"""
import gc
import sys
import nbdkit

CONTROL, REPLY = {CONTROL}, {REPLY}
{WELL} = object()
told, way, calls, kept = "", None, 0, []


class Odd:
    def __bool__(self):
        raise ValueError("neither true nor false")

    __index__ = __iter__ = __bool__


def generator(*items):
    yield from items
    raise ValueError("in the midst of it")


async def coroutine():
    pass


def keep(view):
    kept[:] = [view]
    return WELL


def knot(view):
    cycle = [view]
    cycle.append(cycle)
    return WELL


def listen(text):
    global told, way, calls
    told, expression = text.rstrip(chr(0)).split(" ", 1)
    way, calls = compile(expression, "way", "eval"), 0


def counts():
    kept.clear()
    gc.collect()
    return f"{{sys.gettotalrefcount()}} {{calls}}".encode().ljust(REPLY)


def went(name, parameters):
    global calls
    if name != told:
        return WELL
    calls += 1
    answer = eval(way, globals(), parameters)
    if isinstance(answer, Exception):
        raise answer
    return answer
"""

# What each body begins with; elsewhere the disk has zeros, and takes no notice of what is written.
CONTROLS = {
    "pread(h, count, offset)": "if offset == CONTROL: return counts()",
    "pread(h, count, offset, flags)": "if offset == CONTROL: return counts()",
    "pread(h, buf, offset, flags)": "if offset == CONTROL: buf[:] = counts(); return",
    "pwrite(h, buf, offset)": "if offset == CONTROL: return listen(str(buf, 'ascii'))",
    "pwrite(h, buf, offset, flags)": "if offset == CONTROL: return listen(str(buf, 'ascii'))",
}


def callbacks(shape: str) -> dict[str, str]:
    """Every callback and its answer when it goes well, as {"name(parameters)": answer}."""
    return optional(shape) | {
        "load()": "None", "unload()": "None", "dump_plugin()": "None",
        "thread_model()": "nbdkit.THREAD_MODEL_PARALLEL",
        "list_exports(readonly, is_tls)": "['plain', ('main', 'with a description')]",
        "open(readonly)": "[nbdkit.export_name()]",
        "get_size(h)": str(SIZE),
        PREAD[shape]: "None" if shape == "v2-buf" else "bytes(count)",
    }


def script(shape: str) -> str:
    text = STEERED + ("" if shape == "v1" else "API_VERSION = 2\n")
    for call, answer in callbacks(shape).items():
        text += (f"\n\ndef {call}:\n    {CONTROLS.get(call, 'pass')}\n"
                 f"    answer = went({call.partition('(')[0]!r}, locals())\n"
                 f"    return {answer} if answer is WELL else answer\n")
    return text


class Control:
    """A connection that does nothing but steer and count."""

    def __init__(self, h: nbd.NBD) -> None:
        self.h = h

    def tell(self, callback: str, way: str) -> None:
        self.h.pwrite(f"{callback} {way}".encode().ljust(512, b"\0"), CONTROL)

    def references(self) -> int:
        return self._counts()[0]

    def calls(self) -> int:
        return self._counts()[1]

    def _counts(self) -> tuple[int, int]:
        references, calls = self.h.pread(REPLY, CONTROL).split()
        return int(references), int(calls)
