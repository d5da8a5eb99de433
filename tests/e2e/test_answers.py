# SPDX-License-Identifier: BSD-3-Clause
"""What each callback's answer, or that it is missing, means to a client.

Most scripts here answer with the value of the export's name, so that one server serves a whole table of answers.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import nbd
import pytest

from conftest import Serve
from harness import Server, extents, raises_errno
from recorder import PREAD, SHAPES, SIZE, calls, optional, script

TRUTHS = {"True": True, "False": False, "1": True, "0": False, "7": True, "None": False, "Fraction(1, 2)": True,
          "Fraction(0)": False, "Truth(True)": True, "Truth(False)": False}


def reached(h: nbd.NBD, server: Server, request: Callable[[nbd.NBD], object]) -> list[str]:
    """The names of the callbacks that a request ends up in; an earlier connection's close may come at any time."""
    calls(server)
    request(h)
    return [name for call in calls(server) if (name := call.split("(")[0]) != "close"]


BOOLEANS: dict[str, Callable[[nbd.NBD, Server], bool]] = {
    "can_write": lambda h, _: not h.is_read_only(),
    "can_flush": lambda h, _: h.can_flush(),
    "can_trim": lambda h, _: h.can_trim(),
    "can_fast_zero": lambda h, _: h.can_fast_zero(),
    "can_multi_conn": lambda h, _: h.can_multi_conn(),
    "is_rotational": lambda h, _: h.is_rotational(),
    "can_zero": lambda h, server: reached(h, server, lambda h: h.zero(512, 0)) == ["zero"],
    "can_extents": lambda h, server: reached(h, server, lambda h: extents(h, 512, 0)) == ["extents"],
}


@pytest.mark.parametrize("callback", BOOLEANS)
def test_a_yes_or_no(serve: Serve, callback: str) -> None:
    server = serve(script("v2-buf", optional("v2-buf") | {f"{callback}(h)": "eval(h)"}))
    assert {answer: BOOLEANS[callback](server.connect(answer), server) for answer in TRUTHS} == TRUTHS


PWRITE_FUA = {
    "nbdkit.FUA_NONE": (False, ["pwrite"]), "nbdkit.FUA_EMULATE": (True, ["pwrite", "flush"]),
    "nbdkit.FUA_NATIVE": (True, ["pwrite"]), "False": (False, ["pwrite"]), "True": (True, ["pwrite", "flush"]),
}
CACHE = {
    "nbdkit.CACHE_NONE": (False, []), "nbdkit.CACHE_EMULATE": (True, ["pread"]),
    "nbdkit.CACHE_NATIVE": (True, ["cache"]), "False": (False, []), "True": (True, ["pread"]),
}


def test_can_fua(serve: Serve) -> None:
    server = serve(script("v2-buf", optional("v2-buf") | {"can_fua(h)": "eval(h)"}))

    def ask(answer: str) -> tuple[bool, list[str]]:
        h = server.connect(answer)
        flags = nbd.CMD_FLAG_FUA if h.can_fua() else 0
        return h.can_fua(), reached(h, server, lambda h: h.pwrite(bytes(512), 0, flags))

    assert {answer: ask(answer) for answer in PWRITE_FUA} == PWRITE_FUA


def test_native_fua_in_version_1(serve: Serve) -> None:
    # Its pwrite has no flags: without the flush, the client's FUA would be lost.
    server = serve(script("v1", optional("v1") | {"can_fua(h)": "nbdkit.FUA_NATIVE"}))
    written = reached(server.connect(), server, lambda h: h.pwrite(bytes(512), 0, nbd.CMD_FLAG_FUA))
    assert written == ["pwrite", "flush"]


def test_can_cache(serve: Serve) -> None:
    server = serve(script("v2-buf", optional("v2-buf") | {"can_cache(h)": "eval(h)"}))

    def ask(answer: str) -> tuple[bool, list[str]]:
        h = server.connect(answer)
        return h.can_cache(), reached(h, server, lambda h: h.cache(512, 0) if h.can_cache() else None)

    assert {answer: ask(answer) for answer in CACHE} == CACHE


def listed(h: nbd.NBD) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def collect(*export: str) -> int:
        found.append(export)  # type: ignore[arg-type]
        return 0

    h.opt_list(collect)
    return found


