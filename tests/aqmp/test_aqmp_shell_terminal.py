# SPDX-License-Identifier: BSD-3-Clause
"""The shell at work in a real terminal, with a real QEMU."""

from __future__ import annotations

import signal
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from aqmp import SyncQMPClient
from aqmp_real import MACHINE, STORAGE_DAEMON, Monitor, Start
from aqmp_shell_kit import Terminal

Open = Callable[[str], Terminal]
def test_a_command_and_its_answer(storage_daemon: Monitor, terminal: Open) -> None:
    t = terminal(storage_daemon.socket)
    t.type("query-chardev")
    t.press("Enter")
    t.wait_for(r'^    "label": "monitor"')
    t.type("blockdev-del node-name=nothing")
    t.press("Enter")
    t.wait_for(r"^blockdev-del: Failed to find node with node-name='nothing' \(GenericError\)$")
    t.type("blockdev-del node-name")
    t.press("Enter")
    t.wait_for("^expected NAME=VALUE, got node-name$")
    t.press("C-d")
    t.wait_for("^status 0$")


def test_completion(storage_daemon: Monitor, terminal: Open) -> None:
    """Of commands, arguments, variants' arguments and values."""
    t = terminal(storage_daemon.socket)
    t.type("blockdev-a")
    t.press("Tab")
    t.wait_for("^QMP> blockdev-add$")
    t.type(" dri")
    t.press("Tab")
    t.wait_for("^QMP> blockdev-add driver=$")
    t.type("n")
    t.press("Tab")
    menu = t.wait_for("driver=nvme")
    assert "driver=nbd" in menu and "driver=qcow2" not in menu
    t.type("b")
    t.press("Tab")
    t.wait_for("^QMP> blockdev-add driver=nbd$")
    t.type(" se")
    t.press("Tab")
    t.wait_for("driver=nbd server[.]$")
    t.press("Tab")
    t.wait_for("server[.]type=$")
    t.type("u")
    t.press("Tab")
    t.wait_for("server[.]type=unix$")
    t.type(" server.p")
    t.press("Tab")
    t.wait_for("server[.]path=$")
    t.type(" read-")
    t.press("Tab")
    t.wait_for("read-only=$")
    t.type("t")
    t.press("Tab")
    t.wait_for("^QMP> blockdev-add driver=nbd server.type=unix server.path= read-only=true$")


def test_what_is_being_typed_stays_when_events_come(start: Start, folder: Path, terminal: Open) -> None:
    second = folder / "second.sock"
    machine = start(MACHINE, "-S", "-qmp", f"unix:{second},server=on,wait=off")
    t = terminal(machine.socket)
    t.type("query-st")
    t.wait_for("^QMP> query-st$")
    with SyncQMPClient() as other:
        other.connect(str(second))
        other.execute("cont")
        t.wait_for(r"^\d\d:\d\d:\d\d\.\d\d\d RESUME {}\nQMP> query-st$")
        other.execute("stop")
    t.wait_for(r"RESUME {}\n.* STOP {}\nQMP> query-st$")
    t.type("atus")
    t.press("Enter")
    t.wait_for(r'^{"status": "paused",.*}\nQMP>$')


def test_qemu_is_started_again(start: Start, folder: Path, terminal: Open) -> None:
    """As another one, which has other commands. What is being typed stays."""
    first = start(STORAGE_DAEMON)
    t = terminal(first.socket)
    t.type("device_a")
    t.press("Tab")
    t.type("dd")
    t.wait_for("^QMP> device_add$")
    first.stop()
    t.wait_for(r"^the connection to .* has ended; trying to connect again\n\(not connected\) QMP> device_add$")
    t.press("C-c")
    t.wait_for(r"^\(not connected\) QMP>$")
    t.type("query-version")
    t.press("Enter")
    t.wait_for("^query-version: not connected$")
    start(MACHINE, "-S", chardev=f"path={first.socket},server=on,wait=off")
    t.wait_for(r"^query-version: not connected\n(.*\n)*connected to .*: QEMU [0-9.]+\nQMP>$")
    t.type("device_a")
    t.press("Tab")
    t.wait_for("^QMP> device_add$")


def test_ctrl_c(storage_daemon: Monitor, terminal: Open) -> None:
    """It drops a line, and ends the wait for an answer."""
    t = terminal(storage_daemon.socket)
    t.type("blockdev-add nonsense")
    t.press("C-c")
    t.wait_for(r"^QMP> blockdev-add nonsense\nQMP>$")
    storage_daemon.process.send_signal(signal.SIGSTOP)
    t.type("query-chardev")
    t.press("Enter")
    t.press_until("C-c", r"query-chardev: no longer waited for; QEMU may still do it\n(QMP>\n)*QMP>$")
    storage_daemon.process.send_signal(signal.SIGCONT)
    t.type("query-version")
    t.press("Enter")
    t.wait_for(r'"package":(.*\n)*QMP>$')


def test_history(storage_daemon: Monitor, terminal: Open, folder: Path) -> None:
    """It lasts, and is searched for what begins as the line does."""
    t = terminal(storage_daemon.socket)
    for command in ("query-block-jobs", "query-named-block-nodes flat=true"):
        t.type(command)
        t.press("Enter")
        t.wait_for(rf"^QMP> {command}\n\[\]\nQMP>$")
    t.press("C-d")
    t.wait_for("^status 0$")
    t = terminal(storage_daemon.socket)
    t.press("Up")
    t.wait_for("^QMP> query-named-block-nodes flat=true$")
    t.press("C-c")
    t.wait_for(r"^QMP> query-named-block-nodes flat=true\nQMP>$")
    t.type("query-b")
    t.press("Up")
    t.wait_for("^QMP> query-block-jobs$")
    assert stat.S_IMODE((folder / "state" / "aqmp" / "history").stat().st_mode) == 0o600


def test_no_history(storage_daemon: Monitor, terminal: Open, folder: Path) -> None:
    """Where it cannot be written, it is told, and the shell works."""
    (folder / "state").write_text("")
    t = terminal(storage_daemon.socket)
    assert "no history: [Errno 20] Not a directory" in t.screen()
    t.press("C-d")
    t.wait_for("^status 0$")


def test_no_monitor(folder: Path) -> None:
    with closing(Terminal(folder, folder / "tmux", str(folder / "nowhere"))) as t:
        t.wait_for(r"^python3 -m aqmp shell: cannot connect to .*/nowhere: (.*\n)*status 1$")
