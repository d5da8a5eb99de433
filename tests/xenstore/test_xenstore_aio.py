# SPDX-License-Identifier: BSD-3-Clause
"""The client for asyncio, on Xen's own daemons."""

from __future__ import annotations

import asyncio
import errno
import gc
import inspect
import os
from collections.abc import Awaitable, Callable

import pytest
import xenstore
from xenstore import PERM_BOTH, PERM_NONE, PERM_READ, ConnectionLost, InvalidRequest, TransactionConflict, aio

from xenstore_daemon import TIMEOUT, Daemon
from xenstore_expect import refused
from xenstore_fake import Asked, fake_store
from xenstore_run import run

Test = Callable[[aio.Xenstore], Awaitable[None]]


def on(daemon: Daemon, test: Test) -> None:
    """Run a test with a client of the daemon."""

    async def main() -> None:
        async with aio.Xenstore(str(daemon.socket), timeout=TIMEOUT) as store:
            await test(store)

    run(main())


def test_it_has_the_same_operations() -> None:
    """With the same parameters, but for watches, which are iterators here."""
    for name in ("Xenstore", "Transaction"):
        ours, theirs = getattr(aio, name), getattr(xenstore, name)
        public = {member for member in dir(theirs) if not member.startswith("_")} - {"unwatch", "watch_stop"}
        assert public <= set(dir(ours))
        for member in public - {"watch", "transact"}:
            assert [*inspect.signature(getattr(ours, member)).parameters.values()] == [
                *inspect.signature(getattr(theirs, member)).parameters.values()], member


def test_operations(any_daemon: Daemon) -> None:
    async def test(store: aio.Xenstore) -> None:
        await store.write({"/a/b": "one", "/a/c": b"\xff"})
        assert await store.read("/a/b") == "one"
        assert await store.read("/a/b", "/a/c") == {"/a/b": "one", "/a/c": "\udcff"}
        assert await store.read_bytes("/a/c") == b"\xff"
        assert await store.read_bytes("/a/c", "/a/b") == {"/a/b": b"one", "/a/c": b"\xff"}
        await store.mkdir("/a/d")
        await store.rm("/a/c")
        assert sorted(await store.list("/a")) == ["b", "d"]
        assert await store.exists("/a/d") and not await store.exists("/a/c")
        assert sorted([node async for node in store.walk("/a")]) == [
            ("/a", "", await store.list("/a")), ("/a/b", "one", []), ("/a/d", "", [])]
        wanted = {3: PERM_READ, 0: PERM_BOTH}
        await store.set_permissions("/a", wanted)
        assert list((await store.get_permissions("/a")).items()) == list(wanted.items())
        assert await store.get_permissions("/a", "/a/b") == {"/a": wanted, "/a/b": {0: PERM_NONE}}
        with refused("ENOENT") as caught:
            await store.read("/a/c")
        assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "/a/c")
        with pytest.raises(InvalidRequest, match="at most 4096 bytes"):
            await store.write({"/a": 4094 * "x"})
        with pytest.raises(InvalidRequest, match="expected a path below '/'"):
            await store.rm("/")

    on(any_daemon, test)


def test_a_big_folder(any_daemon: Daemon) -> None:
    async def test(store: aio.Xenstore) -> None:
        names = [f"a-rather-long-name-{n}" for n in range(900)]
        await asyncio.gather(*[store.mkdir(f"/big/{name}") for name in names])
        assert sorted(await store.list("/big")) == sorted(names)

    on(any_daemon, test)


def test_domains_and_the_daemon(xenstored: Daemon) -> None:
    async def test(store: aio.Xenstore) -> None:
        await store.introduce(9, 1, 1)
        await store.introduce(10, 1, 1)
        assert await store.is_domain_introduced(9)
        assert await store.get_domain_path(9) == "/local/domain/9"
        await store.resume(9)
        await store.set_target(9, 10)
        await store.release(9)
        assert not await store.is_domain_introduced(9)
        assert await store.control("print", "hello") == "OK"
        for ask in (store.get_features(), store.quota_names(), store.get_quota("nodes")):
            with refused("ENOSYS"):
                await ask

    on(xenstored, test)