def description(h: nbd.NBD) -> str | None:
    try:
        return h.get_export_description()
    except nbd.Error:
        return None


def block_sizes(h: nbd.NBD) -> tuple[int, ...]:
    return tuple(map(h.get_block_size, (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM)))


WRITABLE = {"pwrite(h, buf, offset, flags)": "None"}
# What a client sees of a disk that has no more callbacks than named, and what its requests end up in.
ABSENT: dict[str, tuple[dict[str, str], dict[str, object]]] = {
    "nothing": ({}, {
        "read-only": True, "flush": False, "trim": False, "fua": False, "cache": False, "multi-conn": False,
        "rotational": False, "fast zero": False, "zero ends in": [], "cache ends in": [],
    }),
    "pwrite": (WRITABLE, {
        "read-only": False, "flush": False, "trim": False, "fua": False, "cache": False, "multi-conn": False,
        "rotational": False, "fast zero": True, "zero ends in": ["pwrite"], "cache ends in": [],
    }),
    "all requests": (WRITABLE | {
        "flush(h, flags)": "None", "trim(h, count, offset, flags)": "None", "zero(h, count, offset, flags)": "None",
        "cache(h, count, offset, flags)": "None",
    }, {
        "read-only": False, "flush": True, "trim": True, "fua": True, "cache": True, "multi-conn": False,
        "rotational": False, "fast zero": False, "zero ends in": ["zero"], "cache ends in": ["cache"],
    }),
}


@pytest.mark.parametrize("present", ABSENT)
def test_what_a_missing_callback_means(serve: Serve, present: str) -> None:
    callbacks, expected = ABSENT[present]
    server = serve(script("v2-buf", callbacks))
    h = server.connect(opt_mode=True, full_info=True)
    assert listed(h) == [("", "")]
    h.opt_go()
    assert (h.get_canonical_export_name(), description(h)) == ("", None)
    assert block_sizes(h) == (0, 0, 0)
    assert extents(h, SIZE, 0) == [(SIZE, 0)]
    assert {
        "read-only": h.is_read_only(), "flush": h.can_flush(), "trim": h.can_trim(), "fua": h.can_fua(),
        "cache": h.can_cache(), "multi-conn": h.can_multi_conn(), "rotational": h.is_rotational(),
        "fast zero": h.can_fast_zero(),
        "zero ends in": reached(h, server, lambda h: None if h.is_read_only() else h.zero(512, 0)),
        "cache ends in": reached(h, server, lambda h: h.cache(512, 0) if h.can_cache() else None),
    } == expected


def test_fast_zero_without_zero_fails_fast(serve: Serve) -> None:
    h = serve(script("v2-buf", WRITABLE)).connect()
    with raises_errno(errno.EOPNOTSUPP):
        h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO)


@pytest.mark.parametrize("answer, expected", [
    ("['a', 'b']", [("a", ""), ("b", "")]),
    ("('a', 'b')", [("a", ""), ("b", "")]),
    ("(name for name in 'ab')", [("a", ""), ("b", "")]),
    ("{'a': 1, 'b': 2}", [("a", ""), ("b", "")]),
    ("[('a', 'first'), 'b', ('c', None), ('', 'unnamed')]", [("a", "first"), ("b", ""), ("c", ""), ("", "unnamed")]),
    ("['\\u00e9t\\u00e9', ('\\u4e2d', '\\U0001f40d')]", [("été", ""), ("中", "🐍")]),
    ("[b'\\xc3\\xa9', (b'b', b'bytes')]", [("é", ""), ("b", "bytes")]),
    ("[]", []),
])
def test_list_exports(serve: Serve, answer: str, expected: list[tuple[str, str]]) -> None:
    server = serve(script("v2-buf", {"list_exports(readonly, is_tls)": answer}))
    assert listed(server.connect(opt_mode=True)) == expected


@pytest.mark.parametrize("answer, expected", [("'main'", "main"), ("b'main'", "main"), ("'\\u00e9'", "é"), ("''", "")])
def test_default_export(serve: Serve, answer: str, expected: str) -> None:
    server = serve(script("v2-buf", {"default_export(readonly, is_tls)": answer}))
    h = server.connect(opt_mode=True, full_info=True)
    assert listed(h) == [(expected, "")]
    h.opt_go()
    assert h.get_canonical_export_name() == expected
    assert f"open(False)\nget_size({expected!r})" in (server.logfile.parent / "calls").read_text()


