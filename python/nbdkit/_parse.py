# SPDX-License-Identifier: BSD-3-Clause
"""What a parameter's text stands for, read as nbdkit's own parsers do: the same strings, the same results.

Not so some of a delay's or a probability's, which nobody means: hexadecimal fractions, an exponent without digits,
0:-0, and delays of more than 136 years, which nbdkit makes shorter ones of; and the sizes 010 and 0x10, which are ten
and none here, as they are before nbdkit 1.48. Each raises a ValueError "expected …, got …".

They serve where there is no server, where an older one lacks a parser, and for declared parameters, whose errors are
then one line.
"""

import re

# What C's functions skip before a number.
_SPACE = r"[ \t\n\v\f\r]*"
_DECIMAL = rf"{_SPACE}\+?((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
_NANOSECONDS = {"": 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "μs": 10**3, "ns": 1}
_UINT_MAX = 2**32 - 1
_INT64_MAX = 2**63 - 1
_SCALES = {"": 1, "b": 1, "s": 512, **{letter: 1 << 10 * power for power, letter in enumerate("kmgtpe", 1)}}
_TRUE, _FALSE = {"1", "true", "t", "yes", "y", "on"}, {"0", "false", "f", "no", "n", "off"}


def size(text: str) -> int:
    """Bytes."""
    match = re.fullmatch(rf"{_SPACE}([-+]?)([0-9]+)([bkmgtpes]?)", text, re.IGNORECASE | re.ASCII)
    if match:
        sign, digits, suffix = match.groups()
        number, scale = _number(digits, 10), _SCALES[suffix.lower()]
        if number <= _INT64_MAX // scale and (sign != "-" or number == 0):
            return number * scale
    raise ValueError(f"expected a size such as 512, 4k or 1G, got {text!r}")


def boolean(text: str) -> bool:
    """As the command line says yes or no."""
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(f"expected true or false, on or off, yes or no, 1 or 0, got {text!r}")
    return word in _TRUE


def integer(text: str, low: int, high: int) -> int:
    """From `low` to `high`; decimal, hexadecimal after 0x, or octal after 0."""
    match = re.fullmatch(rf"{_SPACE}([-+]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))", text)
    if match and not (match[1] == "-" and low == 0):
        sign, hexadecimal, octal, decimal = match.groups()
        digits, base = (hexadecimal, 16) if hexadecimal else (octal, 8) if octal else (decimal, 10)
        number = _number(digits, base) * (-1 if sign == "-" else 1)
        if low <= number <= high:
            return number
    raise ValueError(f"expected an integer from {low} to {high}, got {text!r}")


def _number(digits: str, base: int) -> int:
    """The number that these digits stand for, or one that is too large as well."""
    return int(digits.lstrip("0")[:25] or "0", base)


def probability(text: str) -> float:
    """From 0.0 up: 200% is one, too."""
    match = re.fullmatch(rf"{_DECIMAL}(?:(%)|[:/]{_DECIMAL})?", text)
    if match:
        number, percent, divisor = match.groups()
        value = float(number)
        if percent:
            value /= 100
        elif divisor is not None and value != 0:
            value = value / float(divisor) if float(divisor) else float("inf")
        if value < float("inf"):
            return value
    raise ValueError(f"expected a probability such as 0.25, 25%, 1:4 or 1/4, got {text!r}")


def delay(text: str) -> tuple[int, int]:
    """Seconds and nanoseconds."""
    match = re.fullmatch(rf"{_DECIMAL}(s|ms|us|μs|ns|)", text)
    if match:
        import decimal

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
    raise ValueError(f"expected a delay such as 5, 2.5s, 100ms, 20us or 30ns, got {text!r}")
