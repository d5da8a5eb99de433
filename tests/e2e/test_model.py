# SPDX-License-Identifier: BSD-3-Clause
"""Random requests over several connections, on every kind of disk, against a model that knows each byte and errno.

What fails is shown as the shortest sequence of steps that hypothesis finds. `./test model` is the long form.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import (
    Bundle, RuleBasedStateMachine, consumes, initialize, precondition, rule, run_state_machine_as_test)

from model import DISKS, FAST, FUA, NO_HOLE, PAGE, REQ_ONE, SIZE, ZERO, Model, Request
from model_real import Client, Flight, Real, running

# Examples for each disk, and the seed of the choices: a plain run always makes the same few.
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "40"))
SEED = os.environ.get("MODEL_SEED", "0")
# With MODEL_FAULTS=0, no call goes wrong: for a plugin that has no errno for exceptions.
NUMBERS = st.sampled_from([0] * 50 + list(range(1, 51 if os.environ.get("MODEL_FAULTS") != "0" else 1)))
# hypothesis remembers all that it has tried, and so has to start anew now and then.
ROUND = 100
SETTINGS = settings(
    max_examples=min(EXAMPLES, ROUND), stateful_step_count=40, database=None, deadline=None, report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck))
SEARCH = settings(SETTINGS, max_examples=500, phases=[Phase.generate])
MOST_CLIENTS = 4

# Where requests begin and end: at or near the border of a page, on a sector, anywhere.
EDGES = [min(max(page + near, 0), SIZE) for page in [*range(0, SIZE, PAGE), SIZE] for near in (0, -1, 1)]
POINTS = st.sampled_from([*EDGES * 4, *range(0, SIZE, 512), *range(5, SIZE, 509)])
FAR = [SIZE, SIZE + 1, 2**31, 2**32, 2**40, 2**63 - 2 * PAGE]
PLACES = ["between"] * 8 + ["sectors"] * 8 + ["all", "over the end", "far", "long"]
NO_DATA = {"zero", "trim", "cache", "block_status"}


def request(op: str, place: str, one: int, other: int, flags: int, content: int) -> Request:
    """A request for the range that two points and the kind of place make."""
    start, end = sorted((one, other))
    if place == "sectors":
        start, end = start // 512 * 512, end // 512 * 512
    if start == end:
        start, end = min(start, SIZE - 512), min(start, SIZE - 512) + 512
    if place == "all":
        start, end = 0, SIZE
    elif place == "over the end":
        start, end = one, SIZE + other + 1
    elif place == "far":
        start = FAR[one % len(FAR)]
        end = start + other % PAGE + 1
    elif place == "long" and op in NO_DATA:
        end = start + 2**32 - 1
    return Request(op, start, end - start, flags, content)


def requests(op: str, *flags: int) -> st.SearchStrategy[Request]:
    """Requests of one kind, with every combination of these flags."""
    sums = [sum(some) for length in range(len(flags) + 1) for some in itertools.combinations(flags, length)]
    return st.builds(request, st.just(op), st.sampled_from(PLACES), POINTS, POINTS, st.sampled_from(sums),
                     st.integers(0, 9) if op == "pwrite" else st.just(0))


REQUESTS = {
    "pread": requests("pread"), "pwrite": requests("pwrite", FUA), "zero": requests("zero", FUA, FAST, NO_HOLE),
    "trim": requests("trim", FUA), "flush": st.just(Request("flush")), "cache": requests("cache"),
    "block_status": requests("block_status", REQ_ONE),
}
ANY = st.one_of(*REQUESTS.values())
CLIENTS: Bundle[Client] = Bundle("clients")


def sending(op: str) -> Callable[..., None]:
    """The rule that sends one request of this kind."""
    def send(self: Requests, client: Client, request: Request) -> None:
        self.fly([(client, request)])

    send.__name__ = op
    return rule(client=CLIENTS, request=REQUESTS[op])(send)


class Requests(RuleBasedStateMachine):
    """Connections come and go; each request is sent to the disk and to the model."""

    clients = CLIENTS
    pread, pwrite, zero, trim, flush, cache, block_status = map(sending, REQUESTS)

    def __init__(self, real: Real) -> None:
        super().__init__()
        self.real = real
        self.model = Model(real.disk)
        self.open: list[Client] = []
        self.agree = True
        real.reset()
        real.figures["examples"] += 1

    @initialize(target=clients, number=NUMBERS)
    def connect_first(self, number: int) -> Client:
        return self.connect_as(number, False)

    @precondition(lambda self: len(self.open) < MOST_CLIENTS)
    @rule(target=clients, number=NUMBERS, readonly=st.sampled_from([False] * 9 + [True]))
    def connect(self, number: int, readonly: bool) -> Client:
        return self.connect_as(number, readonly)

    def connect_as(self, number: int, readonly: bool) -> Client:
        h = self.real.server.connect(f"{number} read-only" if readonly else str(number))
        # nbdkit itself should say what it thinks of a request.
        h.set_strict_mode(0)
        disk = self.real.disk
        offers = h.is_read_only(), h.can_flush(), h.can_multi_conn(), h.can_cache(), h.can_fua(), h.can_fast_zero()
        assert offers == (readonly, disk.has("flush"), disk.multi_conn, disk.cache != "NONE",
                          disk.fua != "NONE" and not readonly, disk.fast_zero and not readonly)
        self.open.append(Client(h, number, readonly))
        self.real.figures["connections"] += 1
        return self.open[-1]

    @precondition(lambda self: len(self.open) > 1)
    @rule(client=consumes(clients))
    def disconnect(self, client: Client) -> None:
        self.open.remove(client)
        client.h.shutdown()

    @rule(batch=st.lists(st.tuples(clients, ANY), min_size=2, max_size=12))
    def send_at_once(self, batch: list[tuple[Client, Request]]) -> None:
        """As many at a time as do not get into each other's way."""
        wave: list[tuple[Client, Request]] = []
        for client, request in batch:
            if not all(self.model.independent(request, other) for _, other in wave):
                self.fly(wave)
                wave = []
            wave.append((client, request))
        self.fly(wave)

    @rule(cuts=st.sets(POINTS, min_size=3, max_size=8), batch=st.lists(st.tuples(clients, ANY), min_size=2, max_size=7))
    def send_side_by_side(self, cuts: set[int], batch: list[tuple[Client, Request]]) -> None:
        """Neighbours, each from where the last one ends: no two of them have a byte in common."""
        places = itertools.pairwise(sorted(cuts))
        self.send_at_once([(client, replace(request, offset=start, count=end - start))
                           for (client, request), (start, end) in zip(batch, places)])

    def teardown(self) -> None:
        try:
            if self.agree:
                self.compare("the disk at the end", self.real.snapshot(), self.model.snapshot())
        finally:
            for client in self.open:
                if client.h.aio_is_ready():
                    client.h.shutdown()

    def fly(self, wave: list[tuple[Client, Request]]) -> None:
        """Send requests, then wait for the answers, and compare."""
        self.agree = False
        flights = [Flight(client, self.allowed(client, request)) for client, request in wave]
        for flight in flights:
            flight.start()
        self.real.hangs = True
        came = [flight.finish() for flight in flights]
        self.real.hangs = False
        for flight, errno in zip(flights, came):
            note(f"    {flight.request}: {name(errno)}")
            expected = self.model.answer(flight.client.number, flight.client.readonly, flight.request)
            assert errno == expected, (
                f"{flight.request}: expected {name(expected)}, got {name(errno)}\n{self.real.server.log()[-2000:]}")
            self.real.figures["requests"] += 1
            self.real.figures["errors"] += errno != 0
        # The requests of a wave do not overlap where one of them changes anything.
        for flight, errno in zip(flights, came):
            start, end = flight.request.offset, flight.request.offset + flight.request.count
            if errno == 0 and flight.request.op == "pread":
                self.compare(str(flight.request), flight.data(), self.model.data[start:end])
            elif errno == 0 and flight.request.op == "block_status":
                self.compare_extents(flight.request, flight.extents)
        self.agree = True

    def allowed(self, client: Client, request: Request) -> Request:
        """The request, without the flag that makes nbdkit abort where it has not offered it (up to 1.42 at least)."""
        if self.real.disk.fast_zero and not client.readonly:
            return request
        return replace(request, flags=request.flags & ~FAST)

    def compare(self, what: str, got: bytes, expected: bytes) -> None:
        self.real.figures["bytes"] += len(expected)
        assert len(got) == len(expected), f"{what}: expected {len(expected)} bytes, got {len(got)}"
        if got != expected:
            at = next(i for i, (a, b) in enumerate(zip(got, expected)) if a != b)
            raise AssertionError(f"{what}: expected {expected[at:at + 8].hex()}, got {got[at:at + 8].hex()} at {at}")

    def compare_extents(self, request: Request, entries: list[int]) -> None:
        lengths, kinds = entries[::2], entries[1::2]
        assert lengths and all(lengths), f"{request}: extents of {lengths} bytes"
        if request.flags & REQ_ONE:
            assert len(lengths) == 1 and lengths[0] <= request.count, f"{request}: extents of {lengths} bytes"
        else:
            # The last one may go on, but not beyond the disk.
            assert request.count <= sum(lengths) <= SIZE - request.offset, f"{request}: extents of {lengths} bytes"
        got = b"".join(bytes([kind]) * length for length, kind in zip(lengths, kinds))
        known = self.model.kinds if self.real.disk.has("extents") else bytes(SIZE)
        self.compare(f"{request}: types", got, known[request.offset:request.offset + len(got)])
        # Whatever the model says of its pages: what reads as zeros has none but zeros.
        ends = itertools.accumulate(lengths, initial=request.offset)
        for (start, end), kind in zip(itertools.pairwise(ends), kinds):
            assert not (kind & ZERO and any(self.model.data[start:end])), f"{request}: not zero from {start} to {end}"


