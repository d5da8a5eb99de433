# SPDX-License-Identifier: BSD-3-Clause
"""What a sequence is made of: requests, some of them at once, and what happens to connections and to the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

CHANGES = ("pwrite", "zero", "trim")


@dataclass(frozen=True)
class Request:
    """One request of a client's.

    op: pread, pwrite, zero, trim, flush, cache or block_status.
    offset, count: its range in bytes; both are 0 for a flush.
    flags: some of "FUA", "NO_HOLE", "FAST_ZERO" and "REQ_ONE".
    content: what a pwrite writes: up to 255, bytes of that value; above, bytes that are random but always the same.
    connection: which connection it goes through; 0 is the first.
    """

    op: str
    offset: int = 0
    count: int = 0
    flags: tuple[str, ...] = ()
    content: int = 0
    connection: int = 0

    @property
    def end(self) -> int:
        """The byte after its range."""
        return self.offset + self.count

    @property
    def data(self) -> bytes:
        """What a pwrite writes."""
        if self.content < 256:
            return bytes([self.content]) * self.count
        return Random(self.content).randbytes(self.count)

    @property
    def changes(self) -> bool:
        """Whether the disk may be another one after it."""
        return self.op in CHANGES

    def __str__(self) -> str:
        """As a line for libnbd's shell, nbdsh, where `h` is the connection; further ones are called h1, h2, …"""
        handle = f"h{self.connection or ''}"
        if self.op == "pwrite":
            words = [self._written(), str(self.offset)]
        elif self.op == "flush":
            words = []
        else:
            words = [str(self.count), str(self.offset)]
        if self.op == "block_status":
            words.append("print")
        if self.flags:
            words.append(" | ".join(f"nbd.CMD_FLAG_{flag}" for flag in self.flags))
        return f"{handle}.{self.op}({', '.join(words)})"

    def _written(self) -> str:
        if self.content > 255:
            return f"random.Random({self.content}).randbytes({self.count})"
        return f'b"\\x{self.content:02x}"' + (f" * {self.count}" if self.count > 1 else "")


class Event(Enum):
    """What else can happen; the value says it."""

    REOPEN = "the client flushes if it can, disconnects, and connects again"
    RESTART = "the client flushes if it can and disconnects; the server is stopped, and started again"
    KILL = "the server is killed, and started again"


# Requests that are under way at once, often only one, or an event.
Step = tuple[Request, ...] | Event


def requests_of(steps: Sequence[Step]) -> list[Request]:
    """All requests of a sequence."""
    return [request for step in steps if isinstance(step, tuple) for request in step]


def lines(steps: Sequence[Step]) -> list[str]:
    """A sequence as text, a line for each request or event."""
    text = []
    for step in steps:
        if isinstance(step, Event):
            text.append(f"# {step.value}")
        else:
            text += [f"{request}  # at the same time as the next" for request in step[:-1]] + [str(step[-1])]
    return text


def independent(one: Request, other: Request) -> bool:
    """Whether two requests may be under way at once, and everything is known of what they lead to."""
    if "flush" in (one.op, other.op):
        return not (one.changes or other.changes)
    return one.end <= other.offset or other.end <= one.offset or not (one.changes or other.changes)
