# SPDX-License-Identifier: BSD-3-Clause
"""Asking a store that is made up with each of the two clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from xenstore import Xenstore, aio

from xenstore_daemon import TIMEOUT
from xenstore_fake import Answers, FakeStore, fake_store
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
