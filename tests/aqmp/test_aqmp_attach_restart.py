# SPDX-License-Identifier: BSD-3-Clause
"""The disk's server dies, and its clients wait for the next one instead of seeing an error."""

from __future__ import annotations

import random
import signal
from pathlib import Path

from aqmp_attach_kit import SIZE, Aqmp, Attach, Guest, Witness, connect, until, uri_of

DIED = r"^the disk's server has died \(signal 9\); starting it again\n"
AGAIN = r"^the disk's server serves again\n"

# A disk in a file, which never answers the first write of its first life.
STUCK = """
import os, time

API_VERSION = 2

def config(key, value):
    global path
    path = value

def open(readonly):
    return os.open(path, os.O_RDWR)

def get_size(h):
    return os.stat(path).st_size

def pread(h, buf, offset, flags):
    os.preadv(h, [buf], offset)

def pwrite(h, buf, offset, flags):
    if not os.path.exists(path + ".stuck"):
        with __builtins__.open(path + ".stuck", "w"):
            time.sleep(3600)
    os.pwrite(h, buf, offset)
"""


def test_an_export_reads_and_writes_on(daemon: Witness, attach: Attach, image: Path) -> None:
    """Requests that come while there is no server."""
    attached = attach(daemon, "--export-only")
    h = connect(uri_of(attached))
    expected = bytearray(SIZE)
    numbers = random.Random(1)
    for deaths in range(1, 4):
        attached.kill_server()
        for _ in range(50):
            offset, data = numbers.randrange(SIZE - 4096), numbers.randbytes(4096)
            h.pwrite(data, offset)
            expected[offset:offset + 4096] = data
            assert h.pread(4096, offset) == data
        attached.wait_for(DIED, deaths)
        attached.wait_for(AGAIN, deaths)
    h.flush()
    h.shutdown()
    assert image.read_bytes() == expected
    assert attached.end() == 0


def test_a_request_under_way_is_made_again(daemon: Witness, folder: Path, attach: Attach, image: Path) -> None:
    script = folder / "stuck.py"
    script.write_text(STUCK)
    attached = attach(daemon, "--export-only", script=(script, f"path={image}"))
    h = connect(uri_of(attached))
    request = h.aio_pwrite(b"7" * 512, 512)
    until(Path(f"{image}.stuck").exists)
    attached.kill_server()
    until(lambda: h.poll(10) >= 0 and h.aio_command_completed(request))
    assert image.read_bytes()[512:1024] == b"7" * 512
    h.shutdown()
    assert attached.end() == 0


def test_a_guest_reads_and_writes_on(guest: Guest, attach: Attach, image: Path) -> None:
    witness = guest()
    attached = attach(witness)
    attached.kill_server()
    assert "wrote 512/512" in witness.io("file", "write -P 0x37 512 512")
    attached.wait_for(AGAIN)
    attached.kill_server()
    assert "read 512/512" in witness.io("file", "read -P 0x37 512 512")
    assert image.read_bytes()[512:1024] == b"7" * 512
    attached.wait_for(AGAIN, 2)
    assert attached.end() == 0


def test_a_script_that_is_broken_for_a_while(daemon: Witness, folder: Path, attach: Attach, image: Path) -> None:
    """It is tried again and again, and clients wait."""
    script = folder / "stuck.py"
    script.write_text(STUCK)
    Path(f"{image}.stuck").touch()
    attached = attach(daemon, "--export-only", script=(script, f"path={image}"))
    h = connect(uri_of(attached))
    script.write_text("raise RuntimeError('not today')\n")
    attached.kill_server()
    request = h.aio_pwrite(b"7" * 512, 512)
    attached.wait_for("^nbdkit ended with status 1 .*: its log says why; the next attempt is in [0-9]+ s\n")
    assert "RuntimeError: not today" in attached.said()
    script.write_text(STUCK)
    until(lambda: h.poll(10) >= 0 and h.aio_command_completed(request))
    attached.wait_for(AGAIN)
    h.shutdown()
    assert attached.end() == 0


def test_detach_while_there_is_no_server(guest: Guest, folder: Path, attach: Attach, aqmp: Aqmp, image: Path) -> None:
    script = folder / "stuck.py"
    script.write_text(STUCK)
    witness = guest()
    attached = attach(witness, "--read-only", script=(script, f"path={image}"))
    script.write_text("raise RuntimeError('not today')\n")
    attached.kill_server()
    attached.wait_for("the next attempt is in")
    assert attached.end(signal.SIGTERM) == 0
    assert witness.nodes() == {} and aqmp.left() == []
