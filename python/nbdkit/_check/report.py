# SPDX-License-Identifier: BSD-3-Clause
"""What has been found: the faults, and what was tried, as objects, as text, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .steps import Event, Request, Step, lines, requests_of

# The kinds of faults, each with what it says in a heading.
KINDS = {
    "source": "what the source shows",
    "start": "the disk does not start",
    "connect": "a client cannot connect",
    "facts": "connections are told different things",
    "data": "wrong bytes are read",
    "reopen": "wrong bytes after the client has connected again",
    "restart": "wrong bytes after the server has been started again",
    "durability": "what was flushed, or written with FUA, is lost when the server is killed",
    "extents": "extents that are not so",
    "error": "a request fails",
    "no answer": "no answer",
    "server": "the server dies",
    "log": "an error in the log that no client was told of",
}

LOG_LINES = 12  # that are shown


@dataclass(frozen=True)
class Fault:
    """Something wrong with a script.

    kind: one of KINDS, such as "data" or "extents".
    message: what is wrong, in a line or two.
    line: of the script, for what its source shows; else None.
    steps: the smallest sequence that was found to show it: each is a tuple of Request, sent at once, or an Event.
        Empty for a fault that no requests are needed for.
    seen: in how many runs of the sequence, each on a new server, it showed itself again, and of how many.
    times: how many times over the sequence was done in each run, each time upon other bytes; more than once for what
        happens by chance.
    log: what the server said meanwhile.
    """

    kind: str
    message: str
    line: int | None = None
    steps: tuple[Step, ...] = ()
    seen: tuple[int, int] = (1, 1)
    times: int = 1
    log: str = ""

    @property
    def requests(self) -> list[Request]:
        """The requests of its steps."""
        return requests_of(self.steps)

    def __str__(self) -> str:
        """As text of several lines."""
        where = f"line {self.line}: " if self.line is not None else ""
        text = [f"{KINDS[self.kind]}: {where}{self.message}" if self.kind != "source" else f"{where}{self.message}"]
        if self.steps:
            text += ["", *(f"    {line}" for line in lines(self.steps)), ""]
            seen, runs = self.seen
            if seen < runs or self.times > 1:
                over = f", each with these requests {self.times} times over, upon other bytes" if self.times > 1 else ""
                text.append(f"Seen again in {seen} of {runs} runs{over}.")
        if self.log:
            text += ["The log says:", *(f"    {line}" for line in self.log.splitlines()[-LOG_LINES:])]
        while not text[-1]:
            text.pop()
        return "\n".join(text)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        steps: list[dict[str, Any]] = [
            {"event": step.name.lower()} if isinstance(step, Event) else
            {"requests": [vars(request) for request in step]} for step in self.steps]
        return {"kind": self.kind, "message": self.message, "line": self.line, "steps": steps,
                "lines": lines(self.steps), "seen": self.seen[0], "runs": self.seen[1], "times": self.times,
                "log": self.log}


@dataclass
class Report:
    """The outcome of a check.

    script: its path; words: its parameters, and nbdkit's own options.
    seed: that of the requests.
    faults: what is wrong; empty if nothing was found.
    tried: what has been tried, a line each, with how much of it.
    not_tried: what has not, with the reason.
    requests: how many were answered; seconds: how long it took.
    """

    script: str
    words: Sequence[str]
    seed: int
    faults: list[Fault] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    not_tried: list[str] = field(default_factory=list)
    requests: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.faults

    def __str__(self) -> str:
        """As text: the faults, what was not tried, and the verdict in the last line."""
        parts = [f"{number}. {fault}\n" for number, fault in enumerate(self.faults, 1)]
        parts += [f"not tried: {what}" for what in self.not_tried]
        return "\n".join([*parts, self.verdict()])

    def verdict(self) -> str:
        """One line."""
        number = len(self.faults)
        found = "no fault found" if self.ok else f"{number} fault{'s' * (number > 1)} found"
        return f"{self.script}: {found}; {self.requests:,} requests in {self.seconds:.1f} s, seed {self.seed}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"script": self.script, "words": list(self.words), "ok": self.ok, "seed": self.seed,
                "faults": [fault.as_dict() for fault in self.faults], "tried": self.tried,
                "not_tried": self.not_tried, "requests": self.requests, "seconds": round(self.seconds, 3)}
