# SPDX-License-Identifier: BSD-3-Clause
"""Nothing hangs and nothing crashes, whatever a script does: each request is answered, once."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path

import gluster_kit
import pytest

Serve = Callable[..., gluster_kit.Brick]

BEGIN = """
    import errno, glusterfs, os, queue, threading, time
    from glusterfs import *

    class xlator(Translator):
"""


def stat_fails(brick: gluster_kit.Brick, path: str = "/file") -> int | None:
    """The errno of a lookup, through a client that has none from before."""
    with pytest.raises(OSError) as caught:
        brick.client().stat(path)
    return caught.value.errno


def served(brick: gluster_kit.Brick) -> bool:
    """Whether the brick still serves others than /file."""
    client = brick.client()
    client.path("mkdir", "/folder", 0o755)
    return bool(client.stat("/folder")["nlink"])


DIRECT = BEGIN + """
        def lookup(self, next, loc, xdata):
            if loc.name == "file":
                {}
            return next.lookup(loc, xdata)
"""
ASYNC = DIRECT.replace(" def", " async def").replace("return next", "return await next")


@pytest.mark.parametrize("way", ["direct", "async"])
@pytest.mark.parametrize(("code", "number", "log"), [
    ("1 / 0", errno.EIO, "(?s)lookup: Traceback .*script.py.*ZeroDivisionError: division by zero"),
    ("raise OSError(errno.ENOSPC, 'x')", errno.ENOSPC, "(?s)lookup: Traceback .*script.py.*OSError: .Errno 28. x"),
    ("raise MemoryError", errno.ENOMEM, "MemoryError"),
    ("raise NotImplementedError", errno.EOPNOTSUPP, "NotImplementedError"),
    ("raise SystemExit(3)", errno.EIO, "SystemExit: 3"),
    ("raise KeyboardInterrupt", errno.EIO, "KeyboardInterrupt"),
    ("raise Error(errno.ESTALE)", errno.ESTALE, None),
    ("raise Error(errno.EDQUOT, 'quota', 5)", errno.EDQUOT, None),
    ("return", errno.EIO, r"lookup: expected an answer, such as what next.lookup\(\) returns, .*got None"),
    ("return 5", errno.EIO, "lookup: expected an answer, .*got int 5"),
    ("return answer.stat()", errno.EIO, "expected an answer, .*got stat stat"),
    ("return answer.lookup()", errno.EIO, "lookup: inode: expected an Inode, got None"),
    ("return answer.lookup(loc.inode)", errno.EIO, "lookup: buf: expected an Iatt, got None"),
    ("return answer.lookup(loc.inode, Iatt())", errno.EIO, "lookup: buf: expected an Iatt with a gfid"),
    ("return tuple.__new__(answer.lookup, (1,))", errno.EIO, "lookup: expected an answer"),
    ("return next.lookup(loc, xdata)._replace(ret=-1)", errno.EIO, "lookup: ret: expected an int from 0"),
    ("self.unwind_lookup(next.frame, None, self, -1, errno.EXDEV, None, None, None, None)", errno.EXDEV,
     "Expired: lookup: this request has been answered"),
    ("next.lookup(loc, xdata, 1, 2)", errno.EIO, "got 4 of these 2 arguments"),
])
def test_a_direct_function_that_fails(serve: Serve, way: str, code: str, number: int, log: str | None) -> None:
    if way == "async":
        code = code.replace("next.lookup(loc, xdata)", "(await next.lookup(loc, xdata))")
    brick = serve((DIRECT if way == "direct" else ASYNC).format(code))
    (brick.data / "file").write_bytes(b"")
    assert stat_fails(brick) == number
    assert served(brick)
    if log is None:
        assert " E [" not in re.sub(r".*\[server-rpc-fops.*", "", brick.log())
    else:
        brick.wait_for_log(log)  # which may come after the answer


CALLBACK = BEGIN + """
        def lookup_fop(self, frame, this, loc, xdata):
            self.name_of = loc.name
            if loc.name == "file":
                {}
            self.wind_lookup(frame, None, loc, xdata)

        def lookup_cbk(self, frame, cookie, this, op_ret, op_errno, inode, buf, xdata, postparent):
            if self.name_of == "file":
                {}
            self.unwind_lookup(frame, cookie, this, op_ret, op_errno, inode, buf, xdata, postparent)
