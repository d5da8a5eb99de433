# SPDX-License-Identifier: BSD-3-Clause
"""A translator that is wrong gets an exception: each assertion of nbdkit's that it could fail is tried here.

The comments name nbdkit's source file and what it asserts. A server that aborts fails its test.
"""

from __future__ import annotations

import errno

import nbd
import pytest

from filter_kit import EVALUATE, SIZE, Refused, Requests, Translate, evaluate
from harness import extents, raises_errno

# A disk that can do nothing but be read, by nbdkit's own plugin for shell scripts.
READ_ONLY = ("eval", "get_size=echo 1M", "pread=dd if=/dev/zero count=$3 iflag=count_bytes",
             "can_write=exit 3", "can_cache=echo none")

WITHIN = f"expected a range within the {SIZE} bytes of what is below, got"
# expression -> what it raises; server/backend.c, in the order of its functions
WRONG = {
    # assert (backend_valid_range (c, offset, count))
    "next.pread(512, 1048576)": f"ValueError: next.pread: {WITHIN} 512 at offset 1048576",
    "next.pread(512, 1048065)": f"ValueError: next.pread: {WITHIN} 512 at offset 1048065",
    "next.pread(512, 2**64 - 512)": f"ValueError: next.pread: {WITHIN} 512 at offset 18446744073709551104",
    "next.pread(512, 2**64)": "ValueError: next.pread: offset: expected an int from 0 to 2**64 - 1, got int",
    "next.pread(512, -1)": "ValueError: next.pread: offset: expected an int from 0 to 2**64 - 1, got int -1",
    "next.pread(-1, 0)": "ValueError: next.pread: count: expected an int from 0 to 2**32 - 1, got int -1",
    "next.pread(0, 0)": "ValueError: next.pread: expected at least one byte, got none",
    "next.pread(bytearray(), 0)": "ValueError: next.pread: expected at least one byte, got none",
    "next.pread(2**32 - 1, 0)": "ValueError: next.pread: expected at most 67108864 bytes, got 4294967295",
    "next.pwrite(bytes(512), 1048576)": f"ValueError: next.pwrite: {WITHIN} 512 at offset 1048576",
    "next.pwrite(b'', 0)": "ValueError: next.pwrite: expected at least one byte, got none",
    "next.trim(512, 1048576)": f"ValueError: next.trim: {WITHIN} 512 at offset 1048576",
    "next.trim(0, 0)": "ValueError: next.trim: expected at least one byte, got none",
    "next.zero(2**32 - 1, 0)": f"ValueError: next.zero: {WITHIN} 4294967295 at offset 0",
    "next.zero(2**32, 0)": "ValueError: next.zero: count: expected an int from 0 to 2**32 - 1, got int 4294967296",
    "next.extents(512, 1048065)": f"ValueError: next.extents: {WITHIN} 512 at offset 1048065",
    "next.cache(512, 1048065)": f"ValueError: next.cache: {WITHIN} 512 at offset 1048065",
    # assert (flags == 0), assert (!(flags & ~NBDKIT_FLAG_FUA)), …
    "next.pread(512, 0, nbdkit.FLAG_FUA)": "ValueError: next.pread: flags: expected 0, got 2",
    "next.pwrite(bytes(512), 0, nbdkit.FLAG_MAY_TRIM)": "ValueError: next.pwrite: flags: expected none but those of 2",
    "next.flush(1)": "ValueError: next.flush: flags: expected 0, got 1",
    "next.trim(512, 0, flags=nbdkit.FLAG_FAST_ZERO)": "ValueError: next.trim: flags: expected none but those of 2",
    "next.zero(512, 0, nbdkit.FLAG_REQ_ONE)": "ValueError: next.zero: flags: expected none but those of 11, got 4",
    "next.extents(512, 0, nbdkit.FLAG_FUA)": "ValueError: next.extents: flags: expected none but those of 4, got 2",
    "next.cache(512, 0, 2**31)": "ValueError: next.cache: flags: expected 0, got 2147483648",
    # server/filters.c: assert (old == NULL); server/exports.c and backend.c: assert (conn->top_context == NULL)
    "next.open()": "RuntimeError: next.open: not in pwrite: only in open",
    "next.list_exports()": "RuntimeError: next.list_exports: not in pwrite: only in list_exports",
    "next.default_export()": "RuntimeError: next.default_export: not in pwrite: only in default_export",
    "next.preconnect()": "RuntimeError: next.preconnect: not in pwrite: only in preconnect",
    "next.config('a', 'b')": "RuntimeError: next.config: not in pwrite: only in config",
    # What is not an argument at all.
    "next.pread()": "TypeError: next.pread: the argument buf is missing",
    "next.pread(512)": "TypeError: next.pread: the argument offset is missing",
    "next.pread('x', 0)": "TypeError: next.pread: buf: expected a contiguous writable buffer, or a count, got str 'x'",
    "next.pread(bytes(512), 0)": "TypeError: next.pread: buf: expected a contiguous writable buffer, or a count",
    "next.pread(memoryview(bytearray(512))[::2], 0)": "TypeError: next.pread: buf: expected a contiguous writable",
    "next.pwrite('x', 0)": "TypeError: next.pwrite: buf: expected a contiguous bytes-like object, got str 'x'",
    "next.pwrite(bytes(2**26 + 1), 0)": "ValueError: next.pwrite: buf: expected at most 67108864 bytes, got 67108865",
    "next.pread(512, 0.5)": "TypeError: next.pread: offset: expected an int from 0 to 2**64 - 1, got float 0.5",
    "next.pread(512, 0, 0, 0)": "TypeError: next.pread: there are arguments too many, or of other names",
    "next.pread(512, 0, flag=0)": "TypeError: next.pread: there are arguments too many, or of other names",
    "next.get_size(1)": "TypeError: ",
    "type(next)()": "TypeError: cannot create 'nbdkit.Next' instances",
}


