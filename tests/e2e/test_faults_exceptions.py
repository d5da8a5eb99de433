# SPDX-License-Identifier: BSD-3-Clause
"""Any exception in any callback of a connection: it fails that request or connection, and nothing else.

One server for each shape of script meets them all.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator

import nbd
import pytest

from faults import EXCEPTIONS, REQUESTS, SIZE, Fault, check_message, names, script
from harness import TIMEOUT, Server, extents, raises_errno, serving, write_script
from recorder import SHAPES

# Those whose failure turns the client away. The last two are asked for by their own kind of client.
CONNECTING = ["preconnect", "open", "get_size", "block_size", "is_rotational", "can_write", "can_flush", "can_trim",
              "can_zero", "can_fast_zero", "can_extents", "can_fua", "can_cache", "can_multi_conn", "default_export",
              "list_exports"]


class Faulty:
    """A server of such a script, and the connection that says what is to fail next."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.control = server.connect("control")

    def arm(self, callback: str, statement: str) -> None:
        self.seen = len(self.server.log())
        self.control.pwrite(f"{callback}: {statement}".encode(), SIZE)

    def check(self, callback: str, fault: Fault) -> None:
        """What was armed has failed and is in the log, once, and the server goes on."""
        assert callback == "close" or re.search(f"(?ms){fault.said}", self.said()), self.said()
        deadline = time.monotonic() + TIMEOUT
        while not re.search(f"(?ms){fault.said}", self.said()) and time.monotonic() < deadline:
            time.sleep(0.005)  # no client waits for close
        assert self.control.pread(1, SIZE) == b"\0", f"{callback} was not called"
        check_message(self.said(), callback, fault)

    def said(self) -> str:
        return self.server.log()[self.seen:]


@pytest.fixture(scope="module", params=SHAPES)
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    folder = tmp_path_factory.mktemp("faulty")
    with serving(folder, write_script(folder, script(request.param))) as server:
        yield Faulty(server)


@pytest.mark.parametrize("statement", EXCEPTIONS)
def test_requests(faulty: Faulty, statement: str) -> None:
    fault = EXCEPTIONS[statement]
    h = faulty.server.connect()
    for callback, request in REQUESTS.items():
        faulty.arm(callback, statement)
        with raises_errno(fault.errno):
            request(h)
        faulty.check(callback, fault)
        request(h)


@pytest.mark.parametrize("statement", EXCEPTIONS)
def test_connections(faulty: Faulty, statement: str) -> None:
    fault = EXCEPTIONS[statement]
    for callback in CONNECTING:
        faulty.arm(callback, statement)
        with pytest.raises(nbd.Error):
            if callback == "list_exports":
                names(faulty.server)
            else:
                print(faulty.server.connect())
        faulty.check(callback, fault)

    faulty.arm("export_description", statement)
    h = faulty.server.connect(full_info=True)
    with pytest.raises(nbd.Error):
        print(h.get_export_description())
    faulty.check("export_description", fault)
    assert h.pread(1, 0) == b"\0"

    faulty.arm("close", statement)
    h.shutdown()
    faulty.check("close", fault)


@pytest.mark.parametrize("statement", EXCEPTIONS)
def test_answers(faulty: Faulty, statement: str) -> None:
    """The callback has returned: it is its answer that raises."""
    ask: dict[str, Callable[[], object]] = {
        "can_write": faulty.server.connect,
        "list_exports": lambda: names(faulty.server),
        "extents": lambda: extents(faulty.server.connect(), 512, 0),
    }
    for callback in ask:
        faulty.arm(f"{callback}'s answer", statement)
        with pytest.raises(nbd.Error):
            ask[callback]()
        assert re.match(rf"nbdkit: .*error: \S*disk\.py: {callback}: ", faulty.said()), faulty.said()
        assert re.search(f"(?ms){EXCEPTIONS[statement].said}", faulty.said()), faulty.said()
        assert faulty.control.pread(1, SIZE) == b"\0"


@pytest.mark.parametrize("callback", REQUESTS)
def test_no_memory_is_left(faulty: Faulty, callback: str) -> None:
    h = faulty.server.connect()
    for _ in range(3):
        faulty.arm(callback, "exhaust()")
        with raises_errno(errno.ENOMEM):
            REQUESTS[callback](h)
        # There may be no memory for a traceback.
        assert re.match(rf"(?s)nbdkit: .*error: \S*disk\.py: {callback}: .*MemoryError", faulty.said()), faulty.said()
        REQUESTS[callback](h)
    faulty.control.pwrite(b"nothing: ", SIZE)
    faulty.server.connect()


@pytest.mark.parametrize("last", ["recurse", "sys.exit", "warn"])
def test_what_fails_in_a_destructor_fails_nothing_else(faulty: Faulty, last: str) -> None:
    h = faulty.server.connect()
    for callback, request in REQUESTS.items():
        faulty.arm(callback, f"Dying({last})")
        request(h)
        assert re.match(r"Exception ignored [\w ]+:? <function Dying\.__del__ at ", faulty.said()), faulty.said()
        assert "nbdkit: " not in faulty.said()
