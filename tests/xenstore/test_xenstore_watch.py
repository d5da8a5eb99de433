# SPDX-License-Identifier: BSD-3-Clause
"""Watches and their callbacks, on Xen's own daemons."""

from __future__ import annotations

import errno
import gc
import logging
import queue
import threading
import weakref
from collections.abc import Callable

import pytest
from xenstore import ConnectionLost, Xenstore

from xenstore_daemon import TIMEOUT, Daemon
from xenstore_expect import refused

Events = queue.Queue[tuple[object, ...]]


@pytest.fixture
def events() -> Events:
    return queue.Queue()


def put(events: Events) -> Callable[..., None]:
    """A callback that keeps what it is called with."""
    return lambda *arguments: events.put(arguments)


def background() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "xenstore watches"]


def test_a_watch_fires_once_and_at_each_change(store: Xenstore, events: Events) -> None:
    token = store.watch("/a", put(events), "more", 7)
    assert events.get(timeout=TIMEOUT) == ("/a", token, "more", 7)
    store.write({"/a/b/c": "x"})
    assert events.get(timeout=TIMEOUT) == ("/a/b/c", token, "more", 7)
    store.rm("/a/b")
    assert events.get(timeout=TIMEOUT) == ("/a/b", token, "more", 7)
    store.write({"/elsewhere": "x", "/a": "y"})
    assert events.get(timeout=TIMEOUT) == ("/a", token, "more", 7)


def test_no_call_after_unwatch(store: Xenstore, events: Events) -> None:
    one, other = store.watch("/a", put(events)), store.watch("/a", put(events))
    assert one != other
    assert {events.get(timeout=TIMEOUT)[1] for _ in range(2)} == {one, other}
    store.unwatch("/a", one)
    store.write({"/a": "x"})
    assert events.get(timeout=TIMEOUT) == ("/a", other)
    store.unwatch("/a", other)
    store.write({"/a": "y"})
    assert events.empty()


def test_unwatch_of_what_is_not_watched(store: Xenstore, events: Events) -> None:
    with refused("ENOENT") as caught:
        store.unwatch("/a", "no such token")
    assert caught.value.errno == errno.ENOENT
    token = store.watch("/a", put(events))
    events.get(timeout=TIMEOUT)
    with refused("ENOENT"):
        store.unwatch("/a", "no such token")
    with refused("ENOENT"):
        store.unwatch("/b", token)
    store.write({"/a": "x"})
    assert events.get(timeout=TIMEOUT) == ("/a", token), "it is watched as before"


def test_a_watch_that_the_store_refuses_leaves_nothing(store: Xenstore, events: Events) -> None:
    """None of Debian's daemons knows a depth."""
    with refused("EINVAL"):
        store.watch("/a", put(events), depth=1)
    assert store._watcher is not None and store._watcher._watches == {} and not background()
    assert store._connection._listeners == {}
    store.watch("/b", put(events))
    assert events.get(timeout=TIMEOUT)[0] == "/b"


def test_a_callback_may_use_the_store(store: Xenstore, events: Events) -> None:
    def copy(path: str, token: str) -> None:
        if store.exists("/a"):
            with store.transaction() as transaction:
                transaction.write({"/copy": transaction.read("/a")})
            events.put((store.read("/copy"), threading.current_thread().name))

    store.watch("/a", copy)
    for value in ("1", "2", "3"):
        store.write({"/a": value})
        while events.get(timeout=TIMEOUT) != (value, "xenstore watches"):
            pass


def test_a_callback_may_watch_unwatch_and_stop(store: Xenstore, events: Events) -> None:
    def once(path: str, token: str) -> None:
        store.unwatch("/a", token)
        store.watch("/b", stop)

    def stop(path: str, token: str) -> None:
        store.watch_stop()
        events.put((path, token))

    store.watch("/a", once)
    assert events.get(timeout=TIMEOUT)[0] == "/b"
    store.write({"/a": "x", "/b": "x"})
    store.watch_stop()
    assert events.empty()


def test_a_callback_that_raises_is_logged_and_called_again(store: Xenstore, events: Events,
                                                           caplog: pytest.LogCaptureFixture) -> None:
    def fail(path: str, token: str) -> None:
        events.put((path,))
        raise ZeroDivisionError("not this time")

    store.watch("/a", fail)
    assert events.get(timeout=TIMEOUT) == ("/a",)
    store.write({"/a/b": "x"})
    assert events.get(timeout=TIMEOUT) == ("/a/b",)
    store.watch_stop()
    assert [record.message for record in caplog.records] == 2 * ["the callback of the watch of /a failed"]
    assert caplog.records[0].levelno == logging.ERROR and "not this time" in caplog.text


