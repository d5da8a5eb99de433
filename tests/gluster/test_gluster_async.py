# SPDX-License-Identifier: BSD-3-Clause
"""Methods that are `async def`: they wait on a loop, and no thread of anybody's waits with them."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import gluster_kit
import pytest
from test_gluster_threads import LOCKS, between

Serve = Callable[..., gluster_kit.Brick]
Bricks = Callable[..., gluster_kit.Brick]


def threads(brick: gluster_kit.Brick) -> int:
    return len(list(Path(f"/proc/{brick.process.pid}/task").iterdir()))


def test_many_wait_at_once_and_none_has_a_thread(bricks: Bricks, tmp_path: Path) -> None:
    """Fifty requests wait in the script for each other; there is the loop's thread, and none beside it."""
    script = gluster_kit.script_file(tmp_path, """
        import asyncio
        from glusterfs import Translator
        come, all_here = 0, asyncio.Event()

        class xlator(Translator):
            async def mkdir(self, next, loc, mode, umask, xdata):
                global come
                come += 1
                if come == 1: print("one is here", flush=True)
                if come == 50:
                    with open(f"/proc/self/task/{__import__('threading').get_native_id()}/comm") as comm:
                        print("all are here", len(__import__("os").listdir("/proc/self/task")), flush=True)
                    all_here.set()
                await all_here.wait()
                return await next.mkdir(loc, mode, umask, xdata)
    """)
    proxy = between(bricks, script, bricks(LOCKS))
    client = proxy.client()
    client.stat("/")
    before = threads(proxy)
    results = client.at_once([("path", ("mkdir", f"/{number}", 0o755)) for number in range(50)])
    assert results == [0] * 50
    most = int(proxy.wait_for_log(r"(?m)^all are here \d+$").split()[-1])
    assert most <= before + 20  # the loop's, and what GlusterFS may have started


def test_children_are_asked_at_once(bricks: Bricks, tmp_path: Path) -> None:
    script = gluster_kit.script_file(tmp_path, """
        import asyncio
        from glusterfs import Translator

        class xlator(Translator):
            async def readv(self, next, fd, size, offset, flags, xdata):
                parts = await asyncio.gather(*(next.readv(fd, 10, offset + 10 * i, flags, xdata) for i in range(8)))
                return parts[0]._replace(data=b"".join(part.data for part in parts))
    """)
    client = between(bricks, script, bricks(LOCKS)).client()
    data = bytes(range(80))
    fd = client.creat("/file")
    client.pwrite(fd, data, 0)
    for _ in range(20):
        assert client.pread(fd, 80, 0) == data


FAILS = """
    import asyncio, errno, glusterfs
    from glusterfs import Translator

    class xlator(Translator):
        async def lookup(self, next, loc, xdata):
            if loc.name == "file":
                {}
            return await next.lookup(loc, xdata)
"""
SLOW = """
    import time
    from glusterfs import Translator

    class xlator(Translator):
        def lookup(self, next, loc, xdata):
            if loc.name == "file":
                time.sleep(1)
            return next.lookup(loc, xdata)
"""


@pytest.mark.parametrize(("code", "number", "log"), [
    ("[next.lookup(loc, xdata) for _ in range(4)]; return glusterfs.answer.lookup()", errno.EIO,
     "lookup: the function has returned before all children that it asked have answered"),
    ("await asyncio.wait_for(asyncio.sleep(9), 0.01)", errno.EIO, "TimeoutError"),
    ("asyncio.current_task().cancel(); await next.lookup(loc, xdata)", errno.EIO, "CancelledError"),
    ("asyncio.get_running_loop().stop(); await asyncio.sleep(9)", errno.EIO, "CancelledError"),
    ("await asyncio.to_thread(next.lookup, loc, xdata)", errno.EIO, "no running event loop"),
    ("""try: await next.lookup(loc, xdata)
                except glusterfs.Error as error: raise glusterfs.Error(errno.EXDEV) from error""", None, None),
])
def test_failures(bricks: Bricks, tmp_path: Path, code: str, number: int | None, log: str | None) -> None:
    """Over the network, so that answers come later: by a second, so that they do so on a busy machine too."""
    below = bricks(gluster_kit.xlator("top", gluster_kit.script_file(tmp_path, SLOW, "slow.py"), "posix"))
    (below.data / "file").write_bytes(b"")
    proxy = between(bricks, gluster_kit.script_file(tmp_path, FAILS.format(code)), below)
    client = proxy.client()
    if number is None:
        assert client.stat("/file")["size"] == 0
        return
    with pytest.raises(OSError) as caught:
        client.stat("/file")
    assert caught.value.errno == number
    assert log is not None
    proxy.wait_for_log(log)
    if "stop()" not in code:
        client.path("mkdir", "/folder", 0o755)
        assert client.stat("/folder")["nlink"]


def test_an_error_of_the_child_is_raised(serve: Serve) -> None:
    brick = serve("""
        import errno
        from glusterfs import Error, Translator

        class xlator(Translator):
            async def lookup(self, next, loc, xdata):
                try:
                    return await next.lookup(loc, xdata)
                except Error as error:
                    assert error.errno == errno.ENOENT and error.answer is not None
                    raise Error(errno.EXDEV if loc.name == "other" else errno.ENOENT, answer=error.answer)
    """)
    with pytest.raises(OSError) as caught:
        brick.client().stat("/other")
    assert caught.value.errno == errno.EXDEV


def test_when_the_request_is_answered_all_is_over(serve: Serve) -> None:
    brick = serve("""
        import asyncio
        from glusterfs import Expired, Translator

        class xlator(Translator):
            async def lookup(self, next, loc, xdata):
                asyncio.create_task(self.later(next, loc))
                return await next.lookup(loc, xdata)

            async def later(self, next, loc):
                while True:
                    await asyncio.sleep(0.01)
                    try:
                        loc.name
                    except Expired:
                        break
                print("expired", flush=True)
                try:
                    next.lookup(loc)
                except Expired:
                    print("expired", flush=True)
    """)
    brick.client().stat("/")
    gluster_kit.wait_for(lambda: brick.log().count("expired\n") >= 2, "both to be over")


def test_a_brick_ends_while_coroutines_wait(bricks: Bricks, tmp_path: Path) -> None:
    script = gluster_kit.script_file(tmp_path, """
        import asyncio
        from glusterfs import Translator

        class xlator(Translator):
            async def lookup(self, next, loc, xdata):
                if loc.name == "slow":
                    print("waits", flush=True)
                    await asyncio.Event().wait()
                return await next.lookup(loc, xdata)
    """)
    proxy = between(bricks, script, bricks(LOCKS))
    client = proxy.client()
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(OSError):
            client.stat("/slow")
        ended.set()

    waiter = threading.Thread(target=ask, daemon=True)
    waiter.start()
    proxy.wait_for_log("waits")
    proxy.process.terminate()
    assert proxy.process.wait(gluster_kit.PATIENCE) in (0, 15, -15)
    assert ended.wait(gluster_kit.PATIENCE)
