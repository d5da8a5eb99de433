# SPDX-License-Identifier: BSD-3-Clause
"""Where a script's print() goes: standard output while the server starts, its log while it serves."""

from __future__ import annotations

from pathlib import Path

from disks import disk
from harness import nbdkit, write_script

PRINTS = """
print("loaded")
def get_ready(): print("ready")
def after_fork(): print("forked")
def preconnect(readonly): print("connected")
def cleanup(): print("cleaned up")
"""


def test_print(tmp_path: Path) -> None:
    done = nbdkit("--run=nbdinfo --size $uri", write_script(tmp_path, disk(PRINTS)))
    assert done.stdout == "loaded\nready\n1048576\n"
    assert done.stderr == "forked\nconnected\ncleaned up\n"


def test_a_stream_of_the_scripts_own_is_left_alone(tmp_path: Path) -> None:
    own = f"import sys\nsys.stdout = __builtins__.open({str(tmp_path / 'own')!r}, 'w')\n"
    done = nbdkit("--run=nbdinfo --size $uri", write_script(tmp_path, disk(own + PRINTS)))
    assert (done.stdout, done.stderr) == ("1048576\n", "")
    assert (tmp_path / "own").read_text() == "loaded\nready\nforked\nconnected\ncleaned up\n"