def name(number: int) -> str:
    return os.strerror(number) if number else "success"


def check(real: Real, how: settings = SETTINGS, number: int = 0) -> None:
    """Have hypothesis send requests to a disk."""
    run: Callable[..., None] = run_state_machine_as_test  # without types in hypothesis 6.67
    run(seed(f"{SEED} {number} {real.disk}")(lambda: Requests(real)), settings=how)


@pytest.mark.parametrize("disk", DISKS)
def test_a_disk_is_as_its_model(tmp_path: Path, disk: str, record_property: Callable[[str, object], None]) -> None:
    with running(tmp_path, DISKS[disk]) as real:
        try:
            for number in range(0, EXAMPLES, ROUND):
                check(real, number=number)
        finally:
            record_property("model", dict(real.figures))


# Which disk each defect is put into; it is to be found within this many examples.
DEFECTS = {
    "WriteSlipsAtAPage": "count", "ReadSlipsAtTheEnd": "buf", "ZeroForgetsTheLastByte": "version 1",
    "ZeroAlwaysTrims": "buf, parallel", "TrimLiesInExtents": "count", "ExtentsForgetTheLastPage": "version 1, parallel",
    "FlushDoesNothing": "version 1", "FuaDoesNothing": "buf, parallel", "SwallowsErrors": "buf",
    "WrongErrno": "count", "ReadsAreStale": "buf", "NoLock": "count, parallel",
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(tmp_path: Path, defect: str, record_property: Callable[[str, object], None]) -> None:
    with running(tmp_path, DISKS[DEFECTS[defect]], f"model_broken.{defect}") as real:
        with pytest.raises((AssertionError, Flaky)):
            check(real, SEARCH)
    record_property("model", dict(real.figures))