CONNECTION_ANSWERS: dict[str, tuple[Callable[[nbd.NBD], object], dict[str, object]]] = {
    "export_description(h)": (description, {
        "'A disk'": "A disk", "b'A disk'": "A disk", "'\\u00e9\\U0001f40d'": "é🐍", "''": "", "None": None,
    }),
    "get_size(h)": (lambda h: h.get_size(), {"0": 0, "1": 1, "513": 513, "2**63 - 1": 2**63 - 1, "True": 1}),
    "block_size(h)": (block_sizes, {
        "(1, 512, 65536)": (1, 512, 65536), "[512, 4096, 1048576]": (512, 4096, 1048576), "(0, 0, 0)": (0, 0, 0),
        "(4096, 4096, 2**32 - 1)": (4096, 4096, 2**32 - 1),
    }),
    "extents(h, count, offset, flags)": (lambda h: extents(h, SIZE, 0), {
        "[(0, 4096, 0)]": [(4096, 0)],
        "[(0, 4096, nbdkit.EXTENT_HOLE)]": [(4096, 1)],
        "((0, 4096, nbdkit.EXTENT_ZERO),)": [(4096, 2)],
        "[[0, 4096, nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO]]": [(4096, 3)],
        "((n, 1024, n // 1024) for n in range(0, 4096, 1024))": [(1024, 0), (1024, 1), (1024, 2), (1024, 3)],
        "[(0, 512, 3), (512, 512, 3), (1024, 9999, 0)]": [(1024, 3), (3072, 0)],
        "[(0, 1, 3), (1, 2**63 - 2, 0)]": [(1, 3), (4095, 0)],
    }),
}


@pytest.mark.parametrize("callback", CONNECTION_ANSWERS)
def test_answer_as_the_client_sees_it(serve: Serve, callback: str) -> None:
    ask, answers = CONNECTION_ANSWERS[callback]
    server = serve(script("v2-buf", {callback: "eval(h)"}))
    assert {answer: ask(server.connect(answer, full_info=True)) for answer in answers} == answers


@pytest.mark.parametrize("name, told", [
    ("SERIALIZE_CONNECTIONS", "serialize_connections"),
    ("SERIALIZE_ALL_REQUESTS", "serialize_requests"),  # of the rest, the plugin takes care
    ("SERIALIZE_REQUESTS", "serialize_requests"),
    ("PARALLEL", "parallel"),
])
def test_thread_model(serve: Serve, name: str, told: str) -> None:
    server = serve(script("v2-buf", {"thread_model()": f"nbdkit.THREAD_MODEL_{name}"}), verbose=True)
    assert f"using thread model: {told}\n" in server.log()


DATA = bytes(range(256)) * 2
READS = {  # what a pread returns, given `data`, the 512 bytes that it should read
    "data": DATA, "bytearray(data)": DATA, "memoryview(data)": DATA, "data + data": DATA,
    "array.array('I', data)": DATA, "memoryview(data + data)[256:768]": DATA,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_pread_answers(serve: Serve, shape: str) -> None:
    server = serve("import array\ndata = bytes(range(256)) * 2\n" + script(shape, {PREAD[shape]: "eval(h)"}))
    assert {answer: bytes(server.connect(answer).pread(512, 0)) for answer in READS} == READS


FILLS = {
    "buf.__setitem__(slice(None), data)": DATA,
    "buf.__setitem__(slice(0, 2), b'ab')": b"ab" + bytes(510),  # whatever was read before, what is not filled is zeros
    "buf[1:3].__setitem__(slice(None), b'ab')": b"\0ab" + bytes(509),
    "io.BytesIO(data).readinto(buf)": DATA,  # returns a number
    "None": bytes(512),
}


def test_pread_fills_the_buffer(serve: Serve) -> None:
    server = serve("import io\ndata = bytes(range(256)) * 2\n" + script("v2-buf", {PREAD["v2-buf"]: "eval(h)"}))
    dirty = server.connect("buf.__setitem__(slice(None), b'!' * len(buf))")
    for fill, expected in FILLS.items():
        dirty.pread(512, 0)
        assert bytes(server.connect(fill).pread(512, 0)) == expected, fill
