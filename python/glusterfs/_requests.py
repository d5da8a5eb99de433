# SPDX-License-Identifier: BSD-3-Clause
"""Methods that are `async def`: their coroutines run on nbdkit._loop. Loaded where there is one."""

import asyncio
from collections.abc import Callable

from _glusterfs import AsyncNext
from nbdkit import _loop


class _Request(_loop.Run):
    """A request, which is answered when its coroutine has ended."""

    def __init__(self, fop: str, next: AsyncNext) -> None:
        super().__init__(fop)
        self._next = next

    def ended(self) -> None:
        if self.error is None:
            self._next._finish(self.answer)
        else:
            self._next._fail(self.take_error())


def starting(fop: str, method: Callable[..., object]) -> Callable[..., None]:
    """A plain function that has the method's coroutine begin."""

    def start(next: AsyncNext, *arguments: object) -> None:
        _Request(fop, next).start(method(next, *arguments))  # type: ignore[arg-type]  # it is an async def

    return start


def future() -> asyncio.Future[object]:
    """For the answer of a child that a coroutine asks."""
    return asyncio.get_running_loop().create_future()


def settle(future: asyncio.Future[object], answer: object, error: BaseException | None) -> None:
    """In any thread: the answer has come, or there is none."""
    future.get_loop().call_soon_threadsafe(_loop.settle, future, answer, error)
