# SPDX-License-Identifier: BSD-3-Clause
"""`nbdkit-python new`: a disk and its test, which pass as they are; templates/ has them."""

from __future__ import annotations

import argparse
import re
import shlex
import site
import sys
from collections.abc import Sequence
from pathlib import Path

from .._check.plugin import PluginNotFound, find_plugin
from . import CommandError

_TEMPLATES = Path(__file__).with_name("templates")


def main(program: str, arguments: Sequence[str]) -> int:
    """The exit status is 0 if both files were written."""
    parser = argparse.ArgumentParser(program, description="""
        Write NAME.py, a RAM disk to be changed into the disk that you want, and test_NAME.py, which passes. Files that
        are there already are left alone.""")
    parser.add_argument("name", metavar="NAME", help="what to call the disk; it may have folders in front of it")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--class", dest="shape", action="store_const", const="as_class", default="functions",
                       help="make the disk a class (default: functions)")
    shape.add_argument("--v1", dest="shape", action="store_const", const="version_1",
                       help="make it one of API version 1, as old scripts are")
    given = parser.parse_args(arguments)
    path = Path(given.name.removesuffix(".py"))
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", path.name):
        raise CommandError(f"NAME: expected letters, digits and _, as for a module of Python, got {path.name!r}")
    if path.name in {"nbd", "nbdkit", "pytest", *sys.stdlib_module_names}:
        raise CommandError(f"NAME: expected another name, got {path.name!r}: {path.name}.py would take the place of a "
                           "module that the disk or its test may need")
    files = {path.with_name(f"{path.name}.py"): given.shape, path.with_name(f"test_{path.name}.py"): "test_disk"}
    for file in files:
        if file.exists():
            raise CommandError(f"{file} is there already")
    for file, template in files.items():
        # The licence in the first line is ours, and not that of what is made from it.
        text = (_TEMPLATES / f"{template}.py").read_text().partition("\n")[2]
        try:
            file.write_text(text.replace("NAME", path.name))
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}") from None
    script, test = map(str, files)
    print(f"{script} and {test} are written. To try them:\n\n"
          f"    nbdkit -U - {_plugin()} {shlex.quote(script)} --run 'nbdinfo \"$uri\"'\n"
          f"    {_path()}python3 -m pytest {shlex.quote(test)}")
    return 0


def _plugin() -> str:
    """What nbdkit is to be called with: `python`, unless the plugin is somewhere else."""
    try:
        return shlex.quote(find_plugin())
    except PluginNotFound:
        return "python"


def _path() -> str:
    """What Python needs to find this package: nothing where it is installed."""
    packages = str(Path(__file__).resolve().parents[2])
    installed = packages in (*site.getsitepackages(), site.getusersitepackages())
    return "" if installed else f"PYTHONPATH={shlex.quote(packages)} "