def test_watch_stop_ends_them_at_the_store_too(any_daemon: Daemon, events: Events) -> None:
    path = str(any_daemon.socket)
    with Xenstore(path, timeout=TIMEOUT) as store, Xenstore(path, timeout=TIMEOUT) as same_connection:
        tokens = [store.watch("/a", put(events)) for _ in range(3)]
        others = same_connection.watch("/a", put(events))
        store.unwatch_all()
        store.watch_stop()
        for token in tokens:
            with refused("ENOENT"):
                same_connection.unwatch("/a", token)
        while events.get(timeout=TIMEOUT)[1] != others:
            pass
        same_connection.write({"/a": "x"})
        assert events.get(timeout=TIMEOUT) == ("/a", others)
        assert len(background()) == 1
    assert background() == []


def test_one_slow_callback_keeps_no_other_store_waiting(xenstored: Daemon, events: Events) -> None:
    path, slow, go_on = str(xenstored.socket), threading.Event(), threading.Event()

    def wait(path: str, token: str) -> None:
        slow.set()
        go_on.wait(TIMEOUT)

    with Xenstore(path, timeout=TIMEOUT) as one, Xenstore(path, timeout=TIMEOUT) as two:
        with Xenstore(path, timeout=TIMEOUT) as three:
            one.watch("/a", wait)
            assert slow.wait(TIMEOUT)
            for store in (two, three):
                store.watch("/a", put(events))
                events.get(timeout=TIMEOUT)
            for value in range(20):
                three.write({"/a": str(value)})
                assert {events.get(timeout=TIMEOUT)[0] for _ in range(2)} == {"/a"}
            go_on.set()


def test_a_guests_watches(xenstored: Daemon, events: Events) -> None:
    guest = xenstored.guest(7)
    with Xenstore(str(xenstored.socket), timeout=TIMEOUT) as dom0, Xenstore(str(guest.device), timeout=TIMEOUT) as domu:
        token = domu.watch("data", put(events))
        assert events.get(timeout=TIMEOUT) == ("data", token)
        dom0.write({"/local/domain/7/data/x": "1"})
        assert events.get(timeout=TIMEOUT) == ("data/x", token), "a relative path stays one"
        for number in range(200):
            dom0.write({"/local/domain/7/data/y": str(number)})
            assert events.get(timeout=TIMEOUT) == ("data/y", token)
        domu.reset_watches()
        dom0.write({"/local/domain/7/data/x": "2"})
        assert domu.read("data/x") == "2" and events.empty()
        domu.watch("data", put(events))
        assert events.get(timeout=TIMEOUT)[0] == "data"


def test_special_watches(xenstored: Daemon, events: Events) -> None:
    with Xenstore(str(xenstored.socket), timeout=TIMEOUT) as store:
        store.watch("@introduceDomain", put(events))
        store.watch("@releaseDomain", put(events))
        assert {events.get(timeout=TIMEOUT)[0] for _ in range(2)} == {"@introduceDomain", "@releaseDomain"}
        store.introduce(9, 1, 1)
        assert events.get(timeout=TIMEOUT)[0] == "@introduceDomain"
        store.release(9)
        assert events.get(timeout=TIMEOUT)[0] == "@releaseDomain"


def test_watches_keep_their_store(xenstored: Daemon, events: Events) -> None:
    """One that nobody keeps goes on while it watches; without watches nothing is left of it."""
    path = str(xenstored.socket)

    def start() -> tuple[weakref.ref[Xenstore], str]:
        store = Xenstore(path)
        return weakref.ref(store), store.watch("/a", put(events))

    gone, token = start()
    gc.collect()
    events.get(timeout=TIMEOUT)
    with Xenstore(path) as other:
        other.write({"/a": "x"})
        assert events.get(timeout=TIMEOUT) == ("/a", token)
    kept = gone()
    assert kept is not None
    kept.watch_stop()
    del kept
    gc.collect()
    assert gone() is None


def test_the_daemon_goes_away(xenstored: Daemon, events: Events, caplog: pytest.LogCaptureFixture) -> None:
    with Xenstore(str(xenstored.socket), timeout=TIMEOUT) as store:
        token = store.watch("/a", put(events))
        events.get(timeout=TIMEOUT)
        [thread] = background()
        xenstored.stop()
        thread.join(TIMEOUT)
        assert not thread.is_alive()
        assert "1 watches have ended: the store closed the connection" in caplog.text
        for ask in (lambda: store.read("/a"), lambda: store.watch("/a", print), store.transaction().start):
            with pytest.raises(ConnectionLost, match="the store closed the connection"):
                ask()
        store.unwatch("/a", token)
        xenstored.start()
        with pytest.raises(ConnectionLost):
            store.read("/a")
        with Xenstore(str(xenstored.socket), timeout=TIMEOUT) as new:
            assert new.list("/")
