# SPDX-License-Identifier: BSD-3-Clause
"""Where nbdkit's own Python plugin fails: a server that goes to the background. Every test here fails on it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from conftest import Serve
from daemon import PATIENCE, Daemon, Daemonise
from disks import telling
from harness import write_script

pytestmark = pytest.mark.peer_fails

# Threads that the script starts before nbdkit forks.

BUSY = """
    import threading


    def busy():
        while True:
            sum(range(100))


    def get_ready():
        {get_ready}


    {module}
"""


@pytest.fixture
def busy_at_the_fork(daemonise: Daemonise, tmp_path: Path) -> Iterator[Daemonise]:
    """busy_at_the_fork(where, options=()): a Daemon whose script, busy in a thread, has the GIL when nbdkit forks.

    That is no luck of the scheduler: the log filter's get_ready comes after the plugin's, and waits until its log, a
    FIFO, has a reader, while the thread is alone with the interpreter.
    """
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ExitStack() as readers:

        def read(daemon: Daemon) -> None:
            daemon.wait_for_log("debug: log: get_ready")
            time.sleep(0.02)
            readers.callback(os.close, os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))

        def start(where: str, options: tuple[str, ...] = ()) -> Daemon:
            readers.close()
            places = {"get_ready": "pass", "module": "", where: "threading.Thread(target=busy, daemon=True).start()"}
            return daemonise(telling(BUSY.format(**places)), f"logfile={fifo}", options=("--filter=log", *options),
                             before_the_fork=read)

        yield start


@pytest.mark.parametrize("where", ["module", "get_ready"])
def test_a_busy_thread_while_nbdkit_daemonises(busy_at_the_fork: Daemonise, where: str) -> None:
    for _ in range(5):
        daemon = busy_at_the_fork(where)
        assert daemon.contents() == "served"
        assert daemon.stop() == 0


def test_a_busy_thread_while_nbdkit_forks_for_run(busy_at_the_fork: Daemonise) -> None:
    for _ in range(5):
        # nbdkit ends with the command's exit status, and has ended the server by then.
        busy_at_the_fork("module", options=('--run=nbdcopy "$uri" - | grep served',))


@pytest.mark.parametrize("background", [True, False], ids=["background", "foreground"])
def test_a_waiting_thread_does_not_keep_the_server_alive(daemonise: Daemonise, serve: Serve, background: bool) -> None:
    script = telling("import threading\n\nthreading.Thread(target=threading.Event().wait).start()\n")
    if background:
        daemon = daemonise(script)
        assert daemon.contents() == "served"
        assert daemon.stop() == 0
    else:
        server = serve(script)
        assert server.connect().pread(6, 0) == b"served"
        assert server.stop(timeout=PATIENCE) == 0


# What Python does around a fork.

def test_fork_hooks_run(daemonise: Daemonise) -> None:
    daemon = daemonise(telling("""
        import os

        parent = os.getpid()
        steps = []


        def told():
            return steps, os.getpid() == parent


        os.register_at_fork(before=lambda: steps.append("before"), after_in_child=lambda: steps.append("child"))
    """))
    assert daemon.contents() == "(['before', 'child'], False)"
    assert daemon.stop() == 0


PROCESSES = {
    "process": "multiprocessing.Process(target=time.sleep, args=(600,)).start()",
    "daemon process": "multiprocessing.Process(target=time.sleep, args=(600,), daemon=True).start()",
    "executor": "concurrent.futures.ProcessPoolExecutor(1).submit(abs, -1).result()",
}


@pytest.mark.parametrize("kind", PROCESSES)
def test_multiprocessing_before_the_fork(daemonise: Daemonise, kind: str) -> None:
    daemon = daemonise(telling(f"""
        import concurrent.futures
        import multiprocessing
        import time


        def config(key, value):
            global started
            started = {PROCESSES[kind]}
    """), "key=value")
    assert daemon.contents() == "served"
    assert daemon.stop() == 0
    assert "can only" not in daemon.log()
    assert "Traceback" not in daemon.log()


# nbdkit's working folder in the background is `/`: what the script was given by a relative path is still found.

@pytest.mark.parametrize("expression", ["__file__", "sys.argv[0]", "__import__('beside').__file__"])
def test_a_relative_path_in_the_background(daemonise: Daemonise, tmp_path: Path, expression: str) -> None:
    write_script(tmp_path, "", "beside.py")
    script = write_script(tmp_path, telling(f"def told():\n    return {expression}\n"))
    daemon = daemonise(Path("disk.py"), cwd=tmp_path)
    assert daemon.contents() == str(tmp_path / "beside.py" if "beside" in expression else script)
    assert daemon.stop() == 0
