# SPDX-License-Identifier: BSD-3-Clause
"""A real nbdkit on a private Unix socket, started and stopped by a test.

The plugin under test is the one in build/, or the one that NBDKIT_PYTHON_PLUGIN names: `python` there means the
plugin that the system's nbdkit finds, which is how a test is shown to fail without this project.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import textwrap
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbd

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
PLUGIN = os.environ.get("NBDKIT_PYTHON_PLUGIN") or str(ROOT / "build" / "nbdkit-python-plugin.so")
TIMEOUT = 30  # seconds; what any one step may take on a slow machine

# A shell has SIGINT ignored in what it runs in the background, which servers would inherit; a handler they do not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment without what would change Python's buffering or modules; `changes` on top of it."""
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONUNBUFFERED", "VIRTUAL_ENV", "PYTHONPATH"}}
    for key, value in changes.items():
        if value is None:
            env.pop(key, None)
        else:
            env[key] = value
    return env


def write_script(folder: Path, text: str, name: str = "disk.py") -> Path:
    """Write a script's text, dedented, to `folder/name`."""
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def nbdkit(*arguments: object, timeout: float = TIMEOUT, env: dict[str, str] | None = None,
           plugin: str = PLUGIN, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `nbdkit PLUGIN arguments…` to its end: for --dump-plugin, and for what must fail to start.

    Arguments that begin with `-` go before the plugin's name, as nbdkit's own options.
    """
    words = [str(a) for a in arguments]
    own = [w for w in words if w.startswith("-") and w != "-"]
    rest = [w for w in words if w not in own]
    options.setdefault("stdin", subprocess.DEVNULL)
    # A start that should fail but does not would serve for ever: a socket of its own, and the time-out ends it.
    with tempfile.TemporaryDirectory(prefix="nbdkit-") as folder:
        command = ["nbdkit", "-f", "-U", f"{folder}/sock", *own, plugin, *rest]
        return subprocess.run(command, text=True, capture_output=True, timeout=timeout,
                              env=env or environment(), errors="replace", **options)


class Server:
    """One running nbdkit. `socket` is its path, `uri` what clients take, `log()` all that it has said so far."""

    def __init__(self, folder: Path, script: Path | str, *arguments: object, options: tuple[str, ...] = (),
                 verbose: bool = False, env: dict[str, str] | None = None, plugin: str = PLUGIN) -> None:
        self.folder = folder
        self.socket = folder / "nbd.sock"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self.logfile = folder / "nbdkit.log"
        self.killed = False
        self.connections: weakref.WeakSet[nbd.NBD] = weakref.WeakSet()
        pidfile = folder / "nbdkit.pid"
        command = ["nbdkit", "-f", "-U", str(self.socket), "-P", str(pidfile), *(["-v"] if verbose else []),
                   *options, plugin, str(script), *map(str, arguments)]
        with self.logfile.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=env or environment())
        deadline = time.monotonic() + TIMEOUT
        # The pid file is written once nbdkit listens.
        while not pidfile.exists() or not pidfile.read_text().endswith("\n"):
            if self.process.poll() is not None:
                raise RuntimeError(f"nbdkit ended with {self.process.returncode}:\n{self.log()}")
            if time.monotonic() > deadline:
                self.process.kill()
                raise RuntimeError(f"nbdkit did not start within {TIMEOUT} s:\n{self.log()}")
            time.sleep(0.005)

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """What nbdkit and the script wrote to standard output and standard error."""
        return self.logfile.read_text(errors="replace")

    def wait_for_log(self, pattern: str, timeout: float = TIMEOUT) -> re.Match[str]:
        """Wait until the log matches a regular expression."""
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern, self.log(), re.MULTILINE)):
            assert time.monotonic() < deadline, f"{pattern!r} did not appear in the log:\n{self.log()}"
            time.sleep(0.01)
        return match

    def connect(self, export: str = "", **settings: object) -> nbd.NBD:
        """A new libnbd connection. Each setting is a call made before it: `tls=1` is `h.set_tls(1)`."""
        h = nbd.NBD()
        for name, value in settings.items():
            getattr(h, f"set_{name}")(value)
        if export:
            h.set_export_name(export)
        h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        # The bounds are nbdkit's to check: a test may well want to send a request that the client would refuse.
        h.set_strict_mode(h.get_strict_mode() & ~nbd.STRICT_BOUNDS & ~nbd.STRICT_COMMANDS)
        self.connections.add(h)
        h.connect_unix(str(self.socket))
        return h

    def stop(self, sign: int = signal.SIGTERM, timeout: float = TIMEOUT) -> int:
        """Ask it to end (or kill it) and return its exit status; failing to end in time is an error."""
        self.killed = sign == signal.SIGKILL
        if self.process.poll() is None:
            self.process.send_signal(sign)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"nbdkit did not end within {timeout} s of signal {sign}:\n{self.log()}") from None


@contextmanager
def serving(folder: Path, script: Path | str, *arguments: object, **settings: object) -> Iterator[Server]:
    """Serve a script until the block ends. A server that dies of a signal that is not stop()'s fails the test."""
    server = Server(folder, script, *arguments, **settings)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        # nbdkit ends when its clients have gone; a failed test's traceback still holds its handles.
        for h in server.connections:
            if h.aio_is_ready():
                h.shutdown()
        killed = server.killed
        status = server.stop()
        print(f"--- nbdkit's log, exit status {status}\n{server.log()}")
        assert killed or status >= 0, f"nbdkit died of signal {-status}:\n{server.log()}"


def extents(h: nbd.NBD, count: int, offset: int, flags: int = 0) -> list[tuple[int, int]]:
    """The block status of a range, as (length in bytes, base:allocation flags) pairs."""
    found: list[tuple[int, int]] = []

    def collect(context: str, _offset: int, entries: list[int], _error: object) -> int:
        if context == nbd.CONTEXT_BASE_ALLOCATION:
            found.extend(zip(entries[::2], entries[1::2]))
        return 0

    h.block_status(count, offset, collect, flags)
    return found


@contextmanager
def raises_errno(expected: int) -> Iterator[None]:
    """The block must end in an nbd.Error with this errno."""
    try:
        yield
    except nbd.Error as error:
        assert error.errnum == expected, f"expected errno {os.strerror(expected)}, got {error}"
    else:
        raise AssertionError(f"expected {os.strerror(expected)}, but the request succeeded")
