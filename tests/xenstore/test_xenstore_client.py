# SPDX-License-Identifier: BSD-3-Clause
"""The synchronous client's operations, on Xen's own daemons."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from xenstore import (
    PERM_BOTH,
    PERM_NONE,
    PERM_READ,
    PERM_WRITE,
    InvalidRequest,
    Transaction,
    TransactionConflict,
    Xenstore,
    XenstoreException,
)

from xenstore_daemon import TIMEOUT, C, Daemon
from xenstore_expect import refused
from xenstore_fake import Asked, fake_store


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
