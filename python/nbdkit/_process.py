# SPDX-License-Identifier: BSD-3-Clause
"""What a server's process needs of Python around its script: standard streams, children, the end."""

import atexit
import os
import sys
from collections.abc import Callable


def start(stdio_safe: bool) -> None:
    """Prepare the process, before any script runs.

    stdio_safe: whether standard input and output are free. With `nbdkit -s` they are the client's connection, and
        one line printed to it would break the protocol.
    """
    if not stdio_safe:
        sys.stdout = sys.__stdout__ = sys.stderr
        sys.stdin = sys.__stdin__ = open(os.devnull)
    os.register_at_fork(after_in_child=_forget_children)


def _forget_children() -> None:
    # Processes that were started before nbdkit went into the background are its parent's children, not its own:
    # multiprocessing would try to join them at exit, and fail. It has no public way to say so.
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None:
        getattr(processes, "_children", set()).clear()


def flush() -> None:
    """Write out what was printed or logged: nbdkit may redirect the streams or exit next."""
    for stream in (sys.stdout, sys.stderr):
        _quietly(getattr(stream, "flush", None))
    logging = sys.modules.get("logging")
    for reference in list(getattr(logging, "_handlerList", ())):
        _quietly(getattr(reference(), "flush", None))


def _quietly(function: Callable[[], object] | None) -> None:
    if function is not None:
        try:
            function()
        except (OSError, ValueError):  # closed, or the reader has gone: nobody is left to tell
            pass


def ran(callback: Callable[[], object]) -> None:
    """This callback has had its call at the end: if it is an atexit hook as well, once is enough."""
    atexit.unregister(callback)


def leave() -> None:
    """End without finalizing, because threads that Python cannot stop are still running."""
    atexit._run_exitfuncs()
    flush()
