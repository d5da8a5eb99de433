# SPDX-License-Identifier: BSD-3-Clause
"""The translators of examples/translators, each doing what its docstring says, with real clients."""

from __future__ import annotations

import ast
import errno
import os
import re
import shlex
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import nbd
import pytest

from filter_kit import EXAMPLES, FILTER, SIZE, Refused, Requests, Translate
from harness import PLUGIN, ROOT, extents, nbdkit, raises_errno

ALL = sorted(path.name for path in EXAMPLES.glob("*.py"))
MiB = 1 << 20
KEY = bytes(range(64)).hex()


def docstring(example: str) -> str:
    return ast.get_docstring(ast.parse((EXAMPLES / example).read_text())) or ""


@pytest.mark.parametrize("example", ALL)
def test_can_be_read_in_one_go(example: str) -> None:
    lines = (EXAMPLES / example).read_text().splitlines()
    assert 25 <= len(lines) <= 80
    assert max(map(len, lines)) <= 120
    assert lines[0] == "# SPDX-License-Identifier: BSD-3-Clause"
    first, blank, command = docstring(example).splitlines()[:3]
    assert blank == "" and re.match(rf"    nbdkit --filter=python .* translator={example}( |$)", command)


@pytest.mark.parametrize("example", ALL)
def test_command_of_the_docstring(example: str, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(3 * MiB))
    (tmp_path / "KEYFILE").write_text(KEY + "\n")
    words = shlex.split(docstring(example).splitlines()[2])[2:]
    plugin, words = words[0], [word.replace("translator=", f"translator={EXAMPLES}/") for word in words[1:]]
    if plugin == "curl":  # the tests have no other network than their own
        plugin, words = "file", ["disk.img", *words[1:]]
    done = nbdkit(f"--filter={FILTER}", '--run=nbdinfo --size "$uri"', *words, plugin=plugin, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def image(folder: Path, size: int = 3 * MiB) -> tuple[str, Path]:
    """nbdkit's plugin for files, and a file of random bytes for it."""
    path = folder / "disk.img"
    path.write_bytes(os.urandom(size))
    return "file", path


def test_xor(translate: Translate, tmp_path: Path) -> None:
    plugin = image(tmp_path)
    before = plugin[1].read_bytes()
    h = translate(EXAMPLES / "xor.py", "mask=0x5a", plugin=plugin).connect()
    assert h.pread(512, 512) == bytes(byte ^ 0x5A for byte in before[512:1024])
    h.pwrite(b"abc", 1)
    h.zero(512, 4096)
    assert h.pread(4, 0)[1:] == b"abc"
    assert h.pread(512, 4096) == bytes(512)
    h.flush()
    after = plugin[1].read_bytes()
    assert after[1:4] == bytes(byte ^ 0x5A for byte in b"abc")
    assert after[4096:4608] == b"\x5a" * 512
    assert after[8192:] == before[8192:]


def test_xor_mask(refused: Refused) -> None:
    assert "mask" in refused(EXAMPLES / "xor.py", "mask=256")


# IEEE 1619-2007, annex B, the vectors 10 and 11: XTS-AES-256, data units 0xff and 0xffff; and 4 and 5, of XTS-AES-128.
PLAIN = bytes(range(256)) * 2
KEY_128 = "27182818284590452353602874713526" "31415926535897932384626433832795"
KEY_256 = ("2718281828459045235360287471352662497757247093699959574966967627"
           "3141592653589793238462643383279502884197169399375105820974944592")
VECTORS = [
    (KEY_128, 0, PLAIN, "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c"),
    (KEY_256, 0xFF, PLAIN, "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"),
    (KEY_256, 0xFFFF, PLAIN, "77a31251618a15e6b92d1d66dffe7b50b50bad552305ba0217a610688eff7e11"),
]


@pytest.mark.parametrize(("key", "sector", "plain", "cipher"), VECTORS)
def test_aes_xts_is_that_of_the_standard(translate: Translate, tmp_path: Path, key: str, sector: int, plain: bytes,
                                         cipher: str) -> None:
    plugin = image(tmp_path, 40 * MiB)
    before = plugin[1].read_bytes()
    (tmp_path / "key").write_text(key + "\n")
    h = translate(EXAMPLES / "aes_xts.py", f"key=+{tmp_path}/key", plugin=plugin).connect()
    h.pwrite(plain, sector * 512)
    h.flush()
    after = plugin[1].read_bytes()
    at = sector * 512
    assert after[at:at + 32].hex() == cipher
    assert after[:at] == before[:at] and after[at + 512:] == before[at + 512:]
    assert h.pread(512, at) == plain
    with raises_errno(errno.EINVAL):
        h.pread(512, 1)


def test_aes_xts_copies_an_image(translate: Translate, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(os.urandom(MiB) + bytes(MiB) + os.urandom(MiB - 100))
    server = translate(EXAMPLES / "aes_xts.py", f"key=+{tmp_path}/key", plugin=image(tmp_path),
                       options=["--filter=blocksize"])
    subprocess.run(["nbdcopy", source, server.uri], check=True)
    subprocess.run(["nbdcopy", server.uri, copy], check=True)
    assert copy.read_bytes()[:len(source.read_bytes())] == source.read_bytes()
    stored = (tmp_path / "disk.img").read_bytes()
    assert stored[MiB:2 * MiB] != bytes(MiB) and stored[:512] != source.read_bytes()[:512]


@pytest.mark.parametrize("words", [[], ["key=abc"], ["key=" + "g" * 64]])
def test_aes_xts_without_a_key(refused: Refused, words: list[str]) -> None:
    said = refused(EXAMPLES / "aes_xts.py", *words)
    assert "key" in said and "g" * 64 not in said.replace("=" + "g" * 64, "")


def test_trace(translate: Translate, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    server = translate(EXAMPLES / "trace.py", f"trace={trace}")
    subprocess.run(["qemu-io", "-f", "raw", "-c", "write -P 7 0 64k", "-c", "read -P 7 0 64k", "-c", "discard 64k 64k",
                    "-c", "flush", server.uri], check=True, stdout=subprocess.DEVNULL)
    lines = trace.read_text().splitlines()
    assert all(re.fullmatch(r"\w+\(.*\) (-> .*|raised .*) in \d+ us", line) for line in lines), lines
    text = "\n".join(lines)
    for expected in (rf"get_size\(\) -> {SIZE} in", r"can_write\(\) -> True in", r"can_fua\(\) -> 2 in",
                     r"pwrite\(<65536 bytes>, 0, [02]\) -> None in", r"pread\(<65536 bytes>, 0, 0\) -> None in",
                     r"trim\(65536, 65536, 0\) -> None in", r"flush\(0\) -> None in"):
        assert re.search(expected, text), (expected, text)


def test_trace_of_an_error(translate: Translate, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    server = translate(EXAMPLES / "trace.py", f"trace={trace}", below=["--filter=error"],
                       plugin=("memory", "1M", "error-pread=ENOSPC", "error-pread-rate=100%"))
    with raises_errno(errno.ENOSPC):
        server.connect().pread(512, 0)
    assert "pread(<512 bytes>, 0, 0) raised [Errno 28] next.pread has failed in" in trace.read_text()


def test_checksum_finds_planted_corruption(translate: Translate, tmp_path: Path) -> None:
    plugin = image(tmp_path, 3 * MiB + 100)
    words = [EXAMPLES / "checksum.py", f"sums={tmp_path}/sums"]
    server = translate(*words, plugin=plugin)
    h = server.connect()
    data = os.urandom(MiB)
    h.pwrite(data, MiB)
    h.pwrite(b"across", 2 * MiB + 4093)
    h.pwrite(b"end", 3 * MiB + 97)
    h.zero(4096, 4096)
    assert h.pread(MiB, MiB) == data and h.pread(6, 2 * MiB + 4093) == b"across" and h.pread(3, 3 * MiB + 97) == b"end"
    with plugin[1].open("r+b") as file:
        for at in (MiB + 5000, 3 * MiB + 1, 100):
            file.seek(at)
            file.write(b"rot")
    # What was planted is found, whoever asks; a block that was never written has no checksum yet.
    for at, good in ((MiB, True), (MiB + 4096, False), (MiB + 8191, False), (MiB + 8192, True), (3 * MiB + 50, False),
                     (0, True), (4096, True)):
        if good:
            h.pread(16, at)
        else:
            with raises_errno(errno.EIO):
                h.pread(16, at)
    with raises_errno(errno.EIO):
        h.pread(2 * MiB, MiB)
    assert f"the block at {MiB + 4096} is not what was written" in server.log()
    h.trim(4096, MiB + 4096)
    h.pread(4096, MiB + 4096)
    # And after a new start.
    h.shutdown()
    server.stop()
    h = translate(*words, plugin=plugin).connect()
    with raises_errno(errno.EIO):
        h.pread(3, 3 * MiB + 97)
    h.pread(4096, MiB)


def test_trouble(translate: Translate) -> None:
    words = ["delay=pwrite:200ms", "error=pread:100%:ENOSPC", "error=flush:0:EIO", "error=trim:50%:EIO", "seed=3"]
    h = translate(EXAMPLES / "trouble.py", *words).connect()
    begin = time.monotonic()
    h.pwrite(bytes(512), 0)
    assert time.monotonic() - begin >= 0.2
    with raises_errno(errno.ENOSPC):
        h.pread(512, 0)
    for _ in range(20):
        h.flush()

    done = 0
    for _ in range(40):
        with suppress(nbd.Error):
            h.trim(512, 0)
            done += 1
    # By the seed, as many each time.
    assert 0 < done < 40


@pytest.mark.parametrize(("word", "said"), [
    ("error=pread:0.5:EWHAT", "expected the name of an error"), ("error=read:0.5:EIO", "expected one of pread,"),
    ("delay=pread:soon", "delay"), ("error=pread:often:EIO", "error"),
])
def test_trouble_with_bad_parameters(refused: Refused, word: str, said: str) -> None:
    assert said in refused(EXAMPLES / "trouble.py", word)


def test_an_incremental_backup_of_the_changed_blocks(translate: Translate, tmp_path: Path) -> None:
    plugin = image(tmp_path, 4 * MiB + 1000)
    backup = tmp_path / "backup.img"
    backup.write_bytes(plugin[1].read_bytes())
    words = [EXAMPLES / "changed_blocks.py", f"changed={tmp_path}/changed"]
    server = translate(*words, plugin=plugin)
    h = server.connect()
    h.pwrite(b"x" * 100, 65536 - 50)
    h.zero(65536, MiB)
    h.trim(4096, 2 * MiB)
    h.pwrite(b"end", 4 * MiB + 997)
    assert h.pread(3, 4 * MiB + 997) == b"end"
    h.flush()
    h.shutdown()
    server.stop()
    # The marks last.
    server = translate(*words, plugin=plugin)
    changed = server.connect(export="changed")
    assert changed.is_read_only()
    found = extents(changed, changed.get_size(), 0)
    block, hole = 65536, nbd.STATE_HOLE
    assert found == [(2 * block, 0), (14 * block, hole), (block, 0), (15 * block, hole), (block, 0), (31 * block, hole),
                     (1000, 0)]
    read, at = 0, 0
    with backup.open("r+b") as file:
        for length, flags in found:
            if not flags & hole:
                file.seek(at)
                file.write(changed.pread(length, at))
                read += length
            at += length
    assert backup.read_bytes() == plugin[1].read_bytes()
    assert read < MiB
    done = subprocess.run(["nbdinfo", "--list", server.uri], capture_output=True, text=True, check=True)
    assert 'export="changed"' in done.stdout
    # The disk's own block status is that of the plugin.
    assert sum(length for length, _ in extents(server.connect(), 4 * MiB, 0)) == 4 * MiB


def test_write_once(translate: Translate, tmp_path: Path) -> None:
    plugin = image(tmp_path)
    words = [EXAMPLES / "write_once.py", f"written={tmp_path}/written"]
    server = translate(*words, plugin=plugin)
    h = server.connect()
    assert not h.can_trim()
    h.pwrite(b"a" * 1024, 1024)
    h.zero(512, 4096)
    requests: Requests = [lambda: h.pwrite(b"b", 1500), lambda: h.pwrite(b"b" * 4096, 0), lambda: h.zero(8192, 0),
                          lambda: h.pwrite(b"b" * 512, 4096)]
    for request in requests:
        with raises_errno(errno.EPERM):
            request()
    h.pwrite(b"c" * 1024, 0)
    assert h.pread(2048, 0) == b"c" * 1024 + b"a" * 1024
    h.flush()
    h.shutdown()
    server.stop()
    h = translate(*words, plugin=plugin).connect()
    with raises_errno(errno.EPERM):
        h.pwrite(b"d", 0)
    h.pwrite(b"d", 2048)


def test_write_once_and_a_write_that_fails(translate: Translate, tmp_path: Path) -> None:
    full = tmp_path / "full"
    h = translate(EXAMPLES / "write_once.py", f"written={tmp_path}/written", below=["--filter=error"],
                  plugin=("memory", "1M", "error=ENOSPC", f"error-file={full}", "error-pwrite-rate=100%")).connect()
    full.touch()
    with raises_errno(errno.ENOSPC):
        h.pwrite(b"a" * 512, 0)
    full.unlink()
    h.pwrite(b"a" * 512, 0)


def test_copy_on_read_of_another_nbd_server(translate: Translate, tmp_path: Path) -> None:
    """On top of nbdkit's plugin for NBD servers, which is slow, or gone."""
    plugin = image(tmp_path)
    data = plugin[1].read_bytes()
    origin = translate(EXAMPLES / "trace.py", f"trace={tmp_path}/trace", plugin=plugin)
    words = [EXAMPLES / "copy_on_read.py", f"cache={tmp_path}/cache"]
    server = translate(*words, plugin=("nbd", f"uri={origin.uri}"))
    h = server.connect()
    for _ in range(2):
        assert h.pread(100_000, 50_000) == data[50_000:150_000]
    assert len(re.findall(r"^pread", (tmp_path / "trace").read_text(), re.MULTILINE)) == 3
    h.pwrite(b"new", 65535)
    assert h.pread(4, 65535) == b"new" + data[65538:65539]
    h.zero(10, 70_000)
    assert h.pread(10, 70_000) == bytes(10)
    h.shutdown()
    server.stop()
    reads = len(re.findall(r"^pread", (tmp_path / "trace").read_text(), re.MULTILINE))
    h = translate(*words, plugin=("nbd", f"uri={origin.uri}")).connect()
    assert h.pread(10, 131072) == data[131072:131082]
    assert len(re.findall(r"^pread", (tmp_path / "trace").read_text(), re.MULTILINE)) == reads


def test_a_file_system_under_three_of_them(translate: Translate, tmp_path: Path) -> None:
    """Encryption over checksums over changed blocks, on a disk in Python."""
    (tmp_path / "key").write_text(KEY)
    server = translate(EXAMPLES / "aes_xts.py", f"key=+{tmp_path}/key", EXAMPLES / "checksum.py",
                       f"sums={tmp_path}/sums", EXAMPLES / "changed_blocks.py", f"changed={tmp_path}/changed",
                       plugin=(PLUGIN, ROOT / "examples" / "ramdisk.py", "size=8M"))
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", str(EXAMPLES), str(tmp_path / "fs"), "8M"], check=True)
    subprocess.run(["nbdcopy", tmp_path / "fs", server.uri], check=True)
    subprocess.run(["nbdcopy", server.uri, tmp_path / "copy"], check=True)
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "raw", tmp_path / "fs", server.uri], check=True)
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "fs").read_bytes()
    subprocess.run(["e2fsck", "-fn", tmp_path / "copy"], check=True, capture_output=True)
