# SPDX-License-Identifier: BSD-3-Clause
"""How messages come, and what is none: from a store that is made up, for both clients."""

from __future__ import annotations

import asyncio
import errno
import queue
import threading
from collections.abc import Callable, Iterable

import pytest
from xenstore import ProtocolError, Xenstore, aio

from xenstore_both import Ask, both, steady
from xenstore_daemon import TIMEOUT
from xenstore_fake import READ, UNWATCH, WATCH, Asked, event, fake_store, message
from xenstore_run import run


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
