# SPDX-License-Identifier: BSD-3-Clause
"""Where scripts run: a script that waits keeps no thread of GlusterFS's, and answers that come later reach it.

The translator is over protocol/client here, in a process of its own between the client and the brick, whose answers
GlusterFS's event threads bring: there are four.
"""

from __future__ import annotations

import errno
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import gluster_kit
import gluster_workload
import pytest

Bricks = Callable[..., gluster_kit.Brick]

LOCKS = gluster_kit.volume("top", "features/locks", "posix")


def between(bricks: Bricks, script: Path, brick: gluster_kit.Brick, **options: object) -> gluster_kit.Brick:
    """A server whose translator's child is another server's brick."""
    below = gluster_kit.client_volume("below", brick.socket)
    volumes = below + gluster_kit.xlator("top", script, "below", **options)
    return bricks(volumes)


@pytest.mark.parametrize("way", gluster_workload.WAYS)
def test_answers_that_come_later(bricks: Bricks, tmp_path: Path, way: str) -> None:
    """What clients ask for, through a script over the network."""
    brick = bricks(LOCKS)
    plain = bricks(LOCKS)
    script = gluster_kit.script_file(tmp_path, gluster_workload.WAYS[way])
    proxy = between(bricks, script, brick)
    assert gluster_workload.run(proxy.client()) == gluster_workload.run(plain.client())
    assert "Traceback" not in proxy.log()


WHERE = """
    import threading
    from glusterfs import Translator

    class xlator(Translator):
        def lookup(self, next, loc, xdata):
            me = threading.get_native_id()
            try:
                return next.lookup(loc, xdata)
            finally:
                print("direct", open(f"/proc/self/task/{me}/comm").read().strip(), flush=True)

        def mkdir_fop(self, frame, this, loc, mode, umask, xdata):
            me = threading.get_native_id()
            print("fop", open(f"/proc/self/task/{me}/comm").read().strip(), flush=True)
            self.wind_mkdir(frame, None, loc, mode, umask, xdata)

        def mkdir_cbk(self, frame, cookie, this, *answer):
            me = threading.get_native_id()
            print("cbk", open(f"/proc/self/task/{me}/comm").read().strip(), flush=True)
            self.unwind_mkdir(frame, cookie, this, *answer)
"""


def test_which_thread(bricks: Bricks, tmp_path: Path) -> None:
    """A direct function has a thread of the door's; callbacks are called where GlusterFS is."""
    proxy = between(bricks, gluster_kit.script_file(tmp_path, WHERE), bricks(LOCKS))
    client = proxy.client()
    client.path("mkdir", "/d", 0o755)
    client.stat("/d")
    log = proxy.log()
    assert set(re.findall(r"(?m)^direct (.*)$", log)) == {"glfs_python"}
    for where in ("fop", "cbk"):
        threads = set(re.findall(rf"(?m)^{where} (.*)$", log))
        assert threads and "glfs_python" not in threads, threads


def test_many_wait_at_once(bricks: Bricks, tmp_path: Path) -> None:
    """Fifty requests wait in the script for each other, more than there are event threads: the last lets all go."""
    script = gluster_kit.script_file(tmp_path, """
        import threading
        from glusterfs import Translator
        barrier = threading.Barrier(50)

        class xlator(Translator):
            def mkdir(self, next, loc, mode, umask, xdata):
                barrier.wait(60)
                return next.mkdir(loc, mode, umask, xdata)
    """)
    proxy = between(bricks, script, bricks(LOCKS))
    client = proxy.client()
    results = client.at_once([("path", ("mkdir", f"/{number}", 0o755)) for number in range(50)])
    assert results == [0] * 50


def test_waits_for_a_lock(bricks: Bricks, tmp_path: Path) -> None:
    """A request that waits in the brick for a lock does not keep the one away that lets the lock go."""
    script = gluster_kit.script_file(tmp_path, gluster_workload.DIRECT)
    proxy = between(bricks, script, bricks(LOCKS))
    first, second = proxy.client(), proxy.client()
    first.write("/file", b"")
    one, two = first.open("/file"), second.open("/file")
    wait, write_lock, unlock = 7, 1, 2
    assert first.lock(one, wait, write_lock, 0, 10) == write_lock
    got: list[int] = []
    waiter = threading.Thread(target=lambda: got.append(second.lock(two, wait, write_lock, 0, 10)))
    waiter.start()
    gluster_kit.wait_for(lambda: proxy.log().count("came lk\n") == 2, "the second lock's arrival")
    assert not got
    assert first.lock(one, wait, unlock, 0, 10) == unlock
    waiter.join(gluster_kit.PATIENCE)
    assert got == [write_lock]


