# SPDX-License-Identifier: BSD-3-Clause
"""Objects that the fuzzer's bytes choose: what a script may answer, and what none should.

Each choice takes the next byte of the input. At its end all bytes are 0, which chooses what ends soonest.
"""

import array
import collections
import ctypes
import decimal
import fractions
import gc
import io
import pickle
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import __main__
import nbdkit
from _fuzz import byte, bytes_, defect, used_up

Kind = TypeVar("Kind")

POISON = b"\xdb"  # never in the data that is made here: it stands for another request's

# What has been raised on purpose.
thrown: list[BaseException] = []


def pick(choices: Sequence[Kind]) -> Kind:
    return choices[byte() % len(choices)]


def either(*choices: Callable[[], Kind]) -> Kind:
    """What one of them makes."""
    return pick(choices)()


def anything(depth: int = 3) -> object:
    """Any object, with others inside, so deep at most."""
    return made(pick(KINDS if depth else SIMPLE), depth - 1)


def made(build: Callable[[int], object], depth: int = 0) -> object:
    try:
        return build(depth)
    except BaseException:  # such as a cast that does not fit, or a hostile object in a set
        return None


def throw(depth: int) -> None:
    thrown.append(exception(depth))
    raise thrown[-1]


# Numbers, texts and buffers.


def number(depth: int = 0) -> int:
    bits = byte()
    return either(
        lambda: bits,
        lambda: -bits,
        lambda: 1 << bits,
        lambda: (1 << bits) - 1,
        lambda: -1 << bits,
        lambda: bits * 512,
        lambda: int.from_bytes(bytes_(bits % 12), "little", signed=True),
        lambda: 10 ** (bits * 32),  # str() refuses the largest of these
        lambda: bool(bits & 1),
    )


def other_number(depth: int) -> object:
    return pick((1.5, -0.0, float("inf"), float("nan"), 1j, decimal.Decimal("NaN"), fractions.Fraction(7, 2), ...,
                 NotImplemented, object(), print, nbdkit, int))


