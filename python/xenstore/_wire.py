# SPDX-License-Identifier: BSD-3-Clause
"""The protocol without its transport: messages to and from bytes, and what a path, a value and a permission may be."""

from __future__ import annotations

import enum
import errno
import functools
import struct
from collections.abc import Mapping
from typing import NamedTuple

from .error import InvalidRequest, ProtocolError, XenstoreException, refusal

HEADER = struct.Struct("=IIII")  # type, request, transaction, length of the payload
PAYLOAD_MAX = 4096
DOMID_MAX = 0x7FFF
_PATH_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_@"


class Type(enum.IntEnum):
    """The types of messages. 20 was RESTRICT, which no store has any more."""

    CONTROL = 0
    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WATCH = 4
    UNWATCH = 5
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    INTRODUCE = 8
    RELEASE = 9
    GET_DOMAIN_PATH = 10
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    RESUME = 18
    SET_TARGET = 19
    RESET_WATCHES = 21
    DIRECTORY_PART = 22
    GET_FEATURE = 23
    SET_FEATURE = 24
    GET_QUOTA = 25
    SET_QUOTA = 26


# Messages come with plain numbers, and there are many.
WATCH_EVENT, ERROR = int(Type.WATCH_EVENT), int(Type.ERROR)


class Permission(enum.IntFlag):
    """What a domain may do with a node, apart from its owner and domain 0, which may do everything."""

    NONE = 0
    READ = 1
    WRITE = 2
    BOTH = 3


_LETTERS = {Permission.NONE: b"n", Permission.READ: b"r", Permission.WRITE: b"w", Permission.BOTH: b"b"}
_PERMISSIONS = {letter[0]: permission for permission, letter in _LETTERS.items()}


class Event(NamedTuple):
    """A watch has fired: something at `path`, or below it, changed, or the watch is new."""

    path: str
    token: str


class Request(NamedTuple):
    """What is to be asked; `path` is there for the message of an error."""

    type: Type
    payload: bytes
    path: str | None = None


class Message(NamedTuple):
    """What came from the store."""

    type: int
    request: int
    transaction: int
    payload: bytes


def request(type: Type, *fields: bytes, path: str | None = None) -> Request:
    """A request whose fields each end with a NUL."""
    return Request(type, b"\0".join(fields) + b"\0" if fields else b"", path)


def pack(request: Request, number: int, transaction: int) -> bytes:
    """A request as bytes. InvalidRequest (E2BIG) if it is too long for any store."""
    payload = request.payload
    if len(payload) > PAYLOAD_MAX:
        raise InvalidRequest(errno.E2BIG, f"E2BIG: {request.type.name}: expected a payload (path, value and what is "
                             f"between) of at most {PAYLOAD_MAX} bytes, got {len(payload)}", request.path)
    return HEADER.pack(request.type, number, transaction, len(payload)) + payload


# What is sent.

def path_bytes(path: str) -> bytes:
    """A path as bytes: absolute, relative to the domain's own folder, or special, such as `@releaseDomain`."""
    if not isinstance(path, str):
        raise TypeError(f"path: expected a str, got {path!r}")
    return _checked(path)


@functools.lru_cache(1000)
def _checked(path: str) -> bytes:
    encoded = path.encode("utf-8", "surrogateescape")
    if wrong := encoded.translate(None, _PATH_CHARACTERS):
        raise _bad_path(path, "one of A-Z a-z 0-9 - / _ @ only", f"{wrong!r} in it")
    if not encoded:
        raise _bad_path(path, "a path", "none")
    if b"//" in encoded or (encoded[-1:] == b"/" and len(encoded) > 1):
        raise _bad_path(path, "names with a / between them", "an empty name")
    return encoded


def _bad_path(path: str, expected: str, got: str) -> InvalidRequest:
    return InvalidRequest(errno.EINVAL, f"EINVAL: path {path!r}: expected {expected}, got {got}", path)


