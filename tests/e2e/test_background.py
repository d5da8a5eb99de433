# SPDX-License-Identifier: BSD-3-Clause
"""A server in the background and the processes that its script started before."""

from __future__ import annotations

import os
import signal

from daemon import Daemonise
from disks import telling


def test_a_daemonic_process_ends_with_the_server(daemonise: Daemonise) -> None:
    daemon = daemonise(telling("""
        import multiprocessing
        import time


        def config(key, value):
            global process
            process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True)
            process.start()


        def told():
            return process.pid
    """), "key=value")
    pid = int(daemon.contents())
    assert daemon.stop() == 0
    # This process has adopted the server's children.
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
