# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of the shell need: the shell itself, with and without a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aqmp_real import TIMEOUT, environment

ROOT = Path(__file__).resolve().parents[2]


def shell_environment(folder: Path, **changes: str) -> dict[str, str]:
    """An environment in which the shell's history is the test's own."""
    return {**environment(), "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(ROOT / "python"),
            "LC_ALL": "C.UTF-8", "TERM": "xterm-256color", **changes}


def shell(folder: Path, *arguments: str, text: str | None = None,
          **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a shell to its end, with that text as its standard input."""
    return subprocess.run([sys.executable, "-m", "aqmp", "shell", *arguments], text=True, input=text or "",
                          capture_output=True, timeout=TIMEOUT, env=shell_environment(folder, **changes))


class Terminal:
    """A real terminal, tmux's, in which the shell runs."""

    def __init__(self, folder: Path, tmux: Path, *arguments: str) -> None:
        self._tmux = ["tmux", "-u", "-S", str(tmux), "-f", os.devnull]
        self._environment = shell_environment(folder)
        self._environment.pop("TMUX", None)
        # What comes after the shell keeps the screen.
        script = f'{sys.executable} -m aqmp shell "$@"; echo "status $?"; exec cat'
        self._run("new-session", "-d", "-x", "160", "-y", "40", "sh", "-c", script, "sh", *arguments)

    def _run(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], env=self._environment, check=True, capture_output=True,
                              text=True, timeout=TIMEOUT).stdout

    def type(self, text: str) -> None:
        self._run("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: Enter, Tab, C-c, Up."""
        self._run("send-keys", *keys)

    def screen(self) -> str:
        """All lines, without those at the end that are empty, or spaces at the end of one; with those that have gone
        from its top."""
        return "\n".join(line.rstrip() for line in self._run("capture-pane", "-p", "-S", "-").splitlines()).rstrip()

    def wait_for(self, pattern: str) -> str:
        """Wait until that is on the screen, and return the screen."""
        deadline = time.monotonic() + TIMEOUT
        while not re.search(pattern, screen := self.screen(), re.MULTILINE):
            assert time.monotonic() < deadline, f"{pattern!r} did not come:\n{screen}"
            time.sleep(0.02)
        return screen

    def press_until(self, key: str, pattern: str) -> None:
        """Press a key again and again: what is pressed just before the shell leaves its prompt is for the next one."""
        deadline = time.monotonic() + TIMEOUT
        while not re.search(pattern, screen := self.screen(), re.MULTILINE):
            assert time.monotonic() < deadline, f"{pattern!r} did not come:\n{screen}"
            self.press(key)

    def close(self) -> None:
        self._run("kill-server")


@pytest.fixture
def terminal(folder: Path) -> Iterator[Callable[..., Terminal]]:
    """terminal(SOCKET): a Terminal with a shell at its first prompt."""
    with ExitStack() as stack:

        def started(socket: str) -> Terminal:
            place = folder / f"terminal{len(list(folder.glob('terminal*')))}"
            place.mkdir()
            new = Terminal(folder, place / "tmux", socket)
            stack.callback(new.close)
            new.wait_for(r"^connected to .*\n(.*\n)*QMP>")
            return new

        yield started