@pytest.mark.parametrize("below", [[], ["def config_complete(): pass\n"]], ids=["plugin", "translator"])
def test_wrong_arguments_raise(translate: Translate, below: list[str]) -> None:
    h = translate(EVALUATE, *below).connect()
    for expression, expected in WRONG.items():
        assert evaluate(h, expression).startswith(expected), (expression, evaluate(h, expression))
    # And it goes on.
    assert evaluate(h, "next.pread(4, 0)") == "bytearray(b'\\x00\\x00\\x00\\x00')"


# server/backend.c: assert (c->can_write == 1), assert (c->can_trim == 1), …: none of them was asked for, by a client or
# by the translator, before the request.
LACKING = {
    "next.pwrite(bytes(512), 0)": "ValueError: next.pwrite: what is below is read-only: ask next.can_write() first",
    "next.flush()": "ValueError: next.flush: what is below cannot flush: ask next.can_flush() first",
    "next.trim(512, 0)": "ValueError: next.trim: what is below cannot trim: ask next.can_trim() first",
    "next.zero(512, 0)": "ValueError: next.zero: what is below cannot zero: ask next.can_zero() first",
    "next.cache(512, 0)": "ValueError: next.cache: what is below cannot cache: ask next.can_cache() first",
    # assert (c->can_extents >= 0)
    "next.extents(512, 0)": "[(0, 512, 0)]",
    # assert (c->exportsize …): nobody has asked for the size
    "next.pread(2, 0)": "bytearray(b'\\x00\\x00')",
    "next.can_write(), next.can_zero(), next.can_fua(), next.can_cache()": "(False, 0, 0, 0)",
}
UNASKED = EVALUATE + """
def get_size(h, next): return 1 << 20
def can_flush(h, next): return True
can_trim = can_extents = can_fast_zero = can_flush
def can_zero(h, next): return nbdkit.ZERO_NATIVE
def can_fua(h, next): return nbdkit.FUA_NATIVE
def can_cache(h, next): return nbdkit.CACHE_NATIVE
"""


