# SPDX-License-Identifier: BSD-3-Clause
"""Makes a sequence that fails as small as it gets: fewer steps, fewer at once, smaller ranges, plainer requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from .facts import Facts
from .steps import Event, Request, Step, requests_of
from .trial import Failure

Steps = list[Step]
Attempt = Callable[[Sequence[Step]], Failure | None]  # how a sequence fails, if it does


def shrink(steps: Sequence[Step], failure: Failure, facts: Facts, attempt: Attempt, seconds: float,
           by_chance: bool = False) -> tuple[Steps, Failure]:
    """The smallest sequence found in so many seconds that has a like failure, and that failure.

    steps, failure: a sequence, and how attempt(steps) fails. by_chance: whether it need not fail each time.
    """
    shrinker = _Shrinker(list(steps), failure, facts, attempt, time.monotonic() + seconds, by_chance)
    shrinker.run()
    return shrinker.steps, shrinker.failure


class _Shrinker:
    def __init__(self, steps: Steps, failure: Failure, facts: Facts, attempt: Attempt, deadline: float,
                 by_chance: bool) -> None:
        self.steps = steps
        self.failure = failure
        self.facts = facts
        self.attempt = attempt
        self.deadline = deadline
        self.rounds = 2 if by_chance else 1
        self.tried: set[tuple[Step, ...]] = set()

    def run(self) -> None:
        """Until nothing helps any more; what did not fail by chance gets another chance."""
        self.keep_what_touches()
        rounds = self.rounds
        while rounds and time.monotonic() < self.deadline:
            before = list(self.steps)
            self.drop_steps()
            self.part_waves()
            self.simplify()
            self.move_to_the_start()
            rounds = self.rounds if before != self.steps else rounds - 1
            if self.rounds > 1:
                self.tried.clear()

    def take(self, steps: Steps) -> bool:
        """Go on with these steps, if they fail in a like way."""
        key = tuple(steps)
        if not steps or key in self.tried or time.monotonic() > self.deadline:
            return False
        self.tried.add(key)
        failure = self.attempt(steps)
        if failure is None or failure.done < 1 or not failure.is_like(self.failure):
            return False
        self.steps, self.failure = steps[:failure.done], failure
        return True

    def keep_what_touches(self) -> None:
        """Leave out all but the request whose answer is wrong, or what is far from the byte that is."""
        at = self.failure.at
        if self.failure.request and self.take([(self.failure.request,)]):
            return
        if at is None:
            return
        for near in 0, 4096:
            kept: Steps = []
            for step in self.steps:
                if isinstance(step, Event):
                    kept.append(step)
                elif touching := tuple(r for r in step if r.op == "flush" or r.offset - near <= at < r.end + near):
                    kept.append(touching)
            if self.take(kept):
                return

    def drop_steps(self) -> None:
        """Leave out half of the steps, a quarter, … and single ones, the later ones first."""
        size = max(1, len(self.steps) // 2)
        while size:
            end = len(self.steps)
            while end > 0:
                start = max(0, end - size)
                self.take(self.steps[:start] + self.steps[end:])
                end = min(start, len(self.steps))
            size //= 2

    def part_waves(self) -> None:
        """Leave out single requests, and send them one after the other instead of at once."""
        at = 0
        while at < len(self.steps):
            step = self.steps[at]
            if isinstance(step, tuple) and len(step) > 1:
                waves: list[list[Step]] = [[(request,) for request in step]]
                waves += [[step[:i] + step[i + 1:]] for i in range(len(step))]
                if any(self.take(self.steps[:at] + wave + self.steps[at + 1:]) for wave in waves):
                    continue
            at += 1

    def simplify(self) -> None:
        """Replace each request by a plainer one."""
        for at in reversed(range(len(self.steps))):
            step = self.steps[at] if at < len(self.steps) else None
            for i in range(len(step) if isinstance(step, tuple) else 0):
                self.simplify_one(at, i)

    def simplify_one(self, at: int, i: int) -> None:
        found = True
        while found and at < len(self.steps):
            found = False
            step = self.steps[at]
            assert isinstance(step, tuple)
            for plainer in self.plainer(step[i]):
                if self.take([*self.steps[:at], (*step[:i], plainer, *step[i + 1:]), *self.steps[at + 1:]]):
                    found = True
                    break

    def plainer(self, request: Request) -> Iterator[Request]:
        """Requests that would be better, the best first."""
        for i in range(len(request.flags)):
            yield replace(request, flags=request.flags[:i] + request.flags[i + 1:])
        if request.connection:
            yield replace(request, connection=0)
        if request.op == "pwrite" and request.content > 255:
            # Each write has bytes of its own, so that one can be told from another.
            others = {r.content for r in requests_of(self.steps) if r.op == "pwrite"}
            yield replace(request, content=next(n for n in range(1, 256) if n not in others))
        unit = self.facts.minimum
        at = self.failure.at
        if at is not None and request.offset <= at < request.end and request.count > unit:
            yield replace(request, offset=at // unit * unit, count=unit)
        for count in sorted({unit, 512 // unit * unit, 4096 // unit * unit, request.count // 2 // unit * unit}):
            if 0 < count < request.count:
                yield replace(request, count=count)
                yield replace(request, offset=request.end - count, count=count)

    def move_to_the_start(self) -> None:
        """The same, at smaller offsets: as far down as they go together, or by whole pages."""
        ranges = [r for r in requests_of(self.steps) if r.op != "flush"]
        if not ranges:
            return
        unit = self.facts.minimum
        lowest = min(r.offset for r in ranges)
        for by in (lowest, (lowest - unit) // 4096 * 4096, lowest // 4096 * 4096):
            if by > 0 and by % unit == 0 and self.take([self.moved(step, by) for step in self.steps]):
                return

    def moved(self, step: Step, by: int) -> Step:
        if not isinstance(step, tuple):
            return step
        return tuple(r if r.op == "flush" else replace(r, offset=r.offset - by) for r in step)
