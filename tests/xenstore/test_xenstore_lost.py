# SPDX-License-Identifier: BSD-3-Clause
"""Time-outs, interrupts, and stores that go away: from a store that is made up, for both clients."""

from __future__ import annotations

import asyncio
import errno
import queue
import random
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from xenstore import ConnectionLost, Timeout, Xenstore, aio

from xenstore_both import both
from xenstore_daemon import TIMEOUT
from xenstore_fake import WATCH, Answers, Asked, fake_store
from xenstore_run import run


def test_no_answer_in_time_and_then_it_comes() -> None:
    """A late answer is dropped, and belongs to no later request."""

    def late() -> Answers:
        held: list[Asked] = []

        def answers(asked: Asked) -> Iterable[bytes]:
            held.append(asked)
            return [] if len(held) == 1 else [a.answer(a.payload[:-1]) for a in held]

        return answers

    def ask(store: Xenstore) -> str:
        store.timeout = 0.05
        with pytest.raises(Timeout, match="^ETIMEDOUT$") as caught:
            store.read("/1")
        assert isinstance(caught.value, TimeoutError) and caught.value.errno == errno.ETIMEDOUT
        store.timeout = TIMEOUT
        return store.read("/2")

    async def aask(store: aio.Xenstore) -> str:
        store.timeout = 0.05
        with pytest.raises(Timeout, match="^ETIMEDOUT$"):
            await store.read("/1")
        store.timeout = TIMEOUT
        return await store.read("/2")

    assert both(late, ask, aask) == ["/2", "/2"]


def test_a_store_that_reads_nothing(tmp_path: Path) -> None:
    """Its socket's buffers fill, and a request does not get out: that ends in time as well."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "deaf"))
        listener.listen()
        with Xenstore(str(tmp_path / "deaf"), timeout=0.001) as store:
            for _ in range(500):
                with pytest.raises(Timeout):
                    store.write({"/a": b"x" * 4000})
            assert len(store._connection._exchange._waiting) < 500, "those of which nothing was sent are forgotten"


def test_a_request_that_is_cut_off_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came after it would be taken for its rest."""
    with fake_store(lambda asked: [asked.answer()]) as fake, Xenstore(str(fake.socket), timeout=0.1) as store:
        room = [3, 2, 0]

        def write(data: bytes) -> int:
            if not room[0]:
                raise BlockingIOError
            return room.pop(0)

        monkeypatch.setattr(store._connection._transport, "write", write)
        with pytest.raises(Timeout):
            store.read("/a")
        with pytest.raises(ConnectionLost, match="a request was cut off midway"):
            store.read("/a")