def text(depth: int = 0) -> str:
    some = bytes_(byte() % 24)
    return either(
        lambda: some.decode("latin-1"),
        lambda: some.decode("utf-8", "surrogateescape"),
        lambda: "".join(map(chr, array.array("H", some[:len(some) // 2 * 2]))),  # with lone surrogates
        lambda: some.decode("utf-32-le", "replace"),
        lambda: "name",
        lambda: chr(byte() * 4352) * (1 + byte() * 20),
        lambda: type("Text", (str,), {})(some.decode("ascii", "replace")),
    )


def data(most: int = 255) -> bytes:
    return bytes_(min(byte(), most)).replace(POISON, b"\xda")


def released(view: memoryview) -> memoryview:
    view.release()
    return view


def buffer(depth: int = 0) -> object:
    some = data() * (1 + byte() % 8)
    view = memoryview(some)
    return either(
        lambda: some,
        lambda: bytearray(some),
        lambda: view,
        lambda: memoryview(bytearray(some)),
        lambda: view[::2],
        lambda: view[::-1],
        lambda: view[byte():],
        lambda: view.cast(pick("bBhHiIlLqQnNfdc?P")),
        lambda: view.cast("B", [2, len(some) // 2]),
        lambda: view[:1].cast("B", []),
        lambda: released(view),
        lambda: array.array(pick("bBhHiIlLqQfd"), some[:len(some) // 8 * 8]),
        lambda: memoryview(array.array("h", some[:len(some) // 2 * 2]))[1::2],
        lambda: (ctypes.c_char * len(some)).from_buffer_copy(some),
        lambda: ((ctypes.c_short * 2) * (len(some) // 4)).from_buffer_copy(some),
        lambda: pickle.PickleBuffer(some),
        lambda: io.BytesIO(some).getbuffer(),
        lambda: type("Bytes", (bytes,), {})(some),
    )


# Containers and iterators.


def items(depth: int) -> list[object]:
    return [anything(depth) for _ in range(byte() % 5)]


class Vandal:
    """An item that empties its container when it is looked at."""

    def __init__(self, container: list[object]) -> None:
        self.container = container

    def __index__(self) -> int:
        self.container.clear()
        return 1

    def __repr__(self) -> str:
        self.container.clear()
        return "Vandal"


def within_itself(inside: list[object]) -> list[object]:
    inside.append(inside)
    return inside


def vandalized(inside: list[object]) -> list[object]:
    inside.insert(0, Vandal(inside))
    return inside


def deep() -> list[object]:
    nested: list[object] = []
    for _ in range(byte() * 16):
        nested = [nested]
    return nested


Named = collections.namedtuple("Named", "a b c")


def container(depth: int) -> object:
    inside = items(depth)
    return either(
        lambda: inside,
        lambda: tuple(inside),
        lambda: set(inside),
        lambda: dict.fromkeys(inside),
        lambda: collections.deque(inside, 4),
        lambda: Named(*inside),
        lambda: types.MappingProxyType({}),
        lambda: range(byte()),
        lambda: type("List", (list,), {})(inside),
        lambda: within_itself(inside),
        lambda: vandalized(inside),
        deep,
    )


def triple(depth: int = 0) -> object:
    """As an extent, or a block size."""
    return pick((tuple, list))(number() for _ in range(3))


def pair(depth: int = 0) -> object:
    """As an export and its description."""
    return pick((tuple, list))((text(), text() if byte() & 1 else None))


def extents(depth: int = 0) -> object:
    """As an answer to a block status request: each begins where the last one ended, or nearly."""
    found, offset = [], byte() * 64
    for _ in range(byte() % 6):
        found.append((offset, length := number(), byte() % 4))
        offset += length + (byte() % 8 == 7)
    return either(lambda: found, lambda: tuple(found), lambda: iter(found))


def walk(depth: int) -> Iterator[object]:
    for _ in range(byte() % 8):
        yield anything(depth)
    if byte() & 1:
        throw(depth)


def shrinking(inside: list[object]) -> Iterator[object]:
    for item in inside:
        yield item
        inside.pop()


async def coroutine() -> None:
    pass


async def asynchronous() -> object:
    yield


def closed(generator: Iterator[object]) -> Iterator[object]:
    next(generator, None)
    generator.close()  # type: ignore[attr-defined]
    return generator


def iterator(depth: int) -> object:
    return either(
        lambda: iter(items(depth)),
        lambda: walk(depth),
        lambda: closed(walk(depth)),
        lambda: shrinking(items(depth)),
        lambda: iter(byte, 0),
        lambda: map(bool, items(depth)),
        lambda: zip(items(depth), items(depth)),
        lambda: (triple() for _ in range(byte())),
        lambda: (pair() for _ in range(byte())),
        coroutine,
        asynchronous,
    )


# Objects whose methods do what the input says, at the time when they are called.


def outcome(depth: int) -> object:
    match byte() % 8:
        case 6:
            throw(depth)
        case 7:
            gc.collect()
    return anything(depth)


def method(name: str, depth: int) -> object:
    def run(*arguments: object) -> object:
        if used_up() and name == "__next__":
            raise StopIteration
        if used_up() and name == "__getitem__":
            raise IndexError
        return outcome(max(depth, 0))

    return property(run) if name in PROPERTIES else run


PROPERTIES = ("__class__", "__wrapped__", "__signature__", "errno", "strerror", "__traceback__", "__cause__",
              "__notes__")
METHODS = (
    "__index__", "__bool__", "__len__", "__iter__", "__next__", "__getitem__", "__repr__", "__str__", "__eq__",
    "__hash__", "__int__", "__float__", "__bytes__", "__buffer__", "__fspath__", "__call__", "__lt__", "__gt__",
    "__getattr__", "__getattribute__", "__length_hint__", "__format__", "__del__", *PROPERTIES,
)
BASES = (object, int, str, bytes, list, tuple, dict, float, bytearray, Exception, OSError, nbdkit.Error)


def subclass(base: type, depth: int) -> type:
    names = {pick(METHODS) for _ in range(byte() % 5)}
    return type(pick(("Hostile", "%s%n", "\u00fc\U0001f40d")), (base,), {name: method(name, depth) for name in names})


def hostile(depth: int) -> object:
    base = pick(BASES)
    kind = subclass(base, depth)
    # What is bytes must be without POISON.
    return kind(data()) if base in (bytes, bytearray) else kind(*items(depth)[:2])


# Exceptions.

SPECIAL: tuple[Callable[[], BaseException], ...] = (
    lambda: UnicodeDecodeError("utf-8", data(), byte(), byte(), text()),
    lambda: UnicodeEncodeError("utf-8", text(), byte(), byte(), text()),
    lambda: SyntaxError(text(), (text(), byte(), byte(), text(), byte(), byte())),  # it shows so many spaces
    lambda: ExceptionGroup(text(), [ValueError(), OSError(byte(), text())]),
    lambda: OSError(number(), text(), text()),
    lambda: nbdkit.Error(number()),
    lambda: nbdkit.Error(byte() * 16 + 1, text()),
)
CLASSES = (ValueError, KeyError, OSError, MemoryError, NotImplementedError, PermissionError, RecursionError,
           StopIteration, StopAsyncIteration, GeneratorExit, SystemExit, KeyboardInterrupt, BaseException,
           ImportError, NameError, AttributeError, TimeoutError, AssertionError)
ATTRIBUTES = ("errno", "strerror", "__cause__", "__context__", "__notes__", "args", "filename", "text", "msg",
              "object", "start", "name", "__suppress_context__")


def exception(depth: int) -> BaseException:
    try:
        error = pick(SPECIAL)() if byte() & 1 else pick(CLASSES)(*items(depth)[:3])
        if byte() & 1:
            error = subclass(type(error), depth)(*error.args)
    except BaseException:
        error = OSError(byte(), "text")
    for name in {pick(ATTRIBUTES) for _ in range(byte() % 4)}:
        try:
            setattr(error, name, anything(max(depth, 0)))
        except BaseException:
            pass
    return error


def exception_class(depth: int) -> type:
    return subclass(pick(CLASSES), depth)


SIMPLE: tuple[Callable[[int], object], ...] = (
    lambda depth: None, number, text, buffer, triple, pair, extents, other_number)
KINDS = (*SIMPLE, container, iterator, hostile, exception, exception_class)


# A parameter on its way through the plugin: what nbdkit gives, and what the script gets. A key of `script` comes as the
# script's own magic key.

expected: tuple[bytes, bytes] | None = None


def expect(key: bytes, value: bytes) -> None:
    global expected
    expected = key, value


def received(key: object, value: object) -> None:
    if expected is None:
        return
    magic = getattr(__main__, "magic_config_key", None)
    key_sent = expected[0].decode(errors="surrogateescape")
    value_sent = expected[1].decode(errors="surrogateescape")
    if (key, value) != (magic if key_sent == "script" else key_sent, value_sent):
        defect(f"the parameter {expected} arrives as {key!r}={value!r}")


# Before the first input, and after each.

_main: dict[str, object] = {}
_path: list[str] = []


def prepare() -> None:
    """What one input leaves behind must not change the next; and the log is read by nobody."""
    _main.update(vars(__main__))
    _path[:] = sys.path
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    gc.disable()
    forget()


def let_go() -> None:
    """Nothing that was raised is kept; what goes may raise more."""
    gc.collect()
    while thrown:
        thrown.clear()
        gc.collect()


def forget() -> None:
    global expected
    expected = None
    vars(__main__).clear()
    vars(__main__).update(_main)
    sys.path[:] = _path
    let_go()
    # What is left stays: the collector need not look at it again.
    gc.freeze()
