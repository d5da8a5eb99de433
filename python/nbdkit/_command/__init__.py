# SPDX-License-Identifier: BSD-3-Clause
"""The command nbdkit-python: what an author of disks does with a script beside serving it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import cast

COMMANDS = {
    "new": "write a disk and its test, to begin with",
    "check": "look for faults in a disk: read it, serve it, and drive it against a model",
    "bench": "measure a disk, beside nbdkit's memory plugin",
    "help": "tell about a disk: what it is, its parameters, exports and callbacks",
}
Command = Callable[[str, Sequence[str]], int]


class CommandError(Exception):
    """The command cannot do its work; the message is for who has called it."""


def add_disk(parser: argparse.ArgumentParser, words: str = "its parameters") -> None:
    """The arguments SCRIPT and KEY=VALUE, as `script` and `words`; words: the help on the latter."""
    parser.add_argument("script", type=_script, metavar="SCRIPT", help="the disk: a script for nbdkit's Python plugin")
    parser.add_argument("words", metavar="KEY=VALUE", nargs="*", default=[], help=words)


def _script(text: str) -> str:
    """Raises CommandError for what cannot be read."""
    try:
        with open(text, "rb"):
            return text
    except FileNotFoundError:
        raise CommandError(f"there is no script {text!r}") from None
    except OSError as error:
        raise CommandError(f"the script {text!r} cannot be read: {error.strerror}") from None


def seconds(text: str) -> float:
    """A time. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0 and up to 3600, got {text!r}")
    return value


def main(arguments: Sequence[str] | None = None, program: str = "nbdkit-python") -> int:
    """Run the command that the arguments (default: the process's) name, and return its exit status.

    0: done, and for `check`, no fault found. 1: faults found. 2: it could not be done.
    """
    parser = argparse.ArgumentParser(
        program, description="Write, check, measure and look at disks for nbdkit that are Python scripts.",
        usage=f"{program} COMMAND …", formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n" + "".join(f"  {name:<8}{what}\n" for name, what in COMMANDS.items())
        + f"\n{program} COMMAND --help tells more. To serve a disk: nbdkit python SCRIPT [KEY=VALUE …]")
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="the command's own").required = False
    given = parser.parse_args(arguments)
    command = cast(Command, import_module(f".{given.command}", __name__).main)
    try:
        status = command(f"{program} {given.command}", given.arguments)
        sys.stdout.flush()
        return status
    except (CommandError, FileNotFoundError, ModuleNotFoundError) as error:
        print(f"{program} {given.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # nobody reads it any more; nor what Python would still write at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 2
