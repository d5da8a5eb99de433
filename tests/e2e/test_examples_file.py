# SPDX-License-Identifier: BSD-3-Clause
"""The example that serves a file: its bytes, its holes, and what must reach the disk."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from example_kit import KiB, MiB, altered, data_map, exercise, in_background, info, open_modes, run, sparse_image
from harness import EXAMPLES, extents, raises_errno

FILE = EXAMPLES / "file.py"
HOLE_ZERO = nbd.STATE_HOLE | nbd.STATE_ZERO


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """8 MiB with two islands of data."""
    return sparse_image(tmp_path / "disk.img", 8 * MiB, at_1024=MiB, at_4096=64 * KiB)


@pytest.fixture
def holes(image: Path) -> None:
    """Skip a test where the file system has no holes to punch."""
    if subprocess.run(["fallocate", "-p", "-o", "0", "-l", "4096", image]).returncode or allocated(image) > 2 * MiB:
        pytest.skip("the file system of the test's folder cannot punch holes")


def test_file_against_a_model(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "odd size.img"
    path.write_bytes(random.Random(2).randbytes(MiB + 4097))
    server = serve(FILE, f"file={path}")
    assert exercise(server, MiB + 4097) == path.read_bytes()
    assert path.stat().st_size == MiB + 4097
    assert info(server.uri)["can_multi_conn"]


def test_file_takes_and_gives_a_disk_image(serve: Serve, image: Path, tmp_path: Path) -> None:
    target = sparse_image(tmp_path / "target.img", 8 * MiB, at_0=3 * MiB)
    server = serve(FILE, f"file={target}")
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, server.uri)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, server.uri)
    assert target.read_bytes() == image.read_bytes()
    run("nbdcopy", "--connections=4", server.uri, tmp_path / "copy.img")
    assert (tmp_path / "copy.img").read_bytes() == image.read_bytes()


def test_file_holes_are_seen(serve: Serve, holes: None, image: Path) -> None:
    server = serve(FILE, f"file={image}")
    assert data_map(server.uri) == [(MiB, MiB), (4 * MiB, 64 * KiB)]
    disk = server.connect()
    everything = [(MiB, HOLE_ZERO), (MiB, 0), (2 * MiB, HOLE_ZERO), (64 * KiB, 0), (4 * MiB - 64 * KiB, HOLE_ZERO)]
    assert extents(disk, 8 * MiB, 0) == everything
    assert extents(disk, 8 * MiB, 0, nbd.CMD_FLAG_REQ_ONE) == everything[:1]
    assert extents(disk, 1000, MiB + 10, nbd.CMD_FLAG_REQ_ONE) == [(1000, 0)]
    assert extents(disk, 4 * MiB, 4 * MiB)[0] == (64 * KiB, 0)


def test_file_zero_and_trim_make_holes(serve: Serve, holes: None, image: Path) -> None:
    server = serve(FILE, f"file={image}")
    disk = server.connect()
    before = allocated(image)
    disk.zero(256 * KiB, MiB)
    assert allocated(image) <= before - 256 * KiB
    disk.trim(256 * KiB, MiB + 256 * KiB)
    assert allocated(image) <= before - 512 * KiB
    assert data_map(server.uri) == [(MiB + 512 * KiB, 512 * KiB), (4 * MiB, 64 * KiB)]
    before = allocated(image)
    disk.zero(512 * KiB, MiB + 512 * KiB, nbd.CMD_FLAG_NO_HOLE)
    assert allocated(image) >= before, "the client asked to keep the space"
    assert disk.pread(2 * MiB, 0) == bytes(2 * MiB)


SHORT = """
    import os
    preadv, pwritev = os.preadv, os.pwritev
    os.preadv = lambda fd, bufs, *rest: preadv(fd, [bufs[0][:1000]], *rest)
    os.pwritev = lambda fd, bufs, *rest: pwritev(fd, [bufs[0][:1000]], *rest)
"""

CANNOT_FALLOCATE = """
    class libc:
        def fallocate64(*arguments):
            return -1
