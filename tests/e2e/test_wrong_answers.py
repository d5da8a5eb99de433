# SPDX-License-Identifier: BSD-3-Clause
"""A wrong answer fails its request alone: the log says what was expected and what came, and the server goes on."""

from __future__ import annotations

import re
from collections.abc import Callable

import nbd
import pytest

from conftest import Serve
from disks import disk
from harness import Server, extents

# Each callback's answers come from a file, so that one server serves good ones and bad ones in turn.
ANSWERING = """
import builtins, os

ANSWER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "answer")

class Odd:
    def __repr__(self): raise ValueError

def generator(*items):
    yield from items
    1 / 0

async def coroutine(): pass

def answer():
    with builtins.open(ANSWER) as file:
        return eval(file.read())

"""
WRITABLE = """
def pwrite(h, buf, offset, flags): pass
def flush(h, flags): pass
def zero(h, count, offset, flags): pass
"""
NOT_TEXT = {"5": "int 5", "('a',)": r"tuple \('a',\)", "'\\udcff'": r"str '\\udcff'", "'a\\0b'": r"str 'a\\x00b'",
            "b'a\\0b'": r"bytes b'a\\x00b'", "coroutine()": "coroutine"}
NOT_TRUE_OR_FALSE = {"'yes'": "str 'yes'", "''": "str ''", "[]": r"list \[\]", "b'1'": "bytes b'1'", "{}": r"dict \{\}",
                     "object()": "object", "Odd()": "Odd", "coroutine()": "coroutine", "generator()": "generator"}
NOT_A_LEVEL = {"3": "3", "-1": "-1", "2**70": str(2**70), "'1'": "'1'", "[]": "list", "coroutine()": "coroutine"}
DONE = {"coroutine()": "coroutine", "generator()": "generator"}


def connect(server: Server) -> nbd.NBD:
    return server.connect(full_info=True)


def list_exports(server: Server) -> None:
    h = server.connect(opt_mode=True)
    try:
        h.opt_list(lambda *_: 0)
    finally:
        h.opt_abort()  # nbdkit lets no other client in meanwhile


# A callback, a good answer, what a client does that asks for it, and bad answers with what is said of them.
WRONG: dict[str, tuple[str, Callable[[Server], object], dict[str, str]]] = {
    "get_size(h)": ("4096", connect, {
        "-1": "int -1", "2**63": str(2**63), "None": "None", "'4096'": "str '4096'", "4096.0": "float 4096.0",
        "10**5000": "int", "coroutine()": "coroutine"}),
    **{f"{name}(h)": ("True", connect, NOT_TRUE_OR_FALSE) for name in (
        "can_write", "can_flush", "can_trim", "can_zero", "can_fast_zero", "can_extents", "can_multi_conn",
        "is_rotational")},
    "can_fua(h)": ("1", connect, NOT_A_LEVEL),
    "can_cache(h)": ("1", connect, NOT_A_LEVEL),
    "block_size(h)": ("(1, 512, 4096)", connect, {
        "512": "int 512", "None": "None", "(1, 512)": r"\(1, 512\)", "(1, 512, 'x')": "'x'", "(1, -512, 4096)": "-512",
        "(1, 512, 2**32)": str(2**32), "(1, 512, 4096.0)": "4096.0", "(1, 2, 3, 4)": "4", "'abc'": "str 'abc'"}),
    "export_description(h)": ("'text'", lambda server: connect(server).get_export_description(), NOT_TEXT),
    "default_export(readonly, is_tls)": ("'text'", connect, NOT_TEXT | {"None": "None"}),
    "list_exports(readonly, is_tls)": ("['a']", list_exports, {
        "'abc'": "str 'abc'", "b'abc'": "bytes b'abc'", "None": "None", "5": "int 5", "[5]": "int 5", "[None]": "None",
        "[('a', 'b', 'c')]": r"\('a', 'b', 'c'\)", "[('a', 5)]": "5", "['a', '\\udcff']": r"'\\udcff'",
        "[('a', 'b\\0')]": r"'b\\x00'", "coroutine()": "coroutine"}),
    "pread(h, count, offset, flags)": ("bytes(512)", lambda server: connect(server).pread(512, 0), {
        "None": "None", "'text'": "str 'text'", "b''": "bytes of 0", "bytes(511)": "bytes of 511", "5": "int 5",
        "memoryview(bytes(1024))[::2]": "memoryview", "coroutine()": "coroutine", "generator()": "generator"}),
    "pread(h, buf, offset, flags)": ("None", lambda server: connect(server).pread(512, 0), {
        "bytes(511)": "bytes of 511", "b''": "bytes of 0", "coroutine()": "coroutine", "generator()": "generator"}),
    "pwrite(h, buf, offset, flags)": ("None", lambda server: connect(server).pwrite(bytes(512), 0), DONE),
    "flush(h, flags)": ("None", lambda server: connect(server).flush(), DONE),
    "trim(h, count, offset, flags)": ("None", lambda server: connect(server).trim(512, 0), DONE),
    "zero(h, count, offset, flags)": ("None", lambda server: connect(server).zero(512, 0), DONE),
    "cache(h, count, offset, flags)": ("None", lambda server: connect(server).cache(512, 0), DONE),
    "extents(h, count, offset, flags)": ("[(0, 4096, 0)]", lambda server: extents(connect(server), 4096, 0), {
        "None": "None", "[]": "none", "[(0, 0, 0)]": "none", "5": "int 5", "'abc'": "str 'abc'", "['abc']": "str 'abc'",
        "(0, 4096, 0)": "int 0", "[(0, 512)]": r"\(0, 512\)", "[(0, '512', 0)]": "'512'",
        "[(0, 4096, 4)]": r"\(0, 4096, 4\)", "[(0, -1, 0)]": "-1",
        "[(0, 2**64, 0)]": str(2**64), "[(0, 512.0, 0)]": "512.0", "coroutine()": "coroutine"}),
    "open(readonly)": ("None", connect, DONE),
    "preconnect(readonly)": ("None", connect, DONE),
}


