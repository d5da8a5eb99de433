# SPDX-License-Identifier: BSD-3-Clause
"""The loop behind `async def` in its process: how long it lives, what else lives beside it, and where it is served."""

from __future__ import annotations

import pytest

from conftest import Serve
from disks import disk, telling
from harness import environment
from launch import WAYS, Launch
from launch import launch as launch


def test_tasks_live_until_the_end(serve: Serve) -> None:
    server = serve(disk("""
        import asyncio, atexit, sys
        count = 0

        async def after_fork():
            global task
            task = asyncio.create_task(work())

        async def work():
            global count
            try:
                while True:
                    await asyncio.sleep(0.001)
                    count += 1
            finally:
                await asyncio.sleep(0)
                print("work is over", file=sys.stderr)

        def pread(h, buf, offset, flags):
            buf[:] = bytes([min(count, 255)]) * len(buf)

        async def cleanup(): print("cleanup", task.done(), file=sys.stderr)
        atexit.register(lambda: print("at exit", task.done(), file=sys.stderr))
    """))
    h = server.connect()
    while h.pread(1, 0)[0] < 20:
        pass
    h.shutdown()
    assert server.stop() == 0
    assert [line for line in server.log().splitlines() if not line.startswith("nbdkit: ")] == [
        "cleanup False", "work is over", "at exit True"]


def test_a_task_that_will_not_end_does_not_keep_the_server(serve: Serve) -> None:
    server = serve(disk("""
        import asyncio
        import nbdkit._loop
        nbdkit._loop.PATIENCE = 0.2

        async def after_fork():
            global task
            task = asyncio.create_task(stay())

        async def stay():
            while True:
                try:
                    await asyncio.sleep(9)
                except asyncio.CancelledError:
                    pass
    """))
    assert server.stop() == 0
    server.wait_for_log(r"tasks were cancelled, and have not ended within 0\.2 seconds")


def test_a_child_that_comes_back_is_ended(serve: Serve) -> None:
    server = serve(disk("""
        import asyncio, os

        async def pread(h, buf, offset, flags):
            child = os.fork()
            if child == 0:
                if offset: await asyncio.sleep(0.01)
                return
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            buf[:] = bytes([os.waitstatus_to_exitcode(status)]) * len(buf)
    """))
    h = server.connect()
    for offset in 0, 512, 0:
        assert h.pread(1, offset) == b"\1"
    server.wait_for_log(r"pread: a process that was forked in this callback has come back from it")


def test_a_process_of_multiprocessing(serve: Serve) -> None:
    h = serve(telling("""
        import asyncio, multiprocessing

        def work(pipe): pipe.send(asyncio.run(answer()))
        async def answer(): return 2 ** 10

        async def pread(h, buf, offset, flags):
            ours, its = multiprocessing.get_context("fork").Pipe()
            process = multiprocessing.get_context("fork").Process(target=work, args=(its,))
            process.start()
            words = str(await asyncio.to_thread(ours.recv)).encode()
            process.join()
            buf[:] = words.ljust(len(buf))
    """)).connect()
    assert h.pread(8, 0) == b"1024    "


@pytest.mark.parametrize("way", WAYS)
def test_however_it_is_served(launch: Launch, way: str) -> None:
    launched = launch(telling("""
        import asyncio

        async def open(readonly):
            global words
            words = await asyncio.to_thread(lambda: "from the loop")

        def told(): return words
    """))
    assert launched.ask() == "from the loop"
    launched.stop()


def test_what_keeps_the_loop_is_told(serve: Serve) -> None:
    """As docs/async.md says."""
    server = serve(disk("import time\nasync def pread(h, buf, offset, flags): time.sleep(0.15)\n"),
                   env=environment(PYTHONASYNCIODEBUG="1"))
    server.connect().pread(512, 0)
    server.wait_for_log(r"Executing <Task .*name='pread'.* took [0-9.]+ seconds")
