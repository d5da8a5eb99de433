# SPDX-License-Identifier: BSD-3-Clause
"""Translators whose callbacks are `async def`: what is below is awaited."""

from __future__ import annotations

import errno
from pathlib import Path

import nbd
import pytest

from disks import disk
from filter_kit import FILTER, MEMORY, SIZE, Translate
from harness import PLUGIN, extents, raises_errno, write_script
from model import DISKS
from model_real import running
from test_filter_model import MASKS, stack
from test_model import EXAMPLES, ROUND, check

MASKS_ASYNC = MASKS.replace("    def ", "    async def ").replace("next.", "await next.")

# Every callback that there can be, with what it was called with, and what next has answered.
ALL = """
    import asyncio, sys
    calls = []
    EARLY = "preconnect", "list_exports", "default_export"

    def around(name):
        async def callback(*arguments):
            calls.append(name)
            place = 0 if name in EARLY else 1
            count = 1 if name in EARLY else None
            return await getattr(arguments[place], name)(*arguments[place + 1:][:count])
        return callback

    for name in (*EARLY, *"get_size export_description block_size can_write can_flush is_rotational can_trim can_zero "
                 "can_fast_zero can_extents can_fua can_multi_conn can_cache pread pwrite flush trim zero extents "
                 "cache".split()):
        globals()[name] = around(name)

    async def open(next, readonly, export_name, is_tls):
        await next.open(readonly, export_name)
        return []

    async def after_fork(next):
        background = await next.background()
        calls.append(await asyncio.to_thread(background.get_size))

    async def prepare(h, next, readonly): h.append(await next.get_size())
    async def finalize(h, next): h.append(await next.can_write())
    async def close(h): calls.append(h)
    async def cleanup(): print(calls, file=sys.stderr)
"""


def test_each_callback(translate: Translate) -> None:
    server = translate(ALL)
    h = server.connect()
    data = bytes(range(256)) * 256
    h.pwrite(data, 65536, nbd.CMD_FLAG_FUA)
    assert h.pread(len(data), 65536) == data
    assert extents(h, SIZE, 0) == [(65536, 3), (65536, 0), (SIZE - 131072, 3)]
    h.flush()
    h.cache(4096, 0)
    h.trim(32768, 65536)
    h.zero(32768, 98304, nbd.CMD_FLAG_FAST_ZERO)
    assert h.pread(65536, 65536) == bytes(65536)
    h.shutdown()
    assert server.stop() == 0
    calls = server.wait_for_log(r"^\[1048576, .*\]$")[0]
    for name in ("preconnect", "can_zero", "can_fua", "pwrite", "pread", "extents", "flush", "cache", "trim", "zero"):
        assert f"'{name}'" in calls, calls
    assert f"[{SIZE}, True]" in calls


@pytest.mark.parametrize("below", ["buf, parallel", "async, parallel"])
def test_a_disk_is_as_its_model(tmp_path: Path, below: str) -> None:
    """Over a disk in C-like Python, and over one that needs the loop while the translator waits for it."""
    with running(tmp_path, DISKS[below], arguments=stack(tmp_path, MASKS_ASYNC),
                 options=(f"--filter={FILTER}",)) as real:
        for number in range(0, EXAMPLES, ROUND):
            check(real, number=number)


def test_operations_of_one_request_come_one_after_the_other(translate: Translate) -> None:
    h = translate("""
        import asyncio

        async def pread(h, next, buf, offset, flags):
            parts = await asyncio.gather(*(next.pread(1, offset + i) for i in range(len(buf))))
            buf[:] = b"".join(parts)
    """).connect()
    data = bytes(range(200))
    h.pwrite(data, 1000)
    assert h.pread(200, 1000) == data


def test_a_failure_below_is_raised(translate: Translate, tmp_path: Path) -> None:
    script = write_script(tmp_path, disk("""
        import errno
        async def pread(h, buf, offset, flags): raise OSError(errno.ENOSPC, "full")
    """))
    server = translate("""
        import errno, nbdkit

        async def pread(h, next, buf, offset, flags):
            try:
                await next.pread(buf, offset)
            except nbdkit.Error as error:
                if offset == 0: raise
                buf[:] = bytes([error.errno]) * len(buf)
    """, plugin=(PLUGIN, script))
    h = server.connect()
    assert h.pread(1, 512)[0] == errno.ENOSPC
    with raises_errno(errno.ENOSPC):
        h.pread(1, 0)


