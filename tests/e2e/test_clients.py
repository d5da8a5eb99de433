# SPDX-License-Identifier: BSD-3-Clause
"""Disks in Python under clients that know nothing of Python: fio, qemu-img, nbdcopy, nbdinfo, e2fsck and libnbd."""

from __future__ import annotations

import errno
import filecmp
import json
import os
import random
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from example_kit import KiB, MiB, info, run
from harness import TIMEOUT, extents, raises_errno, write_script

# A whole disk in memory: writes, zeros, holes, and extents by looking for blocks of zeros.
RAM_DISK = """
    import nbdkit

    API_VERSION = 2
    BLOCK = 32768
    disk = bytearray()

    def config(key, value):
        global disk
        assert key == "size"
        disk = bytearray(nbdkit.parse_size(value))

    def thread_model():
        return nbdkit.THREAD_MODEL_PARALLEL

    def open(readonly):
        return readonly

    def get_size(h):
        return len(disk)

    def can_multi_conn(h):
        return True

    def can_fua(h):
        return nbdkit.FUA_NATIVE

    def pread(h, buf, offset, flags):
        buf[:] = disk[offset : offset + len(buf)]

    def pwrite(h, buf, offset, flags):
        disk[offset : offset + len(buf)] = buf

    def flush(h, flags):
        pass

    def zero(h, count, offset, flags):
        disk[offset : offset + count] = bytes(count)

    def trim(h, count, offset, flags):
        zero(h, count, offset, flags)

    def extents(h, count, offset, flags):
        while count > 0:
            length = min(count, BLOCK - offset % BLOCK)
            empty = disk.count(0, offset, offset + length) == length
            yield offset, length, nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO if empty else 0
            offset += length
            count -= length
"""


