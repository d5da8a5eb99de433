# SPDX-License-Identifier: BSD-3-Clause
"""A short soak, tests/soak, and disks on which it must find what it looks for. The long one is `./test soak`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import PLUGIN, ROOT, environment

SOAK = ROOT / "tests" / "soak"
TIME_LIMIT = 250  # seconds; pytest's own is 300


def soak(*arguments: object) -> tuple[int, str]:
    """Run it; the result is its exit status, and all that it said."""
    command = [sys.executable, str(SOAK / "soak.py"), *map(str, arguments)]
    env = environment(PYTHONPATH=str(ROOT / "tests" / "e2e"), NBDKIT_PYTHON_PLUGIN=PLUGIN)
    try:
        done = subprocess.run(command, env=env, text=True, timeout=TIME_LIMIT, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"not done within {TIME_LIMIT} s:\n{(late.stdout or b'').decode()}")
    print(done.stdout)
    return done.returncode, done.stdout


@pytest.mark.peer_fails
def test_nothing_is_lost_and_nothing_left_behind() -> None:
    """So many requests that 64 bytes lost with each would be more than the 1 MiB that is the bar."""
    status, said = soak(120_000, "--connections", 333, "--exceptions", 3000)
    assert status == 0, said


def test_nothing_is_lost_in_coroutines() -> None:
    status, said = soak(20_000, "--connections", 333, "--exceptions", 3000, "--shape", "v2-async")
    assert status == 0, said


def test_nothing_is_lost_in_translators() -> None:
    status, said = soak(30_000, "--connections", 333, "--exceptions", 3000, "--translators", 2, "--shape", "v2-buf")
    assert status == 0, said


# What is appended to the disk; the phases that find it; what they say.
FAULTY = {
    "an object is lost with each write": ("""
def lossy(h, buf, offset, flags=0, plain=pwrite):
    lost.append(bytes(31))
    plain(h, buf, offset)
lost = []
pwrite = lossy
""", (10_000, 0, 0), "requests: blocks grows by"),
    "64 bytes of malloc are lost with each request": ("""
def lossy(operation):
    def request(*arguments):
        malloc(64)
        return operation(*arguments)
    return request
malloc = ctypes.CDLL(None).malloc
pread, pwrite, flush, trim, cache, zero, extents = map(lossy, [pread, pwrite, flush, trim, cache, zero, extents])
""", (40_000, 0, 0), "requests: malloc grows by"),
    "an object is lost with each exception": ("""
def lossy(*arguments, plain=fail):
    lost.append(object())
    return plain(*arguments)
lost = []
fail = lossy
""", (0, 0, 2000), "exceptions: blocks grows by"),
    "an object is lost with each connection": ("""
def lossy(h, plain=close):
    lost.append(object())
    plain(h)
lost = []
close = lossy
""", (0, 200, 0), "connections: blocks grows by"),
    "handles are kept": ("""
def keeping(readonly, plain=open):
    lost.append(plain(readonly))
    return lost[-1]
lost = []
open = keeping
""", (0, 40, 0), "connections: left behind"),
    "a descriptor is lost": ("""
def lossy(h, plain=close):
    os.dup(2)
    plain(h)
close = lossy
""", (0, 40, 0), "connections: left behind"),
    "a thread is left": ("""
def cache(h, count, offset, flags):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
""", (200, 0, 0), "requests: left behind"),
    "a write is forgotten": ("""
def forgetful(h, buf, offset, flags=0, plain=pwrite):
    if offset >= LANE:
        plain(h, buf, offset)
pwrite = forgetful
""", (2000, 0, 0), "wrong data"),
    "a failure succeeds": ("""
def fail_error(buf):
    return bytes(LANE)
""", (0, 0, 500), "errno 0, expected 28"),
}


@pytest.mark.parametrize("text, numbers, expected", FAULTY.values(), ids=FAULTY)
def test_it_would_be_noticed_if(text: str, numbers: tuple[int, int, int], expected: str, tmp_path: Path) -> None:
    script = tmp_path / "disk.py"
    script.write_text((SOAK / "disk.py").read_text() + text)
    requests, connections, exceptions = numbers
    status, said = soak(requests, "--connections", connections, "--exceptions", exceptions,
                        "--shape", "v1", "--script", script, "--patience", 0.2)
    assert status == 1
    assert expected in said
