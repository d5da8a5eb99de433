# SPDX-License-Identifier: BSD-3-Clause
"""The test kit: `serve` has a script's disk on a real nbdkit while a block runs; `check` looks for faults in it.

The clients are libnbd's, whose Python module is Debian's package python3-libnbd. With pytest, the module
nbdkit.pytest_plugin has `serve` as a fixture.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ._check.plugin import PluginNotFound as PluginNotFound
from ._check.report import Fault as Fault
from ._check.report import Report as Report
from ._check.server import Server as Server
from ._check.server import ServerError as ServerError
from ._check.server import serve_script

__all__ = ["Fault", "PluginNotFound", "Report", "Server", "ServerError", "check", "serve"]

Script = str | os.PathLike[str]


def _words(words: tuple[str, ...], parameters: dict[str, object]) -> list[str]:
    return [*words, *(f"{key}={value}" for key, value in parameters.items())]


@contextmanager
def serve(script: Script, /, *words: str, **parameters: object) -> Iterator[Server]:
    """Serve a script's disk on a private socket until the end of the block, where the server is stopped.

    script: the script's path.
    words: further words of nbdkit's command line as they are: a parameter without a key, or nbdkit's own options,
        such as "-r" or "--filter=cow".
    parameters: the script's, as text or as anything that str() makes one of: size="1M", file=tmp_path / "disk.img".

    If the block fails, the server's log goes to standard error. No process is left, not even if this one is killed.
    Raises ServerError if the server does not start, or dies, or does not end, with the log in its message;
    FileNotFoundError if there is no such script, and PluginNotFound without the plugin.
    """
    server = serve_script(script, _words(words, parameters))
    try:
        yield server
    except BaseException:
        print(f"--- the log of nbdkit, which served {os.fspath(script)}:\n{server.log()}", file=sys.stderr)
        try:
            server.stop()
        except ServerError as error:  # the block's own exception is the news
            print(f"--- {error}", file=sys.stderr)
        raise
    server.stop()


def check(script: Script, /, *words: str, seed: int = 0, rounds: int = 100, seconds: float = 60,
          read_only: bool = False, **parameters: object) -> Report:
    """Look for faults in a script's disk, as `nbdkit-python check` does. THIS WRITES TO THE DISK.

    script, words, parameters: as for serve(). A parameter of the script that has one of the names below is a word,
        as "seed=5".
    seed: of the random requests; the same seed makes the same requests. Default: 0.
    rounds: how many random sequences to try of the first kind; the others have their share. Default: 100.
    seconds: when to stop looking. Default: 60.
    read_only: serve it with `nbdkit -r`, and write nothing. Default: write, if the disk can be written to.

    A fault is no exception: the report has it. Raises FileNotFoundError if there is no such script, PluginNotFound
    without the plugin, and ModuleNotFoundError without libnbd's Python module.
    """
    from ._check.run import Options, run

    return run(script, _words(words, parameters), Options(seed, rounds, seconds, read_only))
