# SPDX-License-Identifier: BSD-3-Clause
"""A client that is connected, and the end of its connection."""

from __future__ import annotations

from aqmp import QMPClient, Runstate


async def connected(path: str) -> QMPClient:
    client = QMPClient("test")
    await client.connect(path)
    return client


async def idle(client: QMPClient) -> None:
    while client.runstate is not Runstate.IDLE:
        await client.runstate_changed()
