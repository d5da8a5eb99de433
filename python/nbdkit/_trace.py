# SPDX-License-Identifier: BSD-3-Clause
"""Tracing, by nbdkit's debug flags `-D python.calls=1` and `-D python.timing=1`: what is called, and how long it takes.

A traced callback is another one in the script's table, which calls the first. Where nothing is traced, this is not
loaded, and the table is what it would be without it.
"""

import atexit
from _thread import allocate_lock
from collections.abc import Callable
from time import perf_counter_ns
from types import GeneratorType

import _nbdkit

Callback = Callable[..., object]

_BITS = 6  # of a time that its place in a Histogram keeps: it is right to 1.6 %
_times: dict[tuple[str, str], "Histogram"] = {}  # of each script and callback


def wrap(script: str, name: str, callback: Callback, calls: bool, timing: bool) -> Callback:
    """A callback that is traced: logged with its arguments, answer and time if `calls`, counted if `timing`.

    script: its name, for the log.
    """
    times = None
    if timing:
        if not _times:
            atexit.register(_report)
        times = _times.setdefault((script, name), Histogram())

    secrets = getattr(callback, "secrets", ())  # the keys of parameters that nobody should see

    def log(arguments: tuple[object, ...], result: str, nanoseconds: int) -> None:
        shown = list(map(_shown, arguments))
        if secrets and arguments[-2] in secrets:
            shown[-1] = "..."
        _nbdkit._error(f"{script}: calls: {name}({', '.join(shown)}) {result}, {nanoseconds / 1000:.1f} us")

    def traced(*arguments: object) -> object:
        begin = perf_counter_ns()
        try:
            answer = callback(*arguments)
            if isinstance(answer, GeneratorType) and name in ("extents", "list_exports"):
                answer = list(answer)  # else it would run later, unseen
        except BaseException as error:
            taken = perf_counter_ns() - begin
            if times is not None:
                times.add(taken, failed=True)
            if calls:
                log(arguments, f"raised {type(error).__name__}: {_short(error, str)}", taken)
            raise
        taken = perf_counter_ns() - begin
        if times is not None:
            times.add(taken, failed=False)
        if calls:
            log(arguments, f"= {_shown(answer)}", taken)
        return answer

    return traced


def _shown(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{memoryview(value).nbytes} bytes>"
    return _short(value, repr)


def _short(value: object, text: Callable[[object], str]) -> str:
    try:
        whole = text(value)
    except Exception:  # the script's own
        whole = f"<{type(value).__name__}>"
    return whole if len(whole) <= 80 else whole[:77] + "..."


class Histogram:
    """How long the calls of one callback took: counts of times that are alike, so that its size is bounded."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.calls = self.failed = self.total = self.longest = 0  # the last two in nanoseconds
        self.lock = allocate_lock()

    def add(self, nanoseconds: int, failed: bool) -> None:
        """Count one call."""
        shift = max(nanoseconds.bit_length() - _BITS, 0)
        place = (nanoseconds >> shift << shift) + (1 << shift >> 1)
        with self.lock:
            self.counts[place] = self.counts.get(place, 0) + 1
            self.calls += 1
            self.failed += failed
            self.total += nanoseconds
            self.longest = max(self.longest, nanoseconds)

    def percentile(self, percent: float) -> int:
        """The nanoseconds that so many percent of the calls took at most."""
        left = percent / 100 * self.calls
        for place in sorted(self.counts):
            left -= self.counts[place]
            if left <= 0:
                return min(place, self.longest)
        return self.longest


_COLUMNS = "callback", "calls", "failed", "total s", "mean us", "p50 us", "p90 us", "p99 us", "max us"


def _report() -> None:
    for script in dict.fromkeys(script for script, _ in _times):
        rows = [_COLUMNS, *(_row(name, times) for (of, name), times in _times.items() if of == script and times.calls)]
        for name, *figures in rows:
            cells = "".join(f"{figure:>11}" for figure in figures)
            _nbdkit._error(f"{script}: timing: {name:20}{cells}")


def _row(name: str, times: Histogram) -> tuple[str, ...]:
    figures = [times.total / times.calls, *map(times.percentile, (50, 90, 99)), times.longest]
    return (name, str(times.calls), str(times.failed), f"{times.total / 1e9:.3f}",
            *(f"{ns / 1000:.1f}" for ns in figures))
