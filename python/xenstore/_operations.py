# SPDX-License-Identifier: BSD-3-Clause
"""Each operation as a generator, which both clients run: it yields requests, to be sent together, and gets the answers.

An answer that is an error is raised at the yield, the first if there are several.
"""

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
Steps = Generator[builtins.list[Request], builtins.list[bytes], T]

# DIRECTORY_PART starts anew when the folder has changed in between; more often than that is no accident.
RESTARTS = 100
ATTEMPTS = 100  # how often `transact` tries
# oxenstored of Xen 4.17 answers a request without a payload only when another one has come.
_NUDGE = [request(Type.GET_DOMAIN_PATH, b"0")]
RETRY_FIRST, RETRY_MOST = 0.05, 2.0  # seconds between two attempts to connect again


def for_each(paths: tuple[str, ...], type: Type, parse: Callable[[bytes], T]) -> Steps[T | dict[str, T]]:
    """The answer for one path, or a dict of path and answer for several, which are asked for together."""
    if not paths:
        raise TypeError("expected a path, got none")
    answers = yield [Request(type, path_bytes(path) + b"\0", path) for path in paths]
    if len(paths) == 1:
        return parse(answers[0])
    return {path: parse(answer) for path, answer in zip(paths, answers)}


def read(paths: tuple[str, ...]) -> Steps[str | dict[str, str]]:
    return for_each(paths, Type.READ, _wire.value_text)


def read_bytes(paths: tuple[str, ...]) -> Steps[bytes | dict[str, bytes]]:
    return for_each(paths, Type.READ, bytes)


def get_permissions(paths: tuple[str, ...]) -> Steps[dict[int, Permission] | dict[str, dict[int, Permission]]]:
    return for_each(paths, Type.GET_PERMS, _wire.permissions)


def write(values: Mapping[str, str | bytes]) -> Steps[None]:
    for path, value in values.items():
        yield [Request(Type.WRITE, path_bytes(path) + b"\0" + _wire.value_bytes(value), path)]


def mkdir(paths: tuple[str, ...]) -> Steps[None]:
    for path in paths:
        yield [request(Type.MKDIR, path_bytes(path), path=path)]


def rm(paths: tuple[str, ...]) -> Steps[None]:
    for path in paths:
        if path == "/":
            # oxenstored would do it: every domain on the machine would lose its devices.
            raise InvalidRequest(errno.EINVAL, "EINVAL: rm: expected a path below '/', got '/' itself", path)
        yield [request(Type.RM, path_bytes(path), path=path)]


def exists(path: str) -> Steps[bool]:
    try:
        yield [request(Type.READ, path_bytes(path), path=path)]
    except XenstoreException as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True


def list(path: str) -> Steps[builtins.list[str]]:
    try:
        [names] = yield [request(Type.DIRECTORY, path_bytes(path), path=path)]
        return _wire.fields(names)
    except XenstoreException as error:
        if error.errno != errno.E2BIG:
            raise
    for _ in range(RESTARTS):
        found = yield from _list_parts(path)
        if found is not None:
            return found
    raise XenstoreException(errno.EAGAIN, "EAGAIN", path)


def _list_parts(path: str) -> Steps[builtins.list[str] | None]:
    """The names in a folder that is too big for one message, or None if it has changed between two parts."""
    listing, generation = b"", None
    while not listing.endswith(b"\0\0"):
        [part] = yield [request(Type.DIRECTORY_PART, path_bytes(path), b"%d" % len(listing), path=path)]
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
        [value] = yield [request(Type.READ, path_bytes(path), path=path)]
        return _wire.value_text(value), (yield from list(path))
    except XenstoreException as error:
        if error.errno != errno.ENOENT or not optional:
            raise
        return None


def join(path: str, name: str) -> str:
    return f"/{name}" if path == "/" else f"{path}/{name}"


def set_permissions(path: str, permissions: Mapping[int, Permission]) -> Steps[None]:
    yield [request(Type.SET_PERMS, path_bytes(path), *_wire.permission_fields(permissions), path=path)]


