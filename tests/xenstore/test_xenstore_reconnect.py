# SPDX-License-Identifier: BSD-3-Clause
"""Connecting again, with Xen's own daemon restarted, and with a store that hangs up at will."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Iterable

import pytest
from xenstore import ConnectionLost, Timeout, Xenstore, aio

from xenstore_daemon import TIMEOUT, Daemon
from xenstore_fake import READ, UNWATCH, WATCH, Asked, event, fake_store
from xenstore_run import run


def test_it_connects_again(xenstored: Daemon) -> None:
    with Xenstore(str(xenstored.socket), reconnect=True, timeout=TIMEOUT) as store:
        store.write({"/a": "old"})
        xenstored.stop()
        with pytest.raises(ConnectionLost):
            store.read("/a")
        with pytest.raises(ConnectionLost, match="no connection to the store"):
            store.read("/a")
        xenstored.start()
        assert not store.exists("/a"), "it is another store, without anything in it"
        store.write({"/a": "new"})
        assert store.read("/a") == "new"


def test_watches_are_restored(xenstored: Daemon) -> None:
    events: queue.Queue[tuple[str, str]] = queue.Queue()
    with Xenstore(str(xenstored.socket), reconnect=True, timeout=TIMEOUT) as store:
        tokens = {path: store.watch(path, lambda path, token: events.put((path, token))) for path in ("/a", "/b")}
        assert {events.get(timeout=TIMEOUT) for _ in tokens} == set(tokens.items())
        for _ in range(2):
            xenstored.stop()
            xenstored.start()
            assert {events.get(timeout=TIMEOUT) for _ in tokens} == set(tokens.items()), "each fires once"
            store.write({"/a/x": "x"})
            assert events.get(timeout=TIMEOUT) == ("/a/x", tokens["/a"])
        store.unwatch("/a", tokens["/a"])
        store.write({"/a": "y", "/b": "y"})
        assert events.get(timeout=TIMEOUT) == ("/b", tokens["/b"])


def test_watches_can_be_ended_while_there_is_no_store(xenstored: Daemon) -> None:
    with Xenstore(str(xenstored.socket), reconnect=True, timeout=TIMEOUT) as store:
        token = store.watch("/a", print)
        store.watch("/b", print)
        xenstored.stop()
        store.unwatch("/a", token)
        store.watch_stop()
        xenstored.start()
        assert store.list("/")


@pytest.mark.parametrize("reconnect", [False, True])
def test_a_transaction_ends_with_its_connection(xenstored: Daemon, reconnect: bool) -> None:
    with Xenstore(str(xenstored.socket), reconnect=reconnect, timeout=TIMEOUT) as store:
        transaction = store.transaction()
        transaction.start()
        transaction.write({"/a": "x"})
        xenstored.stop()
        with pytest.raises(ConnectionLost):
            store.read("/a")
        xenstored.start()
        if reconnect:
            assert not store.exists("/a")
        for ask in (lambda: transaction.read("/a"), lambda: transaction.write({"/a": "x"}), transaction.commit):
            with pytest.raises(ConnectionLost, match="the transaction ended with its connection: the store"):
                ask()
        if reconnect:
            transaction.start()
            transaction.write({"/a": "y"})
            transaction.commit()
            assert store.read("/a") == "y"


def test_what_is_under_way_fails_even_so() -> None:
    """Whether it was done nobody knows."""
    reads = 0

    def answers(asked: Asked) -> Iterable[bytes | None]:
        nonlocal reads
        reads += 1
        return [None] if reads == 2 else [asked.answer(b"x")]

    with fake_store(answers) as fake, Xenstore(str(fake.socket), reconnect=True, timeout=TIMEOUT) as store:
        assert store.read("/a") == "x"
        with pytest.raises(ConnectionLost, match="^the store closed the connection$"):
            store.read("/a")
        assert store.read("/a") == "x"
        assert [asked.type for asked in fake.asked] == [READ, READ, READ] and len(fake.connections) == 2


def test_a_watch_that_is_refused_the_second_time(caplog: pytest.LogCaptureFixture) -> None:
    def answers(asked: Asked) -> Iterable[bytes | None]:
        if asked.type == WATCH and asked.payload.startswith(b"/a\0") and len(fake.connections) == 2:
            return [asked.error("EACCES")]
        return [asked.answer(), event("/b", "1")] if asked.type == WATCH else [asked.answer()]

    with fake_store(answers) as fake, Xenstore(str(fake.socket), reconnect=True, timeout=TIMEOUT) as store:
        token = store.watch("/a", print)
        fake.hang_up()
        events: queue.Queue[str] = queue.Queue()
        # Whoever is first connects again: this thread, or the one of the watches.
        while True:
            try:
                store.watch("/b", lambda path, token: events.put(path))
                break
            except ConnectionLost:
                pass
        assert "the watch of /a could not be restored: EACCES" in caplog.text
        assert store._watcher is not None and token not in store._watcher._watches


def test_without_any_watch_left_the_thread_ends() -> None:
    """All are refused the second time; or the store answers nothing, and they are ended while it tries."""

    def refuse(asked: Asked) -> Iterable[bytes | None]:
        return [asked.answer() if len(fake.connections) == 1 else asked.error("EACCES")]

    def keep_silent(asked: Asked) -> Iterable[bytes | None]:
        return [asked.answer()] if len(fake.connections) == 1 else []

    for answers in (refuse, keep_silent):
        with fake_store(answers) as fake, Xenstore(str(fake.socket), reconnect=True, timeout=TIMEOUT) as store:
            store.watch("/a", print)
            if answers is keep_silent:
                store.timeout = 0.1
            [thread] = [thread for thread in threading.enumerate() if thread.name == "xenstore watches"]
            fake.hang_up()
            if answers is keep_silent:
                while len(fake.connections) == 1:
                    time.sleep(0.001)
                try:
                    store.watch_stop()
                except Timeout:
                    pass
            thread.join(TIMEOUT)
            assert not thread.is_alive()
            store.watch_stop()


def test_aio_connects_again_and_restores_watches(xenstored: Daemon) -> None:
    async def main() -> None:
        async with aio.Xenstore(str(xenstored.socket), reconnect=True, timeout=TIMEOUT) as store:
            async with store.watch("/a") as watch:
                assert (await anext(watch)).path == "/a"
                transaction = store.transaction()
                await transaction.start()
                await asyncio.to_thread(xenstored.stop)
                await asyncio.to_thread(xenstored.start)
                assert (await anext(watch)).path == "/a"
                await store.write({"/a/b": "x"})
                assert await anext(watch) == ("/a/b", watch.token)
                with pytest.raises(ConnectionLost, match="the transaction ended with its connection"):
                    await transaction.commit()

    run(main())


def test_aio_loses_the_new_connection_as_well() -> None:
    """The second one ends, with nonsense, as soon as the watch is there again; the third one stays."""

    def answers(asked: Asked) -> Iterable[bytes | None]:
        if len(fake.connections) == 2:
            return [asked.answer() + b"\xff" * 16]
        return [asked.answer() + event("/a", "1")] if asked.type == WATCH else [asked.answer()]

    async def main(path: str) -> None:
        async with aio.Xenstore(path, reconnect=True, timeout=TIMEOUT) as store, store.watch("/a") as watch:
            assert watch.token == "1"
            await anext(watch)
            fake.hang_up()
            while len(fake.connections) < 3:
                await asyncio.sleep(0.001)
            assert await anext(watch) == ("/a", "1")

    with fake_store(answers) as fake:
        run(main(str(fake.socket)))


def test_aio_stops_a_watch_while_it_is_restored() -> None:
    """What the store was asked to watch is then not wanted any more."""

    def answers(asked: Asked) -> Iterable[bytes | None]:
        if len(fake.connections) == 2 and asked.type == WATCH:
            asked_again.set()
            stopped.wait(TIMEOUT)
        return [asked.answer()]

    async def main(path: str) -> None:
        async with aio.Xenstore(path, reconnect=True, timeout=TIMEOUT) as store:
            async with store.watch("/a") as watch:
                fake.hang_up()
                await asyncio.to_thread(asked_again.wait, TIMEOUT)
                await watch.stop()
                stopped.set()
            assert await store.read("/a") == "OK\0"
        assert [asked.type for asked in fake.asked][:3] == [WATCH, WATCH, UNWATCH]

    asked_again, stopped = threading.Event(), threading.Event()
    with fake_store(answers) as fake:
        run(main(str(fake.socket)))


def test_aio_is_closed_while_it_tries(xenstored: Daemon) -> None:
    async def main() -> None:
        async with aio.Xenstore(str(xenstored.socket), reconnect=True, timeout=TIMEOUT) as store:
            async with store.watch("/a") as watch:
                await anext(watch)
                await asyncio.to_thread(xenstored.stop)
                with pytest.raises(ConnectionLost):
                    while True:
                        await store.read("/")
                await store.close()
                assert [event async for event in watch] == []
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
