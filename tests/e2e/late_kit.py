# SPDX-License-Identifier: BSD-3-Clause
"""An nbdkit that does not know of a client when it is told to end, which by itself is a matter of microseconds."""

from __future__ import annotations

import atexit
import functools
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from harness import TIMEOUT, Server, environment
from wire import FIXED, GO, NO_ZEROES, Wire, export, option


@functools.cache
def late() -> dict[str, str]:
    """A server's environment with late.c, compiled."""
    folder = tempfile.mkdtemp(prefix="late-")
    atexit.register(shutil.rmtree, folder)
    library = Path(folder) / "late.so"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library),
               str(Path(__file__).with_name("late.c"))]
    subprocess.run(command, check=True, timeout=TIMEOUT)
    return environment(LD_PRELOAD=str(library))


def end_with_a_late_client(server: Server) -> Wire:
    """Tell a late() server to end. nbdkit goes to its end, and the thread of this client has just greeted it."""
    client = Wire(server.socket)
    server.wait_for_log("^late: a thread is started$")
    server.process.send_signal(signal.SIGTERM)
    return client


def shake_hands(client: Wire) -> None:
    """All that a client says before its first request; whether it is answered is nbdkit's to decide."""
    client.send((FIXED | NO_ZEROES).to_bytes(4, "big") + option(GO, export(b"")))
    client.ends()
