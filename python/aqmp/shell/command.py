# SPDX-License-Identifier: BSD-3-Clause
"""The command `shell`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..address import parse_address
from .batch import BatchError, execute_all

CONNECT_TIMEOUT = 10.0  # seconds; a monitor that somebody else uses never answers

_DESCRIPTION = """\
Execute QMP commands: those of -e, else those that are piped in, else what is
typed at a prompt, where Tab completes them and events appear as they come.

  query-status
  blockdev-add driver=nbd node-name=d0 server.type=unix server.path=/run/d.sock
  blockdev-add {"driver": "null-co", "node-name": "d1"}
  {"exec-oob": "migrate-pause"}
"""


def shell_command(program: str, arguments: Sequence[str]) -> int:
    """`shell`: the exit status is 1 if the monitor cannot be reached, or a command of -e or of a pipe failed."""
    parser = argparse.ArgumentParser(program, description=_DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket", metavar="SOCKET", help="QEMU's monitor: the path of its socket, or HOST:PORT")
    parser.add_argument("-e", "--execute", metavar="COMMAND", action="append",
                        help="execute this, print what it returns as one line of JSON, and end (may be repeated)")
    given = parser.parse_args(arguments)
    address = parse_address(given.socket)
    try:
        if given.execute or not (sys.stdin.isatty() and sys.stdout.isatty()):
            execute_all(address, given.execute or sys.stdin, CONNECT_TIMEOUT)
        else:
            return _interact(program, given.socket)
    except BatchError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the answers has enough; Python would complain when it flushes at the end.
        sys.stdout = None  # type: ignore[assignment]
        return 1
    return 0


def _interact(program: str, socket: str) -> int:
    try:
        from .terminal import interact
    except ModuleNotFoundError as error:
        if error.name != "prompt_toolkit":
            raise
        print(f"{program}: a prompt needs prompt_toolkit (package python3-prompt-toolkit); -e and pipes do not",
              file=sys.stderr)
        return 1
    return interact(program, socket, CONNECT_TIMEOUT)
