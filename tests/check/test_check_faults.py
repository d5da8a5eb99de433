# SPDX-License-Identifier: BSD-3-Clause
"""Each planted fault is found, called by its name, and shown by few requests; the disks without it are good."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from check_disks import FILE, ODD, RAM, SPARSE
from check_planted import PLANTED
from nbdkit._check.run import Options, run
from nbdkit.testing import Report

ROUNDS = 40


def checked(folder: Path, text: str, **options: float) -> Report:
    """The report on a script's text; a disk in a file has a new one."""
    script = folder / "disk.py"
    script.write_text(text)
    words = [f"file={folder / 'disk.img'}"] if "def config(" in text else []
    # As long as it takes on a slow machine, since it is to be found.
    return run(script, words, Options(rounds=ROUNDS, seconds=600, shrinking=60, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("disk", [RAM, FILE, SPARSE], ids=["RAM", "FILE", "SPARSE"])
def test_a_good_disk(tmp_path: Path, disk: str) -> None:
    report = checked(tmp_path, disk)
    assert report.ok, str(report)
    assert report.requests > ROUNDS * 20
    assert "requests one by one: 40 rounds" in report.tried


@pytest.mark.parametrize("name", ODD)
def test_an_odd_disk_is_a_good_one(tmp_path: Path, name: str) -> None:
    report = checked(tmp_path, ODD[name])
    assert report.ok, str(report)
    assert report.requests > ROUNDS * 20


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(tmp_path: Path, name: str) -> None:
    planted = PLANTED[name]
    report = checked(tmp_path, planted.script())
    found = [fault for fault in report.faults if fault.kind == planted.kind]
    assert found, str(report)
    assert planted.says in str(found[0]), str(report)
    assert len(found[0].requests) <= planted.requests, str(report)
    assert found[0].seen[0] > 0, str(report)


def test_a_second_check_of_the_same_disk_finds_it_again(tmp_path: Path) -> None:
    """What the first one has left behind is not taken for what the second one has written."""
    planted = PLANTED["a flush does nothing"]
    faults = [checked(tmp_path, planted.script()).faults for _ in range(2)]
    assert [[fault.kind for fault in found] for found in faults] == [["durability"], ["durability"]]


def test_a_request_without_an_answer(tmp_path: Path) -> None:
    report = checked(tmp_path, RAM + "fast = zero\ndef zero(*a):\n    while a[1] > PAGE: time.sleep(1)\n    fast(*a)\n",
                     patience=0.5)
    [fault] = report.faults
    assert fault.kind == "no answer" and [request.op for request in fault.requests] == ["zero"], str(report)
    assert re.match(r"h.zero\(.*\) is not answered within 0.5 s$", fault.message)


def test_a_hang_is_made_small_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbdkit._check.reproduce.HANGS", 0.25)
    report = checked(tmp_path, RAM + """
lock = threading.Lock()


def trim(h, count, offset, flags):
    lock.acquire()
    if count > 512:
        lock.release()
""", patience=3)
    [fault] = report.faults
    assert fault.kind == "no answer" and fault.seen == (1, 1), str(report)
    assert [request.op for request in fault.requests] == ["trim", "trim"], str(report)
    assert "within 3 s" in fault.message


def test_a_client_that_cannot_connect(tmp_path: Path) -> None:
    report = checked(tmp_path, RAM + "def get_size(h): raise nbdkit.Error(5, 'no size')\n")
    [fault] = report.faults
    assert fault.kind == "connect" and "get_size: no size [EIO]" in fault.log, str(report)
    assert str(fault).count("cannot connect") == 1
    assert not report.requests


def test_connections_that_are_told_different_things(tmp_path: Path) -> None:
    report = checked(tmp_path, RAM + "sizes = iter(range(SIZE, 0, -1))\ndef get_size(h): return next(sizes)\n")
    [fault] = report.faults
    assert fault.kind == "facts" and re.fullmatch(r"one is told size=\d+, another size=\d+", fault.message), str(report)


def test_several_faults_are_told_apart(tmp_path: Path) -> None:
    names = ["a small zero does nothing", "a trim takes its neighbours along", "a flush that fails"]
    report = checked(tmp_path, "\n\n".join([RAM, *(PLANTED[name].script().removeprefix(RAM) for name in names)]))
    found = {request.op for fault in report.faults for request in fault.requests}
    assert {"zero", "trim", "flush"} <= found, str(report)
    assert 3 <= len(report.faults) <= 5, str(report)
