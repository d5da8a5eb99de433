# SPDX-License-Identifier: BSD-3-Clause
"""A server's end, as its script sees it."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import nbd

from conftest import Serve
from disks import disk


def test_every_open_has_its_close(serve: Serve, tmp_path: Path) -> None:
    # nbdkit does not close a connection once it has been told to end.
    server = serve(disk(f"""
        import builtins
        file = builtins.open({str(tmp_path / "calls")!r}, "w", buffering=1)

        class Handle:
            def __init__(self, name): self.name = name
            def __del__(self): print("freed", self.name, file=file)

        def open(readonly): return Handle(nbdkit.export_name())
        def close(h): print("closed", h.name, file=file)
        def cleanup(): print("cleanup", file=file)
    """))
    clients = [server.connect(name) for name in ("one", "two")]
    server.process.send_signal(signal.SIGTERM)
    for client in clients:
        with suppress(nbd.Error):  # later servers do not wait for them
            client.shutdown()
    assert server.stop() == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sorted(calls[:-1]) == ["closed one", "closed two", "freed one", "freed two"]
    assert calls[-1] == "cleanup"


def test_what_the_script_has_open_is_written_out(serve: Serve, tmp_path: Path) -> None:
    server = serve(disk(f"""
        import builtins
        file = builtins.open({str(tmp_path / "file")!r}, "w")
        file.write("at import")
        def get_size(h): return file.write(", in a callback") * 512
    """))
    server.connect().shutdown()
    assert server.stop() == 0
    assert (tmp_path / "file").read_text() == "at import, in a callback"
