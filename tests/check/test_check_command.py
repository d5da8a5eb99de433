# SPDX-License-Identifier: BSD-3-Clause
"""The command nbdkit-python, as a person or a CI job calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from check_disks import RAM
from check_planted import PLANTED
from nbdkit._check.facts import Facts
from nbdkit._check.plugin import find_plugin
from nbdkit._command.bench import Figures, Load, Result, loads_for, result_of

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
WRONG = PLANTED["a write lands one byte too far"]


def command(*words: object, status: int = 0, cwd: Path | None = None) -> str:
    """What `python3 -m nbdkit …` has written to standard output, or, if there is nothing, to standard error."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run([sys.executable, "-m", "nbdkit", *map(str, words)], env=env, text=True, capture_output=True,
                          cwd=cwd, stdin=subprocess.DEVNULL)
    assert done.returncode == status, done.stdout + done.stderr
    assert str(ROOT / "python") not in done.stderr, done.stderr  # no traceback of ours
    return done.stdout or done.stderr


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    script = tmp_path / "wrong.py"
    script.write_text(WRONG.script())
    return script


def test_help_lists_the_commands() -> None:
    for text in (command("--help"), command("-h")):
        assert all(f"  {name}  " in text for name in ("new", "check", "bench", "help"))


@pytest.mark.parametrize("name", ["new", "check", "bench", "help"])
def test_each_command_has_help(name: str) -> None:
    text = command(name, "--help")
    assert text.startswith(f"usage: python3 -m nbdkit {name}")
    if name in ("check", "bench"):
        assert "THIS WRITES TO THE" in text


@pytest.mark.parametrize("words", [
    [], ["what"], ["check"], ["check", "x.py", "--rounds=many"], ["bench", "x.py", "--time=-1"], ["new"]])
def test_mistakes_have_the_status_2(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "x.py").touch()
    assert "usage: python3 -m nbdkit" in command(*words, status=2, cwd=tmp_path)


@pytest.mark.parametrize("name", ["check", "bench", "help"])
def test_a_script_that_is_not_there(name: str) -> None:
    said = f"python3 -m nbdkit {name}: "
    assert command(name, "none.py", status=2) == f"{said}there is no script 'none.py'\n"
    assert command(name, "/tmp", status=2) == f"{said}the script '/tmp' cannot be read: Is a directory\n"


@pytest.mark.parametrize("words, said", [
    ([], "are required: COMMAND"),
    (["check"], "are required: SCRIPT"),
    (["check", "x.py", "--time=nan"], "--time: expected seconds, more than 0 and up to 3600, got 'nan'"),
    (["check", "x.py", "--rounds=-5"], "--rounds: expected a number of rounds, 1 or more, got '-5'"),
    (["bench", "x.py", "--time=abc"], "--time: expected seconds, more than 0 and up to 3600, got 'abc'"),
])
def test_what_is_said_of_mistakes(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "x.py").touch()
    assert command(*words, status=2, cwd=tmp_path).endswith(f"{said}\n")


