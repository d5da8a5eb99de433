# SPDX-License-Identifier: BSD-3-Clause
"""Message, a JSON object as it travels over a monitor: a dict that knows its bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn

from .error import DeserializationError, UnexpectedTypeError


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# NaN and Infinity are Python's additions, in both directions.
_decode = json.JSONDecoder(parse_constant=_refuse).decode
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Message(dict[str, object]):
    """One message: `Message(b'{"execute": "quit"}')`, or of a mapping. bytes() has its JSON on one line.

    Raises DeserializationError for bytes that are not JSON, UnexpectedTypeError for JSON that is not an object. For a
    value that JSON does not have, bytes() raises TypeError, or ValueError (NaN, a cycle).
    """

    def __init__(self, value: bytes | bytearray | Mapping[str, object] = b"{}") -> None:
        if isinstance(value, (bytes, bytearray)):
            super().__init__(deserialize(value))
        else:
            super().__init__(value)

    def __bytes__(self) -> bytes:
        return _encode(self).encode()

    def __str__(self) -> str:
        """Its JSON on several lines, for people."""
        return json.dumps(self, indent=2)

    def __repr__(self) -> str:
        return f"Message({super().__repr__()})"


def deserialize(data: bytes | bytearray) -> dict[str, object]:
    """The JSON object in `data`; raises what Message does."""
    try:
        value = _decode(data.decode())
    # A number of thousands of digits is a ValueError, as is broken JSON or UTF-8; nesting has its limit as well.
    except (ValueError, RecursionError) as error:
        raise DeserializationError(f"expected JSON, got {_shorten(data)}: {error}", bytes(data)) from error
    if type(value) is not dict:
        raise UnexpectedTypeError(f"expected a JSON object, got {_shorten(data)}", value)
    return value


def _shorten(data: bytes | bytearray, most: int = 80) -> str:
    return repr(bytes(data)) if len(data) <= most else f"{bytes(data[:most])!r}… ({len(data)} bytes)"
