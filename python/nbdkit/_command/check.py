# SPDX-License-Identifier: BSD-3-Clause
"""`nbdkit-python check`: faults in a script, by the library's check."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from . import CommandError, add_disk, seconds
from .output import fitted, heading, progress_bar


def main(program: str, arguments: Sequence[str]) -> int:
    """The exit status is 0 if no fault was found, 1 if there are some."""
    parser = argparse.ArgumentParser(
        program, formatter_class=argparse.RawDescriptionHelpFormatter, description="""\
Look for faults in a disk. THIS WRITES TO THE DISK, and does not restore what was there: give it one whose content
you can do without, such as file=scratch.img. With --read-only, nothing is written.

The script's source is read first: signatures, API version, misspelt callbacks, promises that nothing keeps. Then a
real nbdkit serves it on a private socket, and random requests are compared with a model of a disk: reads, writes,
zeros, trims, extents, cache; one by one, at the same time, through several connections where the disk offers that;
after the client has connected again, and, if the disk outlives its server, after a stop and after a kill. Each fault
is shown with the smallest sequence of requests that was found to show it, as lines of nbdsh.""")
    add_disk(parser)
    parser.add_argument("--read-only", action="store_true", help="serve it with nbdkit's -r, and write nothing")
    parser.add_argument("--export", metavar="NAME", default="", help="the export to check (default: the default one)")
    parser.add_argument("--seed", metavar="N", type=int, default=0,
                        help="of the random requests: the same one makes the same requests (default: %(default)s)")
    parser.add_argument("--rounds", metavar="N", type=_rounds, default=100,
                        help="how many random sequences to try of the first kind; the others have their share "
                        "(default: %(default)s)")
    parser.add_argument("--time", metavar="SECONDS", type=seconds, default=60.0,
                        help="when to stop looking (default: %(default)g)")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    given = parser.parse_intermixed_args(arguments)

    from .._check.plugin import PluginNotFound
    from .._check.run import Options, run

    options = Options(given.seed, given.rounds, given.time, given.read_only, given.export)
    try:
        with progress_bar() as progress:
            report = run(given.script, given.words, options, progress)
    except PluginNotFound as error:
        raise CommandError(str(error)) from None
    if given.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        for number, fault in enumerate(report.faults, 1):
            first, _, rest = str(fault).partition("\n")
            print(heading(fitted(f"{number}. {first}")) + (f"\n{rest}" if rest else "") + "\n")
        for what in report.not_tried:
            print(fitted(f"not tried: {what}"))
        print(heading(fitted(report.verdict())))
    return 0 if report.ok else 1


def _rounds(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a number of rounds, 1 or more, got {text!r}")
    return int(text)