@pytest.mark.parametrize("callback", WRONG)
def test_wrong_answer(serve: Serve, callback: str) -> None:
    good, ask, bad = WRONG[callback]
    name = callback.split("(")[0]
    server = serve(disk(f"{WRITABLE}{ANSWERING}def {callback}: return answer()\n"))
    file = server.logfile.parent / "answer"
    for answer, got in bad.items():
        file.write_text(answer)
        before = len(server.log())
        with pytest.raises(nbd.Error):
            ask(server)
        said = server.log()[before:]
        found = re.findall(rf"^nbdkit: .*error: \S*disk\.py: {name}: expected .+, got .*{got}", said, re.MULTILINE)
        assert len(found) == 1, (answer, said)
        assert "Traceback" not in said
        file.write_text(good)
        ask(server)


@pytest.mark.parametrize("callback, failure", [
    *((callback, "1 / 0") for callback in WRONG),
    ("list_exports(readonly, is_tls)", "generator('a')"),
    ("extents(h, count, offset, flags)", "generator((0, 512, 3))"),
])
def test_exception(serve: Serve, callback: str, failure: str) -> None:
    good, ask, _ = WRONG[callback]
    server = serve(disk(f"{WRITABLE}{ANSWERING}def {callback}: return answer()\n"))
    file = server.logfile.parent / "answer"
    file.write_text(failure)
    with pytest.raises(nbd.Error):
        ask(server)
    name = callback.split("(")[0]
    assert re.search(rf"(?s)error: \S*disk\.py: {name}: Traceback.*ZeroDivisionError: division by zero\n", server.log())
    file.write_text(good)
    ask(server)


@pytest.mark.parametrize("callback", ["close(h)", "cleanup()", "unload()"])
def test_exception_at_an_end_is_only_logged(serve: Serve, callback: str) -> None:
    server = serve(disk(f"def {callback}: raise ValueError('not today')\n"))
    message = rf"error: \S*disk\.py: {callback.split('(')[0]}: Traceback(?:.*\n)+?ValueError: not today\n"
    if callback == "close(h)":
        server.connect().shutdown()
        server.wait_for_log(message)
    assert server.connect().pread(512, 0) == bytes(512)
    assert server.stop() == 0
    assert re.search(message, server.log())


@pytest.mark.parametrize("name, request_it", [
    ("trim", lambda h: h.trim(512, 0)), ("cache", lambda h: h.cache(512, 0)), ("flush", lambda h: h.flush()),
    ("write", lambda h: h.pwrite(bytes(512), 0)),
])
def test_promised_but_missing(serve: Serve, name: str, request_it: Callable[[nbd.NBD], object]) -> None:
    pwrite = "" if name == "write" else "def pwrite(h, buf, offset, flags): pass\n"
    promise = "nbdkit.CACHE_NATIVE" if name == "cache" else "True"
    server = serve(disk(f"{pwrite}def can_{name}(h): return {promise}\n"))
    h = server.connect()
    with pytest.raises(nbd.Error):
        request_it(h)
    callback = "pwrite" if name == "write" else name
    assert re.search(rf"error: \S*disk\.py: {callback}: .*\bcan_{name}\b", server.log())
    assert h.pread(512, 0) == bytes(512)
