# SPDX-License-Identifier: BSD-3-Clause
"""A request's buffer that a script keeps, in every way we know: no other request's bytes are ever seen in it.

Each request has a pattern of its own. Scripts keep buffers, and look at all that they have kept whenever they are
called; clients look at what they read.
"""

from __future__ import annotations

import errno
import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import suppress

import nbd
import pytest

from conftest import Serve
from harness import Server, raises_errno

COUNT = 4096  # bytes of a request
WAYS = ["view", "slice", "cast", "dict", "attribute", "closure", "thread", "traceback", "generator", "coroutine",
        "iterator", "exported object"]

# The request at n * COUNT has the number n in all of its 8-byte words.
SCRIPT = f"""
import itertools
import sys
import threading
import nbdkit

COUNT = {COUNT}
WAYS = {WAYS}
"""
SCRIPT += '''
kept = []  # (number of the request, a function that returns what is kept of it)
numbers = set()
lock = threading.Lock()
looks = seen = 0


def thread_model():
    return MODEL


def open(readonly):
    look()
    return None


def get_size(h):
    return 1 << 40


def pattern(number):
    return number.to_bytes(8, "little") * (COUNT // 8)


def words(data):
    data = bytes(data)
    return {int.from_bytes(data[i:i + 8], "little") for i in range(0, len(data), 8)} - {0}


def look():
    """What is kept must be gone, or show its own request alone."""
    global looks, seen
    for number, get in list(kept):
        looks += 1
        try:
            found = words(get())
        except (ValueError, BufferError):
            continue
        seen += 1
        if not found <= {number}:
            print(f"FOREIGN: kept of {number}: {sorted(found)[:4]}", file=sys.stderr, flush=True)


class Holder:
    pass


def waiting(buf, number, started):
    started.set()
    try:
        while True:
            found = words(buf)
            if not found <= {number}:
                print(f"FOREIGN: in the thread of {number}: {sorted(found)[:4]}", file=sys.stderr, flush=True)
                break
    except ValueError:
        pass


def failing(buf):
    raise KeyError("with buf in its frame")


def suspended(buf):
    yield
    yield buf


async def asleep(buf):
    return buf


def keep(buf, number):
    way = WAYS[number // 4 % len(WAYS)]
    if way == "view":
        kept.append((number, lambda buf=buf: buf))
    elif way == "slice":
        part = buf[8:]
        kept.append((number, lambda: part))
    elif way == "cast":
        other = buf.cast("Q")[1:]
        kept.append((number, lambda: other.tobytes()))
    elif way == "dict":
        d = {"buf": buf}
        kept.append((number, lambda: d["buf"]))
    elif way == "attribute":
        holder = Holder()
        holder.buf = buf
        kept.append((number, lambda: holder.buf))
    elif way == "closure":
        kept.append((number, lambda: buf))
    elif way == "thread":
        started = threading.Event()
        threading.Thread(target=waiting, args=(buf, number, started), daemon=True).start()
        started.wait()
    elif way == "traceback":
        try:
            failing(buf)
        except KeyError as error:
            saved = error
            kept.append((number, lambda: saved.__traceback__.tb_next.tb_frame.f_locals["buf"]))
    elif way == "generator":
        generator = suspended(buf)
        next(generator)
        kept.append((number, lambda: generator.gi_frame.f_locals["buf"]))
    elif way == "coroutine":
        coroutine = asleep(buf)
        kept.append((number, lambda: coroutine.cr_frame.f_locals["buf"]))
    elif way == "iterator":
        iterator = iter(buf)
        # Not all of it: an iterator that is used up lets the memory go.
        kept.append((number, lambda: bytes(itertools.islice(iterator, 8))))
    elif way == "exported object":
        obj = buf.obj
        kept.append((number, lambda: memoryview(obj)))
        kept.append((number, lambda view=memoryview(obj): view))


def serve(buf, number):
    """What becomes of a request: kept, half done, failed midway, or nothing unusual."""
    with lock:
        look()
        if number % 4 == 0:
            keep(buf, number)
        elif number % 4 == 2:
            raise ValueError("midway")


def pwrite(h, buf, offset, flags=0):
    number = offset // COUNT
    found = words(buf)
    if found != {number}:
        print(f"FOREIGN: in the write {number}: {sorted(found)[:4]}", file=sys.stderr, flush=True)
    serve(buf, number)


def cleanup():
    print(f"looked {looks} times, saw {seen}", file=sys.stderr, flush=True)
'''
READS = {
    "v1": """
def pread(h, count, offset):
    with lock:
        look()
    return pattern(offset // COUNT)
""",
    "v2-count": """
API_VERSION = 2


def pread(h, count, offset, flags):
    with lock:
        look()
    return pattern(offset // COUNT)
""",
    "v2-buf": """
API_VERSION = 2


def pread(h, buf, offset, flags):
    number = offset // COUNT
    half = COUNT // 2 if number % 4 else COUNT
    buf[:half] = pattern(number)[:half]
    serve(buf, number)
""",
}


