# SPDX-License-Identifier: BSD-3-Clause
"""The command line of `python3 -m xenstore`: the store from a shell, as with Xen's own xenstore-ls and the like."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import _actions
from ._actions import FAILED, TROUBLE, Action, WrongUsage, explain
from ._client import Xenstore
from ._wire import Permission
from .error import XenstoreException

LETTERS = {"n": Permission.NONE, "r": Permission.READ, "w": Permission.WRITE, "b": Permission.BOTH}
ABOUT = "Look at Xen's store and change it, from a shell."
MORE = """What one command does is one transaction: all of it, or nothing; but ls looks at one node after the other.
The exit status is 0, or 1 if the store has refused, or 2 if the command line is wrong. `exists` has 1 for `no`, and 2
for anything that keeps it from knowing."""
VALUES = r"""A VALUE may have the escapes \n, \r, \t, \\, \ooo (octal) and \xhh; of any other, the backslash is
dropped."""
PERMISSIONS = """A PERM is a letter and a domain's number: n0 (nothing), r7 (read), w7 (write), b7 (both). The first
names the owner, who may do everything; its letter is what every domain may do that is not named."""


def permission(text: str) -> tuple[int, Permission]:
    """A PERM of the command line."""
    if text[:1] not in LETTERS or not (text[1:].isascii() and text[1:].isdecimal()):
        raise argparse.ArgumentTypeError(f"expected n, r, w or b and a domain's number, as in r7, got {text!r}")
    return int(text[1:]), LETTERS[text[0]]


def count(text: str) -> int:
    """A number of events."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python3 -m xenstore", description=ABOUT, epilog=MORE)
    parser.add_argument("--store", metavar="PATH", help="the store's Unix socket or device; by default XENSTORED_PATH, "
                        "or this system's own")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, action: Action, about: str, more: str | None = None) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.", epilog=more)
        command.add_argument("-s", action="store_true", help="ignored, as by Xen's commands of today")
        command.set_defaults(action=action, name=name)
        return command

    def flag(command: argparse.ArgumentParser, name: str, letter: str, about: str) -> None:
        command.add_argument(f"-{letter}", dest=name, action="store_true", help=about)

    def paths(command: argparse.ArgumentParser, nargs: str = "+") -> None:
        command.add_argument("paths", metavar="PATH", nargs=nargs)

    ls = add("ls", _actions.ls, "show what is below each PATH (/), as a tree with values")
    flag(ls, "full", "f", "show full paths")
    flag(ls, "permissions", "p", "show permissions")
    paths(ls, "*")

    read = add("read", _actions.read, "show the value of each PATH")
    flag(read, "prefix", "p", "show the paths too")
    flag(read, "raw", "R", "the bytes as they are, without escapes and newlines")
    paths(read)

    write = add("write", _actions.write, "write each VALUE to the PATH before it", VALUES)
    flag(write, "raw", "R", "a backslash is a backslash")
    write.add_argument("words", metavar="PATH VALUE", nargs="+")

    rm = add("rm", _actions.rm, "remove each PATH and all that is below it")
    flag(rm, "tidy", "t", "and the folders that are empty then")
    paths(rm)

    list_ = add("list", _actions.list_, "show the names right below each PATH")
    flag(list_, "prefix", "p", "show full paths")
    paths(list_)

    paths(add("mkdir", _actions.mkdir, "make each PATH, and the folders it is in"))

    chmod = add("chmod", _actions.chmod, "replace the permissions of PATH", PERMISSIONS)
    flag(chmod, "recurse", "r", "and of all that is below it")
    flag(chmod, "upto", "u", "and of the folders it is in, but the root")
    chmod.add_argument("path", metavar="PATH")
    chmod.add_argument("permissions", metavar="PERM", nargs="+", type=permission)

    paths(add("exists", _actions.exists, "is there each PATH? The exit status tells"))

    watch = add("watch", _actions.watch, "show the path of each change of a PATH or below it, at first the PATH itself")
    watch.add_argument("-n", dest="count", metavar="NUMBER", type=count, help="end after so many lines")
    paths(watch)

    control = add("control", _actions.control, "a command to the daemon itself, such as `help`")
    control.add_argument("words", metavar="WORD", nargs="+")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the result is the exit status."""
    options = command_line().parse_args(arguments)
    action: Action = options.action
    try:
        with Xenstore(options.store) as store:
            status = action(store, options)
        sys.stdout.flush()
        return status
    except WrongUsage as error:
        status, what = TROUBLE, str(error)
    except XenstoreException as error:
        status, what = TROUBLE if options.name == "exists" else FAILED, explain(error)
    except OSError as error:
        # It is of no use to try and write the rest once more at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status, what = FAILED, f"standard output: {error.strerror}"
    print(f"xenstore {options.name}: {what}", file=sys.stderr)
    return status
