# SPDX-License-Identifier: BSD-3-Clause
"""What a disk offers, as a client learns it when it connects; and which parts of it are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import nbd

KiB, MiB = 1 << 10, 1 << 20
START = 2 * MiB  # so much of the start of a disk is looked at; a smaller one as a whole
LARGEST = 32 * MiB  # of a request: more than clients usually send
# Where offsets stop fitting into what a script may have put them in.
BORDERS = (1 << 31, 1 << 32, 1 << 40)


@dataclass(frozen=True)
class Facts:
    """A disk's size in bytes, what it can do, and the sizes of requests that it takes."""

    size: int
    writable: bool
    flush: bool
    fua: bool
    trim: bool
    fast_zero: bool
    cache: bool
    multi_conn: bool
    minimum: int  # a request's offset and count are multiples of this
    preferred: int
    maximum: int

    def beside(self, other: Facts) -> str:
        """What is not as in the other, such as `size=4096, flush=True`."""
        return ", ".join(f"{name}={value}" for name, value in vars(self).items() if value != getattr(other, name))

    @property
    def windows(self) -> list[range]:
        """The parts of the disk that are looked at, in order: its start, its end, and what is around the borders."""
        end = self.size // self.minimum * self.minimum
        if end <= START:
            return [range(end)] if end else []
        windows = [range(START)]
        for border in (*BORDERS, end):
            start, stop = max(border - 128 * KiB, windows[-1].stop), min(border + 128 * KiB, end)
            if start < stop and border <= end:
                windows.append(range(start, stop))
        return [range(-(-w.start // self.minimum) * self.minimum, w.stop // self.minimum * self.minimum)
                for w in windows]


def facts_of(handle: nbd.NBD) -> Facts:
    """What a connection has been told."""
    import nbd

    minimum, preferred, maximum = (handle.get_block_size(kind) for kind in (
        nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM))
    writable = not handle.is_read_only()
    return Facts(
        size=handle.get_size(), writable=writable, flush=handle.can_flush(), fua=writable and handle.can_fua(),
        trim=writable and handle.can_trim(), fast_zero=writable and handle.can_fast_zero(), cache=handle.can_cache(),
        multi_conn=handle.can_multi_conn(), minimum=max(minimum, 1), preferred=preferred or 4096,
        maximum=min(maximum or LARGEST, LARGEST))
