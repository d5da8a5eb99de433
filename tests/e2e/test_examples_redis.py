# SPDX-License-Identifier: BSD-3-Clause
"""The example with asyncio, whose disk is in a Redis server: a real one."""

from __future__ import annotations

import errno
import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import nbd
import pytest

from conftest import Serve, StartFails
from example_kit import KiB, MiB, data_map, run
from harness import EXAMPLES, TIMEOUT, raises_errno
from redis_kit import Redis

DISK = EXAMPLES / "redis_disk.py"
SIZE = 4 * MiB + 512
pytest.importorskip("redis")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    (tmp_path / "redis").mkdir()
    server = Redis(tmp_path / "redis")
    yield server
    server.stop()


def test_redis_is_a_disk(serve: Serve, redis: Redis) -> None:
    """Random requests, beside a bytearray; and what is in Redis afterwards."""
    server = serve(DISK, f"size={SIZE}", f"url={redis.url}")
    one, two = server.connect(), server.connect()
    assert one.get_size() == SIZE
    model, source = bytearray(SIZE), random.Random(8)
    for number in range(300):
        h = (one, two)[number % 2]
        offset = source.randrange(SIZE)
        count = min(source.choice([1, 100, 512, 4096, 40000]), SIZE - offset)
        match source.choice(["pread", "pwrite", "zero", "trim"]):
            case "pread":
                assert h.pread(count, offset) == model[offset:offset + count]
            case "pwrite":
                data = source.randbytes(count)
                h.pwrite(data, offset)
                model[offset:offset + count] = data
            case "zero":
                h.zero(count, offset)
                model[offset:offset + count] = bytes(count)
            case "trim":
                h.trim(count, offset)
                model[offset:offset + count] = bytes(count)
    assert b"".join(one.pread(512, offset) for offset in range(0, SIZE, 512)) == model
    one.zero(SIZE, 0)
    one.pwrite(b"x" * 4096, 8192)
    assert redis.ask("GET", "disk:2") == "x" * 4096 + "\n"
    assert server.log() == ""


def test_redis_holes(serve: Serve, redis: Redis) -> None:
    server = serve(DISK, "size=16M", f"url={redis.url}")
    h = server.connect()
    h.pwrite(b"x", 40 * KiB)
    h.pwrite(b"x" * 8192, 15 * MiB)
    assert data_map(server.uri) == [(40 * KiB, 4096), (15 * MiB, 8192)]
    h.trim(8192, 15 * MiB)
    assert data_map(server.uri) == [(40 * KiB, 4096)]
    assert redis.ask("DBSIZE") == "1\n"


def test_redis_survives_a_kill(serve: Serve, redis: Redis, tmp_path: Path) -> None:
    """A copy of a file system, Redis killed; meanwhile requests fail, and then it is all there."""
    image = tmp_path / "image"
    run("mke2fs", "-q", "-t", "ext4", "-d", EXAMPLES, image, "8M")
    server = serve(DISK, "size=8M", f"url={redis.url}", "name=fs")
    run("nbdcopy", image, server.uri)
    redis.stop(signal.SIGKILL)
    h = server.connect()
    with raises_errno(errno.EIO):
        h.pread(512, 0)
    server.wait_for_log(r"redis\.exceptions\.ConnectionError")
    redis.start()
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, server.uri)
    assert json.loads(run("nbdinfo", "--json", server.uri))["exports"][0]["export-size"] == 8 * MiB


def test_redis_is_asked_by_many_at_a_time(serve: Serve, redis: Redis) -> None:
    """Each waits in Redis until the last one has come; one after the other they would wait for ever."""
    server = serve(f"""
exec(open({str(DISK)!r}).read())
come = 0


async def wait(self, buf, offset, flags):
    global come
    come += 1
    if come == 12:
        await server.rpush("all are here", *range(12))
    assert await server.blpop("all are here", timeout={TIMEOUT})

Disk.pread = wait
""", f"size={SIZE}", f"url={redis.url}")
    h = server.connect()
    buffers = [nbd.Buffer(512) for _ in range(12)]
    cookies = [h.aio_pread(buffer, 0) for buffer in buffers]
    for cookie in cookies:
        while not h.aio_command_completed(cookie):
            h.poll(100)


def test_redis_that_is_not_there_stops_the_start(start_fails: StartFails, tmp_path: Path) -> None:
    assert "after_fork: " in start_fails(DISK, "size=1M", f"url=unix://{tmp_path}/none")
