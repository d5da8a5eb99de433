# SPDX-License-Identifier: BSD-3-Clause
"""The example whose parameters are in Xen's store: a real store, a real nbdkit, real clients."""

from __future__ import annotations

import ast
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Serve, StartFails
from example_kit import KiB, MiB, in_background, info, open_modes, run
from harness import EXAMPLES, TIMEOUT, Server, nbdkit
from xenstore import Xenstore
from xenstore_daemon import Daemon, running

DISK = EXAMPLES / "xenstore_disk.py"
BACKEND = "/local/domain/0/backend/nbd/7/51712"
SECTOR = 512


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    with running() as daemon:
        monkeypatch.setenv("XENSTORED_PATH", str(daemon.socket))
        yield daemon


@pytest.fixture
def store(daemon: Daemon) -> Iterator[Xenstore]:
    """dom0's toolstack."""
    with Xenstore(str(daemon.socket), timeout=TIMEOUT) as store:
        yield store


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "guest.img"
    path.write_bytes(bytes(range(256)) * 4 * KiB)
    return path


def attach(store: Xenstore, image: Path, mode: str = "w", sectors: int | str = MiB // SECTOR) -> None:
    """What a toolstack does for a new disk."""
    store.write({f"{BACKEND}/params": str(image), f"{BACKEND}/mode": mode, f"{BACKEND}/sectors": str(sectors)})


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connected(serve: Serve, store: Xenstore) -> Server:
    """A server that has said so in the store: nbdkit listens before after_fork is called."""
    server = serve(DISK, f"backend={BACKEND}")
    wait_until(lambda: store.exists(f"{BACKEND}/state"))
    assert store.read(f"{BACKEND}/state") == "4"
    return server


def ends(server: Server) -> int:
    """The exit status of a server that ends by itself."""
    return server.process.wait(TIMEOUT)


def test_the_command_of_the_docstring(store: Xenstore, image: Path) -> None:
    attach(store, image)
    docstring = ast.get_docstring(ast.parse(DISK.read_text())) or ""
    [command] = [line for line in docstring.splitlines() if line.startswith("    nbdkit ")]
    words = shlex.split(command)
    assert words[:3] == ["nbdkit", "python", "xenstore_disk.py"]
    done = nbdkit('--run=nbdinfo --size "$uri"', DISK, *words[3:])
    assert (done.stdout, done.returncode) == (f"{MiB}\n", 0), done.stderr


def test_serves_the_file(serve: Serve, store: Xenstore, image: Path, tmp_path: Path) -> None:
    attach(store, image)
    server = serve(DISK, f"backend={BACKEND}")
    disk = server.connect()
    disk.pwrite(b"written" * 100, 5000)
    disk.flush()
    assert image.read_bytes()[5000:5700] == b"written" * 100
    run("nbdcopy", server.uri, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()


def test_the_mode(serve: Serve, store: Xenstore, image: Path) -> None:
    attach(store, image, mode="w!")
    assert not serve(DISK, f"backend={BACKEND}").connect().is_read_only()
    attach(store, image, mode="r")
    server = serve(DISK, f"backend={BACKEND}")
    assert server.connect().is_read_only()
    assert len(open_modes(server, image)) == 1


def test_the_state(serve: Serve, store: Xenstore, image: Path) -> None:
    attach(store, image)
    server = connected(serve, store)
    assert server.stop() == 0
    assert store.read(f"{BACKEND}/state") == "6"


def test_follows_a_change_of_size(serve: Serve, store: Xenstore, image: Path) -> None:
    attach(store, image)
    server = serve(DISK, f"backend={BACKEND}")
    before = server.connect()
    store.write({f"{BACKEND}/sectors": str(2 * MiB // SECTOR)})
    wait_until(lambda: server.connect().get_size() == 2 * MiB)
    assert before.get_size() == MiB and before.pread(1, MiB - 1) == b"\xff"
    after = server.connect()
    assert after.pread(2 * KiB, MiB - KiB) == bytes(range(256)) * 4 + bytes(KiB)  # behind the file's end
    after.pwrite(b"grown", 2 * MiB - 5)
    assert image.stat().st_size == 2 * MiB and after.pread(6, 2 * MiB - 6) == b"\0grown"
    store.write({f"{BACKEND}/sectors": "8"})
    wait_until(lambda: server.connect().get_size() == 4096)
    # A size that is none is reported, and what was, stays.
    store.write({f"{BACKEND}/sectors": "many"})
    server.wait_for_log("ValueError: .*'many'")
    assert server.connect().get_size() == 4096


def test_ends_when_its_node_is_removed(serve: Serve, store: Xenstore, image: Path) -> None:
    attach(store, image)
    server = connected(serve, store)
    disk = server.connect()
    disk.pwrite(b"last", 0)
    store.rm("/local/domain/0/backend")
    del disk  # the last client goes
    assert ends(server) == 0
    assert not store.exists("/local/domain/0/backend")
    assert image.read_bytes()[:4] == b"last"


def test_in_the_background(store: Xenstore, image: Path, tmp_path: Path) -> None:
    attach(store, image)
    with in_background(tmp_path, "xenstore_disk.py", f"backend={BACKEND}") as uri:
        assert info(uri)["export-size"] == MiB
        store.write({f"{BACKEND}/sectors": "1"})
        wait_until(lambda: info(uri)["export-size"] == SECTOR)
        assert store.read(f"{BACKEND}/state") == "4"
    assert store.read(f"{BACKEND}/state") == "6"


def test_outlives_the_store(serve: Serve, daemon: Daemon, store: Xenstore, image: Path) -> None:
    attach(store, image)
    server = connected(serve, store)
    daemon.stop(signal.SIGKILL)
    assert server.connect().pread(2, 255) == b"\xff\0"
    assert server.stop() == 0  # though it cannot say so in the store
    assert "xenstore_disk.py: cleanup: " in server.log()


def test_ends_when_the_store_comes_back_without_its_node(serve: Serve, daemon: Daemon, store: Xenstore,
                                                         image: Path) -> None:
    attach(store, image)
    server = connected(serve, store)
    daemon.stop()
    daemon.start()
    assert ends(server) == 0


def test_what_cannot_be_served(start_fails: StartFails, store: Xenstore, image: Path) -> None:
    assert "unknown parameter 'file': this disk has one, backend=PATH" in start_fails(DISK, "file=x")
    assert "backend=PATH must be given" in start_fails(DISK)
    assert "ENOENT" in start_fails(DISK, f"backend={BACKEND}")
    attach(store, image, sectors="many")
    assert "'many'" in start_fails(DISK, f"backend={BACKEND}")
    attach(store, image.with_name("none"))
    assert "No such file or directory" in start_fails(DISK, f"backend={BACKEND}")
    assert not store.exists(f"{BACKEND}/state")


def test_no_store(start_fails: StartFails, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XENSTORED_PATH", str(tmp_path / "none"))
    assert f"no connection to the store at {tmp_path / 'none'}" in start_fails(DISK, f"backend={BACKEND}")
