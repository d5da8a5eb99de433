# SPDX-License-Identifier: BSD-3-Clause
"""The shell without a terminal: commands of -e and of a pipe, answered with a line of JSON each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aqmp_real import MACHINE, TIMEOUT, Monitor, free_port
from aqmp_shell_kit import ROOT, shell, shell_environment

ERROR = "python3 -m aqmp shell: "


def test_each_answer_is_a_line(storage_daemon: Monitor, folder: Path) -> None:
    done = shell(folder, storage_daemon.socket, "-e", "query-version", "--execute", "query-chardev",
                 "-e", "query-named-block-nodes flat=true", "-e", "blockdev-add driver=null-co node-name=n5 size=512",
                 "-e", '{"execute": "query-named-block-nodes", "arguments": {"flat": true}, "id": 7}')
    assert (done.returncode, done.stderr) == (0, "")
    version, chardevs, nothing, added, nodes = map(json.loads, done.stdout.splitlines())
    assert version["qemu"]["major"] >= 7 and chardevs[0]["label"] == "monitor"
    assert (nothing, added) == ([], {}) and [node["node-name"] for node in nodes] == ["n5"]


def test_an_error_is_the_end(storage_daemon: Monitor, folder: Path) -> None:
    done = shell(folder, storage_daemon.socket, "-e", "query-chardev", "-e", "blockdev-del node-name=no", "-e",
                 "query-version")
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1
    assert done.stderr == ERROR + "blockdev-del: Failed to find node with node-name='no' (GenericError)\n"


@pytest.mark.parametrize(("line", "expected"), [
    ("no-such-command", "no-such-command: The command no-such-command has not been found (CommandNotFound)"),
    ("blockdev-del node-name", "blockdev-del: expected NAME=VALUE, got node-name"),
    ("query-named-block-nodes flat=1", "query-named-block-nodes: flat: expected true or false, got '1'"),
    ("blockdev-del {\"node-name\": 5}",
     "blockdev-del: Invalid parameter type for 'node-name', expected: string (GenericError)"),
    ("blockdev-del node-name=\"a\\nb\\u001b\"",
     "blockdev-del: Failed to find node with node-name='a\\nb\\x1b' (GenericError)"),
])
def test_every_error_is_one_line(storage_daemon: Monitor, folder: Path, line: str, expected: str) -> None:
    done = shell(folder, storage_daemon.socket, "-e", line)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{ERROR}{expected}\n")


def test_a_pipe(storage_daemon: Monitor, folder: Path) -> None:
    """Empty lines and comments are left out."""
    lines = ["# a node", "", "blockdev-add driver=null-co node-name=n size=512", "  ",
             "query-named-block-nodes flat=true", "blockdev-del node-name=n", "blockdev-del node-name=n",
             "query-version"]
    done = shell(folder, storage_daemon.socket, text="\n".join(lines))
    assert done.returncode == 1
    added, nodes, deleted = map(json.loads, done.stdout.splitlines())
    assert (added, deleted) == ({}, {}) and nodes[0]["image"]["virtual-size"] == 512
    assert done.stderr == ERROR + "blockdev-del: Failed to find node with node-name='n' (GenericError)\n"


def test_a_pipe_is_answered_line_by_line(storage_daemon: Monitor, folder: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "aqmp", "shell", storage_daemon.socket], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=shell_environment(folder))
    assert process.stdin and process.stdout
    with process:
        for _ in range(3):
            process.stdin.write("query-version\n")
            process.stdin.flush()
            assert "qemu" in json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0


def test_a_reader_that_has_enough(storage_daemon: Monitor, folder: Path) -> None:
    """`shell … | head -c 1` says nothing of it."""
    process = subprocess.Popen([sys.executable, "-m", "aqmp", "shell", storage_daemon.socket], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=shell_environment(folder))
    assert process.stdout and process.stdin
    process.stdout.close()
    process.stdin.write("query-version\n" * 2)
    process.stdin.close()
    assert process.stderr and process.stderr.read() == ""
    assert process.wait(TIMEOUT) == 1


def test_over_tcp(start: Callable[..., Monitor], folder: Path) -> None:
    port = free_port()
    second = f"socket,id=second,host=127.0.0.1,port={port},server=on,wait=off"
    start(MACHINE, "-S", "-chardev", second, "-mon", "chardev=second,mode=control")
    done = shell(folder, f"127.0.0.1:{port}", "-e", "query-status")
    assert done.returncode == 0 and json.loads(done.stdout)["running"] is False


def test_qemu_ends(storage_daemon: Monitor, folder: Path) -> None:
    done = shell(folder, storage_daemon.socket, "-e", "quit")
    assert (done.returncode, done.stdout, done.stderr) == (0, "{}\n", "")
    done = shell(folder, storage_daemon.socket, "-e", "query-version")
    assert done.returncode == 1 and done.stderr.startswith(f"{ERROR}cannot connect to {storage_daemon.socket}: ")
    assert done.stderr.count("\n") == 1


def test_qemu_ends_between_two_commands(storage_daemon: Monitor, folder: Path) -> None:
    done = shell(folder, storage_daemon.socket, "-e", "quit", "-e", "query-version")
    assert done.returncode == 1 and done.stdout == "{}\n"
    assert done.stderr.startswith(f"{ERROR}query-version: ") and done.stderr.count("\n") == 1


def test_without_prompt_toolkit(storage_daemon: Monitor, folder: Path) -> None:
    """-e works; a prompt says what is missing."""
    (folder / "prompt_toolkit.py").write_text(
        "raise ModuleNotFoundError('No module named prompt_toolkit', name='prompt_toolkit')\n")
    path = f"{folder}:{ROOT / 'python'}"
    done = shell(folder, storage_daemon.socket, "-e", "query-version", PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    # Both ends are to be a terminal.
    ours, theirs = os.openpty()
    process = subprocess.run([sys.executable, "-m", "aqmp", "shell", storage_daemon.socket], stdin=theirs,
                             stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT,
                             env=shell_environment(folder, PYTHONPATH=path))
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, process.stderr) == (
        1, f"{ERROR}a prompt needs prompt_toolkit (package python3-prompt-toolkit); -e and pipes do not\n")


def test_help(folder: Path) -> None:
    for arguments in (["--help"], ["shell", "--help"], ["attach", "--help"], ["detach", "--help"]):
        done = subprocess.run([sys.executable, "-m", "aqmp", *arguments], text=True, capture_output=True,
                              timeout=TIMEOUT, env=shell_environment(folder, COLUMNS="80"))
        assert done.returncode == 0 and done.stdout.startswith("usage: python3 -m aqmp")
        assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