def start() -> Steps[int]:
    [answer] = yield [request(Type.TRANSACTION_START, b"")]
    return _wire.number(answer)


def end(commit: bool) -> Steps[None]:
    try:
        yield [request(Type.TRANSACTION_END, b"T" if commit else b"F")]
    except XenstoreException as error:
        if error.errno == errno.EAGAIN:
            raise TransactionConflict(errno.EAGAIN, "EAGAIN") from None
        raise


def introduce(domid: int, gfn: int, port: int) -> Steps[None]:
    fields = _wire.domid_bytes(domid), _wire.number_bytes("gfn", gfn, 2**64 - 1), _wire.number_bytes("port", port)
    yield [request(Type.INTRODUCE, *fields)]


def release(domid: int) -> Steps[None]:
    yield [request(Type.RELEASE, _wire.domid_bytes(domid))]


def resume(domid: int) -> Steps[None]:
    yield [request(Type.RESUME, _wire.domid_bytes(domid))]


def set_target(domid: int, target: int) -> Steps[None]:
    yield [request(Type.SET_TARGET, _wire.domid_bytes(domid), _wire.domid_bytes(target))]


def get_domain_path(domid: int) -> Steps[str]:
    [answer] = yield [request(Type.GET_DOMAIN_PATH, _wire.domid_bytes(domid))]
    return _wire.text(answer)


def is_domain_introduced(domid: int) -> Steps[bool]:
    [answer] = yield [request(Type.IS_DOMAIN_INTRODUCED, _wire.domid_bytes(domid))]
    if answer not in (b"T\0", b"F\0"):
        raise _wire.unexpected("T or F", answer)
    return answer == b"T\0"


def reset_watches() -> Steps[None]:
    yield [request(Type.RESET_WATCHES, b"")]


def control(command: str, arguments: tuple[str, ...]) -> Steps[str]:
    fields = [_wire.word_bytes("command", word) for word in (command, *arguments)]
    [answer] = yield [request(Type.CONTROL, *fields)]
    return _wire.text(answer)


def get_features(domid: int | None) -> Steps[int]:
    answers = yield [request(Type.GET_FEATURE, *_optional(domid)), *_NUDGE]
    return _wire.number(answers[0])


def set_features(domid: int, features: int) -> Steps[None]:
    yield [request(Type.SET_FEATURE, _wire.domid_bytes(domid), _wire.number_bytes("features", features))]


def quota_names() -> Steps[builtins.list[str]]:
    answers = yield [request(Type.GET_QUOTA), *_NUDGE]
    return _wire.text(answers[0]).split()


def get_quota(name: str, domid: int | None) -> Steps[int]:
    [answer] = yield [request(Type.GET_QUOTA, *_optional(domid), _wire.word_bytes("quota", name))]
    return _wire.number(answer)


def set_quota(name: str, value: int, domid: int | None) -> Steps[None]:
    fields = _wire.word_bytes("quota", name), _wire.number_bytes("value", value)
    yield [request(Type.SET_QUOTA, *_optional(domid), *fields)]


def _optional(domid: int | None) -> builtins.list[bytes]:
    return [] if domid is None else [_wire.domid_bytes(domid)]


def delays(attempts: int) -> Iterator[float]:
    """How long to sleep, in seconds, after each lost attempt but the last: random, longer each time, at most 0.1."""
    for attempt in range(attempts - 1):
        yield random.uniform(0, min(0.1, 0.0005 * 2**min(attempt, 10)))


def watch(path: str, token: str, depth: int | None) -> Steps[None]:
    more = [] if depth is None else [_wire.number_bytes("depth", depth)]
    yield [request(Type.WATCH, path_bytes(path), _wire.word_bytes("token", token), *more, path=path)]


def is_final(error: XenstoreException) -> bool:
    """Whether a watch that failed so is not there and will not be: the store has refused it."""
    return type(error) is XenstoreException and error.errno != errno.EEXIST


def unwatch(path: str, token: str) -> Steps[None]:
    yield [request(Type.UNWATCH, path_bytes(path), _wire.word_bytes("token", token), path=path)]
