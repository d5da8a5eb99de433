# SPDX-License-Identifier: BSD-3-Clause
"""Running a test that is a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from xenstore_daemon import TIMEOUT

T = TypeVar("T")


def run(main: Coroutine[object, object, T]) -> T:
    """What the coroutine returns; it fails if it takes too long, or leaves a task behind."""

    async def bounded() -> T:
        async with asyncio.timeout(TIMEOUT):
            result = await main
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert left == set(), left
        return result

    return asyncio.run(bounded())
