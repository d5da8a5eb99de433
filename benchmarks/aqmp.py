#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""aqmp beside the published qemu.qmp: round trips and events per second, in rounds that take turns.

usage: benchmarks/aqmp.py [--rounds N]

qemu.qmp is Debian sid's python3-qemu-qmp; where it is not installed, PYTHONPATH can lead to it. Without it, aqmp is
measured alone. What is printed are medians of the rounds; the ratio is the median of each round's, above 1 where aqmp
is the faster. Round trips are of query-status: with a real QEMU, whose own time counts as well, and with a process that
answers at once and shows the client's time alone. The events come from that process, as fast as they are taken.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import aqmp  # noqa: E402

try:
    import qemu.qmp as published
except ImportError:
    published = None

ROUND_TRIPS = 2000
EVENTS = 20_000
GREETING = (b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 0}, "package": ""}, '
            b'"capabilities": []}}\r\n')
EVENT = (b'{"timestamp": {"seconds": 1700000000, "microseconds": 123456}, "event": "BLOCK_JOB_READY", "data": '
         b'{"device": "drive0", "len": 1073741824, "offset": 1073741824, "speed": 0, "type": "mirror"}}\r\n')


def serve(path: str) -> None:
    """Answer commands at once, client after client: `events` with EVENTS events first."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        connection.sendall(GREETING)
        with connection:
            # A client waits for each answer, so that a command is what comes at once.
            while command := connection.recv(1 << 16):
                identifier = re.search(rb'"id": ?"[^"]*"', command)
                if b'"events"' in command:
                    connection.sendall(EVENT * EVENTS)
                connection.sendall(b'{"return": {"status": "running", "singlestep": false, "running": true}'
                                   + (b", " + identifier[0] if identifier else b"") + b"}\r\n")


async def round_trips(client: Any) -> float:
    start = time.perf_counter()
    for _ in range(ROUND_TRIPS):
        await client.execute("query-status")
    return ROUND_TRIPS / (time.perf_counter() - start)


async def events(client: Any) -> float:
    async def take() -> None:
        with client.listener() as listener:
            started.set_result(None)
            left = EVENTS
            async for _ in listener:
                left -= 1
                if not left:
                    return

    started = asyncio.get_running_loop().create_future()
    taking = asyncio.create_task(take())
    await started
    start = time.perf_counter()
    await client.execute("events")
    await taking
    return EVENTS / (time.perf_counter() - start)


def measure(library: Any, path: str, what: Callable[[Any], Awaitable[float]]) -> float:
    """One measurement, with a client and a loop of its own."""

    async def once() -> float:
        client = library.QMPClient()
        await client.connect(path)
        result = await what(client)
        await client.disconnect()
        return result

    return asyncio.run(once())


def start(command: list[str], path: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while not os.path.exists(path):
        assert process.poll() is None, f"{command[0]} did not start"
        time.sleep(0.01)
    return process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
    libraries = {"aqmp": aqmp} if published is None else {"aqmp": aqmp, "qemu.qmp": published}
    with tempfile.TemporaryDirectory() as folder:
        real, quick = f"{folder}/real", f"{folder}/quick"
        processes = [
            start(["qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "none", "-S",
                   "-qmp", f"unix:{real},server=on,wait=off"], real),
            start([sys.executable, __file__, "--serve", quick], quick)]
        try:
            for title, path, what in (("round trips/s, QEMU", real, round_trips),
                                      ("round trips/s, client alone", quick, round_trips),
                                      ("events/s", quick, events)):
                results: dict[str, list[float]] = {name: [] for name in libraries}
                for number in range(options.rounds):
                    # Who begins takes turns as well.
                    for name in sorted(libraries, reverse=bool(number % 2)):
                        results[name].append(measure(libraries[name], path, what))
                line = f"{title:30}" + "".join(f"{name} {statistics.median(r):9.0f}   " for name, r in results.items())
                if published is not None:
                    ratios = [ours / theirs for ours, theirs in zip(*results.values())]
                    line += f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                print(line, flush=True)
        finally:
            for process in processes:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
