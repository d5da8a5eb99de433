# SPDX-License-Identifier: BSD-3-Clause
"""Parsers that newer servers have, for the older ones that lack them: the same strings, the same results."""

import decimal
import math
import re

_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
_NANOSECONDS = {"": 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "μs": 10**3, "ns": 1}
_UINT_MAX = 2**32 - 1


def _match(function: str, what: object, text: object, pattern: str) -> re.Match[str] | None:
    for name, value in (("what", what), ("str", text)):
        if not isinstance(value, str):
            raise TypeError(f"nbdkit.{function}: {name}: expected a str, got {type(value).__name__} {value!r}")
    return re.fullmatch(pattern, str(text))


def _probability(what: object, text: object) -> float | None:
    match = _match("parse_probability", what, text, rf"({_NUMBER})(?:(%)|[:/]({_NUMBER}))?")
    if not match:
        return None
    number, percent, divisor = match.groups()
    value = float(number)
    if percent:
        value /= 100
    elif divisor is not None and value != 0:
        value = value / float(divisor) if float(divisor) else math.inf
    return value if math.isfinite(value) else None


def _delay(what: object, text: object) -> tuple[int, int] | None:
    match = _match("parse_delay", what, text, rf"({_NUMBER})(s|ms|us|μs|ns|)")
    if not match:
        return None
    number, unit = match.groups()
    try:
        # Exact, where a float has not room for a long delay's nanoseconds.
        nanoseconds = decimal.Decimal(number) * _NANOSECONDS[unit]
    except decimal.DecimalException:  # an exponent beyond all bounds
        return None
    if nanoseconds > (_UINT_MAX + 1) * 10**9:  # looked at before it is rounded, which can take long
        return None
    sec, nsec = divmod(round(nanoseconds), 10**9)
    return (sec, nsec) if sec <= _UINT_MAX else None


# The parameters are called as the server's are.


def parse_probability(what: str, str: str) -> float:  # noqa: A002
    """A probability such as `0.25`, `25%`, `1:4` or `1/4`, as a float from 0.0 up.

    what: the parameter's name, for the message of the ValueError that anything else raises.
    """
    value = _probability(what, str)
    if value is None:
        raise ValueError(f"{what}: expected a probability such as 0.25, 25%, 1:4 or 1/4, got {str!r}")
    return value


def parse_delay(what: str, str: str) -> tuple[int, int]:  # noqa: A002
    """A delay such as `5` or `5s` (seconds), `2.5s`, `100ms`, `20us` or `30ns`, as (seconds, nanoseconds).

    what: the parameter's name, for the message of the ValueError that anything else raises.
    """
    value = _delay(what, str)
    if value is None:
        raise ValueError(f"{what}: expected a delay such as 5, 2.5s, 100ms, 20us or 30ns, got {str!r}")
    return value
