# SPDX-License-Identifier: BSD-3-Clause
"""Each operation as a generator: it yields requests and is sent the answers, so that both clients can run it."""

from __future__ import annotations

import builtins
import errno
import random
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TypeVar

from . import _wire
from ._wire import Permission, Request, Type, path_bytes, request
from .error import InvalidRequest, TransactionConflict, XenstoreException

T = TypeVar("T")
Steps = Generator[Request, bytes, T]

# DIRECTORY_PART starts anew when the folder has changed in between; more often than that is no accident.
RESTARTS = 100
ATTEMPTS = 100  # how often `transact` tries
RETRY_FIRST, RETRY_MOST = 0.05, 2.0  # seconds between two attempts to connect again


def for_each(paths: tuple[str, ...], one: Callable[[str], Steps[T]]) -> Steps[T | dict[str, T]]:
    """The answer for one path, or a dict of path and answer for several."""
    if not paths:
        raise TypeError("expected a path, got none")
    if len(paths) == 1:
        return (yield from one(paths[0]))
    answers = {}
    for path in paths:
        answers[path] = yield from one(path)
    return answers


def read(path: str) -> Steps[bytes]:
    return (yield request(Type.READ, path_bytes(path), path=path))


def read_text(path: str) -> Steps[str]:
    return _wire.value_text((yield request(Type.READ, path_bytes(path), path=path)))


def write(values: Mapping[str, str | bytes]) -> Steps[None]:
    for path, value in values.items():
        yield Request(Type.WRITE, path_bytes(path) + b"\0" + _wire.value_bytes(value), path)


def mkdir(paths: tuple[str, ...]) -> Steps[None]:
    for path in paths:
        yield request(Type.MKDIR, path_bytes(path), path=path)


def rm(paths: tuple[str, ...]) -> Steps[None]:
    for path in paths:
        if path == "/":
            # oxenstored would do it: every domain on the machine would lose its devices.
            raise InvalidRequest(errno.EINVAL, "EINVAL: rm: expected a path below '/', got '/' itself", path)
        yield request(Type.RM, path_bytes(path), path=path)


def exists(path: str) -> Steps[bool]:
    try:
        yield request(Type.READ, path_bytes(path), path=path)
    except XenstoreException as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True


def list(path: str) -> Steps[builtins.list[str]]:
    try:
        return _wire.fields((yield request(Type.DIRECTORY, path_bytes(path), path=path)))
    except XenstoreException as error:
        if error.errno != errno.E2BIG:
            raise
    for _ in range(RESTARTS):
        names = yield from _list_parts(path)
        if names is not None:
            return names
    raise XenstoreException(errno.EAGAIN, "EAGAIN", path)


def _list_parts(path: str) -> Steps[builtins.list[str] | None]:
    """The names in a folder that is too big for one message, or None if it has changed between two parts."""
    listing, generation = b"", None
    while not listing.endswith(b"\0\0"):
        part = yield request(Type.DIRECTORY_PART, path_bytes(path), b"%d" % len(listing), path=path)
        now, _, names = part.partition(b"\0")
        if generation not in (None, now):
            return None
        if not names:
            raise _wire.unexpected("a part of a folder", part)
        generation = now
        listing += names
        if listing == b"\0":
            return []
    return _wire.fields(listing[:-1])


def visit(path: str, optional: bool) -> Steps[tuple[str, builtins.list[str]] | None]:
    """A node's value and the names below it; if it is gone, None where it is optional."""
    try:
        value = yield from read_text(path)
        return value, (yield from list(path))
    except XenstoreException as error:
        if error.errno != errno.ENOENT or not optional:
            raise
        return None


def join(path: str, name: str) -> str:
    return f"/{name}" if path == "/" else f"{path}/{name}"


def get_permissions(path: str) -> Steps[dict[int, Permission]]:
    return _wire.permissions((yield request(Type.GET_PERMS, path_bytes(path), path=path)))


