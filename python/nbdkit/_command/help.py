# SPDX-License-Identifier: BSD-3-Clause
"""`nbdkit-python help`: what a script says of itself, and what the plugin sees in it."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from .._check.plugin import PluginNotFound, find_plugin
from .._check.server import ServerError, serve_script
from . import CommandError, add_disk
from .output import heading

_PACKAGES = str(Path(__file__).resolve().parents[2])
# In a process of its own, since the script is run.
_PAGE = """
import sys
from nbdkit import _errors, _help, _script
name, width = sys.argv[1], int(sys.argv[2])
try:
    sys.__stdout__.write(_help.page(_script.load(name), name, width))
except _errors.ScriptError as error:
    sys.exit(str(error))
"""


def main(program: str, arguments: Sequence[str]) -> int:
    """The exit status is 0 if the script could be loaded."""
    parser = argparse.ArgumentParser(program, description="""
        Tell about a disk: its usage, docstring and parameters, the callbacks that it has, and its exports. The script
        is run for that; and it is served for a moment if it lists exports, with the parameters that are given here.""")
    add_disk(parser, "its parameters, if its exports need them")
    given = parser.parse_intermixed_args(arguments)
    width = min(shutil.get_terminal_size().columns, 100)
    here = {"PYTHONPATH": os.pathsep.join([_PACKAGES, *filter(None, [os.environ.get("PYTHONPATH")])])}
    print(_output([sys.executable, "-c", _PAGE, given.script, str(width)], **here))
    try:
        dump = _output(["nbdkit", find_plugin(), given.script, "--dump-plugin"])
        told = dict(line.split("=", 1) for line in dump.splitlines() if "=" in line)
        callbacks = told.get("python_callbacks", "").split()
        _print(f"Callbacks, in API version {told.get('python_script_api_version', 1)}", ", ".join(callbacks), width)
        _print("Exports", _exports(given.script, given.words, "list_exports" in callbacks), width)
    except PluginNotFound as error:
        raise CommandError(str(error)) from None
    return 0


def _output(command: Sequence[str], **changes: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                          env={**os.environ, **changes})
    if done.returncode != 0:
        raise CommandError(done.stderr.strip())
    return done.stdout


def _print(head: str, text: str, width: int) -> None:
    lines = [textwrap.fill(line, width, initial_indent="    ", subsequent_indent="    ") for line in text.splitlines()]
    print("\n".join([f"{heading(head)}:", "", *lines, ""]))


def _exports(script: str, words: Sequence[str], lists: bool) -> str:
    """The names that a client may ask for, a line each."""
    if not lists:
        return "one, which needs no name"
    try:
        server = serve_script(script, words)
    except ServerError as error:
        return f"not known, since the disk does not start: {str(error).strip().splitlines()[-1]}"
    from .._check.client import new_handle

    found: list[str] = []

    def note(name: str, description: str) -> int:
        found.append(f"{name or '(no name)'}{f': {description}' if description else ''}")
        return 0

    try:
        handle = new_handle()
        handle.set_opt_mode(True)
        handle.connect_unix(str(server.socket))
        handle.opt_list(note)
        handle.opt_abort()
    finally:
        server.kill()
    return "\n".join(found) or "none at the moment"
