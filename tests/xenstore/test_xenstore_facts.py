# SPDX-License-Identifier: BSD-3-Clause
"""What docs/xenstore.md says of the daemons, asked of them without the client."""

from __future__ import annotations

import socket

import pytest

from xenstore_daemon import HEADER, TIMEOUT, C, Daemon

DIRECTORY, READ, WATCH, UNWATCH, START, WRITE, MKDIR, RM, ERROR, PART, GET_QUOTA = 1, 2, 4, 5, 6, 11, 12, 13, 16, 22, 25


def ask(connection: socket.socket, type: int, payload: bytes, transaction: int = 0) -> bytes:
    """The payload of the answer, be it an error's name; events are left out."""
    connection.sendall(HEADER.pack(type, 1, transaction, len(payload)) + payload)
    while True:
        header = connection.recv(HEADER.size, socket.MSG_WAITALL)
        if not header:
            raise ConnectionResetError
        answered, _, _, length = HEADER.unpack(header)
        answer = connection.recv(length, socket.MSG_WAITALL) if length else b""
        if answered != 15:
            return answer


def test_errors(any_daemon: Daemon) -> None:
    in_c = any_daemon.kind == C
    with any_daemon.connect() as dom0:
        assert ask(dom0, READ, b"relative\0") == b"ENOENT\0"
        assert ask(dom0, RM, b"/missing\0") == b"OK\0"
        assert ask(dom0, RM, b"/missing/missing\0") == b"ENOENT\0"
        assert ask(dom0, READ, b"/\0", 12345) == (b"ENOENT\0" if in_c else b"EIO\0")
        assert ask(dom0, START, b"\0", int(ask(dom0, START, b"\0").rstrip(b"\0"))) == b"EBUSY\0"
        assert ask(dom0, WATCH, b"/a\0token\0") == b"OK\0"
        assert ask(dom0, WATCH, b"/a\0token\0") == b"EEXIST\0"
        assert ask(dom0, UNWATCH, b"/b\0token\0") == b"ENOENT\0"
        assert ask(dom0, WATCH, b"/a\0deep\0" b"1\0") == b"EINVAL\0"
        assert ask(dom0, GET_QUOTA, b"nodes\0") == b"ENOSYS\0"
        assert ask(dom0, WRITE, b"/long\0" + 2049 * b"x") == (b"OK\0" if in_c else b"E2BIG\0")
        assert ask(dom0, MKDIR, b"/" + 2047 * b"x" + b"\0") == b"OK\0"
        newer_c = in_c and any_daemon.version != "4.17"
        assert ask(dom0, MKDIR, b"/" + 2048 * b"x" + b"\0") == (b"OK\0" if newer_c else b"EINVAL\0")
        assert ask(dom0, MKDIR, b"/kept\0") == b"OK\0"
        assert ask(dom0, RM, b"/\0") == (b"EINVAL\0" if in_c else b"OK\0")
        assert ask(dom0, READ, b"/kept\0") == (b"" if in_c else b"ENOENT\0")


def test_a_big_folder(any_daemon: Daemon) -> None:
    with any_daemon.connect() as dom0:
        for number in range(500):
            ask(dom0, MKDIR, b"/big/child-%d\0" % number)
        names = ask(dom0, DIRECTORY, b"/big\0")
        if any_daemon.kind == C:
            assert names == b"E2BIG\0"
            generation, first, *_ = ask(dom0, PART, b"/big\0" b"0\0").split(b"\0")
            assert generation.isdigit() and first.startswith(b"child-")
        else:
            assert len(names) > 4096 and names.count(b"\0") == 500


def test_a_message_that_is_too_long(any_daemon: Daemon) -> None:
    with any_daemon.connect() as dom0:
        dom0.settimeout(TIMEOUT)
        if any_daemon.kind == C:
            with pytest.raises(ConnectionError):
                ask(dom0, WRITE, b"/a\0" + 4094 * b"x")
        else:
            assert ask(dom0, WRITE, b"/a\0" + 4094 * b"x") == b"E2BIG\0"