def test_an_interrupt_while_it_reads_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that was read and not handed over would be missed by whom it was for."""
    errors: queue.Queue[str] = queue.Queue()
    with fake_store(lambda asked: [asked.answer()] if asked.payload == b"/answered\0" else []) as fake:
        with Xenstore(str(fake.socket)) as store, Xenstore(str(fake.socket)) as other:

            def ask() -> None:
                try:
                    other.read("/a")
                except ConnectionLost as error:
                    errors.put(str(error))

            def read() -> bytes:
                raise KeyboardInterrupt

            thread = threading.Thread(target=ask)
            monkeypatch.setattr(store._connection._transport, "read", read)
            with pytest.raises(KeyboardInterrupt):
                store.read("/answered")
            thread.start()
            assert "reading was interrupted" in errors.get(timeout=TIMEOUT)
            thread.join(TIMEOUT)


def test_an_interrupt_while_it_waits_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_store(lambda asked: [asked.answer(asked.payload[:-1])]) as fake:
        with Xenstore(str(fake.socket), timeout=TIMEOUT) as store:

            def readable(timeout: float | None) -> bool:
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(store._connection._poll, "readable", readable)
                with pytest.raises(KeyboardInterrupt):
                    store.read("/1")
            assert store.read("/2") == "/2"


def test_a_store_that_is_too_busy_to_accept(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        path = tmp_path / "busy"
        listener.bind(str(path))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(path))
            with pytest.raises(ConnectionLost, match="Resource temporarily unavailable") as caught:
                Xenstore(str(path), timeout=0.05)
            assert caught.value.errno == errno.EAGAIN

            async def main() -> None:
                with pytest.raises(ConnectionLost, match="Resource temporarily unavailable"):
                    await aio.Xenstore(str(path), timeout=0.05).read("/a")
                connecting = asyncio.create_task(aio.Xenstore(str(path)).read("/a"))
                await asyncio.sleep(0.05)
                listener.accept()[0].close()
                connection, _ = await asyncio.to_thread(listener.accept)
                connection.close()
                with pytest.raises(ConnectionLost, match="the store"):
                    await connecting

            run(main())


def test_everybody_who_waits_gets_the_error() -> None:
    """Twenty threads and a watch; the store takes their requests and goes away."""
    errors: list[str] = []

    def ask(store: Xenstore) -> None:
        try:
            store.read("/a")
        except ConnectionLost as error:
            errors.append(str(error))

    with fake_store(lambda asked: [asked.answer()] if asked.type == WATCH else []) as fake:
        with Xenstore(str(fake.socket)) as store:
            store.watch("/a", print)
            threads = [threading.Thread(target=ask, args=(store,)) for _ in range(20)]
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + TIMEOUT
            while len(fake.asked) < 21 and time.monotonic() < deadline:
                time.sleep(0.001)
            fake.hang_up()
            for thread in threads:
                thread.join(TIMEOUT)
                assert not thread.is_alive()
    assert errors == 20 * ["the store closed the connection"]


def test_a_close_ends_what_waits() -> None:
    with fake_store(lambda asked: []) as fake:
        store = Xenstore(str(fake.socket))
        errors: queue.Queue[str] = queue.Queue()

        def ask() -> None:
            try:
                store.read("/a")
            except ConnectionLost as error:
                errors.put(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        while not fake.asked:
            time.sleep(0.001)
        store.close()
        assert errors.get(timeout=TIMEOUT) == "the connection is closed"
        thread.join(TIMEOUT)


def test_the_others_go_on_when_the_one_who_reads_gives_up() -> None:
    """The thread that reads for all has a time-out; the one that waits without any must take over."""
    held: list[Asked] = []
    answer = threading.Event()

    def answers(asked: Asked) -> Iterable[bytes]:
        held.append(asked)
        if len(held) == 2:
            answer.wait(TIMEOUT)
            yield held[1].answer(b"second")

    found: list[str] = []
    with fake_store(answers) as fake, Xenstore(str(fake.socket)) as store:
        hasty = Xenstore(str(fake.socket), timeout=0.2)

        def give_up() -> None:
            with pytest.raises(Timeout):
                hasty.read("/1")
            answer.set()

        first = threading.Thread(target=give_up)
        first.start()
        while not held:
            time.sleep(0.001)
        second = threading.Thread(target=lambda: found.append(store.read("/2")))
        second.start()
        for thread in (first, second):
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        hasty.close()
    assert found == ["second"]


class Unhurried:
    """A lock whose holder takes a nap as soon as it has let it go, so that others run at that point."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.chance = random.Random(0)

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        time.sleep(self.chance.choice((0, 0.0001, 0.001)))


def test_one_thread_reads_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two would tear messages apart."""
    reading = threading.Lock()
    errors: list[BaseException] = []
    with fake_store(lambda asked: [asked.answer(asked.payload[:-1])]) as fake:
        with Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
            receive = store._connection._receive

            def alone() -> None:
                assert reading.acquire(blocking=False), "another thread is reading"
                try:
                    receive()
                finally:
                    reading.release()

            def ask(number: int) -> None:
                try:
                    for turn in range(50):
                        assert store.read(f"/{number}/{turn}") == f"/{number}/{turn}"
                except BaseException as error:
                    errors.append(error)

            monkeypatch.setattr(store._connection, "_receive", alone)
            monkeypatch.setattr(store._connection, "_lock", Unhurried())
            threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(TIMEOUT)
                assert not thread.is_alive()
    assert errors == []
