# SPDX-License-Identifier: BSD-3-Clause
"""Reads per second of the package xenstore beside python3-pyxs: /usr/bin/python3 benchmarks/xenstore_reads.py

Needs python3-pyxs, and Xen's daemon in build/xen, where ./test unpacks it (or one that runs: --socket). The ways are
measured in turn, round after round, so that what else the machine does meets them all; the medians count.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests" / "xenstore")]

import pyxs  # noqa: E402
from xenstore import Xenstore, aio  # noqa: E402

TOGETHER = 100
KEYS = [f"/benchmark/{number}" for number in range(TOGETHER)]
KEY = KEYS[0]


def with_pyxs(path: str, requests: int) -> float:
    with pyxs.Client(unix_socket_path=path) as client:
        client.read(KEY.encode())
        start = time.perf_counter()
        for _ in range(requests):
            client.read(KEY.encode())
        return time.perf_counter() - start


def single(path: str, requests: int) -> float:
    with Xenstore(path) as store:
        store.read(KEY)
        start = time.perf_counter()
        for _ in range(requests):
            store.read(KEY)
        return time.perf_counter() - start


def watching(path: str, requests: int) -> float:
    with Xenstore(path) as store:
        store.watch("/elsewhere", lambda path, token: None)
        store.read(KEY)
        start = time.perf_counter()
        for _ in range(requests):
            store.read(KEY)
        return time.perf_counter() - start


def together(path: str, requests: int) -> float:
    with Xenstore(path) as store:
        start = time.perf_counter()
        for _ in range(requests // TOGETHER):
            store.read(*KEYS)
        return time.perf_counter() - start


async def aio_single(path: str, requests: int) -> float:
    async with aio.Xenstore(path) as store:
        await store.read(KEY)
        start = time.perf_counter()
        for _ in range(requests):
            await store.read(KEY)
        return time.perf_counter() - start


async def aio_tasks(path: str, requests: int) -> float:
    async with aio.Xenstore(path) as store:

        async def reads() -> None:
            for _ in range(requests // TOGETHER):
                await store.read(KEY)

        await store.read(KEY)
        start = time.perf_counter()
        await asyncio.gather(*[reads() for _ in range(TOGETHER)])
        return time.perf_counter() - start


async def aio_together(path: str, requests: int) -> float:
    async with aio.Xenstore(path) as store:
        await store.read(KEY)
        start = time.perf_counter()
        for _ in range(requests // TOGETHER):
            await store.read(*KEYS)
        return time.perf_counter() - start


WAYS: dict[str, Callable[[str, int], float]] = {
    "pyxs": with_pyxs,
    "xenstore": single,
    "xenstore, while it watches": watching,
    f"xenstore, {TOGETHER} keys in a call": together,
    "xenstore.aio": lambda path, requests: asyncio.run(aio_single(path, requests)),
    f"xenstore.aio, {TOGETHER} tasks": lambda path, requests: asyncio.run(aio_tasks(path, requests)),
    f"xenstore.aio, {TOGETHER} keys in a call": lambda path, requests: asyncio.run(aio_together(path, requests)),
}


@contextmanager
def daemon(path: str | None) -> Iterator[str]:
    """The path of a daemon's socket."""
    if path:
        yield path
    else:
        from xenstore_daemon import running

        with running() as own:
            yield str(own.socket)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="how often each way is measured (default 9)")
    parser.add_argument("--requests", type=int, default=5000, help="reads in one measurement (default 5000)")
    parser.add_argument("--socket", help="the socket of a daemon that runs; by default, start one")
    options = parser.parse_args()
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    with daemon(options.socket) as path:
        with Xenstore(path) as store:
            store.write(dict.fromkeys(KEYS, "a value"))
            for _ in range(options.rounds):
                for way, measure in WAYS.items():
                    rates[way].append(options.requests / measure(path, options.requests))
            store.rm("/benchmark")
    base = statistics.median(rates["pyxs"])
    print(f"reads/s: median (least to most) of {options.rounds} rounds of {options.requests}, and times pyxs")
    for way, found in rates.items():
        median = statistics.median(found)
        print(f"{way:35} {median:8.0f} ({min(found):.0f} to {max(found):.0f})  {median / base:.2f}")


if __name__ == "__main__":
    main()
