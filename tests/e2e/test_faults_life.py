# SPDX-License-Identifier: BSD-3-Clause
"""Any exception in a callback of the server's life: the start fails with status 1, the end goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Serve
from faults import EXCEPTIONS, REQUESTS, check_message, names, script
from harness import environment, nbdkit, write_script
from recorder import SHAPES

# Those that could be mistaken for a wish to end, and those that are hard to report.
AT_START = ["raise SystemExit(0)", "raise KeyboardInterrupt", "raise GeneratorExit", "recurse()",
            "raise Deep"]


STARTING = ["load", "config", "config_complete", "thread_model", "get_ready", "after_fork"]


@pytest.mark.parametrize("statement", AT_START)
@pytest.mark.parametrize("callback", STARTING)
def test_the_start(tmp_path: Path, callback: str, statement: str) -> None:
    path = write_script(tmp_path, script("v2-buf"))
    done = nbdkit(path, "key=value", env=environment(FAULT=f"{callback}: {statement}"))
    assert (done.returncode, done.stdout) == (1, "")
    check_message(done.stderr, callback, EXCEPTIONS[statement])


@pytest.mark.parametrize("statement", AT_START)
@pytest.mark.parametrize("callback", ["cleanup", "unload"])
def test_the_end(serve: Serve, callback: str, statement: str) -> None:
    server = serve(script("v2-buf"), env=environment(FAULT=f"{callback}: {statement}"))
    assert server.stop() == 0
    check_message(server.log(), callback, EXCEPTIONS[statement])


@pytest.mark.parametrize("statement", AT_START)
def test_dump_plugin(tmp_path: Path, statement: str) -> None:
    done = nbdkit("--dump-plugin", write_script(tmp_path, script("v2-buf")),
                  env=environment(FAULT=f"dump_plugin: {statement}"))
    assert done.returncode == 0
    assert "python_version=" in done.stdout
    check_message(done.stderr, "dump_plugin", EXCEPTIONS[statement])


@pytest.mark.parametrize("shape", SHAPES)
def test_warnings_are_errors_and_python_is_strict(serve: Serve, shape: str) -> None:
    server = serve(script(shape), env=environment(PYTHONWARNINGS="error", PYTHONDEVMODE="1"))
    h = server.connect(full_info=True)
    assert (h.get_export_description(), names(server)) == ("described", ["main"])
    for request in REQUESTS.values():
        request(h)
    h.shutdown()
    assert server.stop() == 0
    assert server.log() == ""
