# SPDX-License-Identifier: BSD-3-Clause
"""examples/exports.py under clients that would like to see what is outside of its folder."""

from __future__ import annotations

import os
import random
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import wire
from conftest import Serve
from harness import EXAMPLES, TIMEOUT, Server
from wire import Wire

SECRET = b"SECRET"  # what each file outside begins with, and none inside
SERVED = {
    "plain.img": b"plain", ".hidden": b"hidden", "two words": b"words", "d\u00efsk": b"composed", "%2e%2e": b"percent",
    "c:\\disk": b"backslash", "-rf": b"option", "~": b"tilde", "$HOME": b"variable", "n" * 255: b"long",
}


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content.ljust(4096, b"."))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with disks, and with much that is none, between files that must not be seen."""
    folder = tmp_path / "disks"
    (folder / "sub").mkdir(parents=True)
    for secret in (tmp_path / "secret.img", tmp_path / "disks.img", folder / "sub" / "inner.img"):
        put(secret, SECRET)
    for name, content in SERVED.items():
        put(folder / name, content)
    put(folder / "line\nbreak", SECRET)  # not a name that the example takes
    put(folder / os.fsdecode(b"not-utf8-\xff"), SECRET)
    for link, target in {
            "inside": "plain.img", "twice": "inside", "outside": "../secret.img", "absolute": "/etc/passwd",
            "beyond": "absolute", "parent": "..", "itself": ".", "below": "sub/inner.img", "loop": "loop",
            "nowhere": "nothing", "zero": "/dev/zero", "environment": "/proc/self/environ",
            "descriptor": "/proc/self/fd/0", "round": "../disks/plain.img"}.items():
        (folder / link).symlink_to(target)
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "socket"))
    if os.geteuid() == 0:
        os.mknod(folder / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    return folder


@pytest.fixture
def server(serve: Serve, folder: Path) -> Iterator[Server]:
    """The example; whatever it is asked for is no failure of its own."""
    server = serve(EXAMPLES / "exports.py", f"folder={folder}")
    yield server
    assert beginning(server, b"plain.img") == b"plain"
    assert "Traceback" not in server.log()


def beginning(server: Server, name: bytes) -> bytes | None:
    """What a disk begins with, or None if there is none of this name."""
    with Wire(server.socket).hello() as client:
        if not isinstance(client.about(name, wire.ABOUT_DESCRIPTION, last=True), dict):
            return None
        answer = client.do(wire.READ, 0, 4096)
        assert answer.error == 0
        return answer.data.rstrip(b".")


LINKS = {"inside": b"plain", "twice": b"plain", "round": b"plain"}
EXPECTED = {name.encode(): content for name, content in {**SERVED, **LINKS}.items()}


def test_what_is_served(server: Server) -> None:
    """The files in the folder and links to them, also hidden ones; what is listed is what can be opened."""
    with Wire(server.socket).hello() as client:
        assert set(client.exports()) == set(EXPECTED)
    assert {name: beginning(server, name) for name in EXPECTED} == EXPECTED


OUTSIDE = [
    b".", b"..", b"/", b"//", b"./", b"../", b"./.", b"/" * 4096, b"../" * 1365, b"./" * 2043 + b"plain.img",
    b"../secret.img", b"../disks.img", b"../../etc/passwd", b"../" * 40 + b"etc/passwd", b"/etc/passwd",
    b"//etc/passwd",
    b"file:///etc/passwd", b"~root/.profile", b"~/.profile", b"/proc/self/environ", b"/dev/stdin", b"/dev/fd/0",
    b"sub", b"sub/", b"sub/inner.img", b"sub/../plain.img", b"sub/../../secret.img", b"./plain.img", b"plain.img/",
    b"plain.img/.", b"plain.img/..", b"plain.img/../../secret.img", b"../disks/plain.img", b"a/../plain.img",
    b"parent/secret.img", b"parent/disks/plain.img", b"itself/plain.img", b"outside", b"absolute", b"beyond", b"parent",
    b"itself", b"below", b"loop", b"nowhere", b"zero", b"environment", b"descriptor", b"fifo", b"socket", b"device",
    b"line\nbreak", b"not-utf8-\xff", b"plain.img\n", b"plain.img ", b" plain.img", b"PLAIN.IMG", b"plain.im?", b"*",
    b"plain.img\xff", b"plain.img\xe2\x80\xae", b"plain.img\xc2\xad", "di\u0308sk".encode(),
    "\uff0e\uff0e\uff0fsecret.img".encode(), "\u2024\u2024/secret.img".encode(), b"..\xc0\xafsecret.img",
    b"\xc0\xae\xc0\xae/secret.img", b"%2e%2e%2fsecret.img",
    b"..%00", rb"..\secret.img", b"n" * 256, b"n" * 4096, b"\xff" * 4096, b"x/" * 2048, b"\xed\xb4\x80", b"%s%n%d",
    b"plain.img;", b"$(cat /etc/passwd)", b"|cat /etc/passwd",
]


def test_what_is_not_served(server: Server, folder: Path) -> None:
    found: dict[bytes | str, bytes | None] = {name: beginning(server, name) for name in OUTSIDE}
    for name in ("plain.img", "..", "../secret.img"):
        found[name] = beginning(server, os.fsencode(folder / name))
    assert {name for name, content in found.items() if content is not None} == set()


def test_names_by_chance(server: Server) -> None:
    """Made of what paths are made of: what is served is what is in the folder, by the name that it has there."""
    chance = random.Random(7)
    pieces = [b"..", b".", b"/", b"/", b"//", b"secret.img", b"disks", b"plain.img", b"sub", b"parent", b"itself",
              b"outside", b"etc/passwd", b"\xff", b"\\", b"%2e", b" ", b"\n", "\uff0f".encode()]
    for _ in range(500):
        name = b"".join(chance.choices(pieces, k=chance.randint(1, 6)))
        assert beginning(server, name) == EXPECTED.get(name if name else b".hidden"), name


@pytest.mark.parametrize("readonly", [False, True])
def test_a_file_that_becomes_a_link_while_it_is_opened(serve: Serve, folder: Path, readonly: bool) -> None:
    """Whoever may write to the folder swaps it for one that leads outside: nobody gets to see that."""
    server = serve(EXAMPLES / "exports.py", f"folder={folder}", options=("-r",) if readonly else ())
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            (folder / "new").symlink_to("../secret.img")
            os.replace(folder / "new", folder / "swapped")
            put(folder / "new", b"swapped")
            os.replace(folder / "new", folder / "swapped")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        found: set[bytes | None] = set()
        begin = time.monotonic()
        # For a second, and for as long as it takes until both have been met.
        while (passed := time.monotonic() - begin) < 1 or len(found) < 2 and passed < TIMEOUT:
            found.add(beginning(server, b"swapped"))
    finally:
        over.set()
        swapper.join()
    assert found == {None, b"swapped"}


def test_an_empty_folder(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path / "empty.img", SECRET)
    server = serve(EXAMPLES / "exports.py", f"folder={tmp_path / 'empty'}")
    with Wire(server.socket).hello() as client:
        assert client.exports() == {}
    for name in [b"", *OUTSIDE]:
        assert beginning(server, name) is None, name
    assert "Traceback" not in server.log()


def test_the_folder_is_the_root(serve: Serve) -> None:
    """Where `..` leads to the folder itself."""
    server = serve(EXAMPLES / "exports.py", "folder=/", options=("-r",))
    for name in (b"..", b".", b"/", b"../..", b"etc", b"etc/passwd", b"/etc/passwd", b"../etc/passwd"):
        with Wire(server.socket).hello() as client:
            assert client.about(name, last=True) == wire.UNKNOWN
    assert "Traceback" not in server.log()
