# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the store's tests: real daemons of Xen's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from xenstore import Xenstore

from xenstore_daemon import OCAML, TIMEOUT, C, Daemon, StartDaemon, running


@pytest.fixture
def start_daemon() -> Iterator[StartDaemon]:
    """start_daemon(KIND="xenstored", *options): a Daemon of its own, stopped after the test."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(running(*arguments))


@pytest.fixture
def xenstored() -> Iterator[Daemon]:
    """Xen's daemon in C."""
    with running(C) as daemon:
        yield daemon


@pytest.fixture(params=[C, OCAML])
def any_daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """Xen's daemon in C, then the one in OCaml."""
    with running(request.param) as daemon:
        yield daemon


@pytest.fixture
def store(any_daemon: Daemon) -> Iterator[Xenstore]:
    """A client of each of them."""
    with Xenstore(str(any_daemon.socket), timeout=TIMEOUT) as store:
        yield store