def set_permissions(path: str, permissions: Mapping[int, Permission]) -> Steps[None]:
    yield request(Type.SET_PERMS, path_bytes(path), *_wire.permission_fields(permissions), path=path)


def start() -> Steps[int]:
    return _wire.number((yield request(Type.TRANSACTION_START, b"")))


def end(commit: bool) -> Steps[None]:
    try:
        yield request(Type.TRANSACTION_END, b"T" if commit else b"F")
    except XenstoreException as error:
        if error.errno == errno.EAGAIN:
            raise TransactionConflict(errno.EAGAIN, "EAGAIN") from None
        raise


def introduce(domid: int, gfn: int, port: int) -> Steps[None]:
    fields = _wire.domid_bytes(domid), _wire.number_bytes("gfn", gfn, 2**64 - 1), _wire.number_bytes("port", port)
    yield request(Type.INTRODUCE, *fields)


def release(domid: int) -> Steps[None]:
    yield request(Type.RELEASE, _wire.domid_bytes(domid))


def resume(domid: int) -> Steps[None]:
    yield request(Type.RESUME, _wire.domid_bytes(domid))


def set_target(domid: int, target: int) -> Steps[None]:
    yield request(Type.SET_TARGET, _wire.domid_bytes(domid), _wire.domid_bytes(target))


def get_domain_path(domid: int) -> Steps[str]:
    return _wire.text((yield request(Type.GET_DOMAIN_PATH, _wire.domid_bytes(domid))))


def is_domain_introduced(domid: int) -> Steps[bool]:
    answer = yield request(Type.IS_DOMAIN_INTRODUCED, _wire.domid_bytes(domid))
    if answer not in (b"T\0", b"F\0"):
        raise _wire.unexpected("T or F", answer)
    return answer == b"T\0"


def reset_watches() -> Steps[None]:
    yield request(Type.RESET_WATCHES, b"")


def control(command: str, arguments: tuple[str, ...]) -> Steps[str]:
    fields = [_wire.word_bytes("command", word) for word in (command, *arguments)]
    return _wire.text((yield request(Type.CONTROL, *fields)))


def get_features(domid: int | None) -> Steps[int]:
    return _wire.number((yield request(Type.GET_FEATURE, *_optional(domid))))


def set_features(domid: int, features: int) -> Steps[None]:
    yield request(Type.SET_FEATURE, _wire.domid_bytes(domid), _wire.number_bytes("features", features))


def quota_names() -> Steps[builtins.list[str]]:
    return _wire.text((yield request(Type.GET_QUOTA))).split()


def get_quota(name: str, domid: int | None) -> Steps[int]:
    return _wire.number((yield request(Type.GET_QUOTA, *_optional(domid), _wire.word_bytes("quota", name))))


def set_quota(name: str, value: int, domid: int | None) -> Steps[None]:
    fields = _wire.word_bytes("quota", name), _wire.number_bytes("value", value)
    yield request(Type.SET_QUOTA, *_optional(domid), *fields)


def _optional(domid: int | None) -> builtins.list[bytes]:
    return [] if domid is None else [_wire.domid_bytes(domid)]


def delays(attempts: int) -> Iterator[float]:
    """How long to sleep, in seconds, after each lost attempt but the last: random, longer each time, at most 0.1."""
    for attempt in range(attempts - 1):
        yield random.uniform(0, min(0.1, 0.0005 * 2**min(attempt, 10)))


def watch(path: str, token: str, depth: int | None) -> Steps[None]:
    more = [] if depth is None else [_wire.number_bytes("depth", depth)]
    yield request(Type.WATCH, path_bytes(path), _wire.word_bytes("token", token), *more, path=path)


def unwatch(path: str, token: str) -> Steps[None]:
    yield request(Type.UNWATCH, path_bytes(path), _wire.word_bytes("token", token), path=path)
