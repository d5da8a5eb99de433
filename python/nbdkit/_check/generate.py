# SPDX-License-Identifier: BSD-3-Clause
"""Random sequences of requests that find faults: close to each other, and to where things begin and end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from random import Random

from .facts import BORDERS, Facts, MiB
from .steps import CHANGES, Event, Request, Step, independent

PAGE = 4096
AREA = 8 * PAGE  # most requests of a sequence lie within so many bytes, so that they meet
LENGTH = 30  # steps
ZEROS = 0.1  # the part of writes that write zeros
WEIGHTS = {"pwrite": 8, "zero": 4, "trim": 3, "pread": 3, "block_status": 2, "flush": 1, "cache": 1}


def operations(facts: Facts) -> frozenset[str]:
    """What can be asked of a disk. Zeros always can, since nbdkit writes them where the script cannot."""
    offered = {
        "pread": True, "block_status": True, "pwrite": facts.writable, "zero": facts.writable, "trim": facts.trim,
        "flush": facts.flush, "cache": facts.cache,
    }
    return frozenset(op for op, there in offered.items() if there)


class Generator:
    """Makes sequences for one disk.

    ops: the operations to use, some of operations().
    connections: how many connections there are to use.
    """

    def __init__(self, random: Random, facts: Facts, ops: frozenset[str], connections: int = 1) -> None:
        self.random = random
        self.facts = facts
        self.ops = [op for op in WEIGHTS if op in ops]
        self.connections = connections
        self.window = random.choices(facts.windows, [len(facts.windows), *[1] * (len(facts.windows) - 1)])[0]
        self.points = self._points()

    def _points(self) -> list[int]:
        """Where requests begin and end: in one small area, at pages and sectors, beside them, and anywhere."""
        window, unit = self.window, self.facts.minimum
        size = min(max(AREA, 2 * self.facts.preferred, 8 * unit), len(window))
        place = self.random.choice([window.start, window.stop - size, self.random.randrange(window.start, window.stop)])
        start = min(max(place // PAGE * PAGE, window.start), window.stop - size)
        area = range(start, start + size)
        step = max(self.facts.preferred, PAGE) if self.facts.preferred * 8 <= size else PAGE
        points = [edge + near for edge in range(start // step * step, area.stop + 1, step)
                  for near in (0, 0, 0, -1, 1, -512, 512)]
        points += [area.start, area.stop, *(self.random.randrange(area.start, area.stop + 1) for _ in range(8))]
        rounded = [point // unit * unit for point in points]
        return [point for point in rounded if area.start <= point <= area.stop]

    def range(self) -> tuple[int, int]:
        """An offset and a count."""
        unit = self.facts.minimum
        if self.random.random() < 0.04:  # a large one
            start, end = self.window.start, min(self.window.stop, self.window.start + MiB)
        else:
            start, end = sorted(self.random.choices(self.points, k=2))
        if start == end:
            start = min(start, self.window.stop - unit)
            end = start + unit
        return start, min(end - start, self.facts.maximum // unit * unit)

    def request(self, *, several: bool = False) -> Request:
        """One request. several: through any connection, instead of the first."""
        op = self.random.choices(self.ops, [WEIGHTS[op] for op in self.ops])[0]
        offset, count = self.range() if op != "flush" else (0, 0)
        flags = []
        if op in CHANGES and self.facts.fua and self.random.random() < 0.2:
            flags.append("FUA")
        if op == "zero":
            flags += ["NO_HOLE"] if self.random.random() < 0.3 else []
            flags += ["FAST_ZERO"] if self.facts.fast_zero and self.random.random() < 0.2 else []
        if op == "block_status" and self.random.random() < 0.3:
            flags.append("REQ_ONE")
        # Zeros are what scripts like to keep in a way of their own.
        content = self.content() if op == "pwrite" and self.random.random() >= ZEROS else 0
        return Request(op, offset, count, tuple(flags), content, self.connection() if several else 0)

    def content(self) -> int:
        """Bytes that are nowhere on the disk yet."""
        return self.random.randrange(256, 2**32)

    def connection(self) -> int:
        return self.random.randrange(self.connections)

    def look(self, request: Request) -> Request:
        """A read of what a request may have changed, and of its neighbours."""
        around = self.random.choice([0, 1, 512, PAGE]) if request.count < self.facts.maximum else 0
        around = -(-around // self.facts.minimum) * self.facts.minimum
        start, end = max(request.offset - around, self.window.start), min(request.end + around, self.window.stop)
        count = min(end - start, self.facts.maximum // self.facts.minimum * self.facts.minimum)
        return Request("pread", start, count, connection=self.connection())

    def look_at_all(self) -> Iterator[Request]:
        """A read of the whole area, through each connection."""
        start, end = min(self.points), max(self.points)
        largest = self.facts.maximum // self.facts.minimum * self.facts.minimum
        for connection in range(self.connections):
            for offset in range(start, end, largest):
                yield Request("pread", offset, min(end - offset, largest), connection=connection)

    def look_elsewhere(self) -> Request:
        """A read near the border of any window: what is written to a wrong place may have gone there."""
        window = self.random.choice(self.facts.windows)
        size = min(len(window), max(PAGE, self.facts.minimum))
        return Request("pread", self.random.choice([window.start, window.stop - size]), size)

    def ends(self, event: Event, *, fua: bool = False) -> list[Step]:
        """Writes to the first and the last bytes of the disk, and beyond the borders as far as to the first ones.

        They are read before, after, and again after the event; then the same with zeros. fua: have each of them last,
        instead of a flush.
        """
        unit = self.facts.minimum
        first, last = self.facts.windows[0], self.facts.windows[-1]
        size = min(512 // unit * unit or unit, len(first), len(last))
        places = [(start, size) for start in (0, *BORDERS) if any(start + size in w for w in self.facts.windows)]
        places += [(last.stop - size, size), (last.stop - unit, unit)]
        looks: list[Step] = [(Request("pread", *place),) for place in places]
        steps = list(looks)
        flags = ("FUA",) if fua and self.facts.fua else ()
        for op in ("pwrite", "zero"):
            if op in self.ops:
                steps += [(Request(op, *place, flags, self.content() if op == "pwrite" else 0),) for place in places]
                if "flush" in self.ops and not flags:
                    steps.append((Request("flush"),))
                steps += [*looks, event, *looks]
        return steps if "pwrite" in self.ops else [*steps, event, *looks]

    def largest(self) -> list[Step]:
        """The largest requests that there are: what a script does in parts, or in what is too small for it."""
        window = self.facts.windows[0]
        steps: list[Step] = []
        count = min(len(window), self.facts.maximum // self.facts.minimum * self.facts.minimum)
        look = Request("pread", window.start, count)
        for op in self.ops:
            if op != "flush":
                content = self.content() if op == "pwrite" else 0
                steps += [(Request(op, window.start, count, content=content),), (look,)]
        return steps

    def one_by_one(self) -> list[Step]:
        """Requests one after another, each change most often looked at at once; now and then, the client reconnects."""
        steps: list[Step] = [(look,) for look in self.look_at_all()]
        steps.insert(0, (self.look_elsewhere(),))
        while len(steps) < LENGTH:
            request = self.request(several=True)
            steps.append((request,))
            if request.changes and self.random.random() < 0.6:
                steps.append((self.look(request),))
            if self.random.random() < 0.04:
                steps.append(Event.REOPEN)
        return [*steps, *((look,) for look in self.look_at_all()), (self.look_elsewhere(),)]

    def at_once(self) -> list[Step]:
        """Waves of requests that do not depend on each other; often neighbours, from where the last one ends."""
        steps: list[Step] = [(look,) for look in self.look_at_all()]
        while len(steps) < LENGTH // 2:
            wanted = [self.request(several=True) for _ in range(self.random.randrange(2, 8))]
            if self.random.random() < 0.7:
                cuts = sorted(set(self.random.choices(self.points, k=len(wanted) + 1)))
                wanted = [self.moved(request, start, end) for request, (start, end) in
                          zip(wanted, itertools.pairwise(cuts)) if request.op != "flush"]
            wave: list[Request] = []
            for request in wanted:
                if all(independent(request, other) for other in wave):
                    wave.append(request)
            if wave:
                steps += [tuple(wave), tuple(self.look_at_all())]
        return steps

    def moved(self, request: Request, start: int, end: int) -> Request:
        count = min(end - start, self.facts.maximum // self.facts.minimum * self.facts.minimum)
        return replace(request, offset=start, count=count)

    def with_ends(self, event: Event) -> list[Step]:
        """Changes, some of which are to last, and then the server's end: what must be there is looked at."""
        steps: list[Step] = [(look,) for look in self.look_at_all()]
        for _ in range(2):
            for _ in range(self.random.randrange(1, 8)):
                request = self.request()
                if request.changes and self.facts.fua and self.random.random() < 0.4:
                    request = replace(request, flags=tuple(sorted({"FUA", *request.flags})))
                steps.append((request,))
            if "flush" in self.ops and self.random.random() < 0.3:
                steps.append((Request("flush"),))
            steps += [event, *((look,) for look in self.look_at_all())]
        return steps