@pytest.mark.parametrize("below", [[], ["def config_complete(): pass\n"]], ids=["plugin", "translator"])
def test_what_was_not_announced_raises(translate: Translate, below: list[str]) -> None:
    h = translate(UNASKED, *below, plugin=READ_ONLY).connect()
    for expression, expected in LACKING.items():
        assert evaluate(h, expression) == expected, expression
    # Passed on as it is, it is an error, too.
    requests: Requests = [h.flush, lambda: h.trim(512, 0), lambda: h.cache(512, 0)]
    for request in requests:
        with raises_errno(errno.EIO):
            request()


# assert (c->can_fua > NBDKIT_FUA_NONE), assert (c->can_fast_zero == 1), assert (c->can_zero > NBDKIT_ZERO_NONE)
@pytest.mark.parametrize(("options", "words", "expression", "expected"), [
    (["--filter=fua"], [], "next.pwrite(bytes(512), 0, nbdkit.FLAG_FUA)",
     "ValueError: next.pwrite: what is below has no FUA: ask next.can_fua() first"),
    (["--filter=fua"], [], "next.zero(512, 0, nbdkit.FLAG_FUA)",
     "ValueError: next.zero: what is below has no FUA: ask next.can_fua() first"),
    (["--filter=fua"], [], "next.trim(512, 0, nbdkit.FLAG_FUA)",
     "ValueError: next.trim: what is below has no FUA: ask next.can_fua() first"),
    (["--filter=nozero"], [], "next.zero(512, 0)",
     "ValueError: next.zero: what is below cannot zero: ask next.can_zero() first"),
    (["--filter=nozero"], ["fastzeromode=none", "zeromode=emulate"], "next.zero(512, 0, nbdkit.FLAG_FAST_ZERO)",
     "ValueError: next.zero: what is below cannot tell that a zero would be slow: ask next.can_fast_zero() first"),
    (["--filter=nozero"], ["fastzeromode=slow", "zeromode=emulate"], "next.zero(512, 0, nbdkit.FLAG_FAST_ZERO)",
     "Error: [Errno 95] next.zero has failed"),
])
def test_flags_that_were_not_announced_raise(translate: Translate, options: list[str], words: list[str],
                                             expression: str, expected: str) -> None:
    # The filter that is named last is nearest to the plugin.
    server = translate(EVALUATE, plugin=("memory", "1M", *words), below=options)
    assert evaluate(server.connect(), expression) == expected


KEEPS = """
import threading
kept = {}
def attempt(what, call):
    try:
        call()
        nbdkit.debug(f"{what}: done")
    except RuntimeError as error:
        nbdkit.debug(f"{what}: {error}")
import nbdkit
def open(next, readonly, export_name, is_tls):
    # assert (c->handle && (c->state & HANDLE_CONNECTED))
    attempt("size in open", next.get_size)
    attempt("read in open", lambda: next.pread(512, 0))
    next.open()
    attempt("size after open", next.get_size)
    # assert (old == NULL)
    attempt("open twice", next.open)
    kept["open"] = next
def prepare(h, next, readonly):
    attempt("size in prepare", next.get_size)
    attempt("the next of open", kept["open"].open)
def pread(h, next, buf, offset, flags):
    attempt("the next of another call", lambda: kept["open"].pread(buf, 0))
    thread = threading.Thread(target=attempt, args=("another thread", lambda: next.pread(512, 0)))
    thread.start()
    thread.join()
    next.pread(buf, offset)
    kept["pread"] = next.pread
def flush(h, next, flags):
    attempt("a method that was kept", lambda: kept["pread"](512, 0))
def finalize(h, next):
    attempt("size in finalize", next.get_size)
    kept["finalize"] = next
def close(h):
    attempt("after finalize", lambda: kept["finalize"].pread(512, 0))
"""


