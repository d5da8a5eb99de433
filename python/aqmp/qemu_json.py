# SPDX-License-Identifier: BSD-3-Clause
"""JSON as a monitor of QEMU reads it: values one after another, with its extensions and its words for what is wrong.

It differs from json.loads: values need no line of their own, strings may have single quotes, keys must differ, and
after a mistake reading goes on. All of it was measured on a real one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

NESTING_LIMIT = 1024
SIZE_LIMIT = 64 << 20  # bytes; of one value

_SPACE = re.compile(rb"[ \t\r\n]*")
# A string up to what ends it, well or not.
_STRING = re.compile(rb'''(?:"(?:[^"\\\x00-\x1f\xfe\xff]+|\\[\x20-\xfd])*'''
                     rb"""|'(?:[^'\\\x00-\x1f\xfe\xff]+|\\[\x20-\xfd])*)\\?""")
# As much of a number as there is, whole or not. A bare zero has no exponent.
_NUMBER = re.compile(rb"-?(?:(?:0|[1-9][0-9]*)\.(?:[0-9]+(?:[eE][-+]?[0-9]*)?)?|0|[1-9][0-9]*(?:[eE][-+]?[0-9]*)?)?")
_WHOLE_NUMBER = re.compile(rb"-?[0-9]+(?P<fraction>\.[0-9]+)?(?P<exponent>[eE][-+]?[0-9]+)?")
_KEYWORD = re.compile(rb"[a-z]+")
# What comes after a stray character is skipped up to one of these.
_RESTART = re.compile(rb"[][{}:,\x00-\x08\x0a-\x1f\xfe\xff]")

_KEYWORDS = {b"true": True, b"false": False, b"null": None}
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t",
            b'"': b'"', b"'": b"'", b"\\": b"\\", b"/": b"/"}
_ESCAPE = re.compile(rb"\\(?:u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})"
                     rb"|u(?P<hex>[0-9a-fA-F]{4})|(?P<wrong>u.{0,4})|(?P<plain>.))", re.DOTALL)
# QEMU writes a zero character so, as a C string must.
_ZERO = b"\xc0\x80"
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_LAST_OF_PLANES = "".join(chr(plane << 16 | n) for plane in range(17) for n in (0xFFFE, 0xFFFF))
_NONCHARACTER = re.compile(f"[\ufdd0-\ufdef{_LAST_OF_PLANES}]")


class ParseError(Exception):
    """What a monitor says of its input."""


class Reader:
    """feed() it bytes as they come; it yields values, and a ParseError in the place of what is none.

    `limit` is the most bytes that the tokens of one value may have, None for no limit.
    """

    def __init__(self, limit: int | None = SIZE_LIMIT) -> None:
        self._limit = limit
        self._data = b""
        self._position = 0
        self._recovering = False
        self._forget()

    def _forget(self) -> None:
        self._tokens: list[bytes] = []
        self._size = self._braces = self._brackets = 0

    def feed(self, data: bytes) -> Iterator[object]:
        """The values that end in this piece of input."""
        self._data += data
        self._position = 0
        while (token := self._token()) is not None:
            if isinstance(token, ParseError):
                self._forget()
                yield token
            else:
                yield from self._take(token)
        self._data = self._data[self._position:]
        if self._is_too_much(len(self._data)):
            self._data, self._recovering = b"", True
            yield self._too_much()

    def _take(self, token: bytes) -> Iterator[object]:
        """One token more; with it a value may be whole."""
        self._braces += (token == b"{") - (token == b"}")
        self._brackets += (token == b"[") - (token == b"]")
        self._tokens.append(token)
        self._size += len(token)
        if self._is_too_much(0):
            yield self._too_much()
            return
        is_open = min(self._braces, self._brackets) >= 0 and self._braces + self._brackets > 0
        if not is_open:
            tokens = self._tokens
            self._forget()
            try:
                yield _parse(tokens)
            except ParseError as error:
                yield error
        elif self._braces + self._brackets > NESTING_LIMIT:
            self._forget()
            yield ParseError("JSON nesting depth limit exceeded")

    def _is_too_much(self, more: int) -> bool:
        return self._limit is not None and self._size + more > self._limit

    def _too_much(self) -> ParseError:
        self._forget()
        return ParseError("JSON token size limit exceeded")

    def _token(self) -> bytes | ParseError | None:
        """The next token; None if its end is yet to come."""
        data = self._data
        if self._recovering:
            found = _RESTART.search(data, self._position)
            self._recovering = found is None
            self._position = found.start() if found else len(data)
        self._position = start = _end(_SPACE, data, self._position)
        first = data[start:start + 1]
        if not first:
            return None
        if first in b"{}[]:,":
            return self._skip(start + 1)
        if first in b"\"'":
            end = _end(_STRING, data, start)
            if data[end:end + 1] == first:
                return self._skip(end + 1)
        elif first in b"-0123456789":
            end = _end(_NUMBER, data, start)
            number = data[start:end]
            after = data[end:end + 1]
            if after and _WHOLE_NUMBER.fullmatch(number) and not (number in (b"0", b"-0") and after.isdigit()):
                return self._skip(end)
        elif keyword := _KEYWORD.match(data, start):
            end = keyword.end()
            if end < len(data):
                return self._skip(end)
        else:
            end = start
        if end == len(data):
            return None
        self._recovering = True
        return _error(f"stray '{_readable(self._skip(end + 1))}'")

    def _skip(self, end: int) -> bytes:
        start, self._position = self._position, end
        return self._data[start:end]


def _end(pattern: re.Pattern[bytes], data: bytes, start: int) -> int:
    """Where a match ends, of a pattern that also matches nothing."""
    match = pattern.match(data, start)
    return match.end() if match else start


def _parse(tokens: list[bytes]) -> object:
    """The value that these tokens are. Raises ParseError."""
    # The containers that are open; of an object also the key whose value is next.
    stack: list[tuple[dict[str, object] | list[object], str | None]] = []
    expected = "value"
    for token in tokens:
        closes = token == (b"}" if stack and isinstance(stack[-1][0], dict) else b"]")
        if expected == ":":
            if token != b":":
                raise _error("missing : in object pair")
            expected = "value"
            continue
        if expected == "separator":
            if token == b",":
                expected = "value"
                continue
            if not closes:
                raise _error(f"expected separator in {'dict' if isinstance(stack[-1][0], dict) else 'list'}")
        elif token in (b"{", b"["):
            stack.append(({} if token == b"{" else [], None))
            expected = "value or end"
            continue
        if expected != "value" and closes:
            value: object = stack.pop()[0]
        else:
            value = _scalar(token)
        # The value is whole: it is all, an item, a key or what belongs to one.
        if not stack:
            return value
        container, key = stack[-1]
        expected = "separator"
        if isinstance(container, list):
            container.append(value)
        elif key is not None:
            if key in container:
                raise _error("duplicate key")
            container[key] = value
            stack[-1] = (container, None)
        elif isinstance(value, str):
            stack[-1] = (container, value)
            expected = ":"
        else:
            raise _error("key is not a string in object")
    raise _error("expecting value")


def _scalar(token: bytes) -> object:
    if token[:1] in b"\"'":
        return _string(token)
    if number := _WHOLE_NUMBER.fullmatch(token):
        if not number["fraction"] and not number["exponent"] and len(token) <= 20:
            whole = int(token)
            if -1 << 63 <= whole < 1 << 64:
                return whole
        return float(token)
    if token in _KEYWORDS:
        return _KEYWORDS[token]
    if token.isalpha():
        raise _error(f"invalid keyword '{token.decode()}'")
    raise _error("expecting value")


def _string(token: bytes) -> str:
    """The string in its quotes. What is wrong with it is told in the order of its characters."""
    pieces: list[str] = []
    position, end = 1, len(token) - 1
    while position < end:
        backslash = token.find(b"\\", position, end)
        pieces.append(_text(token[position:backslash if backslash >= 0 else end]))
        if backslash < 0:
            break
        match = _ESCAPE.match(token, backslash)
        assert match is not None
        position = match.end()
        if match["high"]:
            pieces.append(chr(0x10000 + ((int(match["high"], 16) & 0x3FF) << 10) + (int(match["low"], 16) & 0x3FF)))
        elif match["hex"]:
            pieces.append(chr(int(match["hex"], 16)))
        elif match["plain"] in _ESCAPES:
            pieces.append(_ESCAPES[match["plain"]].decode())
        elif match["wrong"]:
            raise _error(f"\\{_readable(match['wrong'])} is not a valid Unicode character")
        else:
            raise _error("invalid escape sequence in string")
        if match["high"] or match["hex"]:
            _check_character(pieces[-1], match[0])
    return "".join(pieces)


def _text(data: bytes) -> str:
    try:
        text = data.replace(_ZERO, b"\0").decode()
    except UnicodeDecodeError:
        raise _error("invalid UTF-8 sequence in string") from None
    if _NONCHARACTER.search(text):
        raise _error("invalid UTF-8 sequence in string")
    return text


def _check_character(character: str, escape: bytes) -> None:
    if "\ud800" <= character <= "\udfff" or _NONCHARACTER.match(character):
        raise _error(f"{escape[:6].decode()} is not a valid Unicode character")


def _readable(data: bytes) -> str:
    """As in a message of QEMU's: a C string ends at its zero."""
    data = data.partition(b"\0")[0].replace(_ZERO, b"\0")
    return _NONCHARACTER.sub("\ufffd", _SURROGATE.sub(b"\xff", data).decode(errors="replace"))


def _error(what: str) -> ParseError:
    return ParseError(f"JSON parse error, {what}")
