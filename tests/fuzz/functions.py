# SPDX-License-Identifier: BSD-3-Clause
"""Calls of the module's functions: with whatever arguments, they return what they should or raise what they may."""

from collections.abc import Callable
from fractions import Fraction
from types import NoneType

import _nbdkit
import nbdkit
import objects
from _fuzz import byte, bytes_, defect
from nbdkit import _outside

ALPHABET = "0123456789.eE+-%:/ smunμ²"
UNITS = ("", "s", "ms", "us", "μs", "ns", "%")

# What each function may raise besides a TypeError, and the type of what it returns.
Contract = tuple[tuple[type[Exception], ...], type | tuple[type, ...]]
INTEGERS = ("size", "int", "unsigned", "int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t", "uint32_t", "int64_t",
            "uint64_t")
CONTRACTS: dict[str, Contract] = {
    "debug": ((), NoneType),
    "set_error": ((ValueError,), NoneType),
    "shutdown": ((), NoneType),
    "disconnect": ((), NoneType),
    "stdio_safe": ((), bool),
    "nanosleep": ((ValueError, OSError), NoneType),
    "read_password": ((ValueError, OSError), bytes),
    "realpath": ((ValueError, OSError), str),
    "absolute_path": ((ValueError, OSError), str),
    "name": ((), (NoneType, str)),
    "timestamp": ((), str),
    "debug_hexdump": ((ValueError, BufferError), NoneType),
    "debug_hexdiff": ((ValueError, BufferError), NoneType),
    "export_name": ((RuntimeError,), str),
    "is_tls": ((RuntimeError,), bool),
    "peer_name": ((RuntimeError,), (str, bytes, tuple)),
    "peer_pid": ((RuntimeError,), int),
    "peer_uid": ((RuntimeError,), int),
    "peer_gid": ((RuntimeError,), int),
    "peer_security_context": ((RuntimeError,), str),
    "peer_tls_dn": ((RuntimeError,), str),
    "peer_tls_issuer_dn": ((RuntimeError,), str),
    "parse_bool": ((ValueError,), bool),
    "parse_probability": ((ValueError,), float),
    "parse_delay": ((ValueError,), tuple),
}
CONTRACTS.update({f"parse_{kind}": ((ValueError,), int) for kind in INTEGERS})
if odd := CONTRACTS.keys() ^ {name for name in vars(_nbdkit) if not name.startswith("_")}:
    defect(f"functions.py and the module disagree on {odd}")


def digits() -> str:
    return "".join(str(b % 10) for b in bytes_(byte() % 6))


def text(depth: int = 0) -> str:
    """Something like a number with its unit, or nearly."""
    return objects.either(
        lambda: "".join(ALPHABET[b % len(ALPHABET)] for b in bytes_(byte() % 24)),
        lambda: digits() + objects.pick(UNITS),
        lambda: digits() + "." + digits() + objects.pick(UNITS),
        lambda: digits() + objects.pick((":", "/", "e", "e-")) + digits(),
    )


def argument(parameter: str = "str") -> object:
    """What fits this parameter, or anything else."""
    fitting: Callable[[int], object] = text
    if "buf" in parameter:
        fitting = objects.buffer
    elif "sec" in parameter or "start" in parameter or parameter == "err":
        fitting = objects.number
    builders: tuple[Callable[[int], object], ...] = fitting, fitting, objects.text, objects.anything
    return objects.made(objects.pick(builders), 3)


def called(name: str, function: Callable[..., object], contract: Contract, *arguments: object) -> object:
    """What the function returns; None if it raises what it may."""
    objects.thrown.clear()
    others, result_type = contract
    errors: tuple[type[Exception], ...] = (TypeError, RecursionError, *others)  # the second from a deep list's repr
    try:
        result = function(*arguments)
    except errors:
        return None
    except BaseException as error:
        # The arguments' own exceptions pass through.
        if not any(error is one for one in objects.thrown):
            defect(f"{name} raises {type(error)}: {error}")
        return None
    if not isinstance(result, result_type):
        defect(f"{name} returns {result!r}")
    return result


def call_any() -> None:
    name = objects.pick(tuple(CONTRACTS))
    function = getattr(_nbdkit, name)
    # The docstring begins with the signature.
    signature = function.__doc__.partition("(")[2].partition(")")[0]
    parameters = ["str"] * (byte() % 5) if byte() % 8 == 7 else signature.split(",") if signature else []
    called(name, function, CONTRACTS[name], *map(argument, parameters))


def make_error() -> None:
    error = called("Error", nbdkit.Error, ((ValueError,), nbdkit.Error), *(argument() for _ in range(1 + byte() % 2)))
    if isinstance(error, nbdkit.Error) and not 0 < error.errno < 4096:
        defect(f"nbdkit.Error({error.errno})")


# The parsers that are written in Python, beside exact arithmetic.


def exact(number: str) -> Fraction | None:
    """None where it would take too long."""
    exponent = number.lower().partition("e")[2]
    return Fraction(number) if abs(int(exponent or 0)) < 400 else None


def parse_delay() -> None:
    string = argument()
    result = called("delay", _outside.parse_delay, ((ValueError,), tuple), text(), string)
    if not isinstance(result, tuple) or not isinstance(string, str):
        return
    sec, nsec = result
    if not (0 <= sec < 2**32 and 0 <= nsec < 10**9):
        defect(f"delay {string!r} is {result}")
    number = string.rstrip("smunμ")
    scale = {"": 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "μs": 10**3, "ns": 1}[string[len(number):]]
    value = exact(number)
    if value is not None and abs(value * scale - sec * 10**9 - nsec) > Fraction(1, 2) + Fraction(1, 10**6):
        defect(f"delay {string!r} is {result}")


def parse_probability() -> None:
    string = argument()
    result = called("probability", _outside.parse_probability, ((ValueError,), float), text(), string)
    if not isinstance(result, float) or not isinstance(string, str):
        return
    if not 0 <= result < float("inf"):
        defect(f"probability {string!r} is {result}")
    numerator, _, denominator = string.rstrip("%").replace("/", ":").partition(":")
    value, divisor = exact(numerator), exact(denominator or "1")
    if value and divisor and 1e-300 < result < 1e300:
        right = value / divisor / (100 if string.endswith("%") else 1)
        if abs(Fraction(result) / right - 1) > Fraction(1, 10**9):
            defect(f"probability {string!r} is {result}")


def try_any() -> None:
    objects.pick((call_any, call_any, make_error, parse_delay, parse_probability))()
