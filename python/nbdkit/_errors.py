# SPDX-License-Identifier: BSD-3-Clause
"""The two exceptions that the plugin knows by name."""

import os


class Error(OSError):
    """A request that fails as the disk means it to fail: the client gets `errno`, the log one line.

    errno: a positive error number, such as errno.ENOSPC. NBD has few errors; one that it cannot express reaches
        the client as EIO, and the log has the original.
    message: what to say in the log. Default: the system's text for errno.

    Raises TypeError or ValueError for an errno that is not an int above 0.
    """

    def __init__(self, errno: int, message: str | None = None) -> None:
        if not isinstance(errno, int) or isinstance(errno, bool):
            raise TypeError(f"nbdkit.Error: errno: expected an int such as errno.ENOSPC, got {errno!r}")
        if not 0 < errno < 4096:
            raise ValueError(f"nbdkit.Error: errno: expected an error number such as errno.ENOSPC, got {errno}")
        super().__init__(errno, os.strerror(errno) if message is None else message)


class ScriptError(Exception):
    """What is wrong with a script; the text says it all, so the log has that and no traceback."""