"""


@pytest.mark.parametrize(("code", "number", "log"), [
    ("1 / 0", errno.EIO, "(?s)lookup: Traceback .*ZeroDivisionError"),
    ("raise Error(errno.ESTALE)", errno.ESTALE, None),
    ("return", errno.EIO, "lookup: the script has not answered this request, and cannot any more"),
    ("self.unwind_lookup(frame, None, self, -1, errno.EXDEV, None, None, None, None); "
     "self.unwind_lookup(frame, None, self, -1, errno.EXDEV, None, None, None, None)", errno.EXDEV,
     "(?s)lookup: Traceback .*Expired: lookup: this request has been answered"),
    ("self.unwind_lookup(frame, None, self, -1, errno.EXDEV, None, None, None, None); return", errno.EXDEV, None),
    ("self.unwind_lookup(frame, None, self, 0, 0, None, None, None, None)", errno.EIO,
     "unwind_lookup: inode: expected an Inode, got None"),
    ("self.unwind_stat(frame, None, self, -1, 5, None, None)", errno.EIO, "unwind_stat: this request is a lookup"),
])
@pytest.mark.parametrize("where", ["fop", "cbk"])
def test_a_callback_that_fails(serve: Serve, where: str, code: str, number: int, log: str | None) -> None:
    brick = serve(CALLBACK.format(code if where == "fop" else "pass", code if where == "cbk" else "pass"))
    (brick.data / "file").write_bytes(b"")
    assert stat_fails(brick) == number
    assert served(brick)
    if log is None:
        assert "Traceback" not in brick.log()
    else:
        brick.wait_for_log(log)  # which may come after the answer


def test_a_fop_that_fails_after_it_has_asked(serve: Serve) -> None:
    """The answer of the child that it has asked comes first; then the request fails."""
    brick = serve(CALLBACK.format("self.wind_lookup(frame, None, loc, xdata); 1 / 0", "return"))
    (brick.data / "file").write_bytes(b"")
    assert stat_fails(brick) == errno.EIO
    assert served(brick)


def test_an_answer_with_more_to_come(serve: Serve) -> None:
    """A request's frames go with its answer, so that all children must have answered before."""
    brick = serve(BEGIN + """
        def lookup(self, next, loc, xdata):
            if loc.name == "file":
                threading.Thread(target=next.stat, args=(loc,)).start()
            return next.lookup(loc, xdata)

        def stat(self, next, loc, xdata):
            return next.stat(loc, xdata)
    """)
    client = brick.client()
    for _ in range(50):
        try:
            client.stat("/file")
        except OSError as error:
            assert error.errno in {errno.ENOENT, errno.EIO}
    assert served(brick)


@pytest.mark.parametrize(("method", "log"), [
    ("""
        def readdir_fop(self, frame, this, fd, size, offset, xdata):
            self.unwind_readdir(frame, None, self, 0, 0, self.entries(frame), None)
    """, "Expired: readdir: this request has been answered"),
    ("""
        def readdir(self, next, fd, size, offset, xdata):
            return answer.readdir(self.entries(next.frame))
    """, "readdir: this request was answered before the function returned"),
])
def test_an_answer_in_the_middle_of_another(serve: Serve, method: str, log: str) -> None:
    """What makes an answer's entries may be Python code, which answers the request first."""
    brick = serve(BEGIN + """
        def entries(self, frame):
            self.unwind_readdir(frame, None, self, -1, errno.EXDEV, [], None)
            yield Dirent("x")
    """ + method)
    client = brick.client()
    with pytest.raises(OSError) as caught:
        client.listdir("/")
    assert caught.value.errno == errno.EXDEV
    brick.wait_for_log(log)
    assert served(brick)


def test_answered_later_from_another_thread(serve: Serve) -> None:
    """A callback's request can wait, and keeps nothing else waiting."""
    brick = serve(BEGIN + """
        waiting = queue.SimpleQueue()

        def lookup_fop(self, frame, this, loc, xdata):
            if loc.name == "slow":
                self.waiting.put((frame, loc, xdata))
            elif loc.name == "go":
                threading.Thread(target=self.later, daemon=True).start()
                self.unwind_lookup(frame, None, self, -1, errno.EXDEV, None, None, None, None)
            else:
                self.wind_lookup(frame, None, loc, xdata)

        def later(self):
            while True:  # it may have come before what waits
                frame, loc, xdata = self.waiting.get()
                self.wind_lookup(frame, None, loc, xdata)
    """)
    (brick.data / "slow").mkdir()
    client = brick.client()
    first, second = client.at_once([("stat", ("/slow",)), ("stat", ("/go",))])
    assert first["nlink"] == 2
    assert second.errno == errno.EXDEV


