# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the end-to-end tests: `serve` a script on a real nbdkit, `start_fails` for one that must not start."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from daemon import daemonise as daemonise
from harness import Server, nbdkit, serving, write_script

Serve = Callable[..., Server]
StartFails = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """serve(SCRIPT, *parameters, options=(), verbose=False, env=None): a running Server, stopped after the test.

    SCRIPT is a script's text (anything with a newline in it) or a path; options are nbdkit's own.
    """
    numbers = itertools.count()
    with ExitStack() as stack:

        def start(script: str | Path, *arguments: object, **settings: object) -> Server:
            folder = tmp_path / f"server{next(numbers)}"
            folder.mkdir()
            if isinstance(script, str) and "\n" in script:
                script = write_script(folder, script)
            return stack.enter_context(serving(folder, script, *arguments, **settings))

        yield start


@pytest.fixture
def start_fails(tmp_path: Path) -> StartFails:
    """start_fails(SCRIPT, *parameters): nbdkit must end with exit status 1; the result is all that it said."""

    def start(script: str | Path, *arguments: object, **settings: Any) -> str:
        if isinstance(script, str) and "\n" in script:
            script = write_script(tmp_path, script)
        done = nbdkit(script, *arguments, **settings)
        said = done.stdout + done.stderr
        assert done.returncode == 1, f"expected exit status 1, got {done.returncode}:\n{said}"
        return said

    return start