def pattern(number: int) -> bytes:
    return number.to_bytes(8, "little") * (COUNT // 8)


def requests(server: Server, numbers: itertools.count[int], rounds: int, by_buffer: bool) -> Iterator[str]:
    """Write and read by turns on one connection; what is wrong with the answers."""
    h = server.connect()
    for turn in range(rounds):
        number = next(numbers)
        try:
            if turn % 2:
                h.pwrite(pattern(number), number * COUNT)
            else:
                data = h.pread(COUNT, number * COUNT)
                half = COUNT // 2 if by_buffer else COUNT
                if data != pattern(number)[:half] + bytes(COUNT - half):
                    yield f"the read {number} got {data!r}"
        except nbd.Error as error:
            if error.errnum != errno.EIO or number % 2 == 1:
                yield f"{number} failed: {error}"
        else:
            if number % 2 == 0 and (turn % 2 or by_buffer):
                yield f"{number} should have failed"
    h.shutdown()


@pytest.mark.peer_fails
@pytest.mark.parametrize("model", ["SERIALIZE_ALL_REQUESTS", "PARALLEL"])
@pytest.mark.parametrize("shape", READS)
def test_no_request_sees_anothers_bytes(serve: Serve, shape: str, model: str) -> None:
    server = serve(SCRIPT.replace("MODEL", f"nbdkit.THREAD_MODEL_{model}") + READS[shape])
    numbers = itertools.count(1)
    wrong: list[str] = []

    def client() -> None:
        wrong.extend(requests(server, numbers, 12 * len(WAYS), by_buffer=shape == "v2-buf"))

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    server.stop()
    log = server.log()
    assert not re.findall("FOREIGN.*", log)[:5]
    assert not wrong, wrong[:5]
    looked = re.search(r"looked (\d+) times, saw (\d+)$", log, re.MULTILINE)
    assert looked and int(looked[1]) > 1000, log[-2000:]


# Arrays have the memory's address, and a thread's variables are out of reach: until they are gone, nothing is served
# in that memory.
HOLDERS = {
    "ctypes": "(ctypes.c_char * len(buf)).from_buffer(buf)",
    "numpy": "numpy.frombuffer(buf, numpy.uint8)",
    "numpy of a slice": "numpy.asarray(buf[8:])",
    "pickle": "pickle.PickleBuffer(buf)",
    "thread": "Thread(buf)",
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_memory_that_is_held_serves_no_request(serve: Serve, holder: str) -> None:
    server = serve(f"""
        import ctypes, pickle, threading
        import numpy

        API_VERSION = 2
        held = []
        disk = bytearray(3 * {COUNT})


        class Thread:
            def __init__(self, buf):
                self.end = threading.Event()
                self.thread = threading.Thread(target=self.wait, args=(buf,))
                self.thread.start()

            def wait(self, buf):
                self.end.wait()

            def release(self):
                self.end.set()
                self.thread.join()


        def thread_model():
            return nbdkit.THREAD_MODEL_SERIALIZE_REQUESTS


        def open(readonly):
            return "an id"


        def close(h):
            let_go()


        def let_go():
            for holder in held:
                if hasattr(holder, "release"):
                    holder.release()
            held.clear()


        def get_size(h):
            return len(disk)


        def pread(h, buf, offset, flags):
            buf[:] = disk[offset:offset + len(buf)]
            if offset == {COUNT}:
                held.append({HOLDERS[holder]})


        def pwrite(h, buf, offset, flags):
            disk[offset:offset + len(buf)] = buf


        def flush(h, flags):
            let_go()


        import nbdkit
    """)
    h = server.connect()
    h.pwrite(b"1" * COUNT, 0)
    with raises_errno(errno.EIO):
        h.pread(COUNT, COUNT)
    server.wait_for_log(r"pread: .*the request's buffer is still in use after the callback")
    for _ in range(2):
        with raises_errno(errno.EIO):
            h.pwrite(b"2" * COUNT, 0)
        with raises_errno(errno.EIO):
            h.pread(COUNT, 0)
    server.wait_for_log(r"pwrite: .*this request's memory is still in use: a thread, or an array")
    # Other memory serves, and what was refused has changed nothing.
    assert server.connect().pread(COUNT, 0) == b"1" * COUNT
    h.flush()
    h.pwrite(b"3" * COUNT, 0)
    assert h.pread(COUNT, 0) == b"3" * COUNT


def test_a_thread_may_let_go_late(serve: Serve) -> None:
    """Its turn comes when the machine has time: the thread of an executor has its references a little longer."""
    server = serve("""
        import threading
        import time

        API_VERSION = 2


        def get_size(h):
            return 4096


        def open(readonly):
            return "an id"


        def hold(buf):
            time.sleep(0.05)


        def pread(h, buf, offset, flags):
            buf[:] = b"d" * len(buf)
            threading.Thread(target=hold, args=(buf,)).start()
    """)
    h = server.connect()
    seen: list[bytearray] = []
    for _ in range(10):  # how late is too late is a matter of time, and here of load
        with suppress(nbd.Error):
            seen.append(h.pread(512, 0))
    assert seen and all(data == b"d" * 512 for data in seen)
