# SPDX-License-Identifier: BSD-3-Clause
"""The commands `attach` and `detach`."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..address import parse_address
from .errors import AttachError
from .machine import DEVICES
from .session import Options, attach, detach

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,30}")  # QEMU's block nodes have names of up to 31 characters


def attach_command(program: str, arguments: Sequence[str]) -> int:
    """`attach`: the exit status is 0 once the disk has been detached, 1 if it could not be attached or detached."""
    parser = argparse.ArgumentParser(program, description="""
        Serve a Python disk, and plug it into a running QEMU, until Ctrl-C or `detach`. If the disk's server dies, it
        is started again, and the guest only waits.""")
    parser.add_argument("script", metavar="SCRIPT", help="the disk: a script for nbdkit's Python plugin")
    parser.add_argument("parameters", metavar="KEY=VALUE", nargs="*", help="parameters for the script")
    parser.add_argument("--qmp", metavar="SOCKET", required=True,
                        help="QEMU's monitor: the path of its socket, or HOST:PORT; attach needs it to itself")
    parser.add_argument("--id", metavar="NAME", type=_name, help="what to call it (default: as the script)")
    parser.add_argument("--device", choices=list(DEVICES), default="virtio-scsi",
                        help="what the guest sees (default: %(default)s)")
    parser.add_argument("--bus", metavar="BUS", help="""the id of the bus to plug it into (default: the first
                        virtio-scsi bus, added if there is none; for virtio-blk, a free PCI slot)""")
    parser.add_argument("--export-only", action="store_true",
                        help="export it over NBD instead, as for qemu-storage-daemon, which has no guest")
    parser.add_argument("--read-only", action="store_true", help="refuse writes")
    parser.add_argument("--timeout", metavar="SECONDS", type=_seconds, default=30.0,
                        help="how long the guest may take to let go of it (default: %(default)g)")
    given = parser.parse_intermixed_args(arguments)
    if given.export_only and given.bus:
        parser.error("--export-only plugs it into no --bus")
    if not Path(given.script).exists():
        parser.error(f"there is no {given.script}")
    options = Options(
        arguments=(given.script, *given.parameters), qmp=parse_address(given.qmp),
        name=given.id or _name_of(given.script), device=None if given.export_only else given.device, bus=given.bus,
        readonly=given.read_only, timeout=given.timeout)
    return _run(program, attach(options, _say))


def detach_command(program: str, arguments: Sequence[str]) -> int:
    """`detach`: the exit status is 0 once the disk has been detached."""
    parser = argparse.ArgumentParser(program, description="""
        Take a disk that is attached out of its machine, and end its server. If its `attach` was killed, this removes
        what that has left behind.""")
    parser.add_argument("name", metavar="NAME", type=_name, help="the name that `attach` has printed")
    return _run(program, detach(parser.parse_args(arguments).name))


def _run(program: str, work: Coroutine[Any, Any, None]) -> int:
    try:
        asyncio.run(work)
    except AttachError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _say(news: str) -> None:
    # That nobody reads it any more is no reason to end.
    with suppress(OSError):
        os.write(1, f"{news}\n".encode())


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"expected a letter, then up to 30 letters, digits and any of . _ -, got {text!r}")
    return text


def _name_of(script: str) -> str:
    """A script's own name, as far as QEMU takes it."""
    text = re.sub(r"[^A-Za-z0-9._-]", "-", os.path.splitext(os.path.basename(script))[0])[:31]
    return text if _NAME.fullmatch(text) else f"disk-{text}"[:31]


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds, got {text!r}")
    return seconds
