# SPDX-License-Identifier: BSD-3-Clause
"""The synchronous client's operations, on Xen's own daemons."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from xenstore import (
    PERM_BOTH,
    PERM_NONE,
    PERM_READ,
    PERM_WRITE,
    ConnectionLost,
    InvalidRequest,
    Transaction,
    TransactionConflict,
    Xenstore,
    XenstoreException,
)

from xenstore_daemon import TIMEOUT, C, Daemon
from xenstore_expect import refused
from xenstore_fake import Asked, fake_store


@pytest.fixture
def store(any_daemon: Daemon) -> Iterator[Xenstore]:
    with Xenstore(str(any_daemon.socket), timeout=TIMEOUT) as store:
        yield store


# Values.

def test_one_value_or_several(store: Xenstore) -> None:
    store.write({"/a/b": "one", "/a/c": b"two\xff\0", "/a/d": ""})
    assert store.read("/a/b") == "one"
    assert store.read("/a/b", "/a/d", "/a") == {"/a/b": "one", "/a/d": "", "/a": ""}
    assert list(store.read("/a/d", "/a/b")) == ["/a/d", "/a/b"]
    assert store.read_bytes("/a/c") == b"two\xff\0"
    assert store.read_bytes("/a/c", "/a/b") == {"/a/c": b"two\xff\0", "/a/b": b"one"}
    with pytest.raises(TypeError, match="expected a path, got none"):
        store.read()  # type: ignore[call-overload]


def test_several_values_are_asked_for_together() -> None:
    """One after the other, each would wait for the one before: this store answers when a hundred have come."""
    held: list[Asked] = []

    def answers(asked: Asked) -> list[bytes]:
        held.append(asked)
        return [a.answer(a.payload[:-1]) for a in held] if len(held) == 100 else []

    paths = [f"/{number}" for number in range(100)]
    with fake_store(answers) as fake, Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
        assert store.read(*paths) == {path: path for path in paths}


def test_of_several_errors_the_first(store: Xenstore) -> None:
    store.write({"/a": "x"})
    for _ in range(3):
        with refused("ENOENT") as caught:
            store.read("/a", "/missing", "/gone", "/a")
        assert caught.value.filename == "/missing"
    assert store.read("/a") == "x"
    with pytest.raises(InvalidRequest, match="got an empty name"):
        store.read("/a", "/b/")


def test_text_is_utf_8_and_any_bytes_come_back(store: Xenstore) -> None:
    store.write({"/text": "Zürich", "/bytes": b"\xff\xfe"})
    assert store.read_bytes("/text") == "Zürich".encode()
    assert store.read("/bytes") == "\udcff\udcfe"
    store.write({"/copy": store.read("/bytes")})
    assert store.read_bytes("/copy") == b"\xff\xfe"


def test_what_a_missing_node_is(store: Xenstore) -> None:
    store.write({"/a": "x"})
    with refused("ENOENT") as caught:
        store.read("/a", "/a/missing")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "/a/missing")
    assert caught.value.__notes__ == ["from the store, for READ of '/a/missing'"]
    assert isinstance(caught.value, OSError)
    assert store.exists("/a") and not store.exists("/a/missing")
    store.rm("/a/missing")
    with refused("ENOENT"):
        store.rm("/missing/missing")


def test_mkdir_and_rm(store: Xenstore) -> None:
    store.mkdir("/a/b/c", "/d")
    store.write({"/a/b": "kept"})
    store.mkdir("/a/b")
    assert store.read("/a/b", "/d") == {"/a/b": "kept", "/d": ""}
    store.rm("/a/b", "/d")
    assert not store.exists("/a/b/c") and not store.exists("/d") and store.exists("/a")


def test_the_root_cannot_be_removed(store: Xenstore) -> None:
    """oxenstored would empty the store."""
    store.write({"/a": "x"})
    with pytest.raises(InvalidRequest, match="expected a path below '/'"):
        store.rm("/")
    assert store.read("/a") == "x"


def test_what_is_too_long_is_not_sent(store: Xenstore) -> None:
    """Xen's daemon in C would end the connection, the one in OCaml take what follows for another message."""
    with pytest.raises(InvalidRequest, match="of at most 4096 bytes, got 4097") as caught:
        store.write({"/a": 4094 * b"x"})
    assert caught.value.errno == errno.E2BIG and caught.value.filename == "/a"
    assert isinstance(caught.value, ValueError)
    store.write({"/a": "still there"})
    assert store.read("/a") == "still there"


def test_the_longest_value(any_daemon: Daemon) -> None:
    """A message has room for 4096 bytes; the daemon in OCaml does not take a value of more than 2048."""
    longest, error = (4093, InvalidRequest) if any_daemon.kind == C else (2048, XenstoreException)
    with Xenstore(str(any_daemon.socket), timeout=TIMEOUT) as store:
        store.write({"/a": longest * b"x"})
        with pytest.raises(error, match="^E2BIG"):
            store.write({"/a": (longest + 1) * b"y"})
        assert store.read_bytes("/a") == longest * b"x"


