# SPDX-License-Identifier: BSD-3-Clause
"""What could keep a request of an `async def` for ever, fail it for nothing, or leave something of it behind."""

from __future__ import annotations

import errno
import re
import sys
import threading

import nbd
import pytest

from conftest import Serve
from disks import disk
from harness import Server, raises_errno

PARALLEL = "def thread_model(): return nbdkit.THREAD_MODEL_PARALLEL\n"


def read_many(server: Server, count: int, depth: int = 8) -> list[int]:
    """Read the disk's beginning so often, with so many requests at a time; the errnos of those that fail."""
    h, errnos = server.connect(), []
    for _ in range(count // depth):
        cookies = [h.aio_pread(nbd.Buffer(512), 512 * i) for i in range(depth)]
        for cookie in cookies:
            try:
                while not h.aio_command_completed(cookie):
                    h.poll(100)
            except nbd.Error as error:
                errnos.append(error.errnum)
    h.shutdown()
    return errnos


@pytest.mark.parametrize("call", ["asyncio.to_thread(fill, buf)", "fail_and_fill(buf)",
                                  "asyncio.get_running_loop().run_in_executor(pool, fill, buf)"])
def test_a_thread_that_has_done_its_work_has_the_data_a_moment_longer(serve: Serve, call: str) -> None:
    """It sets its result first, and drops its arguments then."""
    server = serve(disk(PARALLEL + """
import asyncio, concurrent.futures

pool = concurrent.futures.ThreadPoolExecutor()

def fill(buf): buf[:] = b"x" * len(buf)
def fail(buf): raise KeyError(bytes(buf[:1]))

async def fail_and_fill(buf):
    try:
        await asyncio.to_thread(fail, buf)
    except KeyError:
        fill(buf)

async def pread(h, buf, offset, flags): await """) + call)
    assert read_many(server, 3000) == []


def test_requests_while_the_script_stops_the_loop(serve: Serve) -> None:
    """Each gets an answer, whenever it comes."""
    server = serve(disk(PARALLEL + """
import asyncio
come = 0

async def pread(h, buf, offset, flags):
    global come
    come += 1
    if come == 200: asyncio.get_running_loop().stop()
    await asyncio.sleep(0)
"""))
    errnos: list[int] = []
    threads = [threading.Thread(target=lambda: errnos.extend(read_many(server, 400))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1000 < len(errnos) < 1500 and set(errnos) == {errno.EIO}
    assert server.stop() == 0
    assert "asyncio's loop has ended" in server.log()
    assert "never awaited" not in server.log() and "atexit" not in server.log()


def test_a_request_while_the_loop_ends(serve: Serve) -> None:
    """It does not begin among the tasks that are cancelled, where nothing would end it."""
    server = serve(disk(PARALLEL + """
import asyncio, sys

async def after_fork():
    global task
    task = asyncio.create_task(linger())

async def linger():
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.3)

async def pread(h, buf, offset, flags):
    if offset == 0: asyncio.get_running_loop().stop()
    print("begun", offset, file=sys.stderr, flush=True)
    await asyncio.Event().wait()
"""))
    h = server.connect()
    for offset in 0, 512, 1024:
        with raises_errno(errno.EIO):
            h.pread(1, offset)
    h.shutdown()
    assert server.stop() == 0
    assert re.findall("^begun .*$", server.log(), re.MULTILINE) == ["begun 0"]
    assert "never awaited" not in server.log() and "Task was destroyed" not in server.log()


@pytest.mark.parametrize("text", ["sys.exit(3)", "raise KeyboardInterrupt"])
def test_a_task_that_ends_the_loop(serve: Serve, text: str) -> None:
    server = serve(disk(f"""
        import asyncio, sys

        async def end(): {text}

        async def pread(h, buf, offset, flags):
            asyncio.create_task(end())
            await asyncio.Event().wait()
    """))
    h = server.connect()
    for _ in range(3):
        with raises_errno(errno.EIO):
            h.pread(1, 0)
    h.shutdown()
    assert server.stop() == 0
    server.wait_for_log("asyncio's loop has ended")


def test_a_loop_that_cannot_start(serve: Serve) -> None:
    """And one that can, the next time."""
    server = serve(disk("""
        import asyncio, sys, warnings
        warnings.simplefilter("ignore")  # policies are to go

        class Policy(asyncio.DefaultEventLoopPolicy):
            attempts = 0

            def new_event_loop(self):
                self.attempts += 1
                if self.attempts < 3: raise OSError("no loop today")
                return super().new_event_loop()

        asyncio.set_event_loop_policy(Policy())

        async def pread(h, buf, offset, flags): buf[:] = b"x" * len(buf)
    """))
    h = server.connect()
    for _ in range(2):
        with raises_errno(errno.EIO):
            h.pread(1, 0)
    assert h.pread(1, 0) == b"x"
    server.wait_for_log("no loop today")


def test_a_task_factory_that_fails(serve: Serve) -> None:
    server = serve(disk("""
        import asyncio

        async def after_fork():
            asyncio.get_running_loop().set_task_factory(refuse)

        def refuse(loop, coroutine, **named):
            coroutine.close()
            raise RuntimeError("no task today")

        async def pread(h, buf, offset, flags): pass
    """))
    with raises_errno(errno.EIO):
        server.connect().pread(1, 0)
    server.wait_for_log("no task today")


EAGER = pytest.param("asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)", id="eager",
                     marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12"))


@pytest.mark.parametrize("start", [pytest.param("pass", id="as usual"), EAGER])
def test_requests_leave_no_garbage(serve: Serve, start: str) -> None:
    """A script may do without the collector."""
    server = serve(disk(f"""
        import asyncio, gc, nbdkit._loop
        gc.disable()

        async def after_fork(): {start}

        async def pread(h, buf, offset, flags):
            if offset:
                if offset % 1024: await asyncio.sleep(0)
                return
            words = [type(found).__name__ for found in gc.get_objects()]
            buf[:] = f"{{words.count('Call')}} {{words.count('Task')}} {{words.count('coroutine')}}".encode().ljust(64)
    """))
    assert read_many(server, 800)
    calls, tasks, coroutines = map(int, server.connect().pread(64, 0).split())
    assert calls <= 2 and tasks <= 4 and coroutines <= 8
