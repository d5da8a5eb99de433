# SPDX-License-Identifier: BSD-3-Clause
"""What no daemon of Debian's does, or does at will, from a store that is made up; both clients are asked."""

from __future__ import annotations

import asyncio
import errno
import queue
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import pytest
from xenstore import ConnectionLost, ProtocolError, Timeout, Xenstore, XenstoreException, aio

from xenstore_daemon import TIMEOUT
from xenstore_expect import refused
from xenstore_fake import (
    ERROR,
    GET_DOMAIN_PATH,
    READ,
    UNWATCH,
    WATCH,
    Answers,
    Asked,
    FakeStore,
    event,
    fake_store,
    message,
)
from xenstore_run import run

T = TypeVar("T")
Ask = Callable[[aio.Xenstore], Awaitable[T]]


def both(answers: Callable[[], Answers], ask: Callable[[Xenstore], T], aask: Ask[T]) -> list[T]:
    """The results of asking a store with each client, each time with new answers."""
    results = []
    with fake_store(answers()) as fake, Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
        results.append(ask(store))

    async def main(fake: FakeStore) -> T:
        async with aio.Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
            return await aask(store)

    with fake_store(answers()) as fake:
        results.append(run(main(fake)))
    return results


def steady(answers: Answers) -> Callable[[], Answers]:
    return lambda: answers


# How messages come.

def test_events_come_between_a_request_and_its_answer() -> None:
    """They were once returned as the answer."""

    def answers(asked: Asked) -> Iterable[bytes]:
        token = asked.payload.split(b"\0")[1].decode() if asked.type == WATCH else "unknown"
        return [event("/a", token) + event("/other", "gone") + asked.answer(b"value")]

    events: queue.Queue[str] = queue.Queue()
    with fake_store(answers) as fake, Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
        assert store.read("/a") == "value"
        store.watch("/a", lambda path, token: events.put(path))
        assert events.get(timeout=TIMEOUT) == "/a"
        assert store.read("/a") == "value"

    async def main(path: str) -> None:
        async with aio.Xenstore(path, timeout=TIMEOUT) as store, store.watch("/a") as watch:
            assert await store.read("/a") == "value"
            assert (await anext(watch)).path == "/a"

    with fake_store(answers) as fake:
        run(main(str(fake.socket)))


def test_answers_come_in_any_pieces() -> None:
    def answers(asked: Asked) -> Iterable[bytes]:
        answer = event("/a", "7") + asked.answer(b"value")
        return [answer[n : n + 1] for n in range(len(answer))]

    assert both(steady(answers), lambda s: s.read("/a"), lambda s: s.read("/a")) == ["value", "value"]


def test_a_long_answer_comes_in_two_pieces() -> None:
    def answers(asked: Asked) -> Iterable[bytes]:
        answer = asked.answer(b"x" * 4096)
        return [answer[:4000], answer[4000:]]

    assert both(steady(answers), lambda s: s.read_bytes("/a"), lambda s: s.read_bytes("/a")) == 2 * [b"x" * 4096]


