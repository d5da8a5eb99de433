# SPDX-License-Identifier: BSD-3-Clause
"""Every callback, in version 1 and in both shapes of version 2: when it is called, and with what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from harness import extents
from recorder import PREAD, SHAPES, calls, optional, script, wait_for_call

NO_HOLE, FUA, FAST_ZERO, REQ_ONE = nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_FAST_ZERO, nbd.CMD_FLAG_REQ_ONE

# What a client asks, and the calls that this becomes in version 1 and in version 2.
REQUESTS: list[tuple[Callable[[nbd.NBD], object], list[str], list[str]]] = [
    (lambda h: h.pwrite(bytes(512), 1024),
     ["pwrite('main', view(B, 512, read-only), 1024)"], ["pwrite('main', view(B, 512, read-only), 1024, 0)"]),
    (lambda h: h.pwrite(bytes(3), 7, FUA),
     ["pwrite('main', view(B, 3, read-only), 7)", "flush('main')"], ["pwrite('main', view(B, 3, read-only), 7, 2)"]),
    (lambda h: h.flush(), ["flush('main')"], ["flush('main', 0)"]),
    (lambda h: h.trim(512, 1024), ["trim('main', 512, 1024)"], ["trim('main', 512, 1024, 0)"]),
    (lambda h: h.trim(512, 1024, FUA), ["trim('main', 512, 1024)", "flush('main')"], ["trim('main', 512, 1024, 2)"]),
    (lambda h: h.zero(512, 1024), ["zero('main', 512, 1024, True)"], ["zero('main', 512, 1024, 1)"]),
    (lambda h: h.zero(512, 1024, NO_HOLE), ["zero('main', 512, 1024, False)"], ["zero('main', 512, 1024, 0)"]),
    (lambda h: h.zero(512, 1024, FUA),
     ["zero('main', 512, 1024, True)", "flush('main')"], ["zero('main', 512, 1024, 3)"]),
    (lambda h: h.zero(512, 1024, FAST_ZERO) if h.can_fast_zero() else None, [], ["zero('main', 512, 1024, 9)"]),
    (lambda h: h.cache(512, 1024), ["cache('main', 512, 1024, 0)"], ["cache('main', 512, 1024, 0)"]),
    (lambda h: extents(h, 512, 1024), ["extents('main', 512, 1024, 0)"], ["extents('main', 512, 1024, 0)"]),
    (lambda h: extents(h, 512, 1024, REQ_ONE), ["extents('main', 512, 1024, 4)"], ["extents('main', 512, 1024, 4)"]),
]
PREAD_CALL = {
    "v1": "pread('main', 512, 1024)",
    "v2-count": "pread('main', 512, 1024, 0)",
    "v2-buf": "pread('main', view(B, 512, writable), 1024, 0)",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_arguments_of_requests(serve: Serve, shape: str) -> None:
    server = serve(script(shape, optional(shape)))
    h = server.connect("main")
    calls(server)
    h.pread(512, 1024)
    assert calls(server) == [PREAD_CALL[shape]]
    for request, *expected in REQUESTS:
        request(h)
        assert calls(server) == expected[shape != "v1"]


CONNECTING = """block_size can_cache can_extents can_fast_zero can_flush can_fua can_multi_conn can_trim can_write
    can_zero export_description get_size is_rotational""".split()


@pytest.mark.parametrize("shape", SHAPES)
def test_calls_over_a_servers_life(serve: Serve, shape: str) -> None:
    server = serve(script(shape, optional(shape)), "first=1", "second=two words")
    wait_for_call(server, "after_fork()")  # which nbdkit calls when it has told that it listens
    assert calls(server) == ["config('first', '1')", "config('second', 'two words')", "config_complete()",
                             "thread_model()", "get_ready()", "after_fork()"]
    h = server.connect(opt_mode=True, full_info=True)
    h.opt_list(lambda *_: 0)
    assert calls(server) == ["preconnect(False)", "list_exports(False, False)"]
    h.opt_go()
    first, second, *others = calls(server)
    assert [first, second] == ["default_export(False, False)", "open(False)"]
    assert sorted(others) == [f"{name}('main')" for name in CONNECTING]
    h.pread(512, 1024)
    assert calls(server) == [PREAD_CALL[shape]]
    h.shutdown()
    wait_for_call(server, "close('main')")  # nbdkit leaves it out once it is told to end
    assert server.stop() == 0
    assert calls(server) == ["close('main')", "cleanup()"]


def test_load_comes_first_and_unload_last(serve: Serve) -> None:
    callbacks = {"load()": "None", "config(key, value)": "None", "cleanup()": "None", "unload()": "None"}
    server = serve(script("v2-buf", callbacks), "key=value")
    assert calls(server) == ["load()", "config('key', 'value')"]
    assert server.stop() == 0
    assert calls(server) == ["cleanup()", "unload()"]


def test_a_read_only_server_says_so(serve: Serve) -> None:
    server = serve(script("v2-buf", optional("v2-buf")), options=("-r",))
    h = server.connect(opt_mode=True)
    h.opt_list(lambda *_: 0)
    h.opt_go()
    assert h.is_read_only()
    found = calls(server)
    for call in "preconnect(True)", "list_exports(True, False)", "default_export(True, False)", "open(True)":
        assert found.count(call) == 1


def test_a_tls_connection_says_so(serve: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys.psk"
    keys.write_text("alice:0123456789abcdef0123456789abcdef\n")
    server = serve(script("v2-buf", optional("v2-buf")), options=("--tls=require", f"--tls-psk={keys}"))
    h = server.connect(tls=nbd.TLS_REQUIRE, tls_psk_file=str(keys), tls_username="alice", opt_mode=True)
    h.opt_list(lambda *_: 0)
    h.opt_go()
    found = calls(server)
    for call in "list_exports(False, True)", "default_export(False, True)":
        assert found.count(call) == 1


HANDLES = ["None", "0", "2**70", "''", "object()", "[]"]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_handle_is_what_open_returned(serve: Serve, shape: str) -> None:
    mark = "b'same' if h is HANDLES[nbdkit.export_name()] else b'else'"
    server = serve(script(shape, {
        "open(readonly)": "HANDLES.setdefault(nbdkit.export_name(), eval(nbdkit.export_name()))",
        PREAD[shape]: f"buf.__setitem__(slice(None), {mark})" if shape == "v2-buf" else mark,
    }) + "HANDLES = {}\n")
    clients = {handle: server.connect(handle) for handle in HANDLES}
    assert {handle: bytes(h.pread(4, 0)) for handle, h in clients.items()} == dict.fromkeys(HANDLES, b"same")


@pytest.mark.parametrize("callbacks", [{}, {"close(h)": "None"}], ids=["without close", "with close"])
def test_closing_frees_the_handle(serve: Serve, callbacks: dict[str, str]) -> None:
    server = serve(script("v2-buf", {"open(readonly)": "Handle()"} | callbacks) + """
class Handle:
    def __del__(self): called("freed")
    def __repr__(self): return "Handle"
""")
    server.connect().shutdown()
    wait_for_call(server, "freed()")
    assert calls(server)[-1 - len(callbacks):] == [f"{name.split('(')[0]}(Handle)" for name in callbacks] + ["freed()"]
