# SPDX-License-Identifier: BSD-3-Clause
"""The daemons that the other tests rest on do what Xen's do: they serve dom0, guests, and start again."""

from __future__ import annotations

import os
import select

import pytest

from xenstore_daemon import HEADER, TIMEOUT, Daemon, Guest, StartDaemon, request

READ, WATCH, WRITE, WATCH_EVENT, ERROR = 2, 4, 11, 15, 16


def as_guest(guest: Guest, kind: int, *words: bytes) -> tuple[int, bytes]:
    """One request through the guest's device: the type of the answer, and what it says."""
    payload = b"".join(word + b"\0" for word in words)
    device = os.open(guest.device, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(device, HEADER.pack(kind, 0, 0, len(payload)) + payload)
        return receive(device)
    finally:
        os.close(device)


def receive(device: int) -> tuple[int, bytes]:
    octets = b""
    while len(octets) < HEADER.size or len(octets) < HEADER.size + HEADER.unpack(octets[: HEADER.size])[3]:
        octets += os.read(device, 1)
    return HEADER.unpack(octets[: HEADER.size])[0], octets[HEADER.size :]


def test_dom0_reads_what_it_wrote(any_daemon: Daemon) -> None:
    with any_daemon.connect() as dom0, any_daemon.connect() as other:
        request(dom0, WRITE, b"/a/b", b"value")
        assert request(other, READ, b"/a/b") == b"value\0"


def test_a_store_is_empty_after_a_restart(xenstored: Daemon) -> None:
    with xenstored.connect() as dom0:
        request(dom0, WRITE, b"/a", b"value")
    xenstored.stop()
    with pytest.raises(ConnectionRefusedError):
        xenstored.connect()
    xenstored.start()
    with xenstored.connect() as dom0, pytest.raises(AssertionError, match="ENOENT"):
        request(dom0, READ, b"/a")


def test_a_guest_has_its_home_and_no_more(any_daemon: Daemon) -> None:
    guest = any_daemon.guest(7)
    assert as_guest(guest, WRITE, b"data", b"of 7") == (WRITE, b"OK\0")
    with any_daemon.connect() as dom0:
        assert request(dom0, READ, b"/local/domain/7/data") == b"of 7\0"
        request(dom0, WRITE, b"/secret", b"of 0")
    assert as_guest(guest, READ, b"/secret") == (ERROR, b"EACCES\0")


def test_two_guests(any_daemon: Daemon) -> None:
    guests = [any_daemon.guest(domid) for domid in (3, 4)]
    for guest in guests:
        as_guest(guest, WRITE, b"name", b"%d" % guest.domid)
    assert [as_guest(guest, READ, b"name") for guest in guests] == [(READ, b"3\0"), (READ, b"4\0")]


def test_a_guest_sends_and_gets_more_than_its_ring_holds(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("xenstored", "-S", "5000")
    guest = daemon.guest(7)
    value = bytes(n % 255 + 1 for n in range(4000))
    assert as_guest(guest, WRITE, b"data", value)[0] == WRITE
    assert as_guest(guest, READ, b"data") == (READ, value + b"\0")


def test_a_guest_gets_watch_events(any_daemon: Daemon) -> None:
    guest = any_daemon.guest(7)
    device = os.open(guest.device, os.O_RDWR | os.O_NOCTTY)
    payload = b"data\0token\0"
    os.write(device, HEADER.pack(WATCH, 0, 0, len(payload)) + payload)
    assert sorted([receive(device), receive(device)]) == [(WATCH, b"OK\0"), (WATCH_EVENT, b"data\0token\0")]
    with any_daemon.connect() as dom0:
        request(dom0, WRITE, b"/local/domain/7/data", b"1")
    assert receive(device) == (WATCH_EVENT, b"data\0token\0")
    os.close(device)


def test_a_guest_with_many_requests_under_way(any_daemon: Daemon) -> None:
    guest = any_daemon.guest(7)
    device = os.open(guest.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    left, answers = (HEADER.pack(READ, 0, 0, 5) + b"none\0") * 2000, b""
    while left or answers.count(b"ENOENT\0") < 2000:
        readable, writable, _ = select.select([device], [device] if left else [], [], TIMEOUT)
        assert readable or writable, f"stuck with {len(left)} bytes to send, {len(answers)} received"
        if readable:
            answers += os.read(device, 65536)
        if writable:
            left = left[os.write(device, left[:65536]) :]
    os.close(device)
    assert len(answers) == 2000 * (HEADER.size + len(b"ENOENT\0"))
