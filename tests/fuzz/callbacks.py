# SPDX-License-Identifier: BSD-3-Clause
"""Callbacks that answer as the fuzzer's bytes say, and keep views of buffers when they say so; disk.py has them."""

import ctypes
import gc
import pickle
from collections.abc import Callable, Iterator

import nbdkit
import objects
from _fuzz import byte, bytes_, defect

SIZE = 1 << 16

# Ways to look at what was kept of a buffer that is gone: each must raise. And what has the memory's address, which
# cannot be taken from it: no request may be served in that memory.
looks: list[Callable[[], object]] = []
pins: list[object] = []
kept = False  # whether one of them is of the request that is running


def suspended(view: memoryview) -> Iterator[object]:
    yield None
    yield view.tobytes()


def kept_by_generator(view: memoryview) -> Callable[[], object]:
    generator = suspended(view)
    next(generator)
    return lambda: next(generator)


def kept_by_iterator(view: memoryview) -> Callable[[], object]:
    iterator = iter(view)
    return lambda: next(iterator)


def kept_frozen(view: memoryview) -> Callable[[], object]:
    gc.freeze()
    return view.tobytes


KEEP: tuple[Callable[[memoryview], Callable[[], object]], ...] = (
    lambda view: view.tobytes,
    lambda view: view[byte():].tobytes,
    lambda view: view[::2].tobytes,
    lambda view: view.cast("b").tolist,
    lambda view: view.toreadonly().tobytes,
    lambda view: memoryview(view.obj).tobytes,
    lambda view: lambda: bytes(view),
    lambda view: lambda: view[0],
    kept_by_generator,
    kept_by_iterator,
    kept_frozen,
)
PIN: tuple[Callable[[memoryview], object], ...] = (
    pickle.PickleBuffer,
    lambda view: (ctypes.c_char * len(view)).from_buffer(view),
)


def look() -> None:
    """What is kept of earlier requests' buffers shows nothing of later ones."""
    for attempt in looks:
        try:
            seen = attempt()
        except (ValueError, BufferError, StopIteration):
            continue
        defect(f"a view that was kept shows {seen!r}")


def use(view: memoryview) -> None:
    """What a callback does with its buffer."""
    global kept
    # The plugin's own zeros, in place of a zero() that declines, are in other memory; what is written else has no zero.
    zeros = view.readonly and view[0] == 0
    if pins and not zeros:
        defect("a request is served in memory that something has the address of")
    match byte() % 16:
        case 8:
            looks.append(objects.pick(KEEP)(view))
            kept = True
        case 9 if byte() % 8 == 1 and not zeros:  # seldom, since the plugin waits for them to go
            pins.append(objects.pick(PIN)(view))
            kept = True
        case 10:
            # Not the memory, but the object behind the view.
            exporter = view.obj
            looks.append(lambda: memoryview(exporter))
        case 11:
            cycle: list[object] = [view]
            cycle.append(cycle)
        case part if not view.readonly:
            some = objects.data(len(view))
            start = len(view) - len(some) if part & 1 else 0
            view[start:start + len(some)] = some


def settled(status: int) -> None:
    """A request is over, and the server uses its memory again."""
    global kept
    look()
    if status == 0 and kept:
        defect("a request succeeds though its buffer is kept")
    if byte() % 4 == 1:
        looks.clear()
    # One request that is refused is enough, since it takes time.
    if not kept:
        pins.clear()
    kept = False


# The callbacks.

SENSIBLE: dict[str, Callable[..., object]] = {
    "thread_model": lambda: nbdkit.THREAD_MODEL_PARALLEL,
    "list_exports": lambda *_: ["", ("name", "text")],
    "default_export": lambda *_: "name",
    "open": lambda readonly: object(),
    "export_description": lambda h: "text",
    "get_size": lambda h: SIZE,
    "block_size": lambda h: (1, 4096, SIZE),
    "can_fua": lambda h: nbdkit.FUA_NATIVE,
    "can_cache": lambda h: nbdkit.CACHE_NATIVE,
    "extents": lambda h, count, offset, flags: [(offset, count, 0)],
    "pread": lambda h, count, *_: objects.data(count).ljust(count, b"\0") if isinstance(count, int) else None,
}
for name in ("is_rotational", "can_write", "can_flush", "can_trim", "can_zero", "can_fast_zero", "can_extents",
             "can_multi_conn"):
    SENSIBLE[name] = lambda h: True
for name in ("load", "dump_plugin", "config", "config_complete", "get_ready", "after_fork", "cleanup", "unload",
             "preconnect", "close", "pwrite", "flush", "trim", "zero", "cache"):
    SENSIBLE[name] = lambda *_: None


def respond(name: str, *arguments: object) -> object:
    look()
    try:
        # A handle may be a memoryview too.
        if name in ("pread", "pwrite") and isinstance(arguments[1], memoryview):
            use(arguments[1])
        match byte() % 8:
            case 4:
                objects.pick((nbdkit.export_name, nbdkit.is_tls, nbdkit.peer_name, nbdkit.peer_pid))()
            case 5:
                nbdkit.set_error(objects.number())
            case 6:
                objects.throw(2)
            case 7:
                return objects.anything()
        return SENSIBLE[name](*arguments)
    finally:
        objects.thrown.clear()


def callback(name: str) -> Callable[..., object]:
    return lambda *arguments: respond(name, *arguments)


def pread_v1(h: object, count: int, offset: int) -> object:
    return respond("pread", h, count, offset)


def pread_count(h: object, count: int, offset: int, flags: int) -> object:
    return respond("pread", h, count, offset, flags)


def pread_buffer(h: object, buf: memoryview, offset: int, flags: int) -> object:
    return respond("pread", h, buf, offset, flags)


def config(key: object, value: object) -> object:
    objects.received(key, value)
    return respond("config", key, value)


CALLBACKS: dict[str, object] = {name: callback(name) for name in SENSIBLE} | {"config": config}
NEEDED = ("open", "get_size", "pread")


def script() -> dict[str, object]:
    """The names of a script: some callbacks are absent, and some things are what they should not be."""
    absent = int.from_bytes(bytes_(4), "little")
    names = {name: function for bit, (name, function) in enumerate(CALLBACKS.items())
             if name in NEEDED or not absent >> bit & 1}
    names.update(API_VERSION=2, pread=pread_buffer)
    match byte() % 16:
        case 1 | 2 | 3:
            names.update(API_VERSION=1, pread=pread_v1)
        case 4 | 5 | 6:
            names["pread"] = pread_count
        case 7:
            names["magic_config_key"] = objects.anything()
        case 8:
            names["magic_config_key"] = "magic"
        case 9:
            names["API_VERSION"] = objects.anything()
        case 10:
            names[objects.pick(tuple(names))] = objects.anything()
        case 11:
            def wrapper(*arguments: object) -> object:
                return respond("pread", *arguments)

            names["pread"] = wrapper
            wrapper.__wrapped__ = objects.pick((wrapper, objects.anything()))  # type: ignore[attr-defined]
    return names


def forget() -> None:
    global kept
    looks.clear()
    pins.clear()
    kept = False
