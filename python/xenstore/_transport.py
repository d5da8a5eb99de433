# SPDX-License-Identifier: BSD-3-Clause
"""Where the store is, and the two ways to it: the daemon's Unix socket, and the device of a system's kernel."""

from __future__ import annotations

import errno
import os
import select
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
    """An open file that is read and written as a stream. One thread may read while another one writes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._woken, self._waker = os.pipe()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def receive(self, timeout: float | None) -> bytes | None:
        """What has come, waiting for it up to `timeout` seconds (None: for ever).

        None if nothing came in time or `wake` was called, b"" at the end of the stream. Raises OSError.
        """
        for fd, _ in self._poll.poll(None if timeout is None else timeout * 1000):
            if fd == self._fd:
                try:
                    return os.read(fd, CHUNK)
                except BlockingIOError:
                    return None
            os.read(self._woken, CHUNK)
        return None

    def wake(self) -> None:
        """End the other thread's `receive`, or the next one."""
        os.write(self._waker, b"!")

    def send(self, message: bytes, timeout: float | None) -> None:
        """Write one message. A XenstoreException is about this message alone; any other OSError ends the connection."""
        raise NotImplementedError

    def shutdown(self) -> None:
        """Let other threads' `receive` and `send` end soon."""
        self.wake()

    def close(self) -> None:
        """Close it: nobody may be using it."""
        os.close(self._woken)
        os.close(self._waker)


class SocketTransport(Transport):
    """The daemon's socket."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
            super().__init__(self._socket.fileno())
        except BaseException:
            self._socket.close()
            raise

    def send(self, message: bytes, timeout: float | None) -> None:
        self._socket.settimeout(timeout)
        self._socket.sendall(message, socket.MSG_NOSIGNAL)

    def shutdown(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The other side was faster.
        super().shutdown()

    def close(self) -> None:
        super().close()
        self._socket.close()


class DeviceTransport(Transport):
    """The kernel's device: a write is one message, and one that the kernel refuses itself fails alone."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            super().__init__(fd)
        except BaseException:
            os.close(fd)
            raise

    def send(self, message: bytes, timeout: float | None) -> None:
        # On an error the kernel drops what it had of this message, and is ready for the next.
        try:
            while message:
                message = message[os.write(self._fd, message):]
        except OSError as error:
            raise refusal(errno.errorcode.get(error.errno or 0, "EIO"), None) from error

    def close(self) -> None:
        super().close()
        os.close(self._fd)


def connect(path: str) -> Transport:
    """Open the store at this path, whatever it is. ConnectionLost if that fails."""
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            return SocketTransport(path)
        return DeviceTransport(path)
    except OSError as error:
        raise lost(f"no connection to the store at {path}", error) from error
