# SPDX-License-Identifier: BSD-3-Clause
"""A plugin of pytest with one fixture, `serve_disk`: `pytest_plugins = ["nbdkit.pytest_plugin"]` in conftest.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from .testing import Script, Server, serve

ServeDisk = Callable[..., Server]


@pytest.fixture
def serve_disk() -> Iterator[ServeDisk]:
    """serve_disk(SCRIPT, *words, **parameters): a nbdkit.testing.Server, which is stopped after the test.

    It takes what nbdkit.testing.serve takes, any number of times. pytest shows the logs of a test that fails.
    """
    servers: list[tuple[Script, Server]] = []
    with ExitStack() as stack:

        def start(script: Script, /, *words: str, **parameters: object) -> Server:
            server = stack.enter_context(serve(script, *words, **parameters))
            servers.append((script, server))
            return server

        try:
            yield start
        finally:
            for script, server in servers:
                print(f"--- the log of nbdkit, which served {script}:\n{server.log()}")