def fails(*command: object, cwd: Path | None = None) -> str:
    """Run a client that must fail; the result is all that it said."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, text=True, capture_output=True, timeout=TIMEOUT)
    assert done.returncode > 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def make_image(path: Path, size: int, seed: int = 1) -> Path:
    """An image with data, zeros and holes, whose last byte is data."""
    noise = random.Random(seed)
    with path.open("wb") as image:
        image.truncate(size)
        for offset in range(0, size, 256 * KiB):
            image.seek(offset + noise.randrange(64 * KiB))
            image.write(noise.randbytes(noise.randrange(1, 96 * KiB)))
        image.seek(size - 1)
        image.write(b"\xff")
        image.truncate(size)
    return path


def fio(uri: str, folder: Path) -> tuple[str, ...]:
    """Random writes of sizes of all kinds at depth 8, then every block is read back and its checksum compared."""
    return ("fio", "--name=verify", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", "--size=8m", "--iodepth=8",
            "--bsrange=512-64k", "--blockalign=512", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0",
            "--output-format=json", f"--output={folder}/fio.json")


def test_fio_verifies_what_it_wrote(serve: Serve, tmp_path: Path) -> None:
    run(*fio(serve(RAM_DISK, "size=8M").uri, tmp_path), cwd=tmp_path)
    text = (tmp_path / "fio.json").read_text()
    job, = json.loads(text[text.index("{"):])["jobs"]
    assert job["error"] == 0
    assert job["write"]["io_bytes"] == job["read"]["io_bytes"] == 8 * MiB


def test_fio_would_notice_a_lie(serve: Serve, tmp_path: Path) -> None:
    """The test above is worth something only if a disk that forgets one byte fails it."""
    server = serve(RAM_DISK + """
    def forgetful(h, buf, offset, flags):
        disk[offset : offset + len(buf)] = buf
        if offset <= 5000000 < offset + len(buf):
            disk[5000000] ^= 1
    pwrite = forgetful
    """, "size=8M")
    assert "crc32c" in fails(*fio(server.uri, tmp_path), cwd=tmp_path)


def test_qemu_img_converts_both_ways(serve: Serve, tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", 16 * MiB)
    qcow2 = tmp_path / "image.qcow2"
    back = tmp_path / "back.qcow2"
    server = serve(RAM_DISK, "size=16M")
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", image, qcow2)
    run("qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", qcow2, server.uri)
    assert "Images are identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, server.uri)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", server.uri, back)
    assert "Images are identical" in run("qemu-img", "compare", image, back)
    assert json.loads(run("qemu-img", "info", "--output=json", server.uri))["virtual-size"] == 16 * MiB
    server.connect().pwrite(b"changed", 5 * MiB)
    assert "Content mismatch" in fails("qemu-img", "compare", "-f", "raw", "-F", "raw", image, server.uri)


def test_nbdcopy_of_a_file_system(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep" / "er").mkdir(parents=True)
    noise = random.Random(2)
    for name, size in {"empty": 0, "small": 1, "deep/odd": 70001, "deep/er/big": 3 * MiB}.items():
        (folder / name).write_bytes(noise.randbytes(size))
    (folder / "link").symlink_to("deep/er/big")
    with (folder / "sparse").open("wb") as sparse:
        sparse.seek(2 * MiB)
        sparse.write(b"the end")
    image = tmp_path / "image"
    back = tmp_path / "back"
    run("/usr/sbin/mkfs.ext4", "-q", "-d", folder, image, "32M")

    server = serve(RAM_DISK, "size=32M")
    run("nbdcopy", "--flush", "--connections=4", image, server.uri)
    run("nbdcopy", "--connections=4", server.uri, back)
    assert filecmp.cmp(image, back, shallow=False)
    assert back.stat().st_blocks < image.stat().st_size // 512, "the holes were not kept: extents are wrong"

    run("/usr/sbin/e2fsck", "-fn", back)
    out = tmp_path / "out"
    out.mkdir()
    run("/usr/sbin/debugfs", "-R", f"rdump / {out}", back)
    (out / "lost+found").rmdir()
    names = sorted(p.relative_to(folder) for p in folder.rglob("*"))
    assert sorted(p.relative_to(out) for p in out.rglob("*")) == names
    assert os.readlink(out / "link") == "deep/er/big"
    files = [str(name) for name in names if (folder / name).is_file()]
    assert filecmp.cmpfiles(folder, out, files, shallow=False) == (files, [], [])


def test_nbdcopy_of_odd_sizes(serve: Serve, tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", MiB + 511)
    server = serve(RAM_DISK, f"size={MiB + 511}")
    run("nbdcopy", image, server.uri)
    run("nbdcopy", server.uri, tmp_path / "back")
    assert filecmp.cmp(image, tmp_path / "back", shallow=False)


def test_read_only(serve: Serve, tmp_path: Path) -> None:
    server = serve(RAM_DISK, "size=1M", options=("-r",))
    h = server.connect()
    assert h.is_read_only()
    requests: list[Callable[[], object]] = [
        lambda: h.pwrite(bytes(512), 0), lambda: h.zero(512, 0), lambda: h.trim(512, 0),
    ]
    for request in requests:
        with raises_errno(errno.EPERM):
            request()
    assert h.pread(512, 0) == bytes(512)
    told = info(server.uri)
    assert told["is_read_only"] is True and told["export-size"] == MiB
    fails("nbdcopy", make_image(tmp_path / "image", MiB), server.uri)
    fails("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", tmp_path / "image", server.uri)
    assert h.pread(MiB, 0) == bytes(MiB)


def test_nbdinfo_shows_what_the_script_says(serve: Serve) -> None:
    server = serve(RAM_DISK + """
    def export_description(h):
        return "a disk in Python \u2603"
    def is_rotational(h):
        return True
    def block_size(h):
        return 1, 4096, 0xffffffff
    """, "size=1M")
    told = info(server.uri)
    assert told["description"] == "a disk in Python \u2603"
    assert [told[f"block_size_{name}"] for name in ("minimum", "preferred", "maximum")] == [1, 4096, 0xFFFFFFFF]
    said = {name for name, value in told.items() if name.startswith(("can_", "is_")) and value}
    assert said >= {"is_rotational", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero", "can_df"}
    assert not said & {"is_read_only", "can_cache", "can_fast_zero"}


def test_nbdinfo_maps_the_holes(serve: Serve) -> None:
    server = serve(RAM_DISK, "size=1M")
    server.connect().pwrite(b"x" * 65536, 256 * KiB)
    found = [(e["offset"], e["length"], e["type"]) for e in json.loads(run("nbdinfo", "--map", "--json", server.uri))]
    assert found == [(0, 256 * KiB, 3), (256 * KiB, 64 * KiB, 0), (320 * KiB, 704 * KiB, 3)]


def test_several_connections_at_once(serve: Serve) -> None:
    server = serve(RAM_DISK, "size=8M")

    def work(number: int) -> bool:
        data = bytes([number]) * MiB
        h = server.connect()
        for offset in range(0, MiB, 64 * KiB):
            h.pwrite(data[:64 * KiB], number * MiB + offset, nbd.CMD_FLAG_FUA)
        found = h.pread(MiB, number * MiB)
        h.flush()
        h.shutdown()
        return found == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    h = server.connect()
    assert h.pread(8 * MiB, 0) == b"".join(bytes([number]) * MiB for number in range(8))


@pytest.mark.parametrize("megabytes", [32, 64])
def test_large_requests(serve: Serve, megabytes: int) -> None:
    """32 MiB is what clients may send unasked; 64 MiB is the most that nbdkit takes."""
    size = megabytes * MiB
    server = serve(RAM_DISK, f"size={size + 1}")
    data = random.Random(3).randbytes(size)
    h = server.connect()
    h.set_strict_mode(0)  # newer clients refuse to send more than 32 MiB
    h.pwrite(data, 1)
    assert h.pread(size, 1) == data
    assert h.pread(size, 0) == b"\0" + data[:-1]


def test_odd_offsets_and_sizes(serve: Serve) -> None:
    """300 requests of any size at any place do to the disk what they do to a bytearray here."""
    size = MiB - 13
    model = bytearray(size)
    noise = random.Random(4)
    h = serve(RAM_DISK, f"size={size}").connect()
    for _ in range(300):
        offset = noise.randrange(size)
        count = min(size - offset, noise.choice([1, 511, 512, 513, 4096, noise.randrange(1, 70000)]))
        part = slice(offset, offset + count)
        match noise.randrange(4):
            case 0:
                model[part] = data = noise.randbytes(count)
                h.pwrite(data, offset)
            case 1:
                model[part] = bytes(count)
                h.zero(count, offset, noise.choice([0, nbd.CMD_FLAG_NO_HOLE]))
            case 2:
                model[part] = bytes(count)
                h.trim(count, offset)
            case 3:
                assert h.pread(count, offset) == model[part]
    assert h.pread(size, 0) == model
    assert sum(length for length, _ in extents(h, size - 1001, 1001)) == size - 1001


ENDLESS = """
    API_VERSION = 2
    def open(readonly):
        return 1
    def get_size(h):
        return {size}
    def pread(h, buf, offset, flags):
        buf[:] = b"".join(n.to_bytes(8, "big") for n in range(offset, offset + len(buf), 8))
    def pwrite(h, buf, offset, flags):
        assert bytes(buf) == offset.to_bytes(8, "big")
