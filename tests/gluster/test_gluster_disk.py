# SPDX-License-Identifier: BSD-3-Clause
"""examples/gluster_disk.py: an nbdkit disk whose data are on bricks."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import gluster_kit
import nbd
import pytest
from harness import EXAMPLES, Server, nbdkit, serving

Bricks = Callable[..., gluster_kit.Brick]

DISK = EXAMPLES / "gluster_disk.py"
MiB = 1 << 20
LOCKS = gluster_kit.volume("top", "features/locks", "posix")


def replicated(folder: Path, *bricks: gluster_kit.Brick) -> Path:
    """The volume file of a client whose data are on each of these bricks."""
    names = [f"client{number}" for number in range(len(bricks))]
    clients = "".join(gluster_kit.client_volume(name, brick.socket) for name, brick in zip(names, bricks))
    path = folder / "replicated.vol"
    path.write_text(clients + gluster_kit.volume("all", "cluster/replicate", " ".join(names), {
        "afr-pending-xattr": ",".join(names), "quorum-type": "auto"}))
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """disk(volfile, *parameters): the example, served."""
    with ExitStack() as stack:

        def start(volfile: Path, *parameters: str) -> Server:
            folder = tmp_path / f"nbdkit{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return stack.enter_context(serving(folder, DISK, f"volfile={volfile}", *parameters))

        yield start


def test_it_is_a_disk(bricks: Bricks, disk: Callable[..., Server]) -> None:
    brick = bricks(LOCKS)
    volfile = brick.folder / "client.vol"
    server = disk(volfile, "file=/disk.img", "size=10M")
    h = server.connect()
    assert h.get_size() == 10 * MiB
    assert h.can_multi_conn() and h.can_trim() and h.can_zero() and h.can_fua()
    data = random.Random(1).randbytes(MiB)
    h.pwrite(data, 4 * MiB, nbd.CMD_FLAG_FUA)
    h.zero(4096, 4 * MiB + 4096)
    h.trim(8192, 4 * MiB + 65536)
    expected = bytearray(data)
    expected[4096:8192] = bytes(4096)
    expected[65536:65536 + 8192] = bytes(8192)
    h.flush()
    assert h.pread(MiB, 4 * MiB) == bytes(expected)
    assert (brick.data / "disk.img").read_bytes()[4 * MiB:5 * MiB] == bytes(expected)
    h.shutdown()
    assert server.stop() == 0
    # Another time, it is as it was, or longer.
    h = disk(volfile, "file=/disk.img").connect()
    assert h.get_size() == 10 * MiB
    assert h.pread(MiB, 4 * MiB) == bytes(expected)
    assert disk(volfile, "file=/disk.img", "size=12M").connect().get_size() == 12 * MiB


@pytest.mark.parametrize(("parameters", "message"), [
    (["file=/disk.img"], "expected file=PATH, and volume=NAME with server=HOST or else volfile=FILE"),
    (["volume=v", "server=h"], "expected file=PATH"),
    (["size=5", "colour=red"], "unknown parameter 'colour'"),
])
def test_parameters(parameters: list[str], message: str) -> None:
    done = nbdkit(DISK, *parameters)
    assert done.returncode == 1
    assert message in done.stderr


def test_no_such_file(bricks: Bricks) -> None:
    brick = bricks(LOCKS)
    done = nbdkit(DISK, f"volfile={brick.folder / 'client.vol'}", "file=/missing")
    assert done.returncode == 1
    assert "open: No such file or directory" in done.stderr


def test_a_brick_dies_under_load(bricks: Bricks, disk: Callable[..., Server], tmp_path: Path) -> None:
    """Three bricks have the data, four clients write, one brick is killed; and every byte that was written is there."""
    three = [bricks(LOCKS) for _ in range(3)]
    for brick in three:
        brick.client()  # one that listens and does not serve yet would be left out, until the next attempt
    server = disk(replicated(tmp_path, *three), "file=/disk.img", "size=16M")
    part, block = 4 * MiB, 64 * 1024
    written = [bytearray(part) for _ in range(4)]
    rounds = [0] * 4
    killed = threading.Event()
    errors: list[BaseException] = []

    def write(number: int) -> None:
        source = random.Random(number)
        try:
            h = server.connect()
            after = 0
            # Half of the work is done when the brick dies, and half after that.
            while after < 150:
                at = source.randrange(part // block) * block
                data = source.randbytes(block)
                h.pwrite(data, number * part + at)
                written[number][at:at + block] = data
                rounds[number] += 1
                after += killed.is_set()
            h.flush()
            h.shutdown()
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    gluster_kit.wait_for(lambda: min(rounds) >= 100 or errors, "the first half of the writes")
    three[1].process.kill()
    three[1].process.wait()
    three[1].process.returncode = 0  # it was meant
    killed.set()
    for writer in writers:
        writer.join(gluster_kit.PATIENCE)
    assert not errors
    expected = b"".join(written)
    assert server.connect().pread(16 * MiB, 0) == expected
    server.stop()
    # And so it is on the bricks that are left, byte by byte.
    for brick in (three[0], three[2]):
        assert (brick.data / "disk.img").read_bytes() == expected
    # One of them is enough for who reads it later.
    lost = (three[1].data / "disk.img").read_bytes()
    assert lost != expected
    three[1].start()
    h = disk(replicated(tmp_path, *three), "file=/disk.img").connect()
    assert h.pread(16 * MiB, 0) == expected
