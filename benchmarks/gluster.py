# SPDX-License-Identifier: BSD-3-Clause
"""What the translator costs on a brick, in requests per second: /usr/bin/python3 benchmarks/gluster.py

Needs glusterfs-server and a build. Each brick serves a folder in memory (/dev/shm) to one client of libgfapi on a Unix
socket, and all bricks do at once, so that the ways can be measured in turn, round after round: what else the machine
does meets them all. The medians count.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "gluster")]

import gluster_kit  # noqa: E402

EMPTY = """
    from glusterfs import Translator

    class xlator(Translator):
        pass
"""
DIRECT = EMPTY + """
        def readv(self, next, fd, size, offset, flags, xdata):
            return next.readv(fd, size, offset, flags, xdata)
"""
ASYNC = DIRECT.replace("def readv", "async def readv").replace("return", "return await")
ANSWER = EMPTY + """
        def readv_cbk(self, frame, cookie, this, op_ret, op_errno, data, buf, xdata):
            self.unwind_readv(frame, cookie, this, op_ret, op_errno, data, buf, xdata)
"""
CALLBACKS = ANSWER + """
        def readv_fop(self, frame, this, fd, size, offset, flags, xdata):
            self.wind_readv(frame, None, fd, size, offset, flags, xdata)
"""
OTHER = DIRECT.replace("readv", "writev").replace("size, offset", "data, offset")
WAYS = {
    "no translator": None,
    "defines nothing": EMPTY,
    "defines another, writev": OTHER,
    "readv_cbk alone": ANSWER,
    "readv_fop and readv_cbk": CALLBACKS,
    "readv, direct": DIRECT,
    "readv, a coroutine": ASYNC,
}


def volumes(folder: Path, number: int, script: str | None) -> str:
    if script is None:
        return ""
    path = gluster_kit.script_file(folder, script, f"script{number}.py")
    return gluster_kit.xlator("top", path, "posix")


def measure(program: Path, brick: gluster_kit.Brick, threads: int, requests: int) -> float:
    """Reads of 4 KiB per second, from so many threads of the client's."""
    done = subprocess.run([program, brick.folder / "client.vol", str(threads), str(requests // threads)], check=True,
                          text=True, stdout=subprocess.PIPE)
    return requests / float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=20000, help="in each round and way")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        program = folder / "reads"
        source = Path(__file__).with_name("gluster_reads.c")
        subprocess.run(["cc", "-O2", "-D_FILE_OFFSET_BITS=64", "-o", program, source, "-lgfapi"], check=True)
        ready = {}
        for number, (way, script) in enumerate(WAYS.items()):
            brick = gluster_kit.Brick(folder / str(number), volumes(folder, number, script),
                                      top="top" if script else "posix")
            stack.callback(brick.close)
            gluster_kit.wait_for(lambda: brick.socket.exists(), "the brick", brick.process)
            ready[way] = brick
        print(f"{'reads of 4 KiB per second':28}{'one at a time':>22}{'eight at a time':>22}")
        figures: dict[tuple[str, int], list[float]] = {(way, threads): [] for way in WAYS for threads in (1, 8)}
        for _ in range(options.rounds):
            for way, brick in ready.items():
                for threads in (1, 8):
                    figures[way, threads].append(measure(program, brick, threads, options.requests))
        for way in WAYS:
            cells = []
            for threads in (1, 8):
                here, plain = figures[way, threads], figures["no translator", threads]
                ratio = statistics.median(a / b for a, b in zip(here, plain))
                cells.append(f"{statistics.median(here):>14.0f} ({ratio:4.2f})")
            print(f"{way:28}{cells[0]:>22}{cells[1]:>22}", flush=True)


if __name__ == "__main__":
    main()