# Folders.

def test_list(store: Xenstore) -> None:
    store.mkdir("/a/one", "/a/two", "/a/three/four")
    assert sorted(store.list("/a")) == ["one", "three", "two"]
    assert store.list("/a/one") == []
    assert "a" in store.list("/")
    with refused("ENOENT"):
        store.list("/missing")


def test_a_folder_that_is_too_big_for_a_message(store: Xenstore) -> None:
    names = [f"a-rather-long-name-{n}" for n in range(900)]
    store.mkdir(*[f"/big/{name}" for name in names])
    assert sorted(store.list("/big")) == sorted(names)
    with store.transaction() as transaction:
        transaction.rm("/big/" + names[0])
        assert len(transaction.list("/big")) == 899


def test_walk(store: Xenstore) -> None:
    store.write({"/top": "0", "/top/a": "1", "/top/a/b": "2", "/top/c": "3"})
    assert sorted(store.walk("/top")) == [
        ("/top", "0", store.list("/top")), ("/top/a", "1", ["b"]), ("/top/a/b", "2", []), ("/top/c", "3", [])]
    assert [path for path, *_ in store.walk("/top")][0] == "/top"
    assert "/top/a/b" in [path for path, *_ in store.walk("/")]
    with refused("ENOENT"):
        list(store.walk("/missing"))


def test_a_walk_leaves_out_what_vanishes_or_is_not_wanted(store: Xenstore) -> None:
    store.write({"/top/a/x": "", "/top/b/x": "", "/top/c/x": ""})
    seen = []
    for path, _, names in store.walk("/top"):
        seen.append(path)
        if path == "/top":
            names.remove("b")
            store.rm("/top/c")
    assert seen == ["/top", "/top/a", "/top/a/x"]


# Permissions.

def test_permissions_are_in_order_and_the_owner_is_first(store: Xenstore) -> None:
    store.write({"/a": "x", "/b": "y"})
    assert store.get_permissions("/a") == {0: PERM_NONE}
    wanted = {3: PERM_READ, 7: PERM_BOTH, 0: PERM_WRITE, 5: PERM_NONE}
    store.set_permissions("/a", wanted)
    assert list(store.get_permissions("/a").items()) == list(wanted.items())
    assert store.get_permissions("/a", "/b") == {"/a": wanted, "/b": {0: PERM_NONE}}


def test_a_guest_and_its_permissions(xenstored: Daemon) -> None:
    guest = xenstored.guest(7)
    with Xenstore(str(xenstored.socket), timeout=TIMEOUT) as dom0, Xenstore(str(guest.device), timeout=TIMEOUT) as domu:
        dom0.write({"/local/domain/7/name": "guest", "/secret": "x"})
        dom0.set_permissions("/local/domain/7/name", {7: PERM_NONE})
        assert domu.read("name") == "guest", "a path may be relative to the domain's folder"
        assert domu.list("/local/domain/7") == ["name"]
        with refused("EACCES"):
            domu.read("/secret")
        with refused("EACCES"):
            domu.exists("/secret")
        dom0.set_permissions("/secret", {0: PERM_READ})
        assert domu.read("/secret") == "x"
        with refused("EACCES"):
            domu.write({"/secret": "y"})
        domu.write({"data/mine": "1"})
        assert dom0.read("/local/domain/7/data/mine") == "1"
        assert list(dom0.get_permissions("/local/domain/7/data/mine")) == [7]
        with domu.transaction() as transaction:
            transaction.write({"data/mine": "2"})
        assert [path for path, *_ in domu.walk("data")] == ["data", "data/mine"]
        with refused("EACCES"):
            domu.introduce(9, 1, 1)


def test_a_guests_quota(xenstored: Daemon) -> None:
    guest = xenstored.guest(7)
    with Xenstore(str(guest.device), timeout=TIMEOUT) as domu, refused("ENOSPC"):
        for number in range(1100):
            domu.write({f"data/{number}": "x"})


# Transactions.

def test_a_transaction_is_seen_when_it_is_committed(store: Xenstore) -> None:
    store.write({"/a": "old"})
    with store.transaction() as transaction:
        transaction.write({"/a": "new", "/b": "x"})
        transaction.set_permissions("/b", {5: PERM_READ})
        transaction.mkdir("/c")
        transaction.rm("/b", "/c")
        transaction.write({"/b": "y"})
        assert transaction.read("/a", "/b") == {"/a": "new", "/b": "y"}
        assert transaction.list("/") and transaction.exists("/b") and not transaction.exists("/c")
        assert store.read("/a") == "old" and not store.exists("/b")
    assert store.read("/a", "/b") == {"/a": "new", "/b": "y"}