def test_a_fork_that_comes_back(serve: Serve) -> None:
    brick = serve(DIRECT.format("self.fork()") + """
        def fork(self):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
    """)
    (brick.data / "file").write_bytes(b"x")
    assert brick.client().stat("/file")["size"] == 1
    assert "a process that was forked in a file operation has come back from it" in brick.log()
    assert served(brick)


def test_deep_recursion(serve: Serve) -> None:
    brick = serve(DIRECT.format("self.lookup(next, loc, xdata)"))
    (brick.data / "file").write_bytes(b"")
    assert stat_fails(brick) == errno.EIO
    brick.wait_for_log("RecursionError")
    assert served(brick)


@pytest.mark.parametrize("name", ["mkdir_fop", "mkdir_cbk"])
def test_deep_recursion_where_threads_have_little_stack(bricks: Serve, tmp_path: Path, name: str) -> None:
    """GlusterFS's io-threads have 256 KiB, above the script and below it: that ends before Python's limit does."""
    script = gluster_kit.script_file(tmp_path, BEGIN + f"""
        def {name}(self, *arguments):
            sorted([1, 2], key=lambda item: self.{name}(*arguments))
    """)
    brick = bricks(gluster_kit.volume("below", "performance/io-threads", "posix")
                   + gluster_kit.xlator("middle", script, "below")
                   + gluster_kit.volume("top", "performance/io-threads", "middle"))
    with pytest.raises(OSError) as caught:
        brick.client().path("mkdir", "/folder", 0o755)
    assert caught.value.errno == errno.EIO
    assert "RecursionError" in brick.log()


def test_what_a_request_has_asked_for_goes_when_the_script_lets_it_go(serve: Serve) -> None:
    """Not only once it is answered: it can ask for as much as it likes. And so goes a request that has itself."""
    brick = serve(BEGIN + """
        def readv(self, next, fd, size, offset, flags, xdata):
            next.frame.local = next
            return next.readv(fd, size, offset, flags, xdata)

        def fsync(self, next, fd, datasync, xdata):
            import gc
            def resident():
                return int(open("/proc/self/statm").read().split()[1]) * 4096
            gc.collect()
            print("frames", sum(type(item) is Frame for item in gc.get_objects()), flush=True)
            before = resident()
            read = sum(len(bytes(next.readv(fd, 100_000, 0, 0).data)) for _ in range(1000))
            print("read", read, "kept", resident() - before, flush=True)
            return next.fsync(fd, datasync, xdata)
    """)
    client = brick.client()
    fd = client.creat("/file")
    client.pwrite(fd, bytes(100_000), 0)
    client.many("pread", 100, fd, 10, 0)
    client.fsync(fd)
    assert int(brick.wait_for_log(r"frames \d+").split()[1]) < 10
    assert int(brick.wait_for_log(r"read 100000000 kept -?\d+").split()[3]) < 8 << 20


def test_no_memory_is_lost(serve: Serve) -> None:
    """The brick takes no more of it for each request, whether that succeeds or fails, in whatever way."""
    brick = serve(BEGIN + """
        def writev(self, next, fd, data, offset, flags, xdata):
            fd.ctx = [fd]
            return next.writev(fd, bytes(data), offset, flags, {"a": 1, "b": "text"})

        def readv_fop(self, frame, this, fd, size, offset, flags, xdata):
            frame.local = frame
            self.wind_readv(frame, None, fd, size, offset, flags, xdata)

        def readv_cbk(self, frame, cookie, this, op_ret, op_errno, *rest):
            frame.local = None
            self.unwind_readv(frame, cookie, this, op_ret, op_errno, *rest)

        def lookup(self, next, loc, xdata):
            loc.inode.ctx = loc.name
            return next.lookup(loc, xdata)

        def statfs(self, next, loc, xdata):
            raise ValueError("x" * 1000)

        def readdir(self, next, fd, size, offset, xdata):
            return next.readdirp(fd, size, offset, xdata) and next.readdir(fd, size, offset, xdata)

        def getxattr_fop(self, frame, this, loc, name, xdata):
            pass  # it is not answered
    """)
    client = brick.client()
    fd = client.creat("/file")

    def work(count: int) -> None:
        client.many("pwrite", count, fd, bytes(100_000), 0)
        client.many("pread", count, fd, 100_000, 0)
        client.many("stat", count, "/nothing")
        client.many("statvfs", count // 10, "/")
        client.many("listdir", count // 4, "/")
        client.many("getxattr", count // 10, "/file", "user.x")

    def resident() -> int:
        return int(Path(f"/proc/{brick.process.pid}/statm").read_text().split()[1]) * 4096

    work(300)
    before = resident()
    work(1000)
    # One of the buffers alone would be 100 MB.
    assert resident() - before < 8 << 20
