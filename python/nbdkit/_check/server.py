# SPDX-License-Identifier: BSD-3-Clause
"""One nbdkit that serves a disk on a private Unix socket, in the foreground of this process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .plugin import find_plugin

if TYPE_CHECKING:
    import nbd

PATIENCE = 30.0  # seconds for a start or an end, on however slow a machine


class ServerError(Exception):
    """nbdkit did not start, died, or did not end.

    message: what has happened. log: what nbdkit and the script have said. Its text has both.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(f"{message}:\n{log}" if log else message)
        self.message = message
        self.log = log


def serve_script(script: str | os.PathLike[str], words: Iterable[str] = ()) -> Server:
    """Start a server of a script's disk.

    words: the rest of nbdkit's command line: the script's parameters, and nbdkit's own options.

    Raises FileNotFoundError if there is no such script, PluginNotFound, and what Server does.
    """
    if not os.path.exists(script):
        raise FileNotFoundError(f"there is no script {os.fspath(script)!r}")
    return Server(find_plugin(), os.fspath(script), *words)


class Server:
    """A running nbdkit.

    socket: the path of its Unix socket.
    uri: what NBD clients take, such as nbdinfo or nbdcopy.
    """

    def __init__(self, *words: str) -> None:
        """Start it, and return when it listens.

        words: nbdkit's command line: a plugin, its parameters, and nbdkit's own options.

        Raises ServerError if it does not start within 30 seconds.
        """
        self._connections: weakref.WeakSet[nbd.NBD] = weakref.WeakSet()
        self._said = ""
        # Not in a folder of the caller's: the path of a Unix socket must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="nbdkit-python-"))
        self.socket = self._folder / "socket"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self._log = self._folder / "log"
        self._pidfile = self._folder / "pid"
        command = ["nbdkit", "-f", "--exit-with-parent", "-U", str(self.socket), "-P", str(self._pidfile),
                   *words]
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self._wait_until_it_listens()
        except BaseException as error:
            self._clean_up()
            if isinstance(error, FileNotFoundError):
                raise ServerError("there is no nbdkit on PATH; Debian's package is called nbdkit") from None
            raise

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + PATIENCE
        # nbdkit writes the pid file once it listens.
        while not (self._pidfile.exists() and self._pidfile.read_bytes().endswith(b"\n")):
            if self._process.poll() is not None:
                raise ServerError(f"nbdkit has not started, and {self._ending()}", self.log())
            if time.monotonic() > deadline:
                self._end(signal.SIGKILL)
                raise ServerError(f"nbdkit has not started within {PATIENCE:g} s", self.log())
            time.sleep(0.002)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def ends_within(self, seconds: float) -> bool:
        """Wait for it to end by itself, so many seconds at most; whether it has."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def log(self) -> str:
        """All that nbdkit and the script have written so far to standard output and standard error."""
        return self._log.read_text(errors="replace") if self._log.exists() else self._said

    def connect(self, export: str = "") -> nbd.NBD:
        """A new connection, a handle of libnbd, which can also ask for extents.

        export: the name of the export. Default: the server's default export.

        Raises nbd.Error if the server refuses, and ModuleNotFoundError without libnbd's Python module.
        """
        from .client import new_handle

        handle = new_handle(export)
        handle.connect_unix(str(self.socket))
        self._connections.add(handle)
        return handle

    def stop(self) -> None:
        """End it as an operator would, by SIGTERM, after its connections have been shut down.

        Raises ServerError if it does not end within 30 seconds, has died of a signal or has failed. Does nothing if
        it has been stopped or killed before.
        """
        if not self._folder.exists():
            return
        try:
            # nbdkit would wait until its clients have gone.
            for handle in self._connections:
                if self.is_running and (handle.aio_is_ready() or handle.aio_is_processing()):
                    handle.aio_disconnect()
            ended_itself = not self.is_running
            in_time = self._end(signal.SIGTERM)
            if not in_time:
                raise ServerError(f"nbdkit did not end within {PATIENCE:g} s of SIGTERM; it waits for clients that are "
                                  "still connected, and for callbacks", self.log())
            if self._process.returncode != 0:
                told = "" if ended_itself else "was told to end, and "
                raise ServerError(f"nbdkit {told}{self._ending()}", self.log())
        finally:
            self._clean_up()

    def kill(self) -> None:
        """End it at once, by SIGKILL, as a crash would: no callback is called any more."""
        if self._folder.exists():
            self._end(signal.SIGKILL)
            self._clean_up()

    def _end(self, sign: int) -> bool:
        """Send a signal, and wait; if it is of no use, kill it and return False."""
        self._process.send_signal(sign)  # nothing, if it has ended
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True

    def _ending(self) -> str:
        status = self._process.returncode
        if status >= 0:
            return f"ended with exit status {status}"
        return f"died of {signal.Signals(-status).name}"

    def _clean_up(self) -> None:
        self._said = self.log()
        shutil.rmtree(self._folder, ignore_errors=True)
