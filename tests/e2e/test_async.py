# SPDX-License-Identifier: BSD-3-Clause
"""Callbacks that are `async def`: one loop for all of them, which behave as plain ones do."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
from pathlib import Path

import nbd
import pytest

from conftest import Serve, StartFails
from disks import SIZE, disk, telling
from harness import extents, raises_errno

ALL = """
    import asyncio, sys

    API_VERSION = {version}
    contents = bytearray(1 << 20)
    calls = []

    async def called(name):
        await asyncio.sleep(0)
        calls.append(name)

    async def after_fork(): await called("after_fork")
    async def preconnect(readonly): await called("preconnect")
    async def list_exports(readonly, is_tls):
        await called("list_exports")
        yield "one", "the first"
    async def default_export(readonly, is_tls):
        await called("default_export")
        return "one"
    async def open(readonly):
        await called("open")
        return [nbdkit.export_name()]
    async def close(h): await called("close")
    async def export_description(h): return "a description"
    async def get_size(h):
        await called("get_size")
        return len(contents)
    async def block_size(h): return 1, 4096, 65536
    async def is_rotational(h): return True
    async def can_write(h): return True
    async def can_flush(h): return True
    async def can_trim(h): return True
    async def can_zero(h): return True
    async def can_fast_zero(h): return True
    async def can_extents(h): return True
    async def can_fua(h): return nbdkit.FUA_NATIVE
    async def can_cache(h): return nbdkit.CACHE_NATIVE
    async def can_multi_conn(h): return True
    async def pwrite(h, buf, offset{flags}):
        await called("pwrite")
        contents[offset:offset + len(buf)] = buf
    async def flush(h{flags}): await called("flush")
    async def trim(h, count, offset{flags}): await called("trim")
    async def zero(h, count, offset, flags):
        await called("zero")
        contents[offset:offset + count] = bytes(count)
    async def extents(h, count, offset, flags):
        await called("extents")
        yield offset, 512, 0
        yield offset + 512, count - 512, nbdkit.EXTENT_HOLE
    async def cache(h, count, offset, flags): await called("cache")
    async def cleanup():
        await called("cleanup")
        print(*calls, file=sys.stderr)
    async def unload(): print("unloaded", file=sys.stderr)
