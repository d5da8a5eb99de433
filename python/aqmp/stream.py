# SPDX-License-Identifier: BSD-3-Clause
"""Sockets and their asyncio streams: dial an address, bind one, accept from it."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from ssl import SSLContext
from typing import TypeAlias, Union

# A path of a UNIX socket, or the host and port of a TCP one.
SocketAddrT: TypeAlias = Union[str, "os.PathLike[str]", tuple[str, int]]
Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

CHUNK = 1 << 18  # bytes; what is read at once
_RETRY = 0.05  # seconds between two tries at a UNIX socket whose queue is full


async def dial(address: SocketAddrT | socket.socket, ssl: SSLContext | None) -> Streams:
    """Connect to an address, or take a socket that is connected already. Raises OSError."""
    hostname = None
    if isinstance(address, socket.socket):
        sock = address
    elif isinstance(address, tuple):
        hostname = address[0]
        sock = await _dial_tcp(*address)
    else:
        sock = await _dial_unix(address)
    sock.setblocking(False)
    try:
        # Without a host name, TLS has none to check the certificate with: an empty one says so.
        server_hostname = None if ssl is None else hostname or ""
        reader, protocol = _protocol()
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: protocol, sock=sock, ssl=ssl, server_hostname=server_hostname)
    except BaseException:
        sock.close()
        raise
    return reader, _writer(transport, protocol, reader)


async def _dial_tcp(host: str, port: int) -> socket.socket:
    """The first of the host's addresses that answers; if none does, the first one's error."""
    loop = asyncio.get_running_loop()
    first: OSError | None = None
    for family, kind, number, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, number)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
            return sock
        except OSError as error:
            sock.close()
            first = first or error
        except BaseException:
            sock.close()
            raise
    raise first or OSError(f"{host} has no address")


async def _dial_unix(path: str | os.PathLike[str]) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        while True:
            try:
                sock.connect(os.fspath(path))
                return sock
            # The queue of a listening UNIX socket is full (a monitor's is short). Nothing tells when it no longer is,
            # and asyncio would take the socket for a connected one.
            except BlockingIOError:
                await asyncio.sleep(_RETRY)
    except BaseException:
        sock.close()
        raise


async def bind(address: SocketAddrT) -> socket.socket:
    """A socket that listens. Raises OSError. A socket file that nobody listens on any more is replaced."""
    if isinstance(address, tuple):
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sock = socket.create_server(found[0][4][:2], family=found[0][0])
    else:
        path = os.fspath(address)
        _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.bind(path)
            sock.listen()
        except BaseException:
            sock.close()
            raise
    sock.setblocking(False)
    return sock


def _remove_stale(path: str) -> None:
    if path.startswith("\0"):
        return
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:
            pass


async def accept(listener: socket.socket, ssl: SSLContext | None) -> Streams:
    """Wait for a client of a listening socket. Raises OSError."""
    loop = asyncio.get_running_loop()
    sock, _ = await loop.sock_accept(listener)
    try:
        reader, protocol = _protocol()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=ssl)
    except BaseException:
        sock.close()
        raise
    return reader, _writer(transport, protocol, reader)


class Descriptor:
    """A duplicate of a file descriptor, on its way to the peer of a UNIX socket."""

    def __init__(self, fd: int, writer: asyncio.StreamWriter) -> None:
        """Raises ValueError unless it is a plain UNIX socket, OSError unless `fd` is a file descriptor."""
        self._over: socket.socket = writer.get_extra_info("socket")
        if self._over.family != socket.AF_UNIX or writer.get_extra_info("sslcontext") is not None:
            raise ValueError("a file descriptor can be sent over a UNIX socket without TLS only")
        self._fd = os.dup(fd)

    async def send(self) -> None:
        """Send it, with the one byte that it needs: a space, which means nothing in JSON. Raises OSError."""
        loop = asyncio.get_running_loop()
        # asyncio's own socket object neither sends descriptors nor lets others wait for it.
        with socket.socket(fileno=os.dup(self._over.fileno())) as sock:
            while True:
                try:
                    socket.send_fds(sock, [b" "], [self._fd])
                    return
                except BlockingIOError:
                    writable = loop.create_future()
                    loop.add_writer(sock, writable.set_result, None)
                    try:
                        await writable
                    finally:
                        loop.remove_writer(sock)

    def close(self) -> None:
        os.close(self._fd)


def abort(writer: asyncio.StreamWriter) -> None:
    """Close at once, unless it is closed or about to be."""
    # asyncio's TLS cannot be told twice.
    if not writer.transport.is_closing():
        writer.transport.abort()


def close(listener: socket.socket) -> None:
    """Stop listening, and remove the path."""
    path = listener.getsockname() if listener.family == socket.AF_UNIX else None
    listener.close()
    # An abstract name is bytes, and goes by itself.
    if isinstance(path, str):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def _protocol() -> tuple[asyncio.StreamReader, asyncio.StreamReaderProtocol]:
    reader = asyncio.StreamReader(limit=CHUNK)
    return reader, asyncio.StreamReaderProtocol(reader)


def _writer(transport: asyncio.Transport, protocol: asyncio.StreamReaderProtocol,
            reader: asyncio.StreamReader) -> asyncio.StreamWriter:
    # drain() then waits until the kernel has it all.
    transport.set_write_buffer_limits(0)
    return asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
