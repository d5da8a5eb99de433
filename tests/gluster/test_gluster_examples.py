# SPDX-License-Identifier: BSD-3-Clause
"""The examples of translators, on a brick."""

from __future__ import annotations

import errno
import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import gluster_kit
import gluster_workload
import pytest
from gluster_kit import EXAMPLES

Bricks = Callable[..., gluster_kit.Brick]

LOCKS = gluster_kit.volume("top", "features/locks", "posix")


def with_counter(bricks: Bricks, tmp_path: Path, example: str, **options: object) -> gluster_kit.Brick:
    """A brick with the example, and below it a script that counts what comes to it."""
    script = gluster_kit.script_file(tmp_path, gluster_workload.DIRECT, "count.py")
    return bricks(gluster_kit.xlator("low", script, "posix")
                  + gluster_kit.xlator("top", EXAMPLES / example, "low", **options))


def test_each_passes_on_what_it_should(bricks: Bricks, tmp_path: Path) -> None:
    """All of them in one graph, and a client's work is as it is without."""
    locks = LOCKS.replace("volume top", "volume locks")
    volumes = (gluster_kit.xlator("checksum", EXAMPLES / "checksum.py", "locks")
               + gluster_kit.xlator("negative", EXAMPLES / "negative.py", "checksum")
               + gluster_kit.xlator("audit", EXAMPLES / "audit.py", "negative", log=tmp_path / "audit")
               + gluster_kit.xlator("top", EXAMPLES / "trace.py", "audit", log=tmp_path / "trace"))
    brick, plain = bricks(locks + volumes), bricks(LOCKS)
    assert gluster_workload.run(brick.client()) == gluster_workload.run(plain.client())
    assert "Traceback" not in brick.log()
    trace = (tmp_path / "trace").read_text()
    assert {line.split("(")[0] for line in trace.splitlines()} == gluster_workload.REACHED


def test_negative_saves_lookups(bricks: Bricks, tmp_path: Path) -> None:
    brick = with_counter(bricks, tmp_path, "negative.py")
    client = brick.client()
    before = brick.log().count("came lookup")
    client.many("stat", 100, "/nothing")
    assert brick.log().count("came lookup") == before + 1
    brick.stop()
    assert int(brick.wait_for_log(r"\d+ lookups saved").split()[0]) == 99


@pytest.mark.parametrize("make", ["write", "mkdir", "mknod", "symlink", "link", "rename"])
def test_negative_knows_what_has_come(bricks: Bricks, tmp_path: Path, make: str) -> None:
    brick = with_counter(bricks, tmp_path, "negative.py")
    client = brick.client()
    client.write("/other", b"x")
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            client.stat("/new")
    match make:
        case "write":
            client.write("/new", b"x")
        case "mkdir":
            client.path("mkdir", "/new", 0o755)
        case "mknod":
            client.path("mknod", "/new", 0o010644, 0)
        case "symlink":
            client.path("symlink", "other", "/new")
        case _:
            client.path(make, "/other", "/new")
    assert client.stat("/new")["nlink"]
    # To another client as well.
    assert brick.client().stat("/new")["nlink"]


def test_negative_forgets_the_oldest(bricks: Bricks, tmp_path: Path) -> None:
    brick = with_counter(bricks, tmp_path, "negative.py", size=5)
    client = brick.client()
    names = [f"/name{number}" for number in range(6)]
    for name in [*names, names[5], names[0]]:
        with pytest.raises(FileNotFoundError):
            client.stat(name)
    assert brick.log().count("came lookup") >= 7
    brick.stop()
    brick.wait_for_log("top: 1 lookups saved")


def test_trace(serve: Bricks, tmp_path: Path) -> None:
    log = tmp_path / "trace"
    brick = serve(EXAMPLES / "trace.py", log=log, only="writev,lookup")
    client = brick.client()
    client.write("/file", b"hello")
    with pytest.raises(FileNotFoundError):
        client.stat("/nothing")
    assert client.path("mkdir", "/a\udcff\nb", 0o755) == 0  # a name is of any bytes
    lines = log.read_text()
    assert re.search(r"(?m)^lookup\(loc=<glusterfs.Loc '/a\\udcff\\nb'>\) = No such file", lines), lines
    assert re.search(r"(?m)^writev\(fd=<glusterfs.Fd [0-9a-f-]{36}>, data=<glusterfs.Data of 5 bytes>, offset=0, "
                     r"flags=0\) = 5  \d+ us$", lines), lines
    assert re.search(r"(?m)^lookup\(loc=<glusterfs.Loc '/nothing'>\) = No such file or directory  \d+ us$",
                     lines), lines
    assert {line.split("(")[0] for line in lines.splitlines()} == {"writev", "lookup"}