"""
READS = {
    "version 1": (1, "    async def pread(h, count, offset): return contents[offset:offset + count]\n"),
    "count": (2, "    async def pread(h, count, offset, flags): return contents[offset:offset + count]\n"),
    "buf": (2, "    async def pread(h, buf, offset, flags): buf[:] = contents[offset:offset + len(buf)]\n"),
}


@pytest.mark.parametrize("shape", READS)
def test_each_callback(serve: Serve, shape: str) -> None:
    version, pread = READS[shape]
    server = serve(disk(ALL.format(version=version, flags=", flags" if version == 2 else "") + pread))
    h = server.connect(full_info=1)
    assert (h.get_size(), h.is_rotational(), h.can_multi_conn()) == (SIZE, True, True)
    assert h.get_canonical_export_name() == "one" and h.get_export_description() == "a description"
    assert h.get_block_size(nbd.SIZE_PREFERRED) == 4096
    h.pwrite(b"x" * 1000, 100)
    h.flush()
    h.zero(500, 100)
    h.trim(512, 4096)
    h.cache(512, 0)
    assert extents(h, 4096, 0) == [(512, 0), (3584, nbd.STATE_HOLE)]
    assert h.pread(1100, 0) == bytes(600) + b"x" * 500
    h.shutdown()
    names: list[str] = []
    lister = nbd.NBD()
    lister.set_opt_mode(True)
    lister.connect_unix(str(server.socket))
    lister.opt_list(lambda name, _: names.append(name))
    lister.opt_abort()
    assert names == ["one"]
    assert server.stop() == 0
    [calls] = re.findall(r"^(after_fork .*)\nunloaded$", server.log(), re.MULTILINE)
    assert calls.split()[:5] == ["after_fork", "preconnect", "default_export", "open", "get_size"]
    assert set(calls.split()[5:]) == {
        "pwrite", "flush", "zero", "trim", "cache", "extents", "close", "preconnect", "list_exports", "cleanup"}


@pytest.mark.parametrize("text", [
    "class Disk:\n    async def read(self, h, buf, offset, flags): await fill(buf)\npread = Disk().read\n",
    "class Pread:\n    async def __call__(self, h, buf, offset, flags): await fill(buf)\npread = Pread()\n",
    "class Base:\n    @staticmethod\n    async def read(h, buf, offset, flags): await fill(buf)\n"
    "class Disk(Base): pass\npread = Disk.read\n",
    "from functools import wraps\nasync def f(h, buf, offset, flags): await fill(buf)\n@wraps(f)\n"
    "async def pread(*arguments): await f(*arguments)\n",
    "from functools import partial\nasync def f(x, h, buf, offset, flags): await fill(buf)\npread = partial(f, 1)\n",
    "del open, get_size, pread\n@nbdkit.disk\nclass Disk:\n    def __init__(self, readonly): pass\n"
    "    async def get_size(self): return 4096\n    async def pread(self, buf, offset, flags): await fill(buf)\n",
    "del open, get_size, pread\nclass Base:\n    async def pread(self, buf, offset, flags): await fill(buf)\n"
    "@nbdkit.disk\nclass Disk(Base):\n    def __init__(self, readonly): pass\n"
    "    async def get_size(self): return 4096\n"
    "    async def pread(self, *arguments): await super().pread(*arguments)\n",
    pytest.param("import inspect\n@inspect.markcoroutinefunction\n"
                 "def pread(h, buf, offset, flags): return fill(buf)\n",
                 marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12")),
], ids=["method", "object", "static", "wrapped", "partial", "class", "derived", "marked"])
def test_whatever_runs_a_coroutine(serve: Serve, text: str) -> None:
    h = serve(disk("async def fill(buf): buf[:] = b'x' * len(buf)\n") + text).connect()
    assert h.pread(512, 0) == b"x" * 512


def test_requests_run_together(serve: Serve) -> None:
    """Each waits for the others, on two connections: one after another they would wait for ever."""
    server = serve(disk("""
        import asyncio, threading
        come = set()
        gone = asyncio.Event()

        async def pread(h, buf, offset, flags):
            come.add((offset, threading.get_ident()))
            if len(come) == 8: gone.set()
            await gone.wait()
            buf[:] = str(len({thread for _, thread in come})).encode() * len(buf)

        def thread_model(): return nbdkit.THREAD_MODEL_PARALLEL
    """))
    connections = [server.connect(), server.connect()]
    buffers = [nbd.Buffer(1) for _ in range(8)]
    cookies = [(h, h.aio_pread(buffers[4 * i + j], 4 * i + j)) for i, h in enumerate(connections) for j in range(4)]
    for h, cookie in cookies:
        while not h.aio_command_completed(cookie):
            h.poll(100)
    assert [bytes(buffer.to_bytearray()) for buffer in buffers] == [b"1"] * 8


def test_without_a_thread_model_requests_take_turns(serve: Serve) -> None:
    server = serve(disk("""
        import asyncio
        inside = 0

        async def pread(h, buf, offset, flags):
            global inside
            assert not inside
            inside += 1
            await asyncio.sleep(0.001)
            inside -= 1
    """))

    def read() -> None:
        h = server.connect()
        cookies = [h.aio_pread(nbd.Buffer(512), 512 * i) for i in range(20)]
        for cookie in cookies:
            while not h.aio_command_completed(cookie):
                h.poll(100)
        done.append(True)

    done: list[bool] = []
    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 3, server.log()


FAILS = {
    "raise OSError(errno.ENOSPC, 'full')": (errno.ENOSPC, r"OSError: .*full"),
    "raise nbdkit.Error(errno.EROFS, 'no')": (errno.EPERM, r"pwrite: no"),
    "nbdkit.set_error(errno.ENOSPC); raise ValueError": (errno.ENOSPC, r"ValueError"),
    "await asyncio.sleep(0); nbdkit.set_error(errno.ENOSPC); raise ValueError": (errno.ENOSPC, r"ValueError"),
    "raise asyncio.CancelledError": (errno.EIO, r"CancelledError"),
    "asyncio.current_task().cancel(); await asyncio.sleep(9)": (errno.EIO, r"CancelledError"),
    "raise KeyboardInterrupt": (errno.EIO, r"KeyboardInterrupt"),
    "raise SystemExit(3)": (errno.EIO, r"SystemExit: 3"),
    "raise GeneratorExit": (errno.EIO, r"GeneratorExit"),
    "raise StopIteration": (errno.EIO, r"StopIteration"),
}


@pytest.mark.parametrize("text", FAILS)
def test_failures(serve: Serve, text: str) -> None:
    """The errno and the log are those of a plain callback, and the loop goes on."""
    server = serve(disk(f"""
        import asyncio, errno

        async def pwrite(h, buf, offset, flags):
            return await deeper()

        async def deeper():
            {text}

        async def pread(h, buf, offset, flags):
            await asyncio.sleep(0)
            buf[:] = b"x" * len(buf)
    """))
    h = server.connect()
    expected, line = FAILS[text]
    for _ in range(3):
        with raises_errno(expected):
            h.pwrite(b"y" * 512, 0)
        assert h.pread(2, 0) == b"xx"
    server.wait_for_log(rf"disk\.py: pwrite: (.*\n)*?.*{line}")


def test_a_loop_that_the_script_stops(serve: Serve) -> None:
    """Nobody waits for an answer that cannot come."""
    server = serve(disk("""
        import asyncio

        async def pread(h, buf, offset, flags):
            asyncio.get_running_loop().stop()
            await asyncio.sleep(9)
    """))
    h = server.connect()
    for said in r"CancelledError", r"RuntimeError: asyncio's loop has ended":
        with raises_errno(errno.EIO):
            h.pread(1, 0)
        server.wait_for_log(said)


def test_a_traceback_begins_in_the_script_but_for_one_line(serve: Serve) -> None:
    server = serve(disk("async def pread(h, buf, offset, flags): 1 / 0\n"))
    with raises_errno(errno.EIO):
        server.connect().pread(1, 0)
    said = server.wait_for_log(r"Traceback(.*\n)*?ZeroDivisionError.*")[0]
    assert [Path(name).name for name in re.findall(r'File "(.*?)"', said)] == ["_loop.py", "disk.py"], said


def test_functions_about_the_connection(serve: Serve) -> None:
    """In a coroutine, in a task and in a thread that it starts; and not when the callback is over."""
    server = serve(telling("""
        import asyncio
        late = []

        def who(): return nbdkit.export_name(), nbdkit.peer_pid(), nbdkit.is_tls()

        async def open(readonly):
            return nbdkit.export_name()

        async def pread(h, buf, offset, flags):
            global task
            found = {h, *[who()[0], (await asyncio.create_task(task_of()))[0], (await asyncio.to_thread(who))[0]]}
            words = f"{found} {who()[1:]} {late}".encode()
            buf[:len(words)] = words
            task = asyncio.create_task(later())

        async def task_of(): return who()

        async def later():
            await asyncio.sleep(0.01)
            try:
                who()
            except RuntimeError as error:
                late.append(str(error))
            nbdkit.set_error(5)
            late.append("set")
    """))
    for export in "one", "two":
        h = server.connect(export)
        expected = f"{{'{export}'}} ({os.getpid()}, False)"
        assert h.pread(4096, 0).decode().startswith(expected)
    while "set" not in (said := h.pread(4096, 0).decode()):
        pass
    assert "nbdkit.export_name: not known" in said


def test_data_that_is_kept_is_found(serve: Serve) -> None:
    server = serve(disk("""
        import asyncio
        kept = []

        async def pread(h, buf, offset, flags):
            if offset: kept.append(buf)
            await asyncio.sleep(0)

        async def pwrite(h, buf, offset, flags):
            task = asyncio.create_task(later(buf, 600 if offset else 0.05))
            await asyncio.sleep(0)
            if offset == 0: await task

        async def later(buf, seconds):
            await asyncio.sleep(seconds)
    """))
    h = server.connect()
    for _ in range(50):
        assert h.pread(512, 0) == bytes(512)
    h.pwrite(b"x", 0)
    with raises_errno(errno.EIO):
        h.pread(1, 512)
    server.wait_for_log(r"pread: .*buf")
    with raises_errno(errno.EIO):
        h.pwrite(b"x", 512)
    server.wait_for_log(r"pwrite: .*buf")


REFUSED = {
    "config_complete": "", "get_ready": "", "thread_model": "", "config": "key, value", "dump_plugin": "",
}


@pytest.mark.parametrize("name", REFUSED)
def test_before_the_fork_there_is_no_loop(start_fails: StartFails, name: str) -> None:
    said = start_fails(disk(f"async def {name}({REFUSED[name]}):\n    return 0\n"), "--run=true")
    assert re.search(rf"^nbdkit: error: .*disk\.py: {name}: expected a plain function, got `async def {name}`", said,
                     re.MULTILINE), said


def test_an_asynchronous_generator_where_one_answer_is_wanted(start_fails: StartFails) -> None:
    said = start_fails(disk("async def pread(h, buf, offset, flags):\n    yield\n"), "--run=true")
    assert "pread: expected a plain function, got a generator" in said


def test_traced(serve: Serve) -> None:
    server = serve(disk("async def pread(h, buf, offset, flags): pass\n"), options=("-D", "python.calls=1"))
    server.connect().pread(512, 0)
    server.wait_for_log(r"calls: pread\(None, <512 bytes>, 0, 0\) = None, [0-9.]+ us")
