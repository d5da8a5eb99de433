# SPDX-License-Identifier: BSD-3-Clause
"""Parsers that newer servers have, for the older ones that lack them: the same strings, the same results."""

import decimal
import math
import re

_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
_NANOSECONDS = {"": 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "μs": 10**3, "ns": 1}
_UINT_MAX = 2**32 - 1


def probability(what: str, text: str) -> float:
    """nbdkit.parse_probability."""
    match = _match("parse_probability", what, text, rf"({_NUMBER})(?:(%)|[:/]({_NUMBER}))?")
    if match:
        number, percent, divisor = match.groups()
        value = float(number)
        if percent:
            value /= 100
        elif divisor is not None and value != 0:
            value = value / float(divisor) if float(divisor) else math.inf
        if math.isfinite(value):
            return value
    raise ValueError(f"{what}: expected a probability such as 0.25, 25%, 1:4 or 1/4, got {text!r}")


def delay(what: str, text: str) -> tuple[int, int]:
    """nbdkit.parse_delay."""
    match = _match("parse_delay", what, text, rf"({_NUMBER})(s|ms|us|μs|ns|)")
    if match:
        number, unit = match.groups()
        try:
            # Exact, where a float has not room for a long delay's nanoseconds.
            nanoseconds = decimal.Decimal(number) * _NANOSECONDS[unit]
        except decimal.DecimalException:  # an exponent beyond all bounds
            nanoseconds = decimal.Decimal("inf")
        # Looked at before it is rounded, which can take long for a very large number.
        if nanoseconds <= _UINT_MAX * 10**9 + 999_999_999:
            sec, nsec = divmod(round(nanoseconds), 10**9)
            return sec, nsec
    raise ValueError(f"{what}: expected a delay such as 5, 2.5s, 100ms, 20us or 30ns, got {text!r}")


def _match(function: str, what: object, text: object, pattern: str) -> re.Match[str] | None:
    for name, value in (("what", what), ("str", text)):
        if not isinstance(value, str):
            raise TypeError(f"nbdkit.{function}: {name}: expected a str, got {type(value).__name__} {value!r}")
    return re.fullmatch(pattern, str(text))
