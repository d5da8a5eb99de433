# SPDX-License-Identifier: BSD-3-Clause
"""The documentation says what is so: its session runs, and its tables are those of the code."""

from __future__ import annotations

import doctest
import inspect
import re

import pytest
import xenstore
from xenstore import _transport, aio, error
from xenstore._wire import Type

from xenstore_daemon import ROOT, Daemon

PAGE = ROOT / "docs" / "xenstore.md"
TEXT = PAGE.read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of all tables under a heading."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_session(any_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENSTORED_PATH", str(any_daemon.socket))
    session = "\n".join(re.findall(r"^```pycon\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
    test = doctest.DocTestParser().get_doctest(session, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 25
    said: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert results.failed == 0, "".join(said)


def test_every_operation() -> None:
    documented = {match[1] for name, *_ in rows("Operations") if (match := re.match(r"`(\w+)\(", name))}
    public = {name for name in dir(xenstore.Xenstore) if not name.startswith("_")}
    assert documented == public
    of_both = {name for name in dir(xenstore.Transaction) if not name.startswith("_")} & public
    table = rows("Operations")
    split = table.index(["of a store", ""])
    assert {match[1] for name, *_ in table[:split] if (match := re.match(r"`(\w+)\(", name))} == of_both
    for name in {"transact", "get_quota", "set_quota", "introduce", "watch"}:
        parameters = ", ".join(str(parameter).split(":")[0].split(" =")[0] for parameter in
                               inspect.signature(getattr(xenstore.Xenstore, name)).parameters.values())
        documented_parameters = re.search(rf"`{name}\((.*?)\)`", TEXT.split("## Operations")[1])
        assert documented_parameters is not None
        assert "self, " + re.sub(r"=\w+", "", documented_parameters[1]) == parameters


def test_every_error() -> None:
    documented = {match[1] for name, *_ in rows("Errors") if (match := re.fullmatch(r"`(\w+)`", name))}
    assert documented == {name for name, value in vars(error).items()
                          if isinstance(value, type) and issubclass(value, xenstore.XenstoreException)}
    assert documented <= set(dir(xenstore))


def test_every_type() -> None:
    documented = [name for name, *_ in rows("The protocol as it is") if re.fullmatch(r"\d+ [A-Z_]+", name)]
    assert documented == [f"{type.value} {type.name}" for type in Type]


def test_every_place() -> None:
    listed = re.findall(r"`(/[\w/]+)`", TEXT.split("the first of these that there is:")[1].split("**timeout**")[0])
    assert tuple(listed) == _transport.PLACES


def test_every_test_that_is_named_is_there() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "xenstore").glob("test_*.py"))
    named = set(re.findall(r"\btest_\w+", TEXT))
    assert len(named) > 12
    for name in named:
        assert f"def {name}(" in tests, name


def test_aio_is_as_it_says() -> None:
    assert {"stop", "start"} <= set(dir(aio.Watch))
    assert {"start", "commit", "abort"} <= set(dir(aio.Transaction)) & set(dir(xenstore.Transaction))
