# SPDX-License-Identifier: BSD-3-Clause
"""The events of several watches, one after the other, for `python3 -m xenstore watch`."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from contextlib import AsyncExitStack

from . import aio
from .error import ConnectionLost


def follow(store: str, paths: list[str], count: int | None, show: Callable[[str], None]) -> None:
    """Call `show` with the path of each event, `count` times or for ever. ConnectionLost when the store goes away."""
    asyncio.run(_follow(store, paths, count, show))


async def _follow(store: str, paths: list[str], count: int | None, show: Callable[[str], None]) -> None:
    changed: asyncio.Queue[str | None] = asyncio.Queue()

    async def collect(watch: aio.Watch) -> None:
        async for event in watch:
            changed.put_nowait(event.path)
        changed.put_nowait(None)

    async with aio.Xenstore(store) as client, AsyncExitStack() as watches:
        tasks = []
        for path in paths:
            watch = await watches.enter_async_context(client.watch(path))
            tasks.append(asyncio.create_task(collect(watch)))
        shown = 0
        while shown != count:
            change = await changed.get()
            if change is None:
                raise ConnectionLost(errno.ECONNRESET, "the connection to the store has ended")
            show(change)
            shown += 1
