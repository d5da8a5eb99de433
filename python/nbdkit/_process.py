# SPDX-License-Identifier: BSD-3-Clause
"""What a server's process needs of Python around its script: standard streams, the log, children, the end."""

import atexit
import os
import sys
from _collections_abc import Callable  # as collections.abc, but loaded already
from types import ModuleType

# Seconds for which a callback that computes may keep the GIL from the callbacks of other connections. Python's own 5 ms
# leave those a few hundred requests per second; docs/performance.md has the measurement.
SWITCH_INTERVAL = 0.0005


def start(stdio_safe: bool) -> None:
    """Prepare the process, before any script runs.

    stdio_safe: whether standard input and output are free. With `nbdkit -s` they are the client's connection, and
        one line printed to it would break the protocol.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    if not stdio_safe:
        sys.stdout = sys.__stdout__ = sys.stderr  # type: ignore  # typeshed has it for one that is not assigned to
        sys.stdin = sys.__stdin__ = open(os.devnull)
    sys.meta_path.insert(0, _Finder)  # type: ignore[arg-type]  # a class will do
    for name in _Finder.names & sys.modules.keys():
        _Finder.prepare(sys.modules[name])


class _Finder:
    """Has `logging` and `warnings` write to nbdkit's log, once they are imported: most scripts need neither."""

    names = {"logging", "warnings"}
    meta_path = sys.meta_path

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> object:
        if name not in cls.names:
            return None
        others = (finder.find_spec(name, None) for finder in cls.meta_path
                  if finder is not cls)  # type: ignore[comparison-overlap]
        spec = next(filter(None, others), None)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: "ModuleType") -> None:  # not looked up when this runs
                load(module)
                cls.prepare(module)

            spec.loader.exec_module = exec_module  # type: ignore[assignment]
        return spec

    @staticmethod
    def prepare(module: ModuleType) -> None:
        try:
            from . import _log
        except Exception:
            # The script has taken this package to pieces. What it imports next, or traceback for it, must work.
            return
        _log.prepare(module)


def forked() -> None:
    """This process is the server gone into the background: see to the processes that were started before.

    They are its siblings, not its children, so that multiprocessing would fail to join them at exit. It would also
    terminate the daemonic ones, which is done here instead, and so are the processes of executors: what would tell
    them to end is a thread, which is gone. There is no public way to say so.
    """
    children = getattr(sys.modules.get("multiprocessing.process"), "_children", None)
    if children is None:
        return
    managers = getattr(sys.modules.get("concurrent.futures.process"), "_threads_wakeups", {})
    workers = {worker for manager in list(managers) for worker in list(manager.processes.values())}
    for child in children:
        if child.daemon or child in workers:
            try:
                # Unlike a process id, this cannot come to mean another process.
                atexit.register(_terminate, os.pidfd_open(child.pid))
            except OSError:  # it has ended already
                pass
    children.clear()


def _terminate(pidfd: int) -> None:
    import signal

    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    except ProcessLookupError:
        pass


def serving() -> None:
    """The server is about to serve: nbdkit has sent standard output to /dev/null, so that print() goes to the log."""
    if sys.stdout is sys.__stdout__:
        sys.stdout = sys.stderr


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


def _end_pools() -> None:
    """Let the processes of executors end.

    A hook of multiprocessing's joins them, and they wait for a word from a thread of this process. Python sees to it
    before it runs hooks, in a function that has no public name.
    """
    end = getattr(sys.modules.get("concurrent.futures.process"), "_python_exit", None)
    if end is not None:
        end()


def leave() -> None:
    """Do what Python does at its end, but wait for threads: they cannot be stopped, and may run for ever."""
    _end_pools()
    atexit._run_exitfuncs()
    flush()