def test_the_launcher_in_the_tree(tmp_path: Path) -> None:
    """It works from anywhere, also by a link, with the system's Python."""
    link = tmp_path / "nbdkit-python"
    link.symlink_to(ROOT / "tools" / "nbdkit-python")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([link, "check", EXAMPLES / "ramdisk.py", "size=1M", "--rounds=2"], env=env, cwd=tmp_path,
                          text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "no fault found" in done.stdout
    done = subprocess.run([link, "help", EXAMPLES / "ramdisk.py"], env=env, text=True, capture_output=True)
    assert done.stdout.startswith("usage: nbdkit python"), done.stderr


def test_check_a_good_disk() -> None:
    *notes, verdict = command("check", EXAMPLES / "ramdisk.py", "size=1M", "--rounds", 10).splitlines()
    assert "ramdisk.py: no fault found; " in verdict and verdict.endswith(", seed 0")
    assert all(note.startswith("not tried: ") for note in notes)


def test_check_a_faulty_disk(wrong: Path) -> None:
    text = command("check", "--seed=3", wrong, status=1)
    assert text.startswith("1. wrong bytes are read: at 0, expected 01, got ")
    assert '    h.pwrite(b"\\x01", 0)\n    h.pread(1, 0)\n' in text
    assert text.splitlines()[-1].startswith(f"{wrong}: 1 fault found; ")


def test_the_lines_are_nbdshs(wrong: Path) -> None:
    """What is printed shows the fault there."""
    text = command("check", wrong, status=1)
    *before, last = [line.strip() for line in text.splitlines() if line.startswith("    h.")]
    done = subprocess.run(
        ["nbdkit", "-U", "-", find_plugin(), wrong, "--run", '"$PYTHON" -m nbd -u "$uri" -c "$STEPS"'],
        text=True, capture_output=True,
        env={**os.environ, "PYTHON": sys.executable, "STEPS": "\n".join([*before, f"print({last})"])})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() != "bytearray(b'\\x01')"


def test_the_same_seed_finds_the_same(wrong: Path) -> None:
    def found(*words: object) -> object:
        return json.loads(command("check", "--json", *words, wrong, status=1))["faults"]

    assert found() == found() == found("--seed=0")


def test_json(wrong: Path) -> None:
    report = json.loads(command("check", "--json", wrong, status=1))
    assert not report["ok"] and report["script"] == str(wrong)
    [fault] = report["faults"]
    assert fault["kind"] == "data" and fault["seen"] == fault["runs"] == 2
    assert [request["op"] for step in fault["steps"] for request in step["requests"]] == ["pwrite", "pread"]
    good = json.loads(command("check", "--json", "--rounds=3", EXAMPLES / "ramdisk.py", "size=1M"))
    assert good["ok"] and good["faults"] == [] and good["requests"] > 50 and len(good["tried"]) >= 3


def test_a_word_without_a_key(tmp_path: Path) -> None:
    script = tmp_path / "disk.py"
    script.write_text('magic_config_key = "size"\n' + (EXAMPLES / "ramdisk.py").read_text())
    assert "no fault found" in command("check", script, "64K", "--rounds=2")


def test_an_export_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").write_bytes(bytes(8192))
    words = EXAMPLES / "exports.py", f"folder={tmp_path}", "--rounds=2"
    assert "the disk has no bytes" in command("check", *words)
    assert "the disk has no bytes" not in command("check", *words, "--export=b")


def test_the_time_is_kept(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(RAM + "fast = pread\ndef pread(*a):\n    time.sleep(0.01)\n    fast(*a)\n")
    text = command("check", script, "--time=1")
    assert "rounds: the time is over" in text and "no fault found" in text


def test_bench(tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    script = EXAMPLES / "ramdisk.py"
    found = json.loads(command("bench", script, "size=40000", "--time=0.05", "--json", f"--plot={plot}"))
    assert [(load["operation"], load["size"], load["depth"]) for load in found["loads"]] == [
        (operation, 4096, depth) for operation in ("read", "write") for depth in (1, 16)]
    for load in found["loads"]:
        for who in ("disk", "memory"):
            figures = load[who]
            assert figures["requests_per_second"] > 0
            assert figures["bytes_per_second"] == pytest.approx(figures["requests_per_second"] * load["size"], rel=0.05)
            assert 0 < figures["p50_us"] <= figures["p99_us"]
        assert load["times_memory"] > 0
    assert ElementTree.parse(plot).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_what_is_measured() -> None:
    facts = Facts(size=1 << 30, writable=True, flush=False, fua=False, trim=False, fast_zero=False, cache=False,
                  multi_conn=False, minimum=1, preferred=4096, maximum=1 << 20)
    sizes = [4096, 65536, 1 << 20]
    assert loads_for(facts) == [Load(operation, size, depth) for operation in ("read", "write") for size in sizes
                                for depth in (1, 16)]
    assert {load.operation for load in loads_for(replace(facts, writable=False))} == {"read"}
    assert {load.size for load in loads_for(replace(facts, minimum=8192, maximum=65536))} == {65536}


def test_what_is_told_is_the_median() -> None:
    rounds = [(Figures(n, 0, 1, 2), Figures(10, 20, 3, m)) for n, m in ((5, 1), (80, 7), (20, 3))]
    assert result_of(rounds) == Result(Figures(20, 0, 1, 2), Figures(10, 20, 3, 3), 2.0)


def test_bench_reads_only_in_a_pipe(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(range(256)) * 64)
    said = command("bench", EXAMPLES / "file.py", f"file={image}", "--time=0.05", "--read-only")
    assert image.read_bytes() == bytes(range(256)) * 64
    assert "\x1b" not in said and "─" not in said
    [_, heads, *rows] = said.splitlines()
    assert heads.split() == ["requests/s", "MB/s", "p50", "µs", "p99", "µs", "×", "memory"]
    assert [row[:22].strip() for row in rows] == ["read 4 KiB, depth 1", "read 4 KiB, depth 16"]
    assert len({len(row) for row in (heads, *rows)}) == 1


def test_bench_of_too_small_a_disk() -> None:
    assert "the disk is too small to be measured: 512 bytes" in command(
        "bench", EXAMPLES / "ramdisk.py", "size=512", status=2)


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(RAM + "fast = pread\ndef pread(*a):\n    time.sleep(0.01)\n    fast(*a)\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-m", "nbdkit", "check", script], env=env, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("nbdkit-python-*/pid")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == b""
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == [script]


def test_without_libnbds_module(tmp_path: Path) -> None:
    (tmp_path / "nbd.py").write_text("raise ModuleNotFoundError('No module named nbd')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT / 'python'}"}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "nbdkit", *map(str, words)], env=env, text=True,
                              capture_output=True)

    assert run("check", EXAMPLES / "ramdisk.py").stderr == (
        "python3 -m nbdkit check: this needs libnbd's Python module: Debian's package is python3-libnbd\n")
    assert [run(name, "--help").returncode for name in ("new", "check", "bench", "help")] == [0] * 4
    assert run("help", EXAMPLES / "ramdisk.py").returncode == 0


def test_help_of_a_script(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    text = command("help", EXAMPLES / "exports.py", f"folder={tmp_path}")
    assert "Several disks on one server: each file in a folder is an export, by its name." in text
    assert "A client chooses the name" in text
    assert "list_exports, default_export, open, close" in text
    assert "    one: 1 bytes, changed " in text
    assert "not known, since the disk does not start: " in command("help", EXAMPLES / "exports.py")
    assert "one, which needs no name" in command("help", EXAMPLES / "ramdisk.py")


def test_help_of_a_script_that_fails(tmp_path: Path) -> None:
    script = tmp_path / "disk.py"
    script.write_text("1 / 0")
    assert "ZeroDivisionError" in command("help", script, status=2)
