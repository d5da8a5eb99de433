# SPDX-License-Identifier: BSD-3-Clause
"""The examples that need nothing beside themselves, or a folder: RAM disks, a disk of faults, several exports."""

from __future__ import annotations

import ast
import errno
import json
import os
import random
import re
import shlex
import subprocess
from pathlib import Path

import nbd
import pytest

from conftest import Serve, StartFails
from example_kit import MiB, altered, in_background, info, open_modes, run
from harness import EXAMPLES, nbdkit, raises_errno

RAM_DISKS = ["ramdisk.py", "ramdisk_v1.py", "ramdisk_count.py"]
ALL = sorted(path.name for path in EXAMPLES.glob("*.py"))
SERVED_ALONE = [name for name in ALL if name not in ("web.py", "redis_disk.py", "xenstore_disk.py", "gluster_disk.py")]


def docstring(example: str) -> str:
    return ast.get_docstring(ast.parse((EXAMPLES / example).read_text())) or ""


def commands() -> list[str]:
    """Every command in the docstrings, but those of disks that need another server."""
    lines = [line.partition("#")[0].rstrip() for name in SERVED_ALONE for line in docstring(name).splitlines()]
    return [line.strip() for line in lines if line.startswith("    nbdkit ")]


@pytest.mark.parametrize("example", ALL)
def test_docstring_says_what_it_is_and_how_to_serve_it(example: str) -> None:
    first, blank, command = docstring(example).splitlines()[:3]
    assert first.startswith(("A ", "Several ")), first
    assert first.endswith(".")
    assert blank == ""
    assert command.startswith(f"    nbdkit python {example}"), command


@pytest.mark.parametrize("example", ALL)
def test_can_be_read_in_one_go(example: str) -> None:
    lines = (EXAMPLES / example).read_text().splitlines()
    # That of a volume has to say what libgfapi's functions are first.
    assert 30 <= len(lines) <= (130 if example == "gluster_disk.py" else 80)
    assert max(map(len, lines)) <= 120
    assert lines[0] == "# SPDX-License-Identifier: BSD-3-Clause"


@pytest.mark.parametrize("command", commands())
def test_command_of_the_docstring(command: str, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(3 * MiB))
    (tmp_path / "disks").mkdir()
    (tmp_path / "disks" / "one.img").write_bytes(bytes(3 * MiB))
    words = shlex.split(command)
    plugin = words.index("python")
    assert set(words[1:plugin]) <= {"-r"}
    script, *parameters = words[plugin + 1 :]
    done = nbdkit(*words[1:plugin], '--run=nbdinfo --json "$uri"', EXAMPLES / script, *parameters, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    export = json.loads(done.stdout)["exports"][0]
    sizes = {"size=64M": 64 * MiB, "size=1G": 1024 * MiB, "faulty.py": 16 * 4096}
    assert export["export-size"] == sizes.get(words[-1], 3 * MiB)
    assert export["is_read_only"] == ("-r" in words)


def test_dump_plugin_tells_the_forms_of_pread_apart() -> None:
    forms = {}
    for example in RAM_DISKS:
        said = dict(line.split("=", 1) for line in nbdkit("--dump-plugin", EXAMPLES / example).stdout.splitlines())
        forms[example] = said["python_script_api_version"], said["python_pread"]
        assert said["python_script_doc"] == docstring(example).splitlines()[0]
    assert forms == {"ramdisk.py": ("2", "buf"), "ramdisk_v1.py": ("1", "count"), "ramdisk_count.py": ("2", "count")}


# RAM disks


@pytest.mark.parametrize("example", RAM_DISKS)
def test_ram_disk_against_a_model(serve: Serve, example: str) -> None:
    size = MiB + 1
    server = serve(EXAMPLES / example, f"size={size}")
    disk, other = server.connect(), server.connect()
    assert disk.get_size() == size
    assert disk.can_multi_conn()
    assert not disk.can_flush()
    assert disk.pread(size, 0) == bytes(size)  # zeros at first
    model, chance = bytearray(size), random.Random(example)
    for _ in range(200):
        offset = chance.randrange(size)
        count = chance.randrange(1, min(size - offset, 70000) + 1)
        kind = chance.choice(["write", "zero", "trim"])
        model[offset : offset + count] = chance.randbytes(count) if kind == "write" else bytes(count)
        if kind == "write":
            disk.pwrite(bytes(model[offset : offset + count]), offset)
        elif kind == "zero":
            disk.zero(count, offset)
        else:
            disk.trim(count, offset)
        assert other.pread(count, offset) == model[offset : offset + count]  # at once, on another connection
    assert other.pread(size, 0) == model
    with raises_errno(errno.EINVAL):
        disk.pread(2, size - 1)
    with raises_errno(errno.ENOSPC):
        disk.pwrite(b"xx", size - 1)


@pytest.mark.parametrize("example", RAM_DISKS)
def test_ram_disk_takes_and_gives_a_disk_image(serve: Serve, tmp_path: Path, example: str) -> None:
    image, copy = tmp_path / "image", tmp_path / "copy"
    image.write_bytes(random.Random(1).randbytes(3 * MiB) + bytes(MiB) + b"end".ljust(MiB, b"."))
    server = serve(EXAMPLES / example, "size=5M")
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, server.uri)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, server.uri)
    run("nbdcopy", server.uri, copy)
    assert copy.read_bytes() == image.read_bytes()
    server.stop()
    again = serve(EXAMPLES / example, "size=5M").connect()
    assert again.pread(5 * MiB, 0) == bytes(5 * MiB)  # gone when the server stops


