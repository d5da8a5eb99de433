# SPDX-License-Identifier: BSD-3-Clause
"""A script's own threads, executors, event loops and atexit hooks, however it is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Serve
from daemon import PATIENCE
from disks import disk, telling
from launch import FORKS, WAYS, Launch
from launch import launch as launch

# Each script has what start() starts, at the place that a test says, and answers with what use() makes of it.
SCRIPT = telling("""
    import atexit, builtins, os, queue, threading, time

    jobs, results = queue.Queue(), queue.Queue()
    count = 0


    def told():
        try:
            return use()
        except (TimeoutError, queue.Empty):
            return "lost"


    def work():
        while True:
            results.put(2 ** jobs.get())


    def put_and_get():
        jobs.put(10)
        return results.get(timeout=TIMEOUT)


    def be_busy():
        global count
        while True:
            count += 1


    def see_it_busy():
        before, begin = count, time.monotonic()
        while count == before:
            if time.monotonic() > begin + TIMEOUT:
                raise TimeoutError
            time.sleep(0.001)
        return 1024


    def fail():
        raise LookupError("in a thread")


    def wait_for_ever():
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()


    def note(text):
        with builtins.open(os.path.dirname(__file__) + "/notes", "a") as file:
            print(text, os.getpid(), file=file)


    atexit.register(note, "last")


    @atexit.register
    def raises():
        note("first")
        raise ValueError("in a hook")
""")

EXECUTOR = "from concurrent.futures import ThreadPoolExecutor\nexecutor = ThreadPoolExecutor(1)\n"
LOOP = "import asyncio\nloop = asyncio.new_event_loop()\nasync def power(): return 2 ** 10\n"
THREAD = "threading.Thread(target={}, daemon={}).start()"
KINDS = {  # what it needs, what starts it, what uses it
    "a thread": ("", THREAD.format("work", False), "put_and_get()"),
    "a busy daemon thread": ("", THREAD.format("be_busy", True), "see_it_busy()"),
    "an executor": (EXECUTOR, "executor.submit(pow, 2, 2).result()", "executor.submit(pow, 2, 10).result(TIMEOUT)"),
    "an executor without a thread yet": (EXECUTOR, "", "executor.submit(pow, 2, 10).result(TIMEOUT)"),
    "an event loop": (LOOP, THREAD.format("loop.run_forever", True),
                      "asyncio.run_coroutine_threadsafe(power(), loop).result(TIMEOUT)"),
}
PLACES = {
    "import": "begin()\n",
    "get_ready": "def get_ready():\n    begin()\n",
    "after_fork": "def after_fork():\n    begin()\n",
    "callback": "def open(readonly):\n    begin()\n",
}


def script(kind: str, place: str, lost: bool) -> str:
    """Beside the thread in question there are some that fail and some that wait for ever."""
    needs, start, use = KINDS[kind]
    steps = [start]
    for daemonic in False, True:
        steps += [THREAD.format("wait_for_ever", daemonic), "fails = " + THREAD.format("fail", daemonic)[:-8],
                  "fails.start()", "fails.join()"]
    return (f"TIMEOUT = {0.2 if lost else PATIENCE}\n{needs}{SCRIPT}\n\ndef use():\n    return {use}\n\n\n"
            "def begin():\n    " + "\n    ".join(steps) + f"\n\n\n{PLACES[place]}")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_threads(launch: Launch, way: str, kind: str, place: str, tmp_path: Path) -> None:
    # Threads do not go through a fork, as docs/threads.md says.
    lost = way in FORKS and place in ("import", "get_ready") and kind != "an executor without a thread yet"
    launched = launch(script(kind, place, lost))
    pid = launched.server.pid
    assert launched.ask() == ("lost" if lost else "1024")
    launched.stop()
    assert (tmp_path / "notes").read_text() == f"first {pid}\nlast {pid}\n"
    log = launched.server.log()
    assert log.count("LookupError: in a thread\n") == 2
    assert log.count("ValueError: in a hook\n") == 1


# Python must not be finalized while it runs, though there was no other thread when the end began.
def test_a_thread_that_a_hook_starts(serve: Serve) -> None:
    server = serve(disk("""
        import atexit, sys, threading

        @atexit.register
        def hook():
            started = threading.Event()
            threading.Thread(target=run, args=[started], daemon=True).start()
            started.wait()

        def run(started):
            while True:
                print("running", file=sys.stderr)
                started.set()
    """))
    assert server.stop() == 0
    assert "Fatal" not in server.log()
