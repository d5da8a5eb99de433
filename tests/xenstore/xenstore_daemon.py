# SPDX-License-Identifier: BSD-3-Clause
"""Xen's own store daemons, started by a test on a machine without Xen: unmodified, with hypervisor.c preloaded.

./test unpacks them into build/xen. A daemon's folder has its socket, and what stands in for the hypervisor; its path is
short, because that of a socket may have 107 bytes.
"""

from __future__ import annotations

import atexit
import functools
import mmap
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
XEN = ROOT / "build" / "xen"
TIMEOUT = 30  # seconds; what any one step may take on a slow machine
C, OCAML = "xenstored", "oxenstored"

HEADER = struct.Struct("=4I")  # type, request id, transaction id, length of what follows
DIRECTORY, INTRODUCE, MKDIR, SET_PERMS = 1, 8, 12, 14


@functools.cache
def hypervisor() -> Path:
    """hypervisor.c, compiled; skips the test where Xen has no headers."""
    if not Path("/usr/include/xenctrl.h").exists():
        pytest.skip("libxen-dev is not installed")
    folder = tempfile.mkdtemp(prefix="hypervisor-")
    atexit.register(shutil.rmtree, folder)
    library = Path(folder) / "hypervisor.so"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-shared", "-fPIC",
               "-o", str(library), str(Path(__file__).with_name("hypervisor.c"))]
    subprocess.run(command, check=True, timeout=TIMEOUT)
    return library


def program(kind: str) -> Path:
    """The daemon's program; skips the test where Debian has none for this machine."""
    found = sorted(XEN.glob(f"usr/lib/xen-*/bin/{kind}"))
    if not found:
        pytest.skip(f"there is no {kind} in build/xen: ./test unpacks it, where Debian has one")
    return found[-1]


class Daemon:
    """A store daemon: `kind` is C or OCAML, `version` Xen's, as in "4.17", `socket` where dom0 connects."""

    def __init__(self, folder: Path, kind: str = C, *options: str) -> None:
        self.folder, self.kind, self.options = folder, kind, options
        self.program = program(kind)
        self.version = self.program.parts[-3].removeprefix("xen-")
        self.socket = folder / "socket"
        self.logfile = folder / "log"
        self.guests = ExitStack()
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start it, with an empty store; also once more, after stop()."""
        for left in ("socket", "events"):
            (self.folder / left).unlink(missing_ok=True)
        env = {**os.environ, "LD_PRELOAD": str(hypervisor()), "HYPERVISOR": str(self.folder),
               "XEN": str(XEN), "XENSTORED_RUNDIR": str(self.folder), "XENSTORED_PATH": str(self.socket)}
        if self.kind == C:
            own = ["--pid-file", str(self.folder / "pid")]
        else:
            settings = self.folder / "oxenstored.conf"
            settings.write_text("xenstored-kva = /proc/xen/xsd_kva\nxenstored-port = /proc/xen/xsd_port\n")
            own = ["--config-file", str(settings)]
        with self.logfile.open("ab") as log:
            self.process = subprocess.Popen([self.program, "--no-fork", *own, *self.options], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=env)
        self.stopped = False
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                with self.connect() as connection:
                    request(connection, DIRECTORY, b"/")
                return
            except (FileNotFoundError, ConnectionError):
                assert self.process.poll() is None, f"{self.kind} ended:\n{self.logfile.read_text()}"
                assert time.monotonic() < deadline, f"{self.kind} did not start:\n{self.logfile.read_text()}"
                time.sleep(0.005)

    def stop(self, sign: int = signal.SIGTERM) -> None:
        """End it by a signal. If it had died of anything else before, the test fails."""
        self.guests.close()
        died = self.process.poll()
        if not self.stopped:
            self.stopped = True
            self.process.send_signal(sign)
            self.process.wait(TIMEOUT)
            assert died is None, f"{self.kind} had died: {died}\n{self.logfile.read_text()}"

    def connect(self) -> socket.socket:
        """A connection to the daemon, without any client: to be used with request()."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(str(self.socket))
        except OSError:
            connection.close()
            raise
        return connection

    def guest(self, domid: int = 7) -> Guest:
        """A domain whose home, as a toolstack would have it, is /local/domain/DOMID and its own; ends with stop()."""
        guest = self.guests.enter_context(Guest(self.folder, domid).running())
        home = b"/local/domain/%d" % domid
        with self.connect() as dom0:
            request(dom0, INTRODUCE, b"%d" % domid, b"1", b"1")
            request(dom0, MKDIR, home)
            request(dom0, SET_PERMS, home, b"n%d" % domid)
        return guest