def test_answers_come_in_another_order() -> None:
    """Three threads ask; the last one is answered first."""
    held: list[Asked] = []

    def answers(asked: Asked) -> Iterable[bytes]:
        held.append(asked)
        return [a.answer(a.payload[:-1]) for a in reversed(held)] if len(held) == 3 else []

    found: dict[str, str] = {}
    with fake_store(answers) as fake, Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
        threads = [threading.Thread(target=lambda path: found.update({path: store.read(path)}), args=(path,))
                   for path in ("/1", "/2", "/3")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
    assert found == {"/1": "/1", "/2": "/2", "/3": "/3"}
    held.clear()

    async def main(path: str) -> list[str]:
        async with aio.Xenstore(path, timeout=TIMEOUT) as store:
            return await asyncio.gather(*[store.read(path) for path in ("/1", "/2", "/3")])

    with fake_store(answers) as fake:
        assert run(main(str(fake.socket))) == ["/1", "/2", "/3"]


@pytest.mark.parametrize(("spoil", "expected"), [
    (lambda a: a.answer(number=a.number + 7), "got one of type 2 with the unknown number 8"),
    (lambda a: a.answer(type=1), "expected an answer of type 2 for request 1, got one of type 1"),
    (lambda a: a.answer() + a.answer(), "unknown number 1"),
    (lambda a: message(READ, b"", 0), "unknown number 0"),
    (lambda a: message(WATCH, b"OK\0", 0), "got one of type 4 with the unknown number 0"),
    (lambda a: message(15, b"/a\0"), "expected a path and a token in a watch's event"),
    (lambda a: b"\xff" * 16, "expected a message of at most 1048576 bytes"),
])
def test_an_answer_to_something_else_ends_the_connection(spoil: Callable[[Asked], bytes], expected: str) -> None:
    def ask(store: Xenstore) -> str:
        with pytest.raises(ProtocolError) as caught:
            for _ in range(3):
                store.read("/a")
        with pytest.raises(ProtocolError):
            store.read("/a")
        return str(caught.value)

    async def aask(store: aio.Xenstore) -> str:
        with pytest.raises(ProtocolError) as caught:
            for _ in range(3):
                await store.read("/a")
        with pytest.raises(ProtocolError):
            await store.read("/a")
        return str(caught.value)

    for said in both(steady(lambda asked: [spoil(asked)]), ask, aask):
        assert expected in said


@pytest.mark.parametrize(("payload", "ask", "aask"), [
    (b"x\0", lambda s: s.transaction().start(), lambda s: s.transaction().start()),
    (b"x\0", lambda s: s.get_permissions("/"), lambda s: s.get_permissions("/")),
    (b"x\0", lambda s: s.is_domain_introduced(1), lambda s: s.is_domain_introduced(1)),
    (b"x\0", lambda s: s.get_quota("nodes"), lambda s: s.get_quota("nodes")),
])
def test_an_answer_without_sense_fails_alone(payload: bytes, ask: Callable[[Xenstore], object],
                                             aask: Ask[object]) -> None:
    def ask_twice(store: Xenstore) -> str:
        with pytest.raises(ProtocolError, match="expected .* from the store, got b'x") as caught:
            ask(store)
        assert caught.value.errno == errno.EPROTO
        return store.read("/a")

    async def aask_twice(store: aio.Xenstore) -> str:
        with pytest.raises(ProtocolError, match="expected .* from the store, got b'x"):
            await aask(store)
        return await store.read("/a")

    assert both(steady(lambda asked: [asked.answer(payload)]), ask_twice, aask_twice) == ["x\0", "x\0"]


def test_linuxs_device_answers_watches_without_their_number() -> None:
    def answers(asked: Asked) -> Iterable[bytes]:
        return [asked.answer(number=0 if asked.type in (WATCH, UNWATCH) else None)]

    def ask(store: Xenstore) -> str:
        store.unwatch("/a", store.watch("/a", print))
        return store.read("/a")

    async def aask(store: aio.Xenstore) -> str:
        async with store.watch("/a"):
            return await store.read("/a")

    assert both(steady(answers), ask, aask) == ["OK\0", "OK\0"]


# Time-outs, and stores that go away.

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


# Folders in parts.

def parts(*answers: bytes) -> Callable[[], Answers]:
    """A folder that is too big; its parts."""

    def make() -> Answers:
        left = list(answers)
        return lambda asked: [asked.error("E2BIG") if asked.type == 1 else asked.answer(left.pop(0))]

    return make


@pytest.mark.parametrize(("answers", "names"), [
    ([b"5\0a\0b\0", b"5\0c\0\0"], ["a", "b", "c"]),
    ([b"5\0a\0b\0", b"6\0c\0\0", b"6\0d\0", b"6\0e\0\0"], ["d", "e"]),  # it has changed: from the beginning
    ([b"5\0\0"], []),
])
def test_a_folder_in_parts(answers: list[bytes], names: list[str]) -> None:
    assert both(parts(*answers), lambda s: s.list("/a"), lambda s: s.list("/a")) == [names, names]


def test_the_parts_that_are_asked_for() -> None:
    left = [b"5\0ab\0c\0", b"6\0x\0\0", b"6\0d\0", b"6\0\0"]
    with fake_store(lambda a: [a.error("E2BIG") if a.type == 1 else a.answer(left.pop(0))]) as fake:
        with Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
            assert store.list("/a") == ["d"]
        assert [asked.payload for asked in fake.asked] == [b"/a\0", b"/a\0" b"0\0", b"/a\0" b"5\0", b"/a\0" b"0\0",
                                                           b"/a\0" b"2\0"]


def test_a_folder_that_never_rests() -> None:
    generation = iter(range(1000))
    with fake_store(lambda a: [a.error("E2BIG") if a.type == 1 else a.answer(b"%d\0a\0" % next(generation))]) as fake:
        with Xenstore(str(fake.socket), timeout=TIMEOUT) as store, refused("EAGAIN"):
            store.list("/a")


@pytest.mark.parametrize("part", [b"", b"5\0", b"5"])
def test_parts_that_are_none(part: bytes) -> None:
    def ask(store: Xenstore) -> None:
        with pytest.raises(ProtocolError, match="expected a part of a folder"):
            store.list("/a")

    async def aask(store: aio.Xenstore) -> None:
        with pytest.raises(ProtocolError, match="expected a part of a folder"):
            await store.list("/a")

    both(parts(part), ask, aask)


# What later daemons have.

def test_watch_depth() -> None:
    with fake_store(lambda asked: [asked.answer()]) as fake:
        with Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
            tokens = [store.watch("/a", print, depth=depth).encode() for depth in (None, 0, 3)]

        async def main() -> list[bytes]:
            async with aio.Xenstore(str(fake.socket), timeout=TIMEOUT) as store, store.watch("/a", depth=2) as watch:
                return [watch.token.encode()]

        tokens += run(main())
        watches = [asked.payload for asked in fake.asked if asked.type == WATCH]
        assert watches == [b"/a\0" + token + rest for token, rest in zip(tokens, (b"\0", b"\0" b"0\0", b"\0" b"3\0",
                                                                                   b"\0" b"2\0"))]


FEATURES_AND_QUOTAS = [
    (b"7\0", lambda s: s.get_features(), 23, b"", 7),
    (b"3\0", lambda s: s.get_features(5), 23, b"5\0", 3),
    (b"OK\0", lambda s: s.set_features(5, 3), 24, b"5\0" b"3\0", None),
    (b"nodes watches\0", lambda s: s.quota_names(), 25, b"", ["nodes", "watches"]),
    (b"1000\0", lambda s: s.get_quota("nodes"), 25, b"nodes\0", 1000),
    (b"10\0", lambda s: s.get_quota("nodes", 5), 25, b"5\0nodes\0", 10),
    (b"OK\0", lambda s: s.set_quota("nodes", 0), 26, b"nodes\0" b"0\0", None),
    (b"OK\0", lambda s: s.set_quota("nodes", 9, 5), 26, b"5\0nodes\0" b"9\0", None),
]


@pytest.mark.parametrize(("payload", "ask", "type", "sent", "expected"), FEATURES_AND_QUOTAS)
def test_features_and_quotas(payload: bytes, ask: Callable[[object], object], type: int, sent: bytes,
                             expected: object) -> None:
    with fake_store(lambda asked: [asked.answer(payload)]) as fake:
        with Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
            assert ask(store) == expected

        async def main() -> object:
            async with aio.Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
                return await ask(store)  # type: ignore[misc]

        assert run(main()) == expected
        asked = [(asked.type, asked.payload) for asked in fake.asked if asked.type != GET_DOMAIN_PATH]
        assert asked == 2 * [(type, sent)]


def test_an_error_of_a_later_daemon() -> None:
    def ask(store: Xenstore) -> tuple[int, str]:
        with pytest.raises(XenstoreException) as caught:
            store.read("/a")
        return caught.value.errno, str(caught.value)

    async def aask(store: aio.Xenstore) -> tuple[int, str]:
        with pytest.raises(XenstoreException) as caught:
            await store.read("/a")
        return caught.value.errno, str(caught.value)

    assert both(steady(lambda asked: [asked.answer(b"EDOM\0", ERROR)]), ask, aask) == 2 * [(errno.EDOM, "EDOM")]
    assert both(steady(lambda asked: [asked.answer(b"ENEW\0", ERROR)]), ask, aask) == 2 * [(errno.EIO, "ENEW")]


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