def test_next_is_good_for_its_call_and_thread_only(translate: Translate) -> None:
    server = translate(KEEPS, verbose=True)
    h = server.connect()
    h.pread(512, 0)
    h.flush()
    h.shutdown()
    over = "the call that this next was for is over: each call of a callback gets its own"
    for line in (
        "size in open: next.get_size: not in open: the disk can be used from prepare to finalize",
        "read in open: next.pread: not in open: the disk can be used from prepare to finalize",
        "size after open: next.get_size: not in open: the disk can be used from prepare to finalize",
        "open twice: next.open: what is below is open already",
        "size in prepare: done",
        f"the next of open: next.open: {over}",
        f"the next of another call: next.pread: {over}",
        "another thread: next.pread: this next is for another call: it cannot be used in other threads or callbacks",
        f"a method that was kept: next.pread: {over}",
        "size in finalize: done",
        f"after finalize: next.pread: {over}",
    ):
        server.wait_for_log(rf"debug: (?:python: )?{line}$".replace("(512", r"\(512"))


# assert (*err)
@pytest.mark.parametrize("failure", ["raise KeyError", "raise OSError", "raise OSError(0, 'x')",
                                     "nbdkit.set_error(0); 1/0", "raise NotImplementedError", "raise SystemExit(0)",
                                     "raise KeyboardInterrupt", "nbdkit.set_error(95); raise KeyError",
                                     "return (yield)", "return 1j .x"])
def test_a_failure_has_an_errno(translate: Translate, failure: str) -> None:
    text = "import nbdkit\n" + "".join(
        f"def {name}(h, next, {arguments}):\n    {failure}\n" for name, arguments in {
            "pread": "buf, offset, flags", "pwrite": "buf, offset, flags", "flush": "flags",
            "trim": "count, offset, flags", "extents": "count, offset, flags", "cache": "count, offset, flags",
        }.items() if "yield" not in failure or name == "extents")
    h = translate(text, "def config_complete(): pass\n").connect()
    requests: Requests = [lambda: extents(h, 512, 0)]
    if "yield" not in failure:
        requests += [lambda: h.pread(512, 0), lambda: h.pwrite(bytes(512), 0), h.flush, lambda: h.trim(512, 0),
                     lambda: h.cache(512, 0)]
    for request in requests:
        with pytest.raises(nbd.Error):
            request()
    assert h.aio_is_ready()


# if (!fast) assert (*err != ENOTSUP && *err != EOPNOTSUPP)
@pytest.mark.parametrize("decline", ["raise NotImplementedError", "raise OSError(errno.ENOTSUP, 'no')",
                                     "nbdkit.set_error(errno.EOPNOTSUPP)"])
def test_a_zero_that_declines_is_written(translate: Translate, decline: str) -> None:
    h = translate(f"import errno, nbdkit\ndef zero(h, next, count, offset, flags):\n    {decline}\n").connect()
    h.pwrite(b"x" * 4096, 0)
    with raises_errno(errno.ENOTSUP):
        h.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO)
    h.zero(4096, 0)
    assert h.pread(4096, 0) == bytes(4096)


def test_a_zero_that_declines_and_whose_write_fails(translate: Translate) -> None:
    h = translate("""
def zero(h, next, count, offset, flags): raise NotImplementedError
def pwrite(h, next, buf, offset, flags): raise NotImplementedError
""").connect()
    with raises_errno(errno.EINVAL):
        h.zero(4096, 0)


# server/protocol.c: assert (nr_extents >= 1), assert (e.length > 0), assert (e.offset == offset),
# assert (e.length <= length)
@pytest.mark.parametrize(("answer", "good"), [
    ("[]", False), ("[(offset, 0, 0)]", False), ("[(offset + 1, 512, 0)]", False), ("[(0, 1, 0), (5, 6, 0)]", False),
    ("[(0, 2**64, 0)]", False), ("[(0, 2**64 - 1, 3)]", True), ("[(0, 2**62, 4)]", False), ("None", False),
    ("iter([(0, 100, 3), (100, 10**9, 0)])", True), ("next.extents(1, offset)", True), ("'x'", False),
])
def test_extents_that_are_none(translate: Translate, answer: str, good: bool) -> None:
    server = translate(f"def extents(h, next, count, offset, flags): return {answer}\n"
                       "def get_size(h, next): return 2**40\n")
    h = server.connect()
    for count in (512, 2**32 - 512):
        if good:
            assert extents(h, count, 0)
        else:
            with pytest.raises(nbd.Error):
                extents(h, count, 0)
    assert good or "translator0.py: extents: " in server.log()


