# SPDX-License-Identifier: BSD-3-Clause
"""A store that says anything at all: each operation of a client ends, with a result or a XenstoreException."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterable

import pytest
from xenstore import InvalidRequest, Xenstore, XenstoreException, aio

from xenstore_daemon import HEADER, TIMEOUT
from xenstore_fake import WATCH, Answers, Asked, event, fake_store, message
from xenstore_run import run

SEEDS = range(60)
PATIENCE = 0.02  # seconds; a store may well say nothing
WORDS = (b"OK\0", b"T\0", b"n0\0r5\0", b"7\0", b"a\0b\0", b"3\0a\0\0", b"ENOENT\0", b"EAGAIN\0", b"E2BIG\0", b"\0", b"")


def liar(chance: random.Random) -> Answers:
    """Answers that are mostly possible ones, and now and then broken in some way."""
    asked_before: list[Asked] = []

    def one(asked: Asked) -> bytes:
        answer = asked.answer(chance.choice(WORDS))
        match chance.randrange(12):
            case 0:
                return asked.error(chance.choice(("ENOENT", "EAGAIN", "E2BIG", "", "ÿ")))
            case 1:
                return event("/a", chance.choice("123")) + answer
            case 2:
                return asked.answer(number=chance.choice((0, 1, asked.number + 1, 2**32 - 1)))
            case 3:
                return asked.answer(type=chance.randrange(30))
            case 4:
                return answer[: chance.randrange(len(answer))]
            case 5:
                return chance.randbytes(chance.randrange(100))
            case 6:
                return HEADER.pack(asked.type, asked.number, 0, chance.choice((5, 4097, 2**20, 2**32 - 1)))
            case 7:
                return message(15, chance.randbytes(chance.randrange(10)))
            case 8:
                return chance.choice(asked_before).answer()
            case 9:
                broken = bytearray(answer)
                broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
                return bytes(broken)
        return answer

    def answers(asked: Asked) -> Iterable[bytes | None]:
        asked_before.append(asked)
        if asked.type == WATCH and chance.random() < 0.8:
            return [asked.answer()]
        if chance.random() < 0.02:
            return [None]
        return [one(asked)]

    return answers


NAMES = ("read", "list", "exists", "write", "mkdir", "get_permissions", "is_domain_introduced", "transact", "walk",
         "reset_watches", "watch")


def use(store: Xenstore, chance: random.Random, ended: list[str]) -> None:
    """Ten operations at random."""
    for _ in range(10):
        name = chance.choice(NAMES)
        try:
            match name:
                case "read" | "list" | "exists" | "mkdir" | "get_permissions":
                    getattr(store, name)("/a")
                case "write":
                    store.write({"/a": chance.randbytes(chance.randrange(5000))})
                case "is_domain_introduced":
                    store.is_domain_introduced(1)
                case "transact":
                    store.transact(lambda transaction: transaction.read("/a"), attempts=2)
                case "walk":
                    for _, _, names in store.walk("/a"):
                        del names[1:]
                        if chance.random() < 0.5:
                            break
                case "watch":
                    store.unwatch("/a", store.watch("/a", lambda *event: store.exists("/a")))
                case _:
                    getattr(store, name)()
            ended.append(name)
        except InvalidRequest:
            ended.append(name)
        except XenstoreException as error:
            assert str(error) and error.errno
            ended.append(type(error).__name__)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_client_of_threads(seed: int) -> None:
    chance = random.Random(seed)
    before = threading.active_count()
    with fake_store(liar(chance)) as fake:
        try:
            store = Xenstore(str(fake.socket), reconnect=chance.random() < 0.5, timeout=PATIENCE)
        except XenstoreException:
            pytest.fail("it was there")
        with store:
            ended: list[str] = []
            store_watch = threading.Thread(target=use, args=(store, random.Random(seed + 1), ended))
            threads = [store_watch, threading.Thread(target=use, args=(store, random.Random(seed + 2), ended))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(TIMEOUT)
                assert not thread.is_alive(), ended
            assert len(ended) == 20, "each operation ends"
            try:
                store.watch_stop()
            except XenstoreException:
                pass
    deadline = time.monotonic() + TIMEOUT
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.001)


async def ause(store: aio.Xenstore, chance: random.Random) -> int:
    ended = 0
    for _ in range(10):
        try:
            match chance.randrange(6):
                case 0:
                    answers = await asyncio.gather(*[store.read("/a") for _ in range(3)], return_exceptions=True)
                    assert all(isinstance(answer, str | XenstoreException) for answer in answers)
                case 1:
                    await store.list("/a")
                case 2:
                    await store.write({"/a": chance.randbytes(4000)})
                case 3:
                    async with store.watch("/a") as watch:
                        await store.read("/a")
                        await watch.stop()
                        assert len([event async for event in watch]) < 10
                case 4:
                    async with store.transaction() as transaction:
                        await transaction.get_permissions("/a")
                case 5:
                    async for _, _, names in store.walk("/a"):
                        del names[1:]
                        if chance.random() < 0.5:
                            break
        except XenstoreException as error:
            assert str(error) and error.errno
        ended += 1
    return ended


@pytest.mark.parametrize("seed", SEEDS)
def test_a_client_of_tasks(seed: int) -> None:
    chance = random.Random(seed)

    async def main(path: str) -> None:
        reconnect = chance.random() < 0.5
        async with aio.Xenstore(path, reconnect=reconnect, timeout=PATIENCE) as store:
            assert await asyncio.gather(*[ause(store, random.Random(seed + n)) for n in range(2)]) == [10, 10]

    with fake_store(liar(chance)) as fake:
        run(main(str(fake.socket)))
