# SPDX-License-Identifier: BSD-3-Clause
"""Where the store is, and the two ways to it: the daemon's Unix socket, and the device of a system's kernel."""

from __future__ import annotations

import errno
import os
import socket
import stat

from .error import ConnectionLost, lost, refusal

# The daemon's socket first: domain 0 has both, and the device takes only one message at a time.
PLACES = (
    "/run/xenstored/socket",
    "/var/run/xenstored/socket",  # FreeBSD
    "/dev/xen/xenbus",  # Linux
    "/proc/xen/xenbus",  # Linux before 3.3, or with xenfs
    "/dev/xen/xenstore",  # FreeBSD
    "/kern/xen/xenbus",  # NetBSD
    "/dev/xenstore",
)
BUSY_PAUSE = 0.01  # seconds until another attempt, if the daemon is too busy: it lets one or two wait, no more
CHUNK = 64 * 1024  # bytes; what is read at once


def default_path() -> str:
    """The path of this system's store: XENSTORED_PATH, or the first that there is. ConnectionLost if there is none."""
    if path := os.environ.get("XENSTORED_PATH"):
        return path
    for path in PLACES:
        if os.path.exists(path):
            return path
    raise ConnectionLost(errno.ENOENT, f"expected a store at one of {', '.join(PLACES)}, or in XENSTORED_PATH, "
                         "found none: is this a domain of Xen, and does its xenstored run?")


class Transport:
    """An open file that is read and written as a stream, and never waited for: BlockingIOError where that would be."""

    # Whether one write may have several messages.
    batches: bool

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_blocking(fd, False)

    def read(self) -> bytes:
        """What has come; b"" at the end of the stream."""
        return os.read(self.fd, CHUNK)

    def write(self, data: bytes) -> int:
        """Write; returns how many bytes were. A XenstoreException is about this message, another OSError about all."""
        raise NotImplementedError

    def shutdown(self) -> None:
        """Let the other side know that this is the end."""

    def close(self) -> None:
        """Close it: nobody may be using it."""
        os.close(self.fd)


class SocketTransport(Transport):
    """The daemon's socket."""

    batches = True

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise
        super().__init__(self._socket.fileno())

    def write(self, data: bytes) -> int:
        return self._socket.send(data, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)

    def shutdown(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The other side was faster.

    def close(self) -> None:
        self._socket.close()


class DeviceTransport(Transport):
    """The kernel's device: a write is one message, and one that the kernel refuses itself fails alone."""

    batches = False

    def __init__(self, path: str) -> None:
        super().__init__(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))

    def write(self, data: bytes) -> int:
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            raise
        except OSError as error:
            # The kernel has dropped what it had of this message, and is ready for the next.
            raise refusal(errno.errorcode.get(error.errno or 0, "EIO"), None) from error


def connect(path: str) -> Transport:
    """Open the store at this path, whatever it is. ConnectionLost if that fails: EAGAIN while a daemon is too busy."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISSOCK(mode):
            return SocketTransport(path)
        if stat.S_ISCHR(mode):
            return DeviceTransport(path)
        raise OSError(errno.ENOTSOCK, "expected a Unix socket or a character device")
    except OSError as error:
        raise lost(f"no connection to the store at {path}", error) from error
