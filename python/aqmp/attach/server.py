# SPDX-License-Identifier: BSD-3-Clause
"""DiskServer: nbdkit with our plugin, serving a script on a Unix socket, started again whenever it dies.

The socket is made here and handed to each nbdkit (systemd's socket activation). So it outlives them: who connects while
there is none is not refused, but waits for the next.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import AttachError
from .probe import ProbeError, probe

SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 16.0  # seconds, between attempts; none after a server that lived longer
STOP_TIMEOUT = 30.0  # seconds; nbdkit ends when its clients have gone and the script's callbacks have returned

# nbdkit wants the socket as descriptor 3, and its own number in LISTEN_PID, which only the new process knows.
_LAUNCH = 'exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'


def plugin() -> str:
    """nbdkit's name for the plugin: NBDKIT_PYTHON_PLUGIN, or the one in this source tree, or the installed one."""
    built = Path(__file__).resolve().parents[3] / "build" / "nbdkit-python-plugin.so"
    return os.environ.get("NBDKIT_PYTHON_PLUGIN") or (str(built) if built.exists() else "python")


class DiskServer:
    """One disk on `address`. nbdkit's log, and what the script prints, go where this process's standard error does.

    `say` is called with one line of news when nbdkit has died, and when it serves again. `restarts` counts.
    """

    def __init__(self, address: Path, arguments: Sequence[str], readonly: bool, say: Callable[[str], None]) -> None:
        self.address = address
        self.restarts = 0
        self._arguments = ["--exit-with-parent", *(["--readonly"] if readonly else []), plugin(), *arguments]
        self._say = say
        self._listener: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """nbdkit's process id; None while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> int:
        """Serve, and return the disk's size in bytes. Raises AttachError if nbdkit ends, or does not open the disk."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(self.address))
            self._listener.listen()
            size = await self._serve()
        except BaseException as error:
            await self.stop()
            if isinstance(error, OSError):
                raise AttachError(f"cannot serve on {self.address}: {error}") from error
            raise
        self._keeper = asyncio.create_task(self._keep())
        return size

    async def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """End nbdkit, by force after `timeout` seconds, and remove the socket."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            self._keeper = None
        if self._listener:
            self._listener.close()
            self._listener = None
        self.address.unlink(missing_ok=True)
        await self._end(timeout)

    async def _serve(self) -> int:
        """Start nbdkit; done when it has shown that it serves the disk."""
        # Users' PATH need not have it.
        nbdkit = shutil.which("nbdkit", path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin")
        if nbdkit is None:
            raise AttachError("nbdkit is not installed")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LISTEN_")}
        assert self._listener
        # In a session of its own it does not get the terminal's Ctrl-C, which is for us.
        self._process = await asyncio.create_subprocess_exec(
            "sh", "-c", _LAUNCH, "sh", nbdkit, *self._arguments, stdin=self._listener.fileno(), stdout=2,
            env=environment, start_new_session=True)
        ended = asyncio.create_task(self._process.wait())
        served = asyncio.create_task(probe(self.address))
        try:
            await asyncio.wait({ended, served}, return_when=asyncio.FIRST_COMPLETED)
            if not served.done():
                raise AttachError(f"nbdkit ended with {_status(ended.result())} before it served: its log says why")
            return served.result()
        except ProbeError as error:
            raise AttachError(f"{error}: the log says why") from error
        finally:
            for task in (ended, served):
                task.cancel()
            await asyncio.gather(ended, served, return_exceptions=True)

    async def _end(self, timeout: float = STOP_TIMEOUT) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(timeout):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _keep(self) -> None:
        """Start nbdkit again whenever it dies."""
        assert self._process
        while True:
            since = time.monotonic()
            status = await self._process.wait()
            self._say(f"the disk's server has died ({_status(status)}); starting it again")
            pause = SHORTEST_PAUSE if time.monotonic() - since < SHORTEST_PAUSE else 0
            while True:
                await asyncio.sleep(pause)
                try:
                    await self._serve()
                    break
                except (AttachError, OSError) as error:
                    pause = min(max(2 * pause, SHORTEST_PAUSE), LONGEST_PAUSE)
                    self._say(f"{error}; the next attempt is in {pause:g} s")
                    await self._end()
            self.restarts += 1
            self._say("the disk's server serves again")


def _status(returncode: int) -> str:
    return f"signal {-returncode}" if returncode < 0 else f"status {returncode}"
