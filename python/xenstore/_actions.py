# SPDX-License-Identifier: BSD-3-Clause
"""What each command of `python3 -m xenstore` does."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import wraps

from ._client import Operations, Xenstore
from ._operations import join
from ._wire import Permission
from .error import ConnectionLost, XenstoreException

FAILED, TROUBLE = 1, 2  # exit statuses; argparse has the latter too for a wrong command line

Put = Callable[[bytes], object]
Action = Callable[[Xenstore, argparse.Namespace], int]
Steps = Callable[[Operations, argparse.Namespace, Put], int | None]


class WrongUsage(Exception):
    """What is wrong with the command line."""


def explain(error: XenstoreException) -> str:
    """An error in one line."""
    if str(error) != errno.errorcode.get(error.errno):
        return str(error)  # it says more than the name of an error of the store's
    what = os.strerror(error.errno)
    return what if error.filename is None else f"{error.filename}: {what}"


def put(output: bytes) -> None:
    sys.stdout.buffer.write(output)


def at_once(steps: Steps) -> Action:
    """An action that is one transaction. Its output comes at the end, be that good or not."""

    @wraps(steps)
    def action(store: Xenstore, options: argparse.Namespace) -> int:
        output: list[bytes] = []

        def attempt(operations: Operations) -> int | None:
            output.clear()
            return steps(operations, options, output.append)

        try:
            return store.transact(attempt) or 0
        finally:
            put(b"".join(output))

    return action


# Values in a shell.

CONTROLS = {0x0A: b"\\n", 0x0D: b"\\r", 0x09: b"\\t", 0x5C: b"\\\\"}
MEANINGS = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.)|$)", re.DOTALL)


def escape(value: bytes) -> bytes:
    """A value as it is shown: a backslash, and what is not printable ASCII, as in a string of C."""
    return b"".join(
        CONTROLS.get(byte) or (b"%c" if 0x20 <= byte < 0x7F else b"\\%03o" if byte < 8 else b"\\x%02x") % byte
        for byte in value)


def unescape(text: bytes) -> bytes:
    """The value that a text of the command line stands for."""

    def meaning(match: re.Match[bytes]) -> bytes:
        octal, hexadecimal, other = match.groups()
        if octal:
            return bytes([int(octal, 8) & 0xFF])
        if hexadecimal:
            return bytes([int(hexadecimal, 16)])
        if other is None:
            raise WrongUsage(f"expected something after the backslash at the end of {os.fsdecode(text)!r}")
        return MEANINGS.get(other, other)

    return ESCAPE.sub(meaning, text)


# The actions.


@at_once
def read(store: Operations, options: argparse.Namespace, put: Put) -> None:
    for path in options.paths:
        value = store.read_bytes(path)
        if options.prefix:
            put(os.fsencode(path) + b": ")
        put(value if options.raw else escape(value) + b"\n")


@at_once
def write(store: Operations, options: argparse.Namespace, put: Put) -> None:
    words = options.words
    if len(words) % 2 != 0:
        raise WrongUsage(f"expected a VALUE after each PATH, got none after {words[-1]!r}")
    for path, text in zip(words[::2], map(os.fsencode, words[1::2])):
        store.write({path: text if options.raw else unescape(text)})


@at_once
def mkdir(store: Operations, options: argparse.Namespace, put: Put) -> None:
    store.mkdir(*options.paths)


@at_once
def rm(store: Operations, options: argparse.Namespace, put: Put) -> None:
    for path in options.paths:
        store.rm(path)
        for folder in folders(path) if options.tidy else ():
            if store.read_bytes(folder) or store.list(folder):
                break
            store.rm(folder)


def folders(path: str) -> Iterator[str]:
    """The folders that a node is in, from its own up to the last one below the root."""
    while path := path.rpartition("/")[0]:
        yield path


@at_once
def list_(store: Operations, options: argparse.Namespace, put: Put) -> None:
    for path in options.paths:
        for name in store.list(path):
            put(os.fsencode(join(path, name) if options.prefix else name) + b"\n")


@at_once
def exists(store: Operations, options: argparse.Namespace, put: Put) -> int:
    return 0 if all(store.exists(path) for path in options.paths) else FAILED


@at_once
def chmod(store: Operations, options: argparse.Namespace, put: Put) -> None:
    permissions = dict(options.permissions)
    if len(permissions) < len(options.permissions):
        raise WrongUsage("expected each domain once among the permissions")
    paths = [options.path]
    if options.upto:
        paths += folders(options.path)
    if options.recurse:
        paths += (path for path, _, _ in store.walk(options.path))
    for path in paths:
        store.set_permissions(path, permissions)


def control(store: Xenstore, options: argparse.Namespace) -> int:
    put(os.fsencode(store.control(*options.words)) + b"\n")
    return 0


def watch(store: Xenstore, options: argparse.Namespace) -> int:
    from ._follow import follow  # not above: asyncio takes a while to import, and only this command needs it

    def show(path: str) -> None:
        put(os.fsencode(path) + b"\n")
        sys.stdout.flush()

    follow(store.path, options.paths, options.count, show)
    return 0


# ls

WIDTH = 80  # of a line, where there is no terminal
COLUMN = 60  # to which dots lead the eye, where permissions begin
CUT = len(' = "..."')  # what is kept free on a line for what is not a name or value
MODES = {Permission.NONE: b"n", Permission.READ: b"r", Permission.WRITE: b"w", Permission.BOTH: b"b"}


def ls(store: Xenstore, options: argparse.Namespace) -> int:
    """Not a transaction: that could fail for ever in a busy store, or be larger than a guest's may be."""
    status = 0
    width = line_width(options.full)
    for top in options.paths or ["/"]:
        waiting = [(top, name, 0) for name in reversed(store.list(top))]
        while waiting:
            folder, name, depth = waiting.pop()
            path = join(folder, name)
            try:
                value, below = store.read_bytes(path), store.list(path)
                permissions = store.get_permissions(path) if options.permissions else None
            except ConnectionLost:
                raise
            except XenstoreException as error:
                if error.errno != errno.ENOENT:  # it has been removed meanwhile
                    print(f"xenstore ls: {explain(error)}", file=sys.stderr)
                    status = FAILED
                continue
            put(line(options, path, name, depth, value, width))
            if permissions is not None:
                words = (b"%s%d" % (MODES[permission], domid) for domid, permission in permissions.items())
                put(b"  (" + b",".join(words) + b")")
            put(b"\n")
            waiting += [(path, name, depth + 1) for name in reversed(below)]
    return status


def line_width(full: bool) -> int:
    """How many columns to use; without a limit, none or fewer."""
    if sys.stdout.isatty():
        return os.get_terminal_size(sys.stdout.fileno()).columns - 2
    return -1 if full else WIDTH


def line(options: argparse.Namespace, path: str, name: str, depth: int, value: bytes, width: int) -> bytes:
    """A node's line up to its permissions, byte for byte as xenstore-ls has it."""
    if options.full:
        start, used = os.fsencode(path), 0
    else:
        start = b" " * depth + clip(os.fsencode(name), width - CUT - depth)
        used = len(start)
    if 0 <= width < used + len(value) + CUT:
        return start + b' = "' + clip(escape(value), width - CUT - used) + b'\\..."'
    whole = start + b' = "' + escape(value) + b'"'
    if options.permissions:
        whole += b" "
        if not options.full:
            whole += b"".join(b"." if column % 2 else b" " for column in range(len(whole), min(COLUMN, width)))
    return whole


def clip(text: bytes, most: int) -> bytes:
    """Cut off what is too long; a negative `most` is no limit."""
    return text if most < 0 else text[:most]