def test_a_time_limit(translate: Translate) -> None:
    """The operation goes on below, and its data is still there for it."""
    server = translate("""
        import asyncio, errno, nbdkit

        async def pread(h, next, buf, offset, flags):
            try:
                async with asyncio.timeout(0.05):
                    await next.pread(buf, offset)
            except TimeoutError:
                raise nbdkit.Error(errno.EIO, "too slow")
    """, below=("--filter=delay",), plugin=("memory", "1M", "delay-read=1"))
    h = server.connect()
    for _ in range(3):
        with raises_errno(errno.EIO):
            h.pread(512, 0)
    assert server.log().count("too slow") == 3


def test_what_was_given_up_still_keeps_the_thread(translate: Translate, tmp_path: Path) -> None:
    """The disk below needs the loop, which must not wait for the thread then."""
    script = write_script(tmp_path, disk("""
        import asyncio
        async def pread(h, buf, offset, flags): await asyncio.sleep(1)
    """))
    server = translate("""
        import asyncio, nbdkit

        async def pread(h, next, buf, offset, flags):
            try:
                async with asyncio.timeout(0.05):
                    await next.pread(buf, offset)
            except TimeoutError:
                try:
                    nbdkit.export_name()
                except RuntimeError as error:
                    said = str(error)
            buf[:] = said.encode().ljust(len(buf))
    """, plugin=(PLUGIN, script))
    said = server.connect().pread(200, 0).decode()
    assert said.startswith("nbdkit.export_name: this callback's thread is busy with an operation of next's")


def test_while_below_is_asked_the_connection_cannot_be(translate: Translate) -> None:
    """What would keep the loop waiting is refused: the disk below may need the loop to go on."""
    server = translate("""
        import asyncio, nbdkit

        async def pread(h, next, buf, offset, flags):
            assert nbdkit.export_name() == "some"
            task = asyncio.create_task(next.pread(buf, offset))
            await asyncio.sleep(0)
            try:
                nbdkit.export_name()
            except RuntimeError as error:
                said = str(error)
            await task
            buf[:] = said.encode().ljust(len(buf))
    """, plugin=MEMORY)
    said = server.connect("some").pread(200, 0).decode()
    assert said.startswith("nbdkit.export_name: this callback's thread is busy with an operation of next's")


def test_a_background_would_keep_the_loop(translate: Translate, tmp_path: Path) -> None:
    """Which the disk below needs."""
    script = write_script(tmp_path, disk("""
        async def get_size(h): return 1 << 20
        async def pread(h, buf, offset, flags): buf[:] = b"x" * len(buf)
        def thread_model(): return nbdkit.THREAD_MODEL_PARALLEL
    """))
    server = translate("""
        import asyncio

        async def after_fork(next):
            global background
            background = await next.background()

        async def pread(h, next, buf, offset, flags):
            if offset:
                await asyncio.to_thread(background.pread, buf, offset)
            else:
                background.pread(buf, offset)
    """, plugin=(PLUGIN, script))
    h = server.connect()
    assert h.pread(2, 512) == b"xx"
    with raises_errno(errno.EIO):
        h.pread(2, 0)
    server.wait_for_log(r"RuntimeError: nbdkit\.Background\.pread: it would keep asyncio's loop waiting")


def test_when_the_call_is_over_so_is_next(translate: Translate) -> None:
    server = translate("""
        import asyncio
        said = []

        async def pread(h, next, buf, offset, flags):
            asyncio.create_task(later(next))
            buf[:] = str(said[:1]).encode().ljust(len(buf))

        async def later(next):
            await asyncio.sleep(0.01)
            try:
                await next.get_size()
            except RuntimeError as error:
                said.append(str(error))
    """)
    h = server.connect()
    while "next.get_size: " not in (told := h.pread(400, 0).decode()):
        pass
    assert "the call that this next was for is over" in told