# server/locks.c: assert (thread_model <= NBDKIT_THREAD_MODEL_PARALLEL)
@pytest.mark.parametrize("model", ["99", "-1", "None", "'x'", "1/0"])
def test_a_thread_model_that_is_none(refused: Refused, model: str) -> None:
    said = refused(f"def thread_model(): return {model}\n")
    assert "translator0.py: thread_model: " in said


@pytest.mark.parametrize(("callback", "answers"), [
    ("get_size", ["-1", "2**63", "None", "'1M'", "1/0"]),
    ("block_size", ["(3, 512, 512)", "(512, 4096, 1000)", "(1, 0, 0)", "512", "(4096, 512, 65536)", "1/0"]),
    ("can_fua", ["3", "-1", "'x'", "1/0"]),
    ("can_zero", ["3", "-1", "None", "1/0"]),
    ("can_write", ["'x'", "[]", "1/0"]),
    ("export_description", ["3", "'x\\0y'", "'\\ud800'"]),
])
def test_what_a_client_is_told_must_be_good(translate: Translate, callback: str, answers: list[str]) -> None:
    # One server for each: nbdkit ends the connection in some cases, and goes on.
    for answer in answers:
        server = translate(f"def {callback}(h, next): return {answer}\n")
        try:
            server.connect(full_info=True).shutdown()
        except nbd.Error:
            pass
        server.wait_for_log(rf"translator0\.py: {callback}: ")


def test_an_open_that_is_tried_again(translate: Translate) -> None:
    """server/filters.c: assert (old == NULL): the translator below has opened the plugin and failed afterwards."""
    server = translate("""
import nbdkit
def open(next, readonly, export_name, is_tls):
    try:
        next.open(export_name="first")
    except nbdkit.Error as error:
        nbdkit.debug(f"caught {error}")
        next.open(export_name="second")
    return "outer"
""", """
import nbdkit
def open(next, readonly, export_name, is_tls):
    next.open()
    if export_name == "first":
        raise ValueError("not this one")
    return "inner"
def close(h):
    nbdkit.debug(f"close {h}")
""", verbose=True)
    h = server.connect()
    assert h.pread(512, 0) == bytes(512)
    h.shutdown()
    server.wait_for_log("close inner")
    log = server.log()
    assert "caught [Errno 5] next.open has failed" in log
    # Once to be opened again; the other when the connection ends.
    assert log.count("memory: open returned") == 2 and log.count("memory: close") >= 1


def test_an_open_that_goes_on_although_next_has_failed(translate: Translate) -> None:
    server = translate("""
def open(next, readonly, export_name, is_tls):
    try:
        next.open()
    except OSError:
        return "handle"
def close(h):
    import nbdkit
    nbdkit.debug(f"close {h}")
""", plugin=("eval", "get_size=echo 1M", "pread=true", "open=echo EIO no >&2; exit 1"), verbose=True)
    with pytest.raises(nbd.Error):
        server.connect()
    server.wait_for_log("close handle")


def test_next_by_an_abuser_who_goes_round_in_circles(translate: Translate) -> None:
    """The translator below gets hold of the next of the one above it, in the same thread."""
    server = translate("""
import builtins
def pread(h, next, buf, offset, flags):
    builtins.above = next
    next.pread(buf, offset)
""", """
import builtins
def pread(h, next, buf, offset, flags):
    builtins.above.pread(buf, offset)
""")
    with raises_errno(errno.EIO):
        server.connect().pread(512, 0)
    assert "this next is for another call" in server.log()
