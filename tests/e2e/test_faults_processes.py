# SPDX-License-Identifier: BSD-3-Clause
"""A script's own processes, however it is served: they work, and end with the server."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from conftest import Serve
from daemon import PATIENCE
from disks import telling
from launch import FORKS, Launch, ask
from launch import launch as launch

SCRIPT = telling("""
    import atexit, builtins, multiprocessing, os, signal, subprocess
    from concurrent.futures import ProcessPoolExecutor


    def told():
        try:
            return use()
        except TimeoutError:
            return "lost"


    def work(pipe):
        try:
            while True:
                pipe.send(2 ** pipe.recv())
        except EOFError:
            pass


    def send_and_receive():
        pipe.send(10)
        if not pipe.poll(TIMEOUT):
            raise TimeoutError
        return pipe.recv()


    def write_and_read():
        process.stdin.write(b"24\\n")
        return process.stdout.readline().decode().rstrip()


    def note(text):
        with builtins.open(os.path.dirname(__file__) + "/notes", "a") as file:
            print(text, os.getpid(), file=file)


    if __name__ == "__main__":  # not in a process that was spawned
        atexit.register(note, "hook")
""")

PROCESS = """context = multiprocessing.get_context("{}")
    pipe, other = context.Pipe()
    process = context.Process(target=work, args=[other], daemon=True)
    process.start()"""
EXECUTOR = """executor = ProcessPoolExecutor(1, multiprocessing.get_context("{}"))
    executor.submit(pow, 2, 2).result()"""
WAYS_TO_START = ["fork", "spawn", "forkserver"]
KINDS = {  # what starts it, and what uses it
    **{f"process, {how}": (PROCESS.format(how), "send_and_receive()") for how in WAYS_TO_START},
    **{f"executor, {how}": (EXECUTOR.format(how), "executor.submit(pow, 2, 10).result(TIMEOUT)")
       for how in WAYS_TO_START},
    "subprocess": ('process = subprocess.Popen(["sed", "-u", "s/^/10/"], bufsize=0, stdin=-1, stdout=-1)',
                   "write_and_read()"),
}
PLACES = {
    "import": 'if __name__ == "__main__":\n    begin()\n',
    "get_ready": "def get_ready():\n    begin()\n",
    "after_fork": "def after_fork():\n    begin()\n",
    "callback": "def open(readonly):\n    begin()\n",
}
# Those that take long, spawn and forkserver, are not everywhere.
CASES = [(way, kind, place) for way in ("foreground", "background") for kind in KINDS for place in PLACES
         if "spawn" not in kind and "server" not in kind or place in ("get_ready", "callback")]
CASES += [("run", kind, place) for kind in ("process, fork", "executor, fork", "subprocess")
          for place in ("get_ready", "after_fork")]


def script(kind: str, place: str, timeout: float) -> str:
    start, use = KINDS[kind]
    return (f"TIMEOUT = {timeout}\n{SCRIPT}\n\ndef use():\n    return {use}\n\n\n"
            f"def begin():\n    global context, executor, pipe, process\n    {start}\n\n\n{PLACES[place]}")


@pytest.mark.parametrize("way, kind, place", CASES)
def test_processes(launch: Launch, way: str, kind: str, place: str, tmp_path: Path) -> None:
    # The threads by which an executor reaches its processes do not go through a fork.
    lost = kind.startswith("executor") and way in FORKS and place in ("import", "get_ready")
    launched = launch(script(kind, place, 0.2 if lost else PATIENCE))
    pid = launched.server.pid
    assert launched.ask() == ("lost" if lost else "1024")
    launched.stop()
    assert (tmp_path / "notes").read_text() == f"hook {pid}\n"


# By nbdkit's own handler, the server would not serve any more: it writes to a pipe that both have.
@pytest.mark.peer_fails
@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"])
def test_a_process_can_be_ended_by_a_signal(serve: Serve, name: str) -> None:
    server = serve(telling(f"""
        import os, signal, time

        def told():
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            os.kill(child, signal.{name})
            for _ in range(6000):
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    return os.waitstatus_to_exitcode(status)
                time.sleep(0.005)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "not ended"
    """))
    for _ in range(3):
        assert ask(server) == str(-getattr(signal, name))


def test_a_process_can_be_terminated(serve: Serve) -> None:
    server = serve(telling("""
        import multiprocessing, time

        def told():
            process = multiprocessing.get_context("fork").Process(target=time.sleep, args=[60])
            process.start()
            process.terminate()
            process.join(30)
            process.kill()
            return process.exitcode
    """))
    for _ in range(3):
        assert ask(server) == str(-signal.SIGTERM)


def test_a_process_forked_before_the_first_client_holds_none_up(serve: Serve) -> None:
    server = serve(telling("""
        import multiprocessing, time

        def after_fork():
            multiprocessing.get_context("fork").Process(target=time.sleep, args=[60], daemon=True).start()

        def cleanup():
            for process in multiprocessing.active_children():
                process.kill()
    """))
    # It waits until the server has closed the connection.
    size = subprocess.run(["nbdinfo", "--size", server.uri], text=True, capture_output=True, timeout=PATIENCE)
    assert size.stdout == "4096\n"