def test_many_requests_in_flight(any_daemon: Daemon) -> None:
    async def test(store: aio.Xenstore) -> None:
        await asyncio.gather(*[store.write({f"/a/{n}": str(n)}) for n in range(500)])
        values = await asyncio.gather(*[store.read(f"/a/{n}") for n in range(500)])
        assert values == [str(n) for n in range(500)]

    on(any_daemon, test)


def test_they_are_in_flight_together() -> None:
    """The store answers only when a hundred have come; and what is sent in one turn is sent at once."""
    held: list[Asked] = []

    def answers(asked: Asked) -> list[bytes]:
        held.append(asked)
        return [a.answer(b"x") for a in held] if len(held) == 100 else []

    async def main(path: str) -> None:
        async with aio.Xenstore(path, timeout=TIMEOUT) as store:
            assert await asyncio.gather(*[store.read("/a") for _ in range(100)]) == 100 * ["x"]

    with fake_store(answers) as fake:
        run(main(str(fake.socket)))


def test_more_than_the_sockets_buffers(xenstored: Daemon) -> None:
    async def test(store: aio.Xenstore) -> None:
        await asyncio.gather(*[store.write({f"/a/{n}": 4000 * b"x"}) for n in range(1000)])
        values = await asyncio.gather(*[store.read_bytes(f"/a/{n}") for n in range(1000)])
        assert values == 1000 * [4000 * b"x"]

    on(xenstored, test)


def test_several_values_at_once(any_daemon: Daemon) -> None:
    async def test(store: aio.Xenstore) -> None:
        await store.write({f"/a/{n}": str(n) for n in range(300)})
        paths = [f"/a/{n}" for n in range(300)]
        assert await store.read(*paths) == {path: path[3:] for path in paths}
        with refused("ENOENT") as caught:
            await store.read("/a/1", "/missing", "/gone")
        assert caught.value.filename == "/missing"
        with pytest.raises(InvalidRequest, match="got an empty name"):
            await store.read("/a/1", "/b/")

    on(any_daemon, test)


def test_a_cancelled_request_keeps_nobody(any_daemon: Daemon) -> None:
    async def test(store: aio.Xenstore) -> None:
        await store.write({"/a": "x"})
        for _ in range(50):
            task = asyncio.create_task(store.read("/a"))
            await asyncio.sleep(0)
            task.cancel()
            assert await store.read("/a") == "x"
            with pytest.raises(asyncio.CancelledError):
                await task

    on(any_daemon, test)


# Watches.

def test_a_watch_is_an_iterator(any_daemon: Daemon) -> None:
    async def test(store: aio.Xenstore) -> None:
        async with store.watch("/a") as watch, store.watch("/b") as other:
            assert watch.token != other.token
            assert await anext(watch) == ("/a", watch.token)
            await store.write({"/a/b": "x", "/b": "x"})
            assert await anext(watch) == ("/a/b", watch.token)
            assert [await anext(other), await anext(other)] == [("/b", other.token)] * 2
            reading = asyncio.create_task(anext(watch))
            await asyncio.sleep(0)
            await watch.stop()
            with pytest.raises(StopAsyncIteration):
                await reading
            await store.write({"/a/b": "y"})
            assert [event async for event in watch] == []

    on(any_daemon, test)


def test_watches_end_at_the_store(any_daemon: Daemon) -> None:
    async def test(store: aio.Xenstore) -> None:
        async with store.watch("/a") as one:
            pass
        two, three = store.watch("/a"), store.watch("/b")
        await two.start()
        await three.start()
        await store.unwatch_all()
        for watch in (one, two, three):
            with refused("ENOENT"):
                await store._run(xenstore._operations.unwatch(watch.path, watch.token))
            await watch.stop()

    on(any_daemon, test)


def test_watches_end_with_the_connection(xenstored: Daemon) -> None:
    async def test(store: aio.Xenstore) -> None:
        async with store.watch("/a") as watch:
            await anext(watch)
            reading = asyncio.create_task(store_until_the_end(watch))
            await asyncio.sleep(0)
            await asyncio.to_thread(xenstored.stop)
            assert await reading == []
            for ask in (store.read("/a"), store.transaction().start(), store.watch("/a").start()):
                with pytest.raises(ConnectionLost, match="the store"):
                    await ask

    on(xenstored, test)


