# SPDX-License-Identifier: BSD-3-Clause
"""Where the plugin need not zero a read's buffer: the functions that are taken to fill it do so, whatever happens."""

from __future__ import annotations

import contextlib
import importlib.util
import textwrap
from types import FunctionType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import ROOT

# The scripts are made at random; Python 3.14 warns of what is in some of them.
pytestmark = pytest.mark.filterwarnings("ignore:'return' in a 'finally' block:SyntaxWarning")

spec = importlib.util.spec_from_file_location("_fills", ROOT / "python/nbdkit/_fills.py")
assert spec is not None and spec.loader is not None
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


def function(source: str, **names: object) -> FunctionType:
    exec(compile(source, "a script", "exec"), names)
    pread = names["pread"]
    assert isinstance(pread, FunctionType)
    return pread


def fills(source: str) -> bool:
    return bool(module.fills(source.encode(), function(source).__code__, "buf", None))


def fills_by_next(source: str) -> bool:
    return bool(module.fills(source.encode(), function(source).__code__, "buf", "h"))


def pread(body: str) -> str:
    return "def pread(h, buf, offset, flags):\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n"


@pytest.mark.parametrize("body", [
    "buf[:] = disk[offset:offset + len(buf)]",
    "'''It says what it does.'''\nend = offset + len(buf)\nbuf[:] = disk[offset:end]",
    "buf[:] = bytes(len(buf))\nif offset:\n    return\nbuf[0] = 1",
    "copy = buf[:] = disk[offset:]\nreturn copy",
    "if h:\n    buf[:] = h\nelse:\n    raise OSError",
    "if h:\n    buf[:] = h\nelif offset:\n    buf[:] = b''\n    return\nelse:\n    buf[:] = b''",
    "try:\n    buf[:] = h\nexcept OSError:\n    buf[:] = bytes(len(buf))",
    "try:\n    data = h.read()\nexcept OSError:\n    raise ValueError from None\nbuf[:] = data",
    "try:\n    buf[:] = h\nfinally:\n    h.close()",
    "try:\n    h()\nexcept OSError:\n    pass\nfinally:\n    buf[:] = b''",
    "with h:\n    data = h.read()\nbuf[:] = data",
    "for part in h:\n    if part:\n        buf[:] = part\n        return\nraise OSError",
    "def inner():\n    return 1\nbuf[:] = inner()",
    "raise OSError",
])
def test_sure(body: str) -> None:
    assert fills(pread(body))


@pytest.mark.parametrize("body", [
    "pass",
    "return disk",
    "buf[1:] = h",
    "buf[:-1] = h",
    "buf[::2] = h",
    "buf[...] = h",
    "h[:] = buf",
    "h.buf[:] = h",
    "buf[:][:1] = h",
    "buf[:] += h",
    "if h:\n    return\nbuf[:] = h",
    "if h:\n    buf[:] = h",
    "if h:\n    buf[:] = h\nelse:\n    pass",
    "while h:\n    buf[:] = h",
    "while h:\n    return\nbuf[:] = h",
    "for part in h:\n    buf[:] = part",
    "for part in h:\n    pass\nelse:\n    return\nbuf[:] = h",
    "for part in h:\n    if part:\n        break\n    buf[:] = part\nelse:\n    buf[:] = b''",
    "with h:\n    buf[:] = h",  # h.__exit__ may return True
    "with h:\n    return\nbuf[:] = h",
    "try:\n    buf[:] = h\nexcept OSError:\n    pass",
    "try:\n    buf[:] = h\nexcept OSError:\n    return",
    "try:\n    h()\nfinally:\n    return",
    "try:\n    buf[:] = h\nfinally:\n    return",
    "match h:\n    case 1:\n        buf[:] = h\n    case _:\n        return",
    "def inner():\n    buf[:] = h\ninner()",
    "class Inner:\n    buf[:] = h",
    "lambda: buf.__setitem__(slice(None), h)",
    # The name is another thing's by then.
    "buf = bytearray(h)\nbuf[:] = h",
    "buf, rest = h\nbuf[:] = h",
    "buf[:] = (buf := bytearray(h))",
    "for buf in h:\n    pass\nbuf[:] = h",
    "with h as buf:\n    pass\nbuf[:] = h",
    "try:\n    h()\nexcept OSError as buf:\n    pass\nbuf[:] = h",
    "import io as buf\nbuf[:] = h",
    "def buf(): pass\nbuf[:] = h",
    "match h:\n    case [buf, _]:\n        pass\nbuf[:] = h",
    "match h:\n    case {**buf}:\n        pass\nbuf[:] = h",
    "def inner():\n    nonlocal buf\n    buf = bytearray(4)\ninner()\nbuf[:] = h",
    "del buf\nbuf[:] = h",
])
def test_not_sure(body: str) -> None:
    assert not fills(pread(body))


