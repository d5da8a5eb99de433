# SPDX-License-Identifier: BSD-3-Clause
"""Translators' callbacks that ask what is below as the fuzzer's bytes say, and keep what they must not."""

import inspect
import sys
from collections.abc import Callable
from typing import TypeGuard

import callbacks
import nbdkit
import objects
from _fuzz import byte, bytes_, defect

# Of calls that may be over, to be refused ever after; and connections of translators' own.
nexts: list[nbdkit.Next] = []
backgrounds: list[nbdkit.Background] = []
depth = 0  # of callbacks that are running, each below the other

OPERATIONS = ("get_size", "export_description", "block_size", "can_write", "can_flush", "is_rotational", "can_trim",
              "can_zero", "can_fast_zero", "can_extents", "can_fua", "can_multi_conn", "can_cache", "pread", "pwrite",
              "flush", "trim", "zero", "extents", "cache", "config", "background", "preconnect", "list_exports",
              "default_export", "open")
# What a call may raise that is made at the wrong time, of the wrong thing, or refused below.
EXPECTED = (nbdkit.Error, RuntimeError, TypeError, ValueError)


# The types are there for annotations only.
def is_next(below: object) -> TypeGuard[nbdkit.Next]:
    return type(below).__name__ == "Next"


class Closing:
    """A number that closes the connection that it is a parameter of."""

    def __init__(self, below: object) -> None:
        self.below = below

    def __index__(self) -> int:
        if hasattr(self.below, "close"):
            self.below.close()
        return 1 + byte()


def some_range(below: object) -> tuple[object, ...]:
    """Where a request is about, and its flags: nearly always good."""
    count: object = 1 + byte() * 8
    offset: object = byte() * 256
    match byte() % 16:
        case 5:
            count = objects.number()
        case 6:
            offset = objects.number()
        case 7:
            count = objects.anything()
        case 8:
            offset = objects.anything()
        case 9:
            count = Closing(below)
        case 10:
            offset = Closing(below)
        case 11:
            return count, offset, 1 << byte() % 5
    return count, offset


def operate(below: object) -> None:
    """One operation of what is below."""
    name = objects.pick(OPERATIONS)
    count, offset, *flags = some_range(below)
    match name:
        case "pread" if byte() % 2 == 0:
            arguments = (bytearray(count if isinstance(count, int) and 0 <= count < 4096 else 1), offset, *flags)
        case "pwrite":
            arguments = (objects.buffer() if byte() % 4 == 1 else b"p" * (1 + byte()), offset, *flags)
        case "pread" | "trim" | "zero" | "extents" | "cache":
            arguments = (count, offset, *flags)
        case "flush":
            arguments = tuple(flags)
        case "config":
            arguments = (objects.text(), objects.text())
        case _:
            arguments = () if byte() % 4 != 1 else (objects.anything(),)
    if byte() % 16 == 1:
        arguments = arguments[1:]
    try:
        answer = getattr(below, name)(*arguments)
    except EXPECTED:
        return
    if isinstance(answer, bytearray) and objects.POISON in answer:
        defect("a read shows memory that nobody has filled")


def misuse(current: object) -> None:
    """What was kept of other calls is refused."""
    for kept in nexts:
        if kept is current:
            continue
        try:
            kept.get_size()
        except RuntimeError:
            continue
        defect("a next answers that is not the call's own")


def background(below: object) -> None:
    """A connection of its own: opened where that can be, used, or closed."""
    if is_next(below) and (not backgrounds or byte() % 4 == 0):
        try:
            backgrounds.append(below.background(bool(byte() % 2), objects.text()))
        except EXPECTED:
            pass
    elif backgrounds:
        chosen = objects.pick(backgrounds)
        if byte() % 4 == 1:
            chosen.close()
        else:
            operate(chosen)


def keep(view: object) -> None:
    """A part of a request's buffer."""
    if isinstance(view, memoryview) and view:
        callbacks.looks.append(objects.pick(callbacks.KEEP)(view))


