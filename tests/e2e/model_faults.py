# SPDX-License-Identifier: BSD-3-Clause
"""Which callbacks of the model's disks go wrong, in what way and how far into their work: the disk and the model agree.

Neither keeps a record: what happens to a call follows from its arguments and a number that the connection has.
"""

from __future__ import annotations

import errno
from hashlib import blake2b
from typing import NamedTuple

# What a callback executes, and the errno that the client then gets; EOPNOTSUPP is what a zero declines with.
FAILURES = {
    "raise nbdkit.Error(errno.ENOSPC, 'full')": errno.ENOSPC,
    "raise nbdkit.Error(errno.EACCES, 'closed')": errno.EPERM,
    "raise nbdkit.Error(errno.ETIMEDOUT, 'slow')": errno.EIO,
    "raise nbdkit.Error(errno.EOPNOTSUPP, 'not so')": errno.EOPNOTSUPP,
    "raise OSError(errno.EROFS, 'read-only')": errno.EPERM,
    "raise OSError(errno.EDQUOT, 'quota')": errno.ENOSPC,
    "raise OSError(errno.EFBIG, 'large')": errno.ENOSPC,
    "raise OSError(errno.ESHUTDOWN, 'ending')": errno.ESHUTDOWN,
    "raise OSError(errno.EINVAL, 'odd')": errno.EINVAL,
    "raise OSError(errno.EOVERFLOW, 'over')": errno.EINVAL,
    "raise OSError(errno.ENOENT, 'gone')": errno.EIO,
    "raise OSError('no errno')": errno.EIO,
    "raise MemoryError": errno.ENOMEM,
    "raise NotImplementedError": errno.EOPNOTSUPP,
    "raise PermissionError": errno.EPERM,
    "raise ValueError('wrong')": errno.EIO,
    "raise SystemExit(0)": errno.EIO,
    "raise KeyboardInterrupt": errno.EIO,
    "nbdkit.set_error(errno.ENOMEM); 1 / 0": errno.ENOMEM,
    "nbdkit.set_error(errno.ENOSPC); raise OSError(errno.EPERM, 'no')": errno.ENOSPC,
    "nbdkit.set_error(errno.ENOSPC); raise nbdkit.Error(errno.EPERM, 'no')": errno.EPERM,
    "nbdkit.set_error(errno.ENOSPC); nbdkit.set_error(0); raise KeyError": errno.EIO,
}
# These are no failure, but that a zero declines with the second.
HARMLESS = {
    "nbdkit.set_error(errno.ENOSPC)": errno.ENOSPC,
    "nbdkit.set_error(errno.EOPNOTSUPP)": errno.EOPNOTSUPP,
}
STATEMENTS = [*FAILURES, *HARMLESS]


class Fault(NamedTuple):
    """What a callback executes, and how many of the request's bytes it has served before."""

    statement: str
    served: int


def fault(number: int, callback: str, offset: int, count: int) -> Fault | None:
    """The fault of one call of a connection with this number; 0 has none, with others it is every fourth call."""
    if number == 0:
        return None
    chance, which, part = blake2b(f"{number} {callback} {offset} {count}".encode(), digest_size=3).digest()
    if chance % 4:
        return None
    return Fault(STATEMENTS[which % len(STATEMENTS)], (0, count // 2, count)[part % 3])
