# SPDX-License-Identifier: BSD-3-Clause
"""A disk as it should be: what is known of each byte, who may see it, and whether it outlives the server.

What a disk holds at first is not known; it is learnt from what is read, and must be so from then on. The same goes for
what a trim leaves behind. So nothing need be written to a disk, or restored, before a sequence of requests.
"""

from __future__ import annotations

from collections.abc import Sequence

from .facts import Facts
from .steps import Request

HOLE, ZERO = 1, 2  # bits of an extent's type, as NBD has them
ALL = 255  # seen by all connections
_NOT = bytes([1, 0]) + bytes(254)  # for bytes.translate


class Mismatch(Exception):
    """What came is not what the model knows; the text says how.

    at: which byte of the disk it is. of_extents: whether it is extents that are wrong.
    """

    def __init__(self, message: str, at: int | None = None, of_extents: bool = False) -> None:
        super().__init__(message)
        self.at = at
        self.of_extents = of_extents


class Window:
    """A part of the disk. Each array has a byte for each of the disk's."""

    def __init__(self, place: range) -> None:
        self.place = place
        self.data = bytearray(len(place))
        self.known = bytearray(len(place))  # 1: data says what is there
        self.told = bytearray(len(place))  # 1: it is known from extents alone
        self.lasts = bytearray(len(place))  # 1: it outlives the server, if what is written does at all
        self.owner = bytearray([ALL]) * len(place)  # the connection that has written it and not flushed it, or ALL

    def fill(self, place: slice, array: bytearray, value: int) -> None:
        array[place] = bytes([value]) * (place.stop - place.start)


class Model:
    """All that is known of a disk whose facts these are."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.windows = [Window(place) for place in facts.windows]

    def part(self, request: Request) -> tuple[Window, slice]:
        """The window that a request lies in, and its place there."""
        for window in self.windows:
            if request.offset in window.place and request.end <= window.place.stop:
                start = request.offset - window.place.start
                return window, slice(start, start + request.count)
        raise ValueError(f"{request} is in no window of the disk")

    def has_done(self, request: Request, data: bytes | None = None,
                 extents: list[tuple[int, int]] | None = None) -> None:
        """Take note of a request that has succeeded, or raise Mismatch.

        data: what a pread has read.
        extents: what a block_status has answered, as (length, type).
        """
        if request.op == "flush":
            self.flush(request.connection)
        elif data is not None:
            self.read(request, data)
        elif extents is not None:
            self.status(request, extents)
        elif request.changes:
            self.change(request)

    def change(self, request: Request) -> None:
        window, place = self.part(request)
        window.fill(place, window.told, 0)
        if request.op == "trim":
            window.fill(place, window.known, 0)
        else:
            window.data[place] = request.data if request.op == "pwrite" else bytes(request.count)
            window.fill(place, window.known, 1)
        shared = "FUA" in request.flags or not self.facts.flush
        window.fill(place, window.owner, ALL if shared else request.connection)
        window.fill(place, window.lasts, "FUA" in request.flags)

    def flush(self, connection: int) -> None:
        """With multi-conn, a flush is for all connections; without, there is no other."""
        for window in self.windows:
            whole = slice(0, len(window.place))
            window.fill(whole, window.owner, ALL)
            window.fill(whole, window.lasts, 1)

    def seen(self, window: Window, place: slice, connection: int) -> bool:
        """Whether all of a range is what this connection must see."""
        owners = window.owner[place]
        return owners.count(ALL) + owners.count(connection) == len(owners)

    def read(self, request: Request, data: bytes) -> None:
        window, place = self.part(request)
        if not self.seen(window, place, request.connection):
            return
        known, old = window.known[place], window.data[place]
        if data != old and (0 not in known or _where(known, data) != _where(known, old)):
            expected = [right if is_known else came for right, came, is_known in zip(old, data, known)]
            at = next(i for i, (came, right) in enumerate(zip(data, expected)) if came != right)
            of_extents = window.told[place][at] == 1
            why = " as extents have said" if of_extents else ""
            raise Mismatch(f"at {request.offset + at}, expected {_shown(expected[at:])}{why}, got {_shown(data[at:])}",
                           request.offset + at, of_extents)
        window.data[place] = data
        window.fill(place, window.known, 1)
        window.fill(place, window.told, 0)

    def status(self, request: Request, extents: list[tuple[int, int]]) -> None:
        """What is said to be zeros must be known to be zeros, or is from now on."""
        window, place = self.part(request)
        if not extents or not all(length for length, _ in extents):
            raise Mismatch(f"expected extents, got {extents}", of_extents=True)
        start = place.start
        for length, kind in extents:
            here = slice(start, min(start + length, place.stop))
            if here.stop <= here.start:
                break
            if kind & ZERO and self.seen(window, here, request.connection):
                self.is_zero(window, here)
            start = here.stop

    def is_zero(self, window: Window, place: slice) -> None:
        if rest := _where(window.known[place], window.data[place]).lstrip(b"\0"):
            end = window.place.start + place.stop
            raise Mismatch(f"the extent from {window.place.start + place.start} to {end} is said to read as zeros, but "
                           f"at {end - len(rest)} there is {_shown(rest)}", end - len(rest), of_extents=True)
        window.data[place] = bytes(place.stop - place.start)
        new, old = window.known[place].translate(_NOT), window.told[place]
        both = int.from_bytes(new, "little") | int.from_bytes(old, "little")
        window.told[place] = both.to_bytes(len(old), "little")
        window.fill(place, window.known, 1)

    def killed(self) -> None:
        """The server has been killed: what was not flushed may be old or new."""
        for window in self.windows:
            window.known[:] = _where(window.lasts, window.known)
            window.fill(slice(0, len(window.place)), window.owner, ALL)


def _where(chosen: bytearray, data: bytes | bytearray) -> bytes:
    """The data where `chosen` is 1, zeros elsewhere; by large ints, since there may be many bytes."""
    mask = int.from_bytes(chosen, "little") * 255
    return (mask & int.from_bytes(data, "little")).to_bytes(len(data), "little")


def _shown(data: Sequence[int]) -> str:
    return bytes(data[:8]).hex(" ") + (" …" if len(data) > 8 else "")
