# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the filter's tests: `translate` a plugin on a real nbdkit, `refused` for what must not start."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from filter_kit import Refused, Translate, attempt, translating
from harness import Server


@pytest.fixture
def translate(tmp_path: Path) -> Iterator[Translate]:
    """translate(*TRANSLATORS, plugin=("memory", "1M"), options=(), verbose=False): a Server, stopped after the test.

    TRANSLATORS are texts (anything with a newline in it), paths, and KEY=VALUE.
    """
    numbers = itertools.count()
    with ExitStack() as stack:

        def start(*words: object, **settings: Any) -> Server:
            folder = tmp_path / f"server{next(numbers)}"
            folder.mkdir()
            return stack.enter_context(translating(folder, *words, **settings))

        yield start


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """refused(*TRANSLATORS, plugin=…): nbdkit must end with exit status 1; the result is all that it said."""

    def start(*words: object, **settings: Any) -> str:
        done = attempt(tmp_path, *words, **settings)
        said = done.stdout + done.stderr
        assert done.returncode == 1, f"expected exit status 1, got {done.returncode}:\n{said}"
        return said

    return start
