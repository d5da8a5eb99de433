# SPDX-License-Identifier: BSD-3-Clause
"""The exceptions of this package: all are XenstoreException."""

from __future__ import annotations

import errno


class XenstoreException(OSError):
    """An operation that the store refused, or that could not be asked.

    Its text is the store's own name of the error, such as `ENOENT`; `errno` is that error's number, so that
    `os.strerror` and every handler of an OSError can do something with it; `filename` is the path that was asked for,
    or None where there is none. A traceback shows the operation and the path as well.
    """

    errno: int

    def __init__(self, number: int, text: str, path: str | None = None) -> None:
        super().__init__(number, text, path)

    def __str__(self) -> str:
        return str(self.strerror)


class TransactionConflict(XenstoreException):
    """EAGAIN at a commit: somebody else changed what the transaction has used. Nothing of it was done; do it again."""


class InvalidRequest(XenstoreException, ValueError):
    """A request that is not sent, as no store could take it: the text says what was expected and what came."""


class ConnectionLost(XenstoreException, ConnectionError):
    """The store cannot be reached, or is gone; what was under way may or may not have been done."""


class ProtocolError(XenstoreException):
    """What came is not what Xenstore's protocol has (EPROTO)."""


class Timeout(XenstoreException, TimeoutError):
    """No answer came in time (ETIMEDOUT); it is dropped should it still come. What was asked may have been done."""


def refusal(name: str, path: str | None) -> XenstoreException:
    """The exception for an error that the store has named. A name that this system does not know counts as EIO."""
    number = getattr(errno, name, None)
    return XenstoreException(number if isinstance(number, int) else errno.EIO, name, path)


def lost(what: str, cause: OSError | None = None) -> ConnectionLost:
    """The exception for a connection that cannot be made or has ended; without a cause, the other side closed it."""
    if cause is None:
        return ConnectionLost(errno.ECONNRESET, what)
    return ConnectionLost(cause.errno or errno.EIO, f"{what}: {cause.strerror or cause}")


def closed() -> ConnectionLost:
    """The exception for what is asked of a client that has been closed."""
    return ConnectionLost(errno.EBADF, "the connection is closed")


def again(exception: XenstoreException) -> XenstoreException:
    """The like of an exception, to be raised in another place: each has a traceback of its own."""
    return type(exception)(exception.errno, str(exception), exception.filename)
