# SPDX-License-Identifier: BSD-3-Clause
"""Finds the plugin that belongs to this package: in the build tree, or where nbdkit's own plugins are installed."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

VARIABLE = "NBDKIT_PYTHON_PLUGIN"
_TREE = Path(__file__).resolve().parents[3]
_BUILT = _TREE / "build" / "nbdkit-python-plugin.so"
# nbdkit's own plugin is called `python` too. Only this one takes a script from standard input, and tells of it.
_PROBE = b"def open(readonly): pass\ndef get_size(h): return 0\ndef pread(h, count, offset): pass\n"
_ONLY_OURS = "python_script_api_version=1"


class PluginNotFound(Exception):
    """There is no nbdkit, or no plugin that belongs to this package."""


def find_plugin() -> str:
    """The plugin, as nbdkit takes it: a path, or the name `python`.

    That is what the environment variable NBDKIT_PYTHON_PLUGIN says, or the one that the tree of this package has
    built, or else the one that is installed. Raises PluginNotFound.
    """
    if named := os.environ.get(VARIABLE):
        return named
    return str(_BUILT) if _BUILT.exists() else _installed()


@cache
def _installed() -> str:
    try:
        done = subprocess.run(["nbdkit", "python", "-", "--dump-plugin"], input=_PROBE, capture_output=True, timeout=60)
    except FileNotFoundError:
        raise PluginNotFound("there is no nbdkit on PATH; Debian's package is called nbdkit") from None
    if _ONLY_OURS in done.stdout.decode(errors="replace").splitlines():
        return "python"
    other = "nbdkit has another plugin of that name" if done.returncode == 0 or b"python" in done.stdout else \
        "nbdkit has no plugin called python"
    tree = f" not built in {_BUILT.parent}, and" if (_TREE / "CMakeLists.txt").exists() else ""
    raise PluginNotFound(f"nbdkit-python-plugin.so is{tree} not installed ({other}); {VARIABLE}=PATH can name one")