"""


def test_file_short_results_and_a_file_system_without_holes(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(random.Random(3).randbytes(MiB))
    server = serve(altered(tmp_path, "file.py", SHORT, CANNOT_FALLOCATE), f"file={path}")
    assert exercise(server, MiB, requests=100) == path.read_bytes()
    assert server.log() == ""
    assert allocated(path) >= MiB


def test_file_on_a_file_system_that_cannot_zero_a_range(serve: Serve) -> None:
    """tmpfs cannot zero a range and keep its space, other than by a write of zeros."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        pytest.skip("no /dev/shm")
    path = shm / f"nbdkit-python-test-{os.getpid()}.img"
    try:
        path.write_bytes(b"x" * MiB)
        disk = serve(FILE, f"file={path}").connect()
        disk.zero(MiB // 2, 0, nbd.CMD_FLAG_NO_HOLE)
        assert path.read_bytes() == bytes(MiB // 2) + b"x" * (MiB // 2)
        assert allocated(path) >= MiB
    finally:
        path.unlink(missing_ok=True)


def test_file_writes_that_must_reach_the_disk(serve: Serve, tmp_path: Path, image: Path) -> None:
    tell = """
        import os, sys
        pwritev, fdatasync = os.pwritev, os.fdatasync
        def told_pwritev(fd, bufs, offset):
            print("pwritev", file=sys.stderr)
            return pwritev(fd, bufs, offset)
        def told_fdatasync(fd):
            print("fdatasync", file=sys.stderr)
            return fdatasync(fd)
        os.pwritev, os.fdatasync = told_pwritev, told_fdatasync
    """
    server = serve(altered(tmp_path, "file.py", tell), f"file={image}")
    disk = server.connect()
    requests: list[tuple[Callable[[], object], list[str]]] = [
        (lambda: disk.pwrite(b"x", 0), ["pwritev"]),
        (lambda: disk.pwrite(b"x", 0, nbd.CMD_FLAG_FUA), ["pwritev", "fdatasync"]),
        (lambda: disk.flush(), ["fdatasync"]),
    ]
    for request, expected in requests:
        seen = len(server.log())
        request()
        assert server.log()[seen:].splitlines() == expected
    for make_hole in (disk.zero, disk.trim):
        seen = len(server.log())
        make_hole(4096, MiB, nbd.CMD_FLAG_FUA)
        assert server.log()[seen:].splitlines()[-1] == "fdatasync", make_hole


def test_file_serves_several_requests_at_the_same_time(serve: Serve, tmp_path: Path, image: Path) -> None:
    meet = """
        import os, threading
        preadv, together = os.preadv, threading.Barrier(4, timeout=60)
        def meeting(*arguments):
            together.wait()
            return preadv(*arguments)
        os.preadv = meeting
    """
    disk = serve(altered(tmp_path, "file.py", meet), f"file={image}").connect()
    buffers = [nbd.Buffer(512) for _ in range(4)]
    pending = {disk.aio_pread(buffer, MiB + 512 * number) for number, buffer in enumerate(buffers)}
    while pending:  # none ends before all four have begun; a failure raises
        disk.poll(-1)
        pending = {cookie for cookie in pending if not disk.aio_command_completed(cookie)}
    with image.open("rb") as file:
        file.seek(MiB)
        assert b"".join(bytes(buffer.to_bytearray()) for buffer in buffers) == file.read(2048)


def test_file_read_only(serve: Serve, image: Path) -> None:
    image.chmod(0o444)
    server = serve(FILE, f"file={image}", options=("-r",))
    disk = server.connect()
    assert disk.is_read_only()
    with raises_errno(errno.EPERM):
        disk.pwrite(b"x", 0)
    assert open_modes(server, image) == [os.O_RDONLY]


def test_file_made_smaller_while_being_served(serve: Serve, image: Path) -> None:
    server = serve(FILE, f"file={image}")
    disk = server.connect()
    os.truncate(image, MiB + 100)
    assert len(disk.pread(100, MiB)) == 100
    with raises_errno(errno.EIO):
        disk.pread(101, MiB)
    server.wait_for_log(f"{image} ends at {MiB + 100}: it was made smaller while being served")


def test_file_parameters(start_fails: Callable[..., str], tmp_path: Path) -> None:
    wrong = "file=PATH must be a file or a block device, not "
    assert f"{wrong}''" in start_fails(FILE)
    assert f"{wrong}'{tmp_path}/nowhere'" in start_fails(FILE, f"file={tmp_path}/nowhere")
    assert f"{wrong}'{tmp_path}'" in start_fails(FILE, f"file={tmp_path}")
    assert "unknown parameter 'fil': this disk has one, file=PATH" in start_fails(FILE, f"fil={tmp_path}")


def test_file_path_is_relative_to_where_the_server_was_started(image: Path) -> None:
    with in_background(image.parent, "file.py", "file=disk.img") as uri:
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a block device of a file")
def test_block_device(serve: Serve, image: Path) -> None:
    attach = subprocess.run(["/sbin/losetup", "--find", "--show", image], capture_output=True, text=True)
    if attach.returncode:
        pytest.skip(f"no loop device: {attach.stderr}")
    device = attach.stdout.strip()
    try:
        server = serve(FILE, f"file={device}")
        assert server.connect().get_size() == 8 * MiB
        model = exercise(server, 8 * MiB, requests=100)
        server.stop()
        assert image.read_bytes() == model
    finally:
        run("/sbin/losetup", "--detach", device)