def test_threads_of_the_scripts_own(bricks: Bricks, tmp_path: Path) -> None:
    """A script may ask its child from several threads at once, for one request."""
    script = gluster_kit.script_file(tmp_path, """
        from concurrent.futures import ThreadPoolExecutor
        from glusterfs import Translator, answer
        pool = ThreadPoolExecutor(4)

        class xlator(Translator):
            def readv(self, next, fd, size, offset, flags, xdata):
                parts = list(pool.map(lambda i: next.readv(fd, 10, offset + 10 * i, flags, xdata), range(8)))
                return parts[0]._replace(data=b"".join(part.data for part in parts))
    """)
    proxy = between(bricks, script, bricks(LOCKS))
    client = proxy.client()
    data = bytes(range(80))
    fd = client.creat("/file")
    client.pwrite(fd, data, 0)
    for _ in range(20):
        assert client.pread(fd, 80, 0) == data


def test_one_script_over_another(bricks: Bricks, tmp_path: Path) -> None:
    """Both styles over both, with the network below: each thread is attached where it must be."""
    direct = gluster_kit.script_file(tmp_path, gluster_workload.DIRECT, "direct.py")
    callbacks = gluster_kit.script_file(tmp_path, gluster_workload.CALLBACKS, "callbacks.py")
    brick, plain = bricks(LOCKS), bricks(LOCKS)
    volumes = gluster_kit.client_volume("v0", brick.socket)
    stack = [callbacks, direct, direct, callbacks, callbacks]
    for number, script in enumerate(stack):
        name = "top" if number == len(stack) - 1 else f"v{number + 1}"
        volumes += gluster_kit.xlator(name, script, f"v{number}")
    proxy = bricks(volumes)
    assert gluster_workload.run(proxy.client()) == gluster_workload.run(plain.client())
    assert proxy.log().count("came writev\n") == len(stack)


def test_one_of_two_bricks_goes_away(bricks: Bricks, tmp_path: Path) -> None:
    """A translator is up while one of its children is, whichever: new clients are let in."""
    script = gluster_kit.script_file(tmp_path, """
        from glusterfs import Error, Translator

        class xlator(Translator):
            def lookup(self, next, loc, xdata):
                try:
                    return next.lookup(loc, xdata)
                except Error:
                    return next.to(self.children[1]).lookup(loc, xdata)

            def getxattr(self, next, loc, name, xdata):
                return next.to(self.children[name == "user.second"]).getxattr(loc, name, xdata)
    """)
    two = {name: bricks(LOCKS) for name in ("first", "second")}
    below = "".join(gluster_kit.client_volume(name, brick.socket) for name, brick in two.items())
    proxy = bricks(below + gluster_kit.xlator("top", script, two))
    client = proxy.client()

    def is_up(name: str) -> bool:
        with pytest.raises(OSError) as caught:
            client.getxattr("/", f"user.{name}")
        return caught.value.errno != errno.ENOTCONN

    for name, brick in reversed(two.items()):
        brick.stop()
        gluster_kit.wait_for(lambda: not is_up(name), f"{name} down")
        assert proxy.client().stat("/")["nlink"]
        brick.start()
        gluster_kit.wait_for(lambda: is_up(name), f"{name} up")


def test_the_brick_goes_away(bricks: Bricks, tmp_path: Path) -> None:
    """Requests that wait for a brick that ends are answered with an error, and those after it."""
    script = gluster_kit.script_file(tmp_path, """
        import time
        from glusterfs import Translator

        class xlator(Translator):
            def lookup(self, next, loc, xdata):
                print("came", loc.name, flush=True)
                return next.lookup(loc, xdata)
    """)
    slow = gluster_kit.script_file(tmp_path, """
        import threading
        from glusterfs import Translator

        class xlator(Translator):
            def lookup(self, next, loc, xdata):
                if loc.name == "slow":
                    print("waits", flush=True)
                    threading.Event().wait()
                return next.lookup(loc, xdata)
    """, "slow.py")
    brick = bricks(gluster_kit.xlator("top", slow, "posix"))
    proxy = between(bricks, script, brick)
    client = proxy.client()
    errors: list[OSError] = []

    def ask() -> None:
        try:
            client.stat("/slow")
        except OSError as error:
            errors.append(error)

    waiter = threading.Thread(target=ask)
    waiter.start()
    brick.wait_for_log("waits")
    start = time.monotonic()
    brick.process.kill()
    brick.process.wait()
    brick.process.returncode = 0  # it was meant
    waiter.join(gluster_kit.PATIENCE)
    assert errors and time.monotonic() - start < gluster_kit.PATIENCE
    assert proxy.process.poll() is None
