# SPDX-License-Identifier: BSD-3-Clause
"""Parsers that newer servers have, for the older ones that lack them: the same strings, the same results."""

import math
import re

_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
_NANOSECONDS = {"": 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "μs": 10**3, "ns": 1}
_UINT_MAX = 2**32 - 1


def _check(function: str, what: str, text: str) -> None:
    for name, value in (("what", what), ("string", text)):
        if not isinstance(value, str):
            raise TypeError(f"nbdkit.{function}: {name}: expected a str, got {type(value).__name__} {value!r}")


def parse_probability(what: str, string: str) -> float:
    """A probability such as `0.25`, `25%`, `1:4` or `1/4`, as a float from 0.0 up.

    what: the parameter's name, for the message of the ValueError that anything else raises.
    """
    _check("parse_probability", what, string)
    match = re.fullmatch(rf"({_NUMBER})(?:(%)|[:/]({_NUMBER}))?", string)
    if match:
        number, percent, divisor = match.groups()
        value = float(number)
        if percent:
            value /= 100
        elif divisor is not None and float(divisor) != 0:
            value /= float(divisor)
        elif divisor is not None and value != 0:
            value = math.inf
        if math.isfinite(value):
            return value
    raise ValueError(f"{what}: expected a probability such as 0.25, 25%, 1:4 or 1/4, got {string!r}")


def parse_delay(what: str, string: str) -> tuple[int, int]:
    """A delay such as `5` or `5s` (seconds), `2.5s`, `100ms`, `20us` or `30ns`, as (seconds, nanoseconds).

    what: the parameter's name, for the message of the ValueError that anything else raises.
    """
    _check("parse_delay", what, string)
    match = re.fullmatch(rf"({_NUMBER})(s|ms|us|μs|ns|)", string)
    if match:
        number, unit = match.groups()
        # Whole numbers stay exact: a float has not room for a long delay's nanoseconds.
        scale = _NANOSECONDS[unit]
        nanoseconds = int(number) * scale if number.isdigit() else round(float(number) * scale)
        seconds, rest = divmod(nanoseconds, 10**9)
        if seconds <= _UINT_MAX:
            return seconds, rest
    raise ValueError(f"{what}: expected a delay such as 5, 2.5s, 100ms, 20us or 30ns, got {string!r}")
