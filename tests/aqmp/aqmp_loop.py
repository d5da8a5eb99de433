# SPDX-License-Identifier: BSD-3-Clause
"""Run a test's coroutine in an event loop of its own, which must be left as clean as it was found."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aqmp_real import TIMEOUT


@contextmanager
def runner() -> Iterator[Callable[[Awaitable[object]], None]]:
    """A function that runs a coroutine, for TIMEOUT seconds at most; one loop for all calls.

    A task that is left after a call is a failure, and so is anything that asyncio complains of.
    """
    complaints: list[dict[str, Any]] = []

    async def main(test: Awaitable[object]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(TIMEOUT):
            await test
        # What was cancelled or closed just now gets its turn.
        for _ in range(5):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks were left: {left}"
        assert not complaints, complaints

    with asyncio.Runner() as loop:
        yield lambda test: loop.run(main(test))
        # Exceptions that nobody looked at are complained of when their futures go.
        gc.collect()
        assert not complaints, complaints


def run(test: Awaitable[object]) -> None:
    """Run one coroutine so."""
    with runner() as once:
        once(test)