def value_bytes(value: str | bytes) -> bytes:
    """A value as bytes: a str as UTF-8, where the bytes of `value_text` that were no UTF-8 become what they were."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"value: expected a str or bytes, got {value!r}")


def number_bytes(what: str, number: int, most: int = 0xFFFFFFFF) -> bytes:
    """A number in decimal. InvalidRequest (EINVAL) if it is below 0 or above `most`."""
    if not isinstance(number, int):
        raise TypeError(f"{what}: expected an int, got {number!r}")
    if not 0 <= number <= most:
        raise InvalidRequest(errno.EINVAL, f"EINVAL: {what}: expected 0 to {most}, got {number}")
    return b"%d" % number


def domid_bytes(domid: int) -> bytes:
    """A domain's number in decimal."""
    return number_bytes("domid", domid, DOMID_MAX)


def word_bytes(what: str, word: str) -> bytes:
    """A field of ours that a NUL ends, such as a token. InvalidRequest (EINVAL) if there is one in it."""
    if not isinstance(word, str):
        raise TypeError(f"{what}: expected a str, got {word!r}")
    if "\0" in word:
        raise InvalidRequest(errno.EINVAL, f"EINVAL: {what}: expected no NUL in it, got {word!r}")
    return word.encode("utf-8", "surrogateescape")


def permission_fields(permissions: Mapping[int, Permission]) -> list[bytes]:
    """Permissions as the store takes them, in their order: the first is the owner's."""
    if not permissions:
        raise InvalidRequest(errno.EINVAL, "EINVAL: permissions: expected the owner's first, got none at all")
    fields = []
    for domid, permission in permissions.items():
        if permission not in _LETTERS:
            raise InvalidRequest(errno.EINVAL, f"EINVAL: permissions of domain {domid}: expected one of PERM_NONE, "
                                 f"PERM_READ, PERM_WRITE and PERM_BOTH, got {permission!r}")
        fields.append(_LETTERS[permission] + domid_bytes(domid))
    return fields


# What comes.

def value_text(value: bytes) -> str:
    """A value as a str: UTF-8, and any byte that is none comes as a lone surrogate, which `value_bytes` undoes."""
    return value.decode("utf-8", "surrogateescape")


def fields(payload: bytes) -> list[str]:
    """A payload's fields, each of which has a NUL at its end (the last may lack it)."""
    parts = value_text(payload).split("\0")
    if not parts[-1]:
        parts.pop()
    return parts


def text(payload: bytes) -> str:
    """An answer that is one text, with or without a NUL at its end."""
    return value_text(payload.removesuffix(b"\0"))


def error(message: Message, request: Request) -> XenstoreException:
    """The exception for an answer that is an error."""
    name = message.payload.rstrip(b"\0").decode("ascii", "backslashreplace") or "EIO"
    exception = refusal(name, request.path)
    exception.add_note(f"from the store, for {request.type.name}" + (f" of {request.path!r}" if request.path else ""))
    return exception


def event(message: Message) -> Event:
    """The path and the token of a watch's event; there may be more fields in the future."""
    found = fields(message.payload)
    if len(found) < 2:
        raise ProtocolError(errno.EPROTO, f"expected a path and a token in a watch's event, got {message.payload!r}")
    return Event(found[0], found[1])


def permissions(payload: bytes) -> dict[int, Permission]:
    """Permissions in the store's order."""
    found: dict[int, Permission] = {}
    for field in payload.rstrip(b"\0").split(b"\0"):
        if field[:1] and field[0] in _PERMISSIONS and field[1:].isdigit():
            # A store looks for the first entry of a domain.
            found.setdefault(int(field[1:]), _PERMISSIONS[field[0]])
        else:
            raise unexpected("permissions such as 'n0'", payload)
    return found


def number(payload: bytes) -> int:
    """A decimal number."""
    digits = payload.rstrip(b"\0")
    if not digits.isdigit():
        raise unexpected("a number", payload)
    return int(digits)


def unexpected(expected: str, payload: bytes) -> ProtocolError:
    """The exception for an answer that makes no sense. Only its own request fails."""
    return ProtocolError(errno.EPROTO, f"expected {expected} from the store, got {payload[:80]!r}")