@pytest.mark.parametrize("example", RAM_DISKS)
def test_ram_disk_parameters(serve: Serve, start_fails: StartFails, example: str) -> None:
    assert serve(EXAMPLES / example).connect().get_size() == 64 * MiB
    what = "did you mean 'size'? The parameters are" if example == "ramdisk.py" else "this disk has one,"
    said = start_fails(EXAMPLES / example, "sise=1M")
    assert re.search(rf"unknown parameter 'sise': {re.escape(what)}:? size=SIZE", said)
    assert "many" in start_fails(EXAMPLES / example, "size=many")


def test_ram_disk_without_an_api_version_is_version_1(serve: Serve, tmp_path: Path) -> None:
    text, lines = re.subn(r"^API_VERSION = .*\n", "", (EXAMPLES / "ramdisk_v1.py").read_text(), flags=re.MULTILINE)
    assert lines == 1
    (tmp_path / "old.py").write_text(text)
    disk = serve(tmp_path / "old.py", "size=1M").connect()
    disk.pwrite(b"old style", 77)
    disk.zero(3, 77)
    assert disk.pread(11, 76) == b"\0\0\0\0 style\0"


def test_ram_disk_functions_that_must_be_there(serve: Serve, start_fails: StartFails, tmp_path: Path) -> None:
    others = ["config_complete", "can_multi_conn", "pwrite", "zero", "trim"]
    without = altered(tmp_path, "ramdisk.py", after=f"config_complete(); del {', '.join(others)}")
    disk = serve(without).connect()
    assert disk.pread(512, 0) == bytes(512)
    assert disk.is_read_only()
    for name in ["open", "get_size", "pread"]:
        assert name in start_fails(altered(tmp_path, "ramdisk.py", after=f"del {name}"))


# A disk that fails on purpose


def faults() -> list[tuple[int, str, str]]:
    """The table in the docstring."""
    rows = re.findall(r"^ +(\d+) +(E\w+|ValueError) +(E\w+)$", docstring("faulty.py"), re.MULTILINE)
    return [(int(block), raised, seen) for block, raised, seen in rows]


def test_faulty_table_is_whole() -> None:
    assert [block for block, _, _ in faults()] == list(range(1, 16))
    # All that NBD can express and nbdkit sends for a read or a write.
    assert {seen for _, _, seen in faults()} == {"EPERM", "EIO", "ENOMEM", "EINVAL", "ENOSPC", "ESHUTDOWN"}


