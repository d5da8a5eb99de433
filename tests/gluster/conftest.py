# SPDX-License-Identifier: BSD-3-Clause
"""Bricks for the tests of the translator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gluster_kit
import pytest

Start = Callable[..., gluster_kit.Brick]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if why := gluster_kit.missing():
        here = Path(__file__).parent
        for item in items:
            if item.path.is_relative_to(here):
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture
def bricks(tmp_path: Path) -> Iterator[Start]:
    """bricks(volumes): a brick with these volumes over posix; ended after the test, which fails if it has crashed."""
    started: list[gluster_kit.Brick] = []

    def start(volumes: str, **settings: object) -> gluster_kit.Brick:
        brick = gluster_kit.Brick(tmp_path / f"brick{len(started)}", volumes, **settings)  # type: ignore[arg-type]
        started.append(brick)
        return brick

    yield start
    crashed = [brick.log() for brick in started if brick.process.poll() is not None and brick.process.returncode < 0]
    for brick in started:
        brick.close()
    assert not crashed


@pytest.fixture
def serve(bricks: Start, tmp_path: Path) -> Callable[..., gluster_kit.Brick]:
    """serve(script, **options): a brick with one translator, whose script has this text or is at this path."""

    def start(script: str | Path, **options: object) -> gluster_kit.Brick:
        path = script if isinstance(script, Path) else gluster_kit.script_file(tmp_path, script)
        return bricks(gluster_kit.xlator("top", path, "posix", **options))

    return start
