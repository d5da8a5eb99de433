# SPDX-License-Identifier: BSD-3-Clause
"""The page on translators says what is so: its scripts work, and what it lists is what there is."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable

import gluster_kit
import pytest

Serve = Callable[..., gluster_kit.Brick]

PAGE = (gluster_kit.ROOT / "docs" / "gluster.md").read_text()


def test_the_first_script(serve: Serve) -> None:
    [script] = re.findall(r"(?ms)^```py\n(.*?)^```$", PAGE)
    client = serve(script, suffix=".hidden").client()
    for name in ("/a.secret", "/b.hidden"):
        client.path("mkdir", name, 0o755)
    assert client.stat("/a.secret")["nlink"] == 2
    with pytest.raises(FileNotFoundError):
        client.stat("/b.hidden")


def test_the_methods(serve: Serve) -> None:
    """The pieces that are indented: a direct method, a coroutine, and callbacks."""
    pieces = [piece for piece in re.findall(r"(?m)(?:^ {4}.*\n|^\n)+", PAGE) if "def readv" in piece]
    assert len(pieces) == 3
    for piece, expected in zip(pieces, (b"HELLO", b"HELLO", b"hello")):
        brick = serve("from glusterfs import Translator\n\nclass xlator(Translator):\n"
                      + textwrap.indent(textwrap.dedent(piece), "    "))
        client = brick.client()
        client.write("/file", b"hello")
        assert client.read("/file") == expected


def test_every_file_operation_and_type(serve: Serve) -> None:
    brick = serve("""
        import glusterfs
        from glusterfs import FOPS, Translator

        HIDDEN = "AsyncNext", "Error", "Expired", "Next"
        types = {name: sorted(key for key in dir(value) if not key.startswith("_"))
                 for name, value in vars(glusterfs).items()
                 if isinstance(value, type) and value.__module__ == "glusterfs" and name not in HIDDEN}
        print("fops", dict(FOPS))
        print("types", types, flush=True)

        class xlator(Translator):
            pass
    """)
    types = ast.literal_eval(brick.wait_for_log(r"(?m)^types .*$").removeprefix("types "))
    fops = ast.literal_eval(brick.wait_for_log(r"(?m)^fops .*$").removeprefix("fops "))
    rows = re.findall(r"(?m)^\| `(\w+)` \| ([\w, ]+) \| ([\w, ]+) \|$", PAGE)
    assert {name: (tuple(arguments.split(", ")), tuple(answer.split(", "))) for name, arguments, answer in rows} == fops
    listed = dict(re.findall(r"(?m)^\| `(\w+)` \| (.*) \|$", PAGE.split("## Types")[1].split("\n- ")[0]))
    assert set(listed) == set(types)
    for name, text in listed.items():
        named = set(re.findall(r"`(\w+)`", text)) - {"int", "float", "str", "bytes", "Gfid"}
        assert named <= set(types[name]), name
        if "…" not in text and name not in ("Data", "Dict", "Gfid"):
            assert named == set(types[name]), name
