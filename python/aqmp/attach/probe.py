# SPDX-License-Identifier: BSD-3-Clause
"""A first look at an NBD server: does it serve, and how large is its disk? QEMU never waits for one that does not."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

_FIXED_NEWSTYLE = 1
_NO_ZEROES = 2
_OPT_ABORT = 2
_OPT_INFO = 6
_OPTION = b"IHAVEOPT"
_REP_ACK = 1
_REP_INFO = 3
_REP_ERROR = 1 << 31
_INFO_EXPORT = 0


class ProbeError(Exception):
    """The server speaks no NBD, or does not open its disk."""


async def probe(socket: Path) -> int:
    """The size in bytes of the disk that an NBD server has on a Unix socket; it waits until the server answers.

    Raises ProbeError, and OSError if nobody listens there.
    """
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        return await _size(reader, writer)
    except asyncio.IncompleteReadError:
        raise ProbeError("the server does not open its disk") from None
    finally:
        writer.transport.abort()


async def _size(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    magic, option_magic, flags = struct.unpack(">8s8sH", await reader.readexactly(18))
    if (magic, option_magic) != (b"NBDMAGIC", _OPTION) or not flags & _FIXED_NEWSTYLE:
        raise ProbeError("the server does not speak the fixed newstyle of NBD")
    # The default export, whose name is empty, and no information beyond what is always told.
    writer.write(struct.pack(">I8sIIIH", _FIXED_NEWSTYLE | flags & _NO_ZEROES, _OPTION, _OPT_INFO, 6, 0, 0))
    size = None
    while True:
        _, _, reply, length = struct.unpack(">QIII", await reader.readexactly(20))
        data = await reader.readexactly(length)
        if reply == _REP_INFO and data[:2] == struct.pack(">H", _INFO_EXPORT):
            size = struct.unpack(">Q", data[2:10])[0]
        elif reply & _REP_ERROR:
            # Newer servers tell why, perhaps by a whole traceback, whose last line says the most.
            *_, reason = data.decode(errors="replace").splitlines() or [""]
            raise ProbeError("the server does not open its disk" + (reason and f" ({reason.strip()})"))
        elif reply == _REP_ACK:
            break
    if size is None:
        raise ProbeError("the server does not tell the size of its disk")
    writer.write(struct.pack(">8sII", _OPTION, _OPT_ABORT, 0))
    # The end: the server has closed its disk, and is free for the next client.
    await reader.read()
    return int(size)
