# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of hostile clients share: a disk that watches what reaches it, and the look at it afterwards."""

from __future__ import annotations

import os
import time

from harness import TIMEOUT, Server

SIZE = 1 << 20

# It keeps what it is given, and writes three files beside itself: `calls`, each request; `clients`, a line for each
# that comes or goes; and `wrong`, what no client may bring about.
WATCHFUL = """
    import builtins, itertools, os
    import nbdkit

    API_VERSION = 2
    WHOLE, MODEL = {size}, nbdkit.THREAD_MODEL_{model}
    disk = bytearray({size}) if {size} <= 1 << 24 else None
    numbers, clients = itertools.count(1), set()  # open() may be called by many threads at once
    calls, comings, wrong = (builtins.open(os.path.join(os.path.dirname(__file__), name), "w", buffering=1)
                             for name in ("calls", "clients", "wrong"))

    def expect(good, *told):
        if not good:
            print(*told, file=wrong)

    def request(name, h, count, offset, flags, known=0):
        print(name, count, offset, flags, file=calls)
        expect(all(type(number) is int for number in (count, offset, flags)), name, "types")
        expect(0 < count < 1 << 32 and 0 <= offset <= WHOLE - count, name, "range", count, offset)
        expect(flags & ~known == 0, name, "flags", flags)
        expect(h in clients, name, "handle", h)

    def thread_model(): return MODEL

    def open(readonly):
        expect(readonly is False and type(nbdkit.export_name()) is str, "open")
        clients.add(number := next(numbers))
        print("open", file=comings)
        return number

    def close(h):
        expect(h in clients, "close", h)
        clients.discard(h)
        print("close", file=comings)

    def get_size(h): return WHOLE
    def can_fua(h): return nbdkit.FUA_NATIVE
    def can_fast_zero(h): return True
    def can_multi_conn(h): return True
    def export_description(h): return nbdkit.export_name().encode("utf-8", "surrogateescape")

    def pread(h, buf, offset, flags):
        request("pread", h, len(buf), offset, flags)
        expect(len(buf) <= 64 << 20, "pread", len(buf))
        if disk: buf[:] = disk[offset : offset + len(buf)]

    def pwrite(h, buf, offset, flags):
        request("pwrite", h, len(buf), offset, flags, nbdkit.FLAG_FUA)
        expect(len(buf) <= 64 << 20 and buf.readonly, "pwrite", len(buf))
        if disk: disk[offset : offset + len(buf)] = buf

    def flush(h, flags): expect(flags == 0 and h in clients, "flush", flags, h)

    def trim(h, count, offset, flags): request("trim", h, count, offset, flags, nbdkit.FLAG_FUA)

    def zero(h, count, offset, flags):
        request("zero", h, count, offset, flags, nbdkit.FLAG_MAY_TRIM | nbdkit.FLAG_FUA | nbdkit.FLAG_FAST_ZERO)
        if disk: disk[offset : offset + count] = bytes(count)

    def cache(h, count, offset, flags): request("cache", h, count, offset, flags)

    def extents(h, count, offset, flags):
        request("extents", h, count, offset, flags, nbdkit.FLAG_REQ_ONE)
        return [(0, WHOLE, 0)]
"""


def watchful(size: int = SIZE, model: str = "SERIALIZE_REQUESTS") -> str:
    """The script of a disk that watches; a disk above 16 MiB reads as zeros."""
    return WATCHFUL.format(size=size, model=model)


def requests(server: Server) -> list[str]:
    """The requests that have reached the disk: name, count, offset, flags."""
    return (server.folder / "calls").read_text().splitlines()


def unharmed(server: Server) -> None:
    """The server lives and serves an honest client, and nothing has reached the disk that must not."""
    h = server.connect()
    data = os.urandom(4096)
    h.pwrite(data, 512)
    assert h.get_size() > SIZE or h.pread(4096, 512) == data
    h.shutdown()
    assert (server.folder / "wrong").read_text() == ""
    assert "Traceback" not in server.log()


def over(server: Server) -> None:
    """As unharmed(); and the script has seen each client go."""
    unharmed(server)
    deadline = time.monotonic() + TIMEOUT
    while (comings := (server.folder / "clients").read_text()).count("open") != comings.count("close"):
        assert time.monotonic() < deadline, "a client is left"
        time.sleep(0.005)
    assert server.stop() == 0
    assert (server.folder / "wrong").read_text() == ""
