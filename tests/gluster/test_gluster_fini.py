# SPDX-License-Identifier: BSD-3-Clause
"""A graph that ends while its process goes on, as a client's does: the script's fini, and what it has kept."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import gluster_kit

Bricks = Callable[..., gluster_kit.Brick]

# It keeps whatever it can get.
SCRIPT = """
    import _thread, atexit, logging, sys, threading, time
    from glusterfs import Translator

    kept = []
    atexit.register(logging.error, "when all graphs have ended")
    print("loaded", flush=True)

    class xlator(Translator):
        def writev(self, next, fd, data, offset, flags, xdata):
            fd.inode.ctx = fd.ctx = self
            kept.extend([fd, fd.inode, data, memoryview(data), next, next.frame, xdata])
            return next.writev(fd, data, offset, flags, xdata)

        def readv_fop(self, frame, this, fd, size, offset, flags, xdata):
            kept.append(frame)
            self.wind_readv(frame, None, fd, size, offset, flags, xdata)

        def readv_cbk(self, frame, cookie, this, op_ret, op_errno, data, buf, xdata):
            kept.extend([data, memoryview(data)])
            self.unwind_readv(frame, cookie, this, op_ret, op_errno, data, buf, xdata)

        # The last answer, with which the graph ends: for a second from then on, no other thread runs Python.
        def flush(self, next, fd, xdata):
            answer = next.flush(fd, xdata)
            sys.setswitchinterval(60)
            _thread.start_new_thread(self.work, (1,))
            self.work(0.1)  # by then that one waits for its turn
            return answer

        def work(self, seconds):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                pass
            if seconds == 1:
                sys.setswitchinterval(0.005)

        def fini(self):
            views = [item for item in kept if type(item) is memoryview]
            print("fini", [bytes(view) for view in views], flush=True)
            threading.Thread(target=self.after, args=[views]).start()

        def after(self, views):
            error = None
            while "in a graph" not in str(error):
                time.sleep(0.01)
                try:
                    self.wind_flush(kept[5], None, kept[0], None)
                except Exception as raised:
                    error = raised
            print("after:", type(error).__name__, error, flush=True)
            for view in views:
                try:
                    bytes(view)
                    print("it is still there", flush=True)
                except ValueError as error:
                    print("after:", error, flush=True)
"""


def test_graphs_come_and_go(bricks: Bricks, tmp_path: Path) -> None:
    brick = bricks(gluster_kit.volume("top", "features/locks", "posix"))
    script = gluster_kit.script_file(tmp_path, SCRIPT)
    volfile = tmp_path / "client.vol"
    # GlusterFS waits for the first of its event threads when a graph ends; another that is late uses what is freed
    # then, and the process may crash, with this translator in the graph or without.
    below = gluster_kit.client_volume("below", brick.socket, event_threads=1)
    volfile.write_text(below + gluster_kit.xlator("python", script, "below"))
    program = tmp_path / "rounds"
    source = Path(__file__).with_name("gluster_rounds.c")
    subprocess.run(["cc", "-D_FILE_OFFSET_BITS=64", "-o", program, source, "-lgfapi"], check=True)
    log = tmp_path / "log"
    done = subprocess.run([*gluster_kit.PRELOADED, program, volfile, log, "2"], text=True, capture_output=True,
                          timeout=gluster_kit.PATIENCE, env=brick.environment)
    assert done.returncode == 0, done.stdout + done.stderr + log.read_text()
    said = done.stdout + done.stderr
    assert re.findall(r"(?m)^round (\d)$", done.stdout) == ["0", "1"]
    # Each graph has a module of its own.
    assert said.count("loaded\n") == 2
    assert said.count("fini [b'hello', b'hello']\n") == 2
    # The second time, the process may end before that thread does.
    assert said.count("after: operation forbidden on released memoryview object\n") >= 2
    assert said.count("after: Expired this translator is not, or no longer, in a graph\n") >= 1
    assert "still there" not in said
    assert "Traceback" not in log.read_text()
    # What GlusterFS says when it ends the table of inodes, and somebody still has one.
    assert "found during cleanup" not in log.read_text()