@pytest.mark.parametrize("body", [
    "h.pread(buf, offset)",
    "return h.pread(buf, offset, flags=flags)",
    "if flags:\n    buf[:] = bytes(len(buf))\nelse:\n    h.pread(buf, offset)",
    "try:\n    h.pread(buf, offset)\nfinally:\n    flags()",
])
def test_what_is_below_fills(body: str) -> None:
    assert fills_by_next(pread(body))
    assert not fills(pread(body))


@pytest.mark.parametrize("body", [
    "h.pread(buf[1:], offset)",
    "h.pread(len(buf), offset)",
    "h.h.pread(buf, offset)",
    "h.pwrite(buf, offset)",
    "offset.pread(buf, 0)",
    "h = offset\nh.pread(buf, 0)",
    "buf = offset\nh.pread(buf, 0)",
    "if flags:\n    h.pread(buf, offset)",
    "flags or h.pread(buf, offset)",
    "h.pread(*buf, buf)",
])
def test_what_is_below_may_not_fill(body: str) -> None:
    assert not fills_by_next(pread(body))


def test_a_function_of_the_same_name_further_up() -> None:
    sure, unsure = pread("buf[:] = h"), pread("pass")
    assert fills(unsure + sure)
    assert not fills(sure + unsure)


SWALLOW = contextlib.suppress(OSError)
SIMPLE = st.sampled_from([
    "buf[:] = b'data'", "buf[:2] = b'da'", "buf[:] = fail()", "return", "raise OSError", "raise ValueError", "fail()",
    "pass", "if chance():\n    return", "if chance():\n    raise OSError",
])


def indented(blocks: tuple[str, ...], *heads: str) -> str:
    return "\n".join(f"{head}:\n{textwrap.indent(block, '    ')}" for head, block in zip(heads, blocks))


def blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def compound(*heads: str) -> st.SearchStrategy[str]:
        return st.tuples(*[inner] * len(heads)).map(lambda bodies: indented(bodies, *heads))

    return st.one_of(
        st.lists(inner, min_size=2, max_size=3).map("\n".join),
        compound("if chance()"), compound("if chance()", "else"),
        compound("while chance()"), compound("for _ in range(3)", "else"), compound("with SWALLOW"),
        compound("try", "except OSError"), compound("try", "except OSError", "else"), compound("try", "finally"),
        compound("try", "except OSError", "finally"),
        compound("for _ in range(2)").map(lambda text: text + "\n    break"),
    )


@settings(max_examples=2000, deadline=None, derandomize=True, database=None)
@given(st.recursive(SIMPLE, blocks, max_leaves=6), st.lists(st.booleans(), max_size=8))
def test_who_is_sure_is_right(body: str, chances: list[bool]) -> None:
    def fail() -> bytes:
        raise OSError

    source = pread(body)
    buf = memoryview(bytearray(b"????"))
    left = iter(chances)
    run = function(source, fail=fail, chance=lambda: next(left, False), SWALLOW=SWALLOW)
    with contextlib.suppress(OSError, ValueError):
        run(None, buf, 0, 0)
        assert bytes(buf) == b"data" or not fills(source)