def test_a_transaction_sets_permissions_and_removes(store: Xenstore) -> None:
    """Each of these once used no transaction, no path, or another operation."""
    store.write({"/a": "x", "/b": "y"})
    with store.transaction() as transaction:
        transaction.set_permissions("/a", {5: PERM_READ, 3: PERM_BOTH})
        assert transaction.get_permissions("/a") == {5: PERM_READ, 3: PERM_BOTH}
        transaction.rm("/b")
        assert not transaction.exists("/b")
        assert store.get_permissions("/a") == {0: PERM_NONE} and store.exists("/b")
    assert list(store.get_permissions("/a").items()) == [(5, PERM_READ), (3, PERM_BOTH)]
    assert not store.exists("/b")


def test_a_transaction_is_aborted_by_an_exception(store: Xenstore) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        transaction.write({"/a": "x"})
        raise ZeroDivisionError
    assert not store.exists("/a")


def test_start_commit_and_abort(store: Xenstore) -> None:
    transaction = store.transaction()
    with pytest.raises(InvalidRequest, match="expected a transaction that has been started"):
        transaction.read("/")
    transaction.start()
    with pytest.raises(InvalidRequest, match="expected a transaction that is not started"):
        transaction.start()
    transaction.write({"/a": "x"})
    transaction.abort()
    assert not store.exists("/a")
    transaction.start()
    transaction.write({"/a": "y"})
    transaction.commit()
    assert store.read("/a") == "y"
    for again in (transaction.commit, transaction.abort):
        with pytest.raises(InvalidRequest, match="expected a transaction that has been started and not ended"):
            again()
    with transaction:
        transaction.abort()
    assert store.read("/a") == "y"


def test_a_conflict_is_an_error_of_its_own(store: Xenstore) -> None:
    store.write({"/a": "0"})
    transaction = store.transaction()
    transaction.start()
    transaction.read("/a")
    store.write({"/a": "1"})
    transaction.write({"/a": "2"})
    with pytest.raises(TransactionConflict, match="^EAGAIN$") as caught:
        transaction.commit()
    assert caught.value.errno == errno.EAGAIN
    assert store.read("/a") == "1"


def test_transact_tries_again(store: Xenstore) -> None:
    store.write({"/a": "0"})
    tries = []

    def increment(transaction: Transaction) -> str:
        tries.append(transaction)
        value = int(transaction.read("/a"))
        if len(tries) < 4:
            store.write({"/a": str(value + 10)})
        transaction.write({"/a": str(value + 1)})
        return f"after {len(tries)}"

    assert store.transact(increment) == "after 4"
    assert store.read("/a") == "31"


def test_transact_gives_up(store: Xenstore) -> None:
    store.write({"/a": "0"})
    tries = []

    def collide(transaction: Transaction) -> None:
        tries.append(transaction)
        transaction.read("/a")
        store.write({"/a": f"try {len(tries)}"})
        transaction.write({"/a": "2"})

    with pytest.raises(TransactionConflict):
        store.transact(collide, attempts=3)
    assert len(tries) == 3


# Domains and the daemon.

def test_domains(xenstored: Daemon) -> None:
    xenstored.guest(7)
    with Xenstore(str(xenstored.socket), timeout=TIMEOUT) as store:
        assert store.get_domain_path(7) == "/local/domain/7"
        assert store.is_domain_introduced(7) and not store.is_domain_introduced(8)
        store.resume(7)
        with refused("ENOENT"):
            store.set_target(7, 9)
        store.introduce(9, 1, 1)
        store.set_target(7, 9)
        store.introduce(10, 1, 1)
        store.release(10)
        assert not store.is_domain_introduced(10)
        with refused("ENOENT"):
            store.release(10)
        for domid in (-1, 40000):
            with pytest.raises(InvalidRequest, match=f"domid: expected 0 to 32767, got {domid}"):
                store.release(domid)


def test_control(xenstored: Daemon) -> None:
    with Xenstore(str(xenstored.socket), timeout=TIMEOUT) as store:
        assert "print" in store.control("help")
        assert store.control("print", "hello") == "OK"
        with refused("EINVAL"):
            store.control("no such command")


def test_features_and_quotas_of_a_daemon_without_them(any_daemon: Daemon) -> None:
    with Xenstore(str(any_daemon.socket), timeout=TIMEOUT) as store:
        asks: list[Callable[[], object]] = [
            store.get_features, store.quota_names, lambda: store.get_quota("nodes"),
            lambda: store.set_quota("nodes", 1), lambda: store.set_features(7, 1)]
        for ask in asks:
            with refused("ENOSYS"):
                ask()


# One connection.

def sockets() -> int:
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit() and
             os.path.lexists(f"/proc/self/fd/{fd}")]
    return sum(link.startswith("socket:") for link in links)


def test_one_connection_for_a_process_and_path(xenstored: Daemon) -> None:
    path = str(xenstored.socket)
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
