# SPDX-License-Identifier: BSD-3-Clause
"""The commands of `python3 -m aqmp`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

PROGRAM = "python3 -m aqmp"


def _shell(program: str, arguments: Sequence[str]) -> int:
    from .shell.command import shell_command

    return shell_command(program, arguments)


def _attach(program: str, arguments: Sequence[str]) -> int:
    from .attach.command import attach_command

    return attach_command(program, arguments)


def _detach(program: str, arguments: Sequence[str]) -> int:
    from .attach.command import detach_command

    return detach_command(program, arguments)


COMMANDS: dict[str, tuple[Callable[[str, Sequence[str]], int], str]] = {
    "shell": (_shell, "type QMP commands, with completion, and see the events"),
    "attach": (_attach, "plug a Python disk into a running QEMU"),
    "detach": (_detach, "take it out again"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments (default: the process's) name, and return its exit status."""
    parser = argparse.ArgumentParser(
        PROGRAM, description="Work with QEMU's monitor, over its protocol QMP.", usage=f"{PROGRAM} COMMAND …",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n" + "".join(f"  {name:<10}{what}\n" for name, (_, what) in COMMANDS.items())
        + f"\n{PROGRAM} COMMAND --help tells more.")
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="the command's own")
    given = parser.parse_args(arguments)
    command, _ = COMMANDS[given.command]
    return command(f"{PROGRAM} {given.command}", given.arguments)


if __name__ == "__main__":
    sys.exit(main())