def test_faulty_blocks(serve: Serve) -> None:
    server = serve(EXAMPLES / "faulty.py")
    disk = server.connect()
    for block, raised, seen in faults():
        said = len(server.log())
        for at, count in [(block * 4096, 1), (block * 4096 + 4095, 1), (block * 4096, 16 * 4096 - block * 4096)]:
            with raises_errno(getattr(errno, seen)):
                disk.pread(count, at)
            with raises_errno(getattr(errno, seen)):
                disk.pwrite(b"x" * count, at)
        log = server.log()[said:]
        assert log.count(f"block {block} fails on purpose") >= 6
        if raised == "ValueError":
            assert log.count("Traceback") == 6
        else:
            assert len(log.splitlines()) == 6, log
            assert log.count(raised) >= 6, "the log has the error that was raised, whatever the client saw"


def test_faulty_first_block_works(serve: Serve) -> None:
    server = serve(EXAMPLES / "faulty.py")
    disk = server.connect()
    disk.pwrite(b"good" * 1024, 0)
    assert disk.pread(4096, 0) == b"good" * 1024
    with raises_errno(errno.EPERM):
        disk.pread(16 * 4096, 0)  # the first block that has an error is number 1
    qemu = subprocess.run(["qemu-io", "-f", "raw", "-c", "read 20480 512", server.uri], capture_output=True, text=True)
    assert "read failed: No space left on device" in qemu.stdout + qemu.stderr
    assert disk.pread(4, 0) == b"good"  # the same connection is still of use


# Several exports from a folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two disks, a link to one; and what must not be served: links out of it, a folder, a pipe, odd names."""
    folder = tmp_path / "disks"
    folder.mkdir()
    (folder / "b.img").write_bytes(b"B" * MiB)
    (folder / "a disk").write_bytes(b"A" * 2 * MiB)
    (folder / "latest").symlink_to("b.img")
    (tmp_path / "secret").write_bytes(b"S" * MiB)
    (tmp_path / "disks-too").mkdir()
    (tmp_path / "disks-too" / "secret").write_bytes(b"S" * MiB)
    (folder / "out").symlink_to("../secret")
    (folder / "absolute").symlink_to(tmp_path / "secret")
    (folder / "beside").symlink_to("../disks-too/secret")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "sub").mkdir()
    (folder / "sub" / "deep").write_bytes(b"D" * MiB)
    (folder / "deep").symlink_to("sub/deep")
    os.mkfifo(folder / "pipe")
    (folder / "new\nline").write_bytes(b"N" * MiB)
    Path(os.fsdecode(os.fsencode(folder) + b"/not-utf8-\xff")).write_bytes(b"U" * MiB)
    os.utime(folder / "a disk", (0, 1_000_000_000))  # 2001-09-09 in UTC
    return folder


REFUSED = ["none", "..", ".", "../secret", "../disks/b.img", "/etc/passwd", "sub", "sub/deep", "sub/../b.img",
           "./b.img", "b.img/", "out", "absolute", "beside", "dangling", "deep", "pipe", "new\nline"]  # fmt: skip


def test_exports_list(serve: Serve, folder: Path) -> None:
    server = serve(EXAMPLES / "exports.py", f"folder={folder}")
    listed = json.loads(run("nbdinfo", "--list", "--json", server.uri))["exports"]
    assert [export["export-name"] for export in listed] == ["a disk", "b.img", "latest"]
    assert listed[0]["description"] == "2097152 bytes, changed 2001-09-09"
    assert [export["export-size"] for export in listed] == [2 * MiB, MiB, MiB]
    # Files may come and go while the server runs.
    (folder / "0 new").write_bytes(b"0" * 512)
    assert json.loads(run("nbdinfo", "--list", "--json", server.uri))["exports"][0]["export-name"] == "0 new"
    assert server.connect().pread(1, 0) == b"0"
    (folder / "0 new").unlink()
    assert server.connect().pread(1, 0) == b"A"