"""


@pytest.mark.parametrize("size", [2**63 - 512, 2**63 - 1, 2**62, 2**32 + 8], ids=hex)
def test_very_large_disks(serve: Serve, size: int) -> None:
    server = serve(ENDLESS.format(size=size))
    h = server.connect()
    assert h.get_size() == size
    assert int(run("nbdinfo", "--size", server.uri)) == size
    for offset in (0, 2**31, 2**32 - 8, size - 512, size - 8):
        assert h.pread(8, offset) == offset.to_bytes(8, "big")
        h.pwrite(offset.to_bytes(8, "big"), offset)
    end = size - 512
    assert h.pread(512, end) == b"".join(n.to_bytes(8, "big") for n in range(end, size, 8))[:512]
    assert extents(h, 512, end) == [(512, 0)]


def test_requests_past_the_end_are_refused(serve: Serve) -> None:
    h = serve(RAM_DISK, "size=1M").connect()
    for offset in (MiB, MiB - 1, 2**62):
        with raises_errno(errno.EINVAL):
            h.pread(512, offset)
        with raises_errno(errno.ENOSPC):
            h.pwrite(bytes(512), offset)
        with raises_errno(errno.ENOSPC):
            h.zero(512, offset)
    assert h.pread(512, MiB - 512) == bytes(512)


def test_an_empty_disk(serve: Serve, tmp_path: Path) -> None:
    server = serve(RAM_DISK, "size=0")
    h = server.connect()
    assert h.get_size() == 0
    with raises_errno(errno.EINVAL):
        h.pread(1, 0)
    h.flush()
    assert run("nbdinfo", "--size", server.uri) == "0\n"
    run("nbdcopy", server.uri, tmp_path / "image")
    assert (tmp_path / "image").stat().st_size == 0
    assert json.loads(run("qemu-img", "info", "--output=json", server.uri))["virtual-size"] == 0


def test_the_disk_outlives_its_connections(serve: Serve, tmp_path: Path) -> None:
    """The same server, one client after another, of different makes."""
    server = serve(write_script(tmp_path, RAM_DISK), "size=4M")
    for seed in range(3):
        image = make_image(tmp_path / f"image{seed}", 4 * MiB, seed)
        run("nbdcopy", image, server.uri)
        assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, server.uri)
    assert server.connect().pread(4 * MiB, 0) == image.read_bytes()
