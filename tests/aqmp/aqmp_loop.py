# SPDX-License-Identifier: BSD-3-Clause
"""Run a test's coroutine in an event loop of its own, which must be left as clean as it was found."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

from aqmp_real import TIMEOUT

Test = Callable[..., Awaitable[None]]


def run(test: Awaitable[None]) -> None:
    """Run it, for TIMEOUT seconds at most. A task that is left, and anything that asyncio complains of, is a failure."""
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(TIMEOUT):
            await test
        # What was cancelled or closed just now gets its turn.
        for _ in range(5):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks were left: {left}"

    asyncio.run(main())
    # Exceptions that nobody looked at are complained of when their futures go.
    gc.collect()
    assert not complaints, complaints