def test_exports_open(serve: Serve, folder: Path) -> None:
    server = serve(EXAMPLES / "exports.py", f"folder={folder}")
    a, b = b"A" * 2 * MiB, b"B" * MiB
    for name, content in {"": a, "a disk": a, "b.img": b, "latest": b}.items():
        disk = server.connect(name)
        assert disk.pread(disk.get_size(), 0) == content, name
    disk = server.connect("latest", full_info=True)
    assert disk.get_export_description().startswith("1048576 bytes, changed ")
    disk.pwrite(b"written", 5)
    disk.flush()
    assert (folder / "b.img").read_bytes()[:13] == b"BBBBBwrittenB"
    os.truncate(folder / "b.img", 4096)
    with raises_errno(errno.EIO):
        disk.pread(512, 4000)
    server.wait_for_log("the file ends at 4096: it was made smaller while being served")


def test_exports_refuse(serve: Serve, folder: Path) -> None:
    server = serve(EXAMPLES / "exports.py", f"folder={folder}")
    for name in REFUSED:
        try:
            server.connect(name)
        except nbd.Error:
            server.wait_for_log(re.escape(f"there is no disk named {name!r}"))
        else:
            pytest.fail(f"{name!r} is served")
    assert server.connect("b.img").pread(1, 0) == b"B"


def test_exports_refuse_a_name_that_is_not_utf8(serve: Serve, folder: Path) -> None:
    server = serve(EXAMPLES / "exports.py", f"folder={folder}")
    uri = f"nbd+unix:///not-utf8-%ff?socket={server.socket}"
    assert subprocess.run(["nbdinfo", "--size", uri], capture_output=True).returncode != 0
    server.wait_for_log(re.escape(r"there is no disk named 'not-utf8-\udcff'"))
    assert server.connect("b.img").pread(1, 0) == b"B"


def test_exports_file_that_is_deleted_during_the_list(serve: Serve, folder: Path, tmp_path: Path) -> None:
    delete = """
        checked = find

        def find(name):
            path = checked(name)
            return "/nowhere" if name == "b.img" else path
    """
    server = serve(altered(tmp_path, "exports.py", after=delete), f"folder={folder}")
    disk = nbd.NBD()
    disk.set_opt_mode(True)
    disk.connect_unix(str(server.socket))
    names: list[str] = []

    def collect(name: str, _description: str) -> int:
        names.append(name)
        return 0

    disk.opt_list(collect)
    disk.opt_abort()
    assert names == ["a disk", "latest"]


def test_exports_file_that_becomes_a_link_after_the_check(serve: Serve, folder: Path, tmp_path: Path) -> None:
    swap = f"""
        checked = find

        def find(name):
            path = checked(name)
            os.unlink(path)
            os.symlink({str(tmp_path / "secret")!r}, path)
            return path
    """
    server = serve(altered(tmp_path, "exports.py", after=swap), f"folder={folder}")
    with pytest.raises(nbd.Error):
        server.connect("b.img")


def test_exports_read_only(serve: Serve, folder: Path) -> None:
    server = serve(EXAMPLES / "exports.py", f"folder={folder}", options=("-r",))
    disk = server.connect("b.img")
    assert disk.is_read_only()
    with raises_errno(errno.EPERM):
        disk.pwrite(b"x", 0)
    assert open_modes(server, folder / "b.img") == [os.O_RDONLY]


def test_exports_parameters(serve: Serve, start_fails: StartFails, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = serve(EXAMPLES / "exports.py", f"folder={tmp_path / 'empty'}")
    with pytest.raises(nbd.Error):
        empty.connect()
    assert "folder=PATH must be a folder, not ''" in start_fails(EXAMPLES / "exports.py")
    assert "must be a folder, not '/nowhere'" in start_fails(EXAMPLES / "exports.py", "folder=/nowhere")
    assert "unknown parameter 'file'" in start_fails(EXAMPLES / "exports.py", "file=x")


def test_exports_folder_is_relative_to_where_the_server_was_started(folder: Path) -> None:
    with in_background(folder.parent, "exports.py", "folder=disks") as uri:
        assert info(uri)["export-size"] == 2 * MiB