def passed_on(name: str, arguments: dict[str, object]) -> object:
    """What a translator does that changes nothing."""
    below = arguments.get("next")
    match name:
        case "pread" if "count" in arguments:
            return below.pread(arguments["count"], arguments["offset"])  # type: ignore[attr-defined]
        case "pread" | "pwrite":
            return getattr(below, name)(arguments["buf"], arguments["offset"], arguments["flags"])
        case "trim" | "zero" | "extents" | "cache":
            return getattr(below, name)(arguments["count"], arguments["offset"], arguments["flags"])
        case "flush":
            return below.flush()  # type: ignore[attr-defined]
        case "config":
            return below.config(arguments["key"], arguments["value"])  # type: ignore[attr-defined]
        case "open":
            return below.open()  # type: ignore[attr-defined]
        case "thread_model":
            return nbdkit.THREAD_MODEL_PARALLEL
        case _ if name in OPERATIONS:
            return getattr(below, name)()
    return None


def respond(name: str, arguments: dict[str, object]) -> object:
    global depth
    # A callback further up has its buffer still.
    if depth == 0:
        callbacks.look()
    below = arguments.get("next")
    misuse(below)
    depth += 1
    try:
        if name == "after_fork" and byte() % 2 == 1:
            background(below)
        match byte() % 16:
            case 8 | 9:
                operate(below)
            case 10:
                if is_next(below):
                    nexts.append(below)
            case 11:
                background(below)
            case 12:
                keep(arguments.get("buf"))
            case 13:
                return objects.anything()
            case 14:
                objects.throw(2)
            case 15:
                nbdkit.set_error(objects.number())
        return passed_on(name, arguments)
    finally:
        depth -= 1
        objects.thrown.clear()


# The callbacks and their parameters, as src/filter/callbacks.def has them.
PARAMETERS = dict.fromkeys(("load", "dump_plugin", "config_complete", "thread_model", "get_ready", "cleanup", "unload"),
                           "")
PARAMETERS |= {
    "config": "next, key, value",
    "after_fork": "next",
    "preconnect": "next, readonly",
    "list_exports": "next, readonly, is_tls",
    "default_export": "next, readonly, is_tls",
    "open": "next, readonly, export_name, is_tls",
    "close": "h",
    "prepare": "h, next, readonly",
    "finalize": "h, next",
}
PARAMETERS |= dict.fromkeys(OPERATIONS[:13], "h, next")
PARAMETERS |= {
    "pread": "h, next, buf, offset, flags",
    "pwrite": "h, next, buf, offset, flags",
    "flush": "h, next, flags",
} | dict.fromkeys(("trim", "zero", "extents", "cache"), "h, next, count, offset, flags")


def callback(name: str, parameters: str) -> Callable[..., object]:
    names = parameters.split(", ") if parameters else []

    def called(*arguments: object) -> object:
        return respond(name, dict(zip(names, arguments, strict=True)))

    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(parameter, inspect.Parameter.POSITIONAL_OR_KEYWORD) for parameter in names])
    return called


CALLBACKS = {name: callback(name, parameters) for name, parameters in PARAMETERS.items()}
by_count = callback("pread", "h, next, count, offset, flags")


def script() -> dict[str, object]:
    """The names of a translator: about half of the callbacks, and some are what they should not be."""
    present = int.from_bytes(bytes_(5), "little")
    names: dict[str, object] = {name: function for bit, (name, function) in enumerate(CALLBACKS.items())
                                if present >> bit & 1}
    match byte() % 8:
        case 1 | 2:
            names["pread"] = by_count
        case 3:
            names[objects.pick(tuple(CALLBACKS))] = objects.anything()
    return names


def forget() -> None:
    # Python keeps what it has imported; each loading of the script is another module.
    for name in [name for name in sys.modules if name.startswith("translator.py")]:
        del sys.modules[name]
    nexts.clear()
    backgrounds.clear()
    callbacks.forget()
