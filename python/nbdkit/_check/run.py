# SPDX-License-Identifier: BSD-3-Clause
"""The whole check of a script, in order: its source, its start, and then one kind of sequences after another."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from .client import PATIENCE
from .facts import Facts
from .generate import Generator, operations
from .plugin import find_plugin
from .reading import read_source
from .report import Fault, Report
from .reproduce import fault_of, reproduce
from .server import ServerError
from .steps import Event, Request, Step
from .trial import Disk, Failure, Trial

MOST_FAULTS = 5
CONNECTIONS = 3
_ENTRY = re.compile(r"^(?=nbdkit: )", re.MULTILINE)
_ERROR = re.compile(r"nbdkit: (?!.*warning: ).*error: ")

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Options:
    """How to check: see nbdkit.testing.check.

    export: the name of the export; default: the server's default export.
    patience: seconds to wait for an answer.
    shrinking: seconds for making a sequence that fails small.
    """

    seed: int = 0
    rounds: int = 100
    seconds: float = 60.0
    read_only: bool = False
    export: str = ""
    patience: float = PATIENCE
    shrinking: float = 10.0


def run(script: str | os.PathLike[str], words: Sequence[str], options: Options,
        progress: Progress = lambda what, part: None) -> Report:
    """Check a script. `progress` is called with what is being done, and how much of all of it has been, from 0 to 1."""
    words = [*words, *(["-r"] if options.read_only else [])]
    report = Report(os.fspath(script), words, options.seed)
    begin = time.monotonic()
    find_plugin()
    try:
        source = Path(script).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no script {os.fspath(script)!r}") from None
    check = _Check(Disk(script, words, options.export, options.patience), options, report, progress)
    try:
        progress("source", 0.0)
        faults, starts = read_source(source, os.fspath(script))
        report.faults += faults
        report.tried.append("source")
        if starts:
            check.all()
        else:
            report.not_tried.append("anything but reading the source: the disk would not start")
    finally:
        check.disk.renew()
    report.requests = check.disk.requests
    report.seconds = time.monotonic() - begin
    return report


class _Stop(Exception):
    """There is no point in going on."""


class _Check:
    def __init__(self, disk: Disk, options: Options, report: Report, progress: Progress) -> None:
        self.disk = disk
        self.options = options
        self.report = report
        self.progress = progress
        self.begin = time.monotonic()
        self.facts: Facts  # from the first connection on
        self.part = 0.0

    def tell(self, what: str, part: float) -> None:
        self.part = part
        self.progress(what, part)

    def all(self) -> None:
        try:
            self.start()
            self.search("requests one by one", 0.0, 0.4, self.options.rounds,
                        lambda g, i: g.ends(Event.REOPEN) if i == 0 else g.largest() if i == 1 else g.one_by_one(),
                        essential=True)
            several = self.several_connections()
            self.search("requests at the same time", 0.6, 0.85, self.options.rounds // 2,
                        lambda g, i: g.at_once(), connections=several, by_chance=True, only_one=True)
            self.ends_of_the_server()
            self.errors_in_the_log()
        except _Stop as stop:
            self.report.not_tried.append(str(stop))

    def start(self) -> None:
        """The first connection, and what the disk offers."""
        try:
            self.disk.server()
        except ServerError as error:
            self.report.faults.append(Fault("start", error.message, log=error.log))
            raise _Stop("requests: the disk does not start") from None
        trial = Trial(self.disk, None, 1)
        try:
            trial.run([])
        except Failure as failure:
            self.report.faults.append(fault_of(failure, ()))
            raise _Stop("requests: a client cannot use the disk") from None
        assert trial.facts
        self.facts = trial.facts
        self.ops = operations(self.facts)
        if not self.facts.windows:
            raise _Stop("requests: the disk has no bytes")
        if not self.facts.writable:
            why = "-r" if "-r" in self.report.words else "the disk is read-only"
            self.report.not_tried.append(f"requests that change the disk: {why}")

    def several_connections(self) -> int:
        """How many connections may be used at once, after a search for faults with as many."""
        if not self.facts.multi_conn:
            self.report.not_tried.append("several connections at once: the disk does not offer it (can_multi_conn)")
            return 1
        if self.disk.told != self.facts:
            self.report.not_tried.append("several connections at once: they need a flush that works")
            return 1
        good = self.search("several connections", 0.4, 0.6, self.options.rounds // 2,
                           lambda g, i: g.one_by_one(), connections=CONNECTIONS)
        return CONNECTIONS if good else 1

    def search(self, what: str, first: float, last: float, rounds: int, make: Callable[[Generator, int], list[Step]],
               *, connections: int = 1, by_chance: bool = False, essential: bool = False,
               only_one: bool = False) -> bool:
        """Try sequences of one kind until a fault is found that hides others; False then.

        first, last: the part of all that this is. by_chance: what fails need not fail each time.
        essential: what comes later rests on these. only_one: one fault is enough.
        """
        done, rounds = 0, max(rounds, 1)
        deadline = self.begin + self.options.seconds * last
        for number in range(rounds):
            self.tell(what, first + (last - first) * number / rounds)
            if number and time.monotonic() > deadline:
                self.report.not_tried.append(f"{what}, {rounds - number} of {rounds} rounds: the time is over")
                break
            random = Random(f"{self.options.seed} {what} {number}")
            steps = make(Generator(random, self.facts, self.ops, connections), number)
            failure = self.attempt(steps, connections)
            done += 1
            if failure:
                self.tell("making a sequence that fails small", self.part)
                fault = reproduce(self.disk, self.facts, steps, failure, connections, by_chance,
                                  self.options.shrinking)
                self.disk.renew()
                self.report.faults.append(fault)
                hidden = {request.op for request in fault.requests} & self.ops - {"pread", "pwrite"}
                if len(self.report.faults) >= MOST_FAULTS:
                    raise _Stop(f"more: {MOST_FAULTS} faults are enough for once")
                if not hidden or only_one:
                    if essential:
                        raise _Stop("other kinds of requests: they rest on what is wrong here")
                    return False
                # What is known to be wrong is left out, to find what else is.
                self.ops -= hidden
                self.facts = replace(self.facts, flush=self.facts.flush and "flush" in self.ops)
            else:
                self.disk.history.append(steps)
        self.report.tried.append(f"{what}: {done} rounds")
        return True

    def attempt(self, steps: Sequence[Step], connections: int) -> Failure | None:
        """How a sequence fails, if it does."""
        try:
            Trial(self.disk, self.facts, connections).run(steps)
        except Failure as failure:
            return failure
        return None

    def ends_of_the_server(self) -> None:
        """Does the disk outlive its server? Then what it has promised must, too."""
        if "pwrite" not in self.ops:
            return
        if not self.outlives():
            self.report.not_tried.append(
                "flush and FUA when the server is killed: what is written ends with the server, as on a RAM disk")
            return
        rounds = max(2, self.options.rounds // 5)
        if not self.search("ends of the server", 0.85, 0.9, 2,
                           lambda g, i: g.with_ends(Event.RESTART) if i else g.ends(Event.RESTART), only_one=True):
            return
        if not (self.facts.flush or self.facts.fua):
            self.report.not_tried.append("flush and FUA when the server is killed: the disk offers neither")
            return
        self.search("deaths of the server", 0.9, 1.0, rounds,
                    lambda g, i: g.with_ends(Event.KILL) if i > 1 else g.ends(Event.KILL, fua=i == 0), only_one=True)

    def outlives(self) -> bool:
        """Whether anything that is written is there again when the server has been stopped and started."""
        unit = self.facts.minimum
        window = self.facts.windows[0]
        size = min(max(unit, 4096 // unit * unit), len(window))
        for part in range(4):
            offset = window.start + (len(window) - size) * part // 3 // unit * unit
            for content in (1, 2):
                write = Request("pwrite", offset, size, content=content)
                # With both contents, since one of them may have been there before.
                failure = self.attempt([(write,), Event.RESTART, (Request("pread", offset, size),)], 1)
                if failure and failure.kind != "restart":
                    self.report.faults.append(fault_of(failure, ((write,), Event.RESTART)))
                    raise _Stop("the disk after its server's end: it does not come back")
                if failure:
                    break
            else:
                return True
        return False

    def errors_in_the_log(self) -> None:
        """An exception that only the log tells of, as one in `close`."""
        self.tell("log", 1.0)
        try:
            self.disk.stop()
        except ServerError as error:
            self.report.faults.append(Fault("server", error.message, log=error.log))
            return
        errors = [error for log in self.disk.logs for error in _errors(log)]
        if self.report.ok and errors:
            first, *_, last = errors[0].partition("error: ")[2].splitlines() * 2
            self.report.faults.append(Fault("log", f"{first} {last}" if first != last else first, log=errors[0]))


def _errors(log: str) -> list[str]:
    """The errors in nbdkit's log, each with the traceback that may follow it."""
    return [entry.strip() for entry in _ENTRY.split(log) if _ERROR.match(entry)]
