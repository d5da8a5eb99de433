# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of aqmp's tests: `start` a real monitor, and those that most tests take: `storage_daemon`, `machine`."""

from __future__ import annotations

import itertools
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aqmp_attach_kit import aqmp as aqmp
from aqmp_attach_kit import attach as attach
from aqmp_attach_kit import daemon as daemon
from aqmp_attach_kit import guest as guest
from aqmp_attach_kit import image as image
from aqmp_real import MACHINE, NO_MACHINE, STORAGE_DAEMON, Monitor, Start
from aqmp_shell_kit import terminal as terminal

# A shell, or nohup, has them ignored in what it runs in the background, which processes inherit; a handler they do not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="aqmp-") as path:
        yield Path(path)


@pytest.fixture
def path(folder: Path) -> str:
    """Where a server of the test's own may listen."""
    return str(folder / "server.sock")


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """start(COMMAND, *more, chardev=None, pretty=False): a running Monitor, which ends with the test."""
    numbers = itertools.count()
    with ExitStack() as stack:

        def started(command: list[str], *more: str, chardev: str | None = None, pretty: bool = False) -> Monitor:
            place = folder / str(next(numbers))
            place.mkdir()
            monitor = Monitor(place, command, *more, chardev=chardev, pretty=pretty)
            stack.callback(monitor.stop)
            return monitor

        yield started


@pytest.fixture
def storage_daemon(start: Start) -> Monitor:
    return start(STORAGE_DAEMON)


@pytest.fixture
def no_machine(start: Start) -> Monitor:
    return start(NO_MACHINE)


@pytest.fixture
def machine(start: Start) -> Monitor:
    """One that is made and stands still."""
    return start(MACHINE, "-S")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for localhost, under the names that QEMU wants."""
    place = tmp_path_factory.mktemp("tls")
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
           "-days", "2"]
    for words in (["-subj", "/CN=authority", "-keyout", "ca-key.pem", "-out", "ca-cert.pem",
                   "-addext", "keyUsage=keyCertSign"],
                  ["-subj", "/CN=localhost", "-keyout", "server-key.pem", "-out", "server-cert.pem",
                   "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-addext", "basicConstraints=critical,CA:FALSE",
                   "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]):
        subprocess.run(new + words, cwd=place, check=True, capture_output=True)
    return place


@pytest.fixture
def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "server-cert.pem", certificate / "server-key.pem")
    return context


@pytest.fixture
def client_context(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate / "ca-cert.pem"))
