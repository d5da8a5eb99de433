# SPDX-License-Identifier: BSD-3-Clause
"""Makes a fault of a sequence that has failed: one that fails again, on a new server, and is as small as it gets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from .facts import Facts
from .report import Fault
from .shrink import Steps, shrink
from .steps import Event, Request, Step, requests_of
from .trial import Disk, Failure, Trial

PATTERN = 256  # the first content of what random bytes are written for
HANGS = 1.0  # seconds to wait for an answer while a sequence that hangs is made small


@dataclass(frozen=True)
class Way:
    """How to do a sequence again.

    connections: how many there are.
    new_server: whether it has a server of its own, or that of the last attempt, which is quicker.
    first: what is done before the sequence.
    by_chance: whether it need not fail each time, so that it is done over and over.
    """

    connections: int
    new_server: bool
    first: Sequence[Request]
    by_chance: bool

    def times(self, steps: Sequence[Step]) -> int:
        """How many times over to do a sequence."""
        return max(8, 200 // len(requests_of(steps))) if self.by_chance else 1


def reproduce(disk: Disk, facts: Facts, steps: Steps, failure: Failure, connections: int, by_chance: bool,
              seconds: float) -> Fault:
    """The fault behind a failure, with the smallest sequence that was found to show it.

    steps, failure: a sequence, and how it has failed, on a server that had done the disk's history before.
    seconds: for making it small.
    """
    if failure.done < 1:  # no request was needed
        return fault_of(failure, ())
    steps = steps[:failure.done]
    if failure.kind == "server" and isinstance(steps[-1], Event):  # it may never start again
        return fault_of(failure, (steps[-1],))
    tries, patience = 0, disk.patience
    hangs = failure.kind == "no answer"
    for steps_again, way in _ways(facts, steps, disk.history, connections, by_chance):
        if hangs:  # each attempt waits; that it never answers is seen at the end
            disk.patience = min(patience, HANGS)
        again = _attempt(disk, facts, way, steps_again)
        tries += 1
        if again is not None and again.done >= 1 and again.is_like(failure):
            small, last = shrink(steps_again[:again.done], again, facts, partial(_attempt, disk, facts, way), seconds,
                                 by_chance)
            disk.patience = patience
            on_a_new_server = Way(connections, True, way.first if by_chance else (), by_chance)
            runs = 5 if by_chance else 1 if hangs else 2
            seen = [came for _ in range(runs)
                    if (came := _attempt(disk, facts, on_a_new_server, small)) and came.is_like(last)]
            if seen:
                return fault_of(seen[-1], tuple(small), (len(seen), runs), on_a_new_server.times(small))
        disk.patience = patience
    return fault_of(failure, tuple(steps), (0, tries))


def fault_of(failure: Failure, steps: tuple[Step, ...], seen: tuple[int, int] = (1, 1), times: int = 1) -> Fault:
    """What a failure is in a report."""
    return Fault(failure.kind, failure.message, steps=steps, seen=seen, times=times, log=failure.log)


def _ways(facts: Facts, steps: Steps, history: Sequence[Sequence[Step]], connections: int, by_chance: bool
          ) -> Iterator[tuple[Steps, Way]]:
    """What to do again and how, the quickest first."""
    if by_chance:
        # Most often it goes wrong within the last two steps. Each time there are other bytes than those to be written.
        others = tuple(_fill(facts, requests_of(steps), itertools.count(PATTERN)))
        yield steps[-2:], Way(connections, False, others, True)
        yield steps, Way(connections, False, others, True)
        return
    # The disk of a server that has done something already is made more like a new one.
    zeros = tuple(_fill(facts, [r for r in requests_of(steps) if r.changes], itertools.repeat(0)))
    yield steps, Way(connections, False, zeros, False)
    yield steps, Way(connections, True, (), False)
    # It takes what the disk had in it; on one that outlives its server, that is other bytes by now.
    pattern = [(request,) for request in _fill(facts, [r for r in requests_of(steps) if r.changes],
                                               itertools.count(PATTERN))]
    yield [*pattern, *steps], Way(connections, False, zeros, False)
    # It takes what was done before.
    before: Steps = []
    for sequence in history:
        before += [*sequence, Event.REOPEN]
    yield [*before, *steps], Way(connections, True, (), False)


def _attempt(disk: Disk, facts: Facts, way: Way, steps: Sequence[Step]) -> Failure | None:
    """How a sequence fails, if it does."""
    if way.new_server:
        disk.renew()
    connections = max([way.connections, *(1 + request.connection for request in requests_of(steps))])
    try:
        Trial(disk, facts, connections).run(steps, way.first, way.times(steps))
    except Failure as failure:
        return failure
    return None


def _fill(facts: Facts, requests: Sequence[Request], contents: Iterator[int]) -> Iterator[Request]:
    """Writes to all that these requests touch."""
    if not facts.writable:
        return
    largest = facts.maximum // facts.minimum * facts.minimum
    for window in facts.windows:
        inside = [request for request in requests if request.count and request.offset in window]
        if inside:
            start, end = min(r.offset for r in inside), max(r.end for r in inside)
            for offset in range(start, end, largest):
                yield Request("pwrite", offset, min(end - offset, largest), content=next(contents))
    if facts.flush and requests:
        yield Request("flush")
