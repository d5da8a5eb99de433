# SPDX-License-Identifier: BSD-3-Clause
"""The language of the shell's lines, and its completion, with the schema of a real QEMU."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aqmp import SyncQMPClient
from aqmp.shell.complete import complete
from aqmp.shell.line import Command, InputError, parse
from aqmp.shell.schema import Entity, Schema
from aqmp.shell.text import plain
from aqmp_real import NO_MACHINE, Monitor


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    monitor = Monitor(tmp_path_factory.mktemp("schema"), NO_MACHINE)
    try:
        with SyncQMPClient() as client:
            client.connect(monitor.socket)
            return Schema(cast("list[Entity]", client.execute("query-qmp-schema")))
    finally:
        monitor.stop()


GOOD: list[tuple[str, str, dict[str, Any] | None]] = [
    ("query-status", "query-status", None),
    ("  query-status  ", "query-status", None),
    # Each of the schema's types: what looks like a number is a string where a string is wanted.
    ("blockdev-add driver=nbd node-name=5 read-only=true reconnect-delay=0x10", "blockdev-add",
     {"driver": "nbd", "node-name": "5", "read-only": True, "reconnect-delay": 16}),
    ("balloon value=-12", "balloon", {"value": -12}),
    # Nested, with the variant's tag behind the member that it decides on.
    ("blockdev-add driver=nbd server.path=/x server.type=unix", "blockdev-add",
     {"driver": "nbd", "server": {"path": "/x", "type": "unix"}}),
    ("blockdev-add file.node-name=7 file.locking=auto driver=raw file.driver=file", "blockdev-add",
     {"file": {"node-name": "7", "locking": "auto", "driver": "file"}, "driver": "raw"}),
    # Arrays.
    ("qmp_capabilities enable.0=oob", "qmp_capabilities", {"enable": ["oob"]}),
    ('qmp_capabilities enable=["oob"]', "qmp_capabilities", {"enable": ["oob"]}),
    ("transaction actions.1.type=abort actions.0.type=abort", "transaction",
     {"actions": [{"type": "abort"}, {"type": "abort"}]}),
    # Alternates: a string or an object or null; an integer, a boolean or an array of integers.
    ("blockdev-add driver=qcow2 file=f backing=null", "blockdev-add",
     {"driver": "qcow2", "file": "f", "backing": None}),
    ('blockdev-add driver=qcow2 file=f backing="null"', "blockdev-add",
     {"driver": "qcow2", "file": "f", "backing": "null"}),
    # What the schema leaves open.
    ("qom-set path=/x property=y value=5", "qom-set", {"path": "/x", "property": "y", "value": 5}),
    ("qom-set path=/x property=y value=on", "qom-set", {"path": "/x", "property": "y", "value": "on"}),
    ("qom-set path=/x property=y value=NaN", "qom-set", {"path": "/x", "property": "y", "value": "NaN"}),
    ("qom-set path=/x property=y value.a.0=5", "qom-set", {"path": "/x", "property": "y", "value": {"a": [5]}}),
    ("no-such-command a=5 b=true c=x d=null e=1.5", "no-such-command",
     {"a": 5, "b": True, "c": "x", "d": None, "e": 1.5}),
    # Strings with what would end a word, and JSON.
    ('human-monitor-command command-line="info  \\"x\\" = {"', "human-monitor-command",
     {"command-line": 'info  "x" = {'}),
    ("human-monitor-command command-line=a=b", "human-monitor-command", {"command-line": "a=b"}),
    ("human-monitor-command command-line=", "human-monitor-command", {"command-line": ""}),
    ('blockdev-add {"driver": "null-co", "size": 5}', "blockdev-add", {"driver": "null-co", "size": 5}),
    ('blockdev-add driver=nbd server={"type": "unix",\n "path": "/x"} export=e', "blockdev-add",
     {"driver": "nbd", "server": {"type": "unix", "path": "/x"}, "export": "e"}),
    ('{"execute": "stop"}', "stop", None),
    ('{"execute": "x", "arguments": {"a": [1]}, "id": 1}', "x", {"a": [1]}),
]


@pytest.mark.parametrize(("line", "name", "arguments"), GOOD, ids=[line for line, *_ in GOOD])
def test_a_line_becomes_a_command(schema: Schema, line: str, name: str, arguments: dict[str, Any] | None) -> None:
    assert repr(parse(line, schema)) == repr(Command(name, arguments))


def test_out_of_band(schema: Schema) -> None:
    assert parse('{"exec-oob": "migrate-pause"}', schema) == Command("migrate-pause", None, oob=True)


BAD = [
    ("", "expected a command"),
    ("a=b", "expected a command before a=b"),
    ("[1]", r"expected a command before \[1\]"),
    ("stop now", "expected NAME=VALUE, got now"),
    ("stop a.=5", r"expected NAME=VALUE, got a\.=5"),
    ("stop a[={", r"expected NAME=VALUE, got a\[={"),
    ("stop =5", "expected NAME=VALUE, got =5"),
    ("stop a=1 a=2", "a is given twice"),
    ("stop a=1 a.b=2", r"a\.b is given, and a as a whole too"),
    ("stop a.b=2 a=1", "a is given twice"),
    ('stop {"a": 1} b=2', "expected nothing after the arguments, got b=2"),
    ('{"execute": "stop"} x', "expected nothing after the object, got x"),
    ('{"execut": "stop"}', 'expected {"execute": NAME, "arguments": {…}}'),
    ('{"execute": 5}', 'expected {"execute": NAME'),
    ('{"execute": "a", "exec-oob": "b"}', 'expected {"execute": NAME'),
    ('{"execute": "a", "arguments": [1]}', 'expected {"execute": NAME'),
    ('stop a={"b', "bad JSON at column 9: Unterminated string"),
    ("stop a=[NaN]", "bad JSON after column 7: NaN is no JSON"),
    ('stop a="b"c', "expected a space at column 11, after the JSON"),
    ("stop a=" + "[" * 100_000, "the values are nested too deeply"),
    ("stop " + "a." * 100_000 + "a=1", "the values are nested too deeply"),
    ("balloon value=64M", "value: expected an integer, got '64M'"),
    ("query-named-block-nodes flat=yes", "flat: expected true or false, got 'yes'"),
    ("block-job-cancel device=d force.x=1", r"force: expected true or false, got force\.x=…"),
    ("qmp_capabilities enable=oob", r"enable: expected an array: enable=\[…\] or enable\.0=…, got 'oob'"),
    ("qmp_capabilities enable.0=ob", "enable.0: expected one of oob, got 'ob'"),
    ("qmp_capabilities enable.1=oob", "enable: expected elements 0 to 0, got 1"),
    ("blockdev-add driver=nbd server=x",
     r"server: expected an object: server={…} or server\.NAME=…, got 'x'"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line[:50] for line, _ in BAD])
def test_what_is_no_command(schema: Schema, line: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}") as caught:
        parse(line, schema)
    assert "\n" not in str(caught.value)


# The same texts each time; how long that takes is of no interest.
SETTINGS = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.text("abc-_", min_size=1), inner, min_size=1),
    max_leaves=8)


def words(path: str, value: Any) -> list[str]:
    """A value as NAME=VALUE words."""
    if isinstance(value, dict):
        return [word for name, inner in value.items() for word in words(f"{path}.{name}", inner)]
    if isinstance(value, list):
        return [word for i, inner in enumerate(value) for word in words(f"{path}.{i}", inner)]
    return [f"{path}={json.dumps(value)}"]


@settings(SETTINGS, max_examples=200)
@given(value=VALUES)
def test_what_is_spelled_out_comes_back(value: Any) -> None:
    command = parse(" ".join(["x", *words("a", value)]), Schema())
    assert command.arguments == {"a": value} and repr(command.arguments) == repr({"a": value})


@settings(SETTINGS, max_examples=500)
@given(text=st.text('abd -={}[]".,:01\n') | st.text())
def test_any_text_is_a_command_or_an_error(schema: Schema, text: str) -> None:
    complete(text, schema)
    try:
        assert parse(text, schema).name
    except InputError as error:
        assert str(error)


COMPLETIONS = [
    ("query-stat", ["query-stats", "query-stats-schemas", "query-status"]),
    ("blockdev-add d", ["blockdev-add driver=", "blockdev-add discard=", "blockdev-add detect-zeroes="]),
    ("blockdev-add driver=nb", ["blockdev-add driver=nbd"]),
    ("blockdev-add driver=nbd read-only=", ["blockdev-add driver=nbd read-only=false",
                                            "blockdev-add driver=nbd read-only=true"]),
    # What must be given comes first; what is given already is left out.
    ("set_password ", ["set_password protocol=", "set_password password=", "set_password connected="]),
    ("set_password protocol=vnc ", ["set_password protocol=vnc password=", "set_password protocol=vnc connected=",
                                    "set_password protocol=vnc display="]),
    ("blockdev-add driver=nbd se", ["blockdev-add driver=nbd server."]),
    ("blockdev-add driver=nbd server.", ["blockdev-add driver=nbd server.type="]),
    ("blockdev-add driver=nbd server.type=un", ["blockdev-add driver=nbd server.type=unix"]),
    ("blockdev-add driver=nbd server.type=unix server.p", ["blockdev-add driver=nbd server.type=unix server.path="]),
    # An alternate: a name or an object; then the object in it.
    ("blockdev-add driver=raw fi", ["blockdev-add driver=raw file=", "blockdev-add driver=raw file."]),
    ("blockdev-add driver=raw file.driver=nb", ["blockdev-add driver=raw file.driver=nbd"]),
    ("blockdev-add driver=raw file.driver=nbd file.se", ["blockdev-add driver=raw file.driver=nbd file.server."]),
    # Arrays, by the number of the next element.
    ("qmp_capabilities ", ["qmp_capabilities enable."]),
    ("qmp_capabilities enable.", ["qmp_capabilities enable.0="]),
    ("qmp_capabilities enable.0=", ["qmp_capabilities enable.0=oob"]),
    ("qmp_capabilities enable.0=oob enable.", ["qmp_capabilities enable.0=oob enable.1="]),
    ("no-such-command a", []),
    ("query-status ", []),
    ('blockdev-add {"dri', []),
    ("blockdev-add nonsense driver=", []),
    ("blockdev-add driver.x.y", []),
]


@pytest.mark.parametrize(("text", "expected"), COMPLETIONS, ids=[text for text, _ in COMPLETIONS])
def test_completion(schema: Schema, text: str, expected: list[str]) -> None:
    assert [text[:candidate.start] + candidate.text for candidate in complete(text, schema)] == expected


def test_hints(schema: Schema) -> None:
    hints = {candidate.text: candidate.hint for candidate in complete("blockdev-add driver=nbd ", schema)}
    assert hints["server."] == "object, required" and hints["reconnect-delay="] == "int"
    assert hints["x-dirty-bitmap="] == "str, unstable"
    assert {c.text: c.hint for c in complete("x-", schema)}["x-query-numa"] == "unstable"


def test_no_schema() -> None:
    assert complete("a", Schema()) == [] and complete("a b", Schema()) == [] and complete("", Schema()) == []


def test_nothing_printed_controls_a_terminal() -> None:
    assert plain("a\x1b[2Jb\nc\x9bé…") == "a\\x1b[2Jb\\nc\\x9bé…"