def request(connection: socket.socket, kind: int, *words: bytes, last_nul: bool = True) -> bytes:
    """Send one request, each word ended by a NUL, and return what comes back; an error of the store's is one here.

    last_nul: whether there is a NUL after the last word too; there is none after a value.
    """
    payload = b"\0".join(words) + (b"\0" if last_nul else b"")
    connection.sendall(HEADER.pack(kind, 0, 0, len(payload)) + payload)
    header = connection.recv(HEADER.size, socket.MSG_WAITALL)
    if len(header) < HEADER.size:
        raise ConnectionResetError("the daemon has gone")
    answered, _, _, length = HEADER.unpack(header)
    answer = connection.recv(length, socket.MSG_WAITALL) if length else b""
    assert answered == kind, (answered, answer)
    return answer


class Ring:
    """One direction of the page that a domain shares with the store: 1024 bytes, and two counters that only grow."""

    SIZE = 1024

    def __init__(self, page: mmap.mmap, data: int, consumer: int, producer: int) -> None:
        self.page, self.data = page, data
        counters = memoryview(page).cast("I")
        self.consumer, self.producer = counters[consumer // 4 :][:1], counters[producer // 4 :][:1]

    def put(self, octets: bytes) -> int:
        """Put as many of these bytes as there is room for; return how many."""
        room = self.SIZE - (self.producer[0] - self.consumer[0]) % 2**32
        for n, octet in enumerate(octets[:room]):
            self.page[self.data + (self.producer[0] + n) % self.SIZE] = octet
        self.producer[0] = (self.producer[0] + min(room, len(octets))) % 2**32
        return min(room, len(octets))

    def take(self) -> bytes:
        """All that is there."""
        start, count = self.consumer[0], (self.producer[0] - self.consumer[0]) % 2**32
        octets = bytes(self.page[self.data + (start + n) % self.SIZE] for n in range(count))
        self.consumer[0] = (start + count) % 2**32
        return octets


class Guest:
    """A domain: `device` is the path of its /dev/xen/xenbus, here a terminal, for one client at a time.

    As the kernel does in a guest, a thread carries the bytes between the device and the page that the store shares.
    Unlike the kernel, it does not look at them: watches and transactions outlive the client that closes the device.
    """

    def __init__(self, folder: Path, domid: int) -> None:
        self.folder, self.domid = folder, domid
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.device = Path(os.ttyname(self.slave))

    @contextmanager
    def running(self) -> Iterator[Guest]:
        ring = self.folder / f"ring.{self.domid}"
        ring.write_bytes(bytes(mmap.PAGESIZE))
        path = self.folder / f"events.{self.domid}"
        path.unlink(missing_ok=True)
        stop, stopped = os.pipe()
        with ring.open("r+b") as file, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as events:
            page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
            events.bind(str(path))
            events.setblocking(False)
            thread = threading.Thread(target=self.carry, args=(page, events, stop), name=f"domain {self.domid}")
            thread.start()
            try:
                yield self
            finally:
                os.close(stopped)
                thread.join()
                for fd in (self.master, self.slave, stop):
                    os.close(fd)

    def carry(self, page: mmap.mmap, events: socket.socket, stop: int) -> None:
        """Until `stop` is closed at its other end."""
        requests, responses = Ring(page, 0, 2048, 2052), Ring(page, 1024, 2056, 2060)
        to_store = to_client = b""
        while True:
            with_room, ready = [self.master] if to_client else [], [events, stop] + ([] if to_store else [self.master])
            can_read, can_write, _ = select.select(ready, with_room, [])
            if stop in can_read:
                return
            if events in can_read:
                events.recv(4)
            if self.master in can_read:
                to_store = os.read(self.master, 65536)
            if can_write:
                to_client = to_client[os.write(self.master, to_client) :]
            sent = requests.put(to_store)
            to_store = to_store[sent:]
            if not to_client:
                to_client = responses.take()
            if sent or to_client:
                # BlockingIOError: it has kicks enough that it has not seen yet. The others: the daemon has ended.
                with suppress(BlockingIOError, ConnectionError, FileNotFoundError):
                    events.sendto(struct.pack("=I", self.domid + 1), str(self.folder / "events"))


StartDaemon = Callable[..., Daemon]


@contextmanager
def running(kind: str = C, *options: str) -> Iterator[Daemon]:
    """A daemon until the block ends; options are its own, as in `running(C, "-t", "3")`."""
    hypervisor()  # before there is a folder to remove
    program(kind)
    folder = Path(tempfile.mkdtemp(prefix="xenstore-"))
    try:
        daemon = Daemon(folder, kind, *options)
        try:
            yield daemon
        finally:
            daemon.stop()
    finally:
        shutil.rmtree(folder)