def test_audit(serve: Bricks, tmp_path: Path) -> None:
    log = tmp_path / "audit"
    brick = serve(EXAMPLES / "audit.py", log=log)
    client = brick.client()
    client.write("/file", b"hello")
    client.read("/file")
    client.path("rename", "/file", "/moved")
    client.path("mkdir", "/d", 0o755)
    client.path("rename", "/moved", "/d/moved")
    with pytest.raises(OSError):
        client.path("rmdir", "/d")
    client.path("unlink", "/d/moved")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["fop"], line["paths"], line.get("error")) for line in lines] == [
        ("create", ["/file"], None),
        ("rename", ["/file", "/moved"], None),
        ("mkdir", ["/d"], None),
        ("rename", ["/moved", "/d/moved"], None),
        ("rmdir", ["/d"], os.strerror(errno.ENOTEMPTY)),
        ("unlink", ["/d/moved"], None),
    ]
    assert all(line["uid"] == 0 and line["client"].startswith("CTX_ID") for line in lines)


def test_checksum_finds_a_changed_byte(serve: Bricks) -> None:
    brick = serve(EXAMPLES / "checksum.py")
    client = brick.client()
    data = os.urandom(3 << 20)
    fd = client.creat("/file")
    for at in range(0, len(data), 100_000):
        client.pwrite(fd, data[at:at + 100_000], at)
    for offset, size in [(0, 131072), (5, 10), (4090, 20), (1 << 20, 4096), ((3 << 20) - 5, 100)]:
        assert client.pread(fd, size, offset) == data[offset:offset + size]
    # The disk does it by itself.
    with (brick.data / "file").open("r+b") as file:
        file.seek(1_500_000)
        byte = file.read(1)
        file.seek(1_500_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(OSError) as caught:
        client.pread(fd, 4096, 1_500_000)
    assert caught.value.errno == errno.EIO
    brick.wait_for_log("byte 1499136: these data are not what was written")
    # Around it, all is well; and so it is there, once it is written again.
    assert client.pread(fd, 1000, 1_498_000) == data[1_498_000:1_499_000]
    client.pwrite(fd, data[1_499_136:1_503_232], 1_499_136)
    assert client.pread(fd, 10_000, 1_495_000) == data[1_495_000:1_505_000]


def test_checksum_of_what_changes_otherwise(serve: Bricks) -> None:
    """Ends that move, gaps, and an append."""
    brick = serve(EXAMPLES / "checksum.py")
    client = brick.client()
    fd = client.creat("/file")
    client.pwrite(fd, b"a" * 5000, 0)
    client.pwrite(fd, b"b" * 10, 20_000)
    expected = bytearray(b"a" * 5000 + bytes(15_000) + b"b" * 10)
    assert client.pread(fd, 30_000, 0) == bytes(expected)
    client.ftruncate(fd, 4500)
    client.ftruncate(fd, 6000)
    expected[4500:] = bytes(1500)
    assert client.pread(fd, 30_000, 0) == bytes(expected)
    client.of_fd("close", fd)
    only = client.open("/file", os.O_WRONLY | os.O_APPEND)
    client.pwrite(only, b"end", 0)
    assert client.read("/file") == bytes(expected) + b"end"
    client.path("truncate", "/file", 3)
    assert client.read("/file") == b"aaa"


def test_checksum_against_a_model(serve: Bricks) -> None:
    """Whatever a client does to a file, what it reads is what a file has; and no checksum is wrong."""
    source = random.Random(9)
    brick = serve(EXAMPLES / "checksum.py")
    client = brick.client()
    fd = client.creat("/file")
    model = bytearray()

    def place() -> int:
        # About the blocks' borders, where mistakes would be, and about those of the attributes.
        return max(0, source.choice([0, 4096, 8192, 1 << 20]) + source.randrange(-100, 5000))

    for _ in range(400):
        at, size = place(), source.choice([1, 10, 4096, source.randrange(1, 20_000)])
        match source.choice(["write", "write", "read", "read", "truncate", "zero", "discard"]):
            case "write":
                data = source.randbytes(size)
                model.extend(bytes(max(0, at - len(model))))
                model[at:at + size] = data
                assert client.pwrite(fd, data, at) == size
            case "read":
                assert client.pread(fd, size, at) == bytes(model[at:at + size])
            case "truncate":
                model[at:] = bytes(max(0, at - len(model)))
                client.ftruncate(fd, at)
            case "zero":
                model.extend(bytes(max(0, at + size - len(model))))
                model[at:at + size] = bytes(size)
                client.of_fd("zerofill", fd, at, size)
            case "discard" if at + size <= len(model):
                model[at:at + size] = bytes(size)
                client.of_fd("discard", fd, at, size)
    for at in range(0, len(model), 100_000):
        assert client.pread(fd, 100_000, at) == bytes(model[at:at + 100_000])
    assert (brick.data / "file").read_bytes() == bytes(model)
    assert "Traceback" not in brick.log()
