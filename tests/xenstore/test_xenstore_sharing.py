# SPDX-License-Identifier: BSD-3-Clause
"""The synchronous client's connection: who shares it, and where the store is."""

from __future__ import annotations

import errno
import gc
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from xenstore import ConnectionLost, Transaction, TransactionConflict, Xenstore

from xenstore_daemon import TIMEOUT, Daemon


def sockets() -> int:
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit() and
             os.path.lexists(f"/proc/self/fd/{fd}")]
    return sum(link.startswith("socket:") for link in links)


def test_one_connection_for_a_process_and_path(xenstored: Daemon) -> None:
    path = str(xenstored.socket)
    gc.collect()  # what other tests have left
    before = sockets(), len(os.listdir("/proc/self/fd"))
    first = Xenstore(path)
    second = Xenstore(path)
    assert sockets() == before[0] + 1
    first.write({"/a": "x"})
    first.close()
    assert second.read("/a") == "x", "the other one's close is its own"
    with pytest.raises(ConnectionLost, match="the connection is closed"):
        first.read("/a")
    second.close()
    assert (sockets(), len(os.listdir("/proc/self/fd"))) == before
    third = Xenstore(path)
    assert third.read("/a") == "x"
    del third
    assert (sockets(), len(os.listdir("/proc/self/fd"))) == before, "one that is dropped is closed as well"


def test_a_transaction_of_its_own_store(xenstored: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making one changes nothing of what there is."""
    monkeypatch.setenv("XENSTORED_PATH", str(xenstored.socket))
    with Xenstore() as store:
        fired = threading.Event()
        store.watch("/a", lambda path, token: fired.set())
        before = sockets()
        transaction = Transaction()
        assert sockets() == before
        transaction.start()
        transaction.write({"/a": "x"})
        assert fired.wait(TIMEOUT)
        fired.clear()
        transaction.commit()
        assert fired.wait(TIMEOUT)
        assert store.read("/a") == "x"


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_process_has_a_connection_of_its_own(xenstored: Daemon) -> None:
    path = str(xenstored.socket)
    with Xenstore(path, timeout=TIMEOUT) as store:
        store.write({"/a": "parent"})
        token = store.watch("/a", print)
        transaction = store.transaction()
        transaction.start()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            said = []
            try:
                asks: list[Callable[[], object]] = [
                    lambda: store.read("/a"), lambda: transaction.read("/a"), lambda: store.watch("/b", print),
                    lambda: store.unwatch("/a", token)]
                for ask in asks:
                    try:
                        said.append(str(ask()))
                    except ConnectionLost as error:
                        said.append(str(error).partition(":")[0])
                store.watch_stop()
                store.close()
                with Xenstore(path, timeout=TIMEOUT) as own:
                    own.write({"/b": "child"})
                    said.append(own.read("/a"))
            except BaseException as error:
                said.append(repr(error))
            finally:
                os.write(writing, "\n".join(said).encode())
                os._exit(0)
        os.close(writing)
        with open(reading) as pipe:
            lines = pipe.read().splitlines()
        os.waitpid(child, 0)
        parents = "the connection is the parent process's"
        assert lines[0] == parents and lines[2:] == [parents, parents, "parent"]
        assert lines[1] == "the transaction ended with its connection"
        assert store.read("/b") == "child", "the parent's connection is as it was"
        transaction.commit()
        store.unwatch("/a", token)


def test_many_threads(store: Xenstore) -> None:
    """Each gets its own answers, with a watch that fires all the time or none."""
    errors: list[BaseException] = []

    def use(number: int) -> None:
        try:
            for turn in range(100):
                store.write({f"/thread/{number}": f"{number}.{turn}"})
                assert store.read(f"/thread/{number}") == f"{number}.{turn}"
                if not turn % 20:
                    with store.transaction() as transaction:
                        transaction.write({f"/more/{number}/{turn}": "x"})
        except TransactionConflict:
            use(number)
        except BaseException as error:
            errors.append(error)

    for watched in (False, True):
        if watched:
            store.watch("/thread", lambda path, token: None)
        threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        assert errors == []


# Where the store is.

def test_no_store() -> None:
    with pytest.raises(ConnectionLost, match="no connection to the store at /nowhere: No such file") as caught:
        Xenstore("/nowhere")
    assert caught.value.errno == errno.ENOENT


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(ConnectionLost, match="expected a Unix socket or a character device"):
        Xenstore(str(file))
    with pytest.raises(ConnectionLost, match="path too long"):
        Xenstore(str(xenstore_long(tmp_path)))
    assert file.read_text() == "precious"


def xenstore_long(folder: Path) -> Path:
    """A socket whose path is longer than a socket's can be."""
    deep = folder / ("x" * 120)
    deep.mkdir()
    fd = os.open(deep, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{fd}/socket")
    finally:
        os.close(fd)
    return deep / "socket"


def test_the_systems_own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xenstored: Daemon) -> None:
    from xenstore import _transport

    assert _transport.PLACES[0] == "/run/xenstored/socket" and "/dev/xen/xenbus" in _transport.PLACES
    monkeypatch.delenv("XENSTORED_PATH", raising=False)
    monkeypatch.setattr(_transport, "PLACES", (str(tmp_path / "none"), str(xenstored.socket), str(tmp_path)))
    with Xenstore() as store:
        assert store.path == str(xenstored.socket) and store.list("/")
    monkeypatch.setattr(_transport, "PLACES", (str(tmp_path / "none"),))
    with pytest.raises(ConnectionLost, match="expected a store at one of .*/none, or in XENSTORED_PATH, found none"):
        Xenstore()
    monkeypatch.setenv("XENSTORED_PATH", str(xenstored.socket))
    assert Xenstore().path == str(xenstored.socket)