async def store_until_the_end(watch: aio.Watch) -> list[xenstore.Event]:
    return [event async for event in watch]


def test_close_ends_watches_and_requests(any_daemon: Daemon) -> None:
    async def main() -> None:
        gc.collect()  # what other tests have left
        before = len(os.listdir("/proc/self/fd"))
        store = aio.Xenstore(str(any_daemon.socket))
        async with store.watch("/a") as watch:
            await anext(watch)
            reading = asyncio.create_task(anext(watch))
            asking = asyncio.create_task(store.read("/"))
            await asyncio.sleep(0)
            await store.close()
            with pytest.raises(StopAsyncIteration):
                await reading
            with pytest.raises(ConnectionLost, match="the connection is closed"):
                await asking
        with pytest.raises(ConnectionLost, match="the connection is closed"):
            await store.read("/")
        await store.close()
        assert len(os.listdir("/proc/self/fd")) == before

    run(main())


def test_wrong_use_of_a_watch(any_daemon: Daemon) -> None:
    async def test(store: aio.Xenstore) -> None:
        watch = store.watch("/a")
        with pytest.raises(InvalidRequest, match="expected a watch that has been started"):
            await anext(watch)
        with pytest.raises(InvalidRequest, match="expected one of A-Z"):
            await store.watch("/a b").start()
        async with watch:
            with pytest.raises(InvalidRequest, match="expected a watch that has not been started"):
                await watch.start()

    on(any_daemon, test)


def test_a_guest(xenstored: Daemon) -> None:
    guest = xenstored.guest(7)

    async def main() -> None:
        async with aio.Xenstore(str(guest.device), timeout=TIMEOUT) as domu:
            async with domu.watch("data") as watch:
                assert (await anext(watch)).path == "data"
                await domu.write({"data/x": "1"})
                assert (await anext(watch)).path == "data/x"
                assert await asyncio.gather(*[domu.read("data/x") for _ in range(100)]) == 100 * ["1"]
                with refused("EACCES"):
                    await domu.write({"/secret": "x"})
                await domu.reset_watches()
                assert [event async for event in watch] == []

    run(main())


# Transactions.

def test_transactions(any_daemon: Daemon) -> None:
    async def test(store: aio.Xenstore) -> None:
        await store.write({"/a": "0"})
        async with store.transaction() as transaction:
            await transaction.write({"/a": "1"})
            assert await store.read("/a") == "0"
        assert await store.read("/a") == "1"
        with pytest.raises(ZeroDivisionError):
            async with store.transaction() as transaction:
                await transaction.write({"/a": "2"})
                raise ZeroDivisionError
        assert await store.read("/a") == "1"
        with pytest.raises(TransactionConflict, match="^EAGAIN$"):
            async with store.transaction() as transaction:
                await transaction.read("/a")
                await store.write({"/a": "3"})
                await transaction.write({"/a": "4"})
        for ask in (transaction.commit(), transaction.read("/a")):
            with pytest.raises(InvalidRequest, match="expected a transaction that has been started"):
                await ask
        await transaction.start()
        with pytest.raises(InvalidRequest, match="expected a transaction that is not started"):
            await transaction.start()
        await transaction.abort()

    on(any_daemon, test)


def test_tasks_that_collide_lose_nothing(any_daemon: Daemon) -> None:
    async def increment(transaction: aio.Transaction) -> None:
        await transaction.write({"/count": str(int(await transaction.read("/count")) + 1)})

    async def test(store: aio.Xenstore) -> None:
        await store.write({"/count": "0"})
        await asyncio.gather(*[store.transact(increment) for _ in range(8)])
        assert await store.read("/count") == "8"
        tries = []

        async def collide(transaction: aio.Transaction) -> None:
            tries.append(await transaction.read("/count"))
            await store.write({"/count": f"try {len(tries)}"})
            await transaction.write({"/count": "x"})

        with pytest.raises(TransactionConflict):
            await store.transact(collide, attempts=3)
        assert len(tries) == 3

    on(any_daemon, test)
