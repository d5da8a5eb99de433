# SPDX-License-Identifier: BSD-3-Clause
"""The examples are good disks, but for the one that fails on purpose."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from nbdkit.testing import Report, check
from redis_kit import Redis

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ROUNDS = 15


def checked(example: str, **parameters: object) -> Report:
    return check(EXAMPLES / example, rounds=ROUNDS, seconds=600, **parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize("example", ["ramdisk.py", "ramdisk_count.py", "ramdisk_v1.py"])
@pytest.mark.parametrize("size", ["2M", "10000"])
def test_a_ram_disk(example: str, size: str) -> None:
    report = checked(example, size=size)
    assert report.ok, str(report)
    assert any("as on a RAM disk" in line for line in report.not_tried)


def outlives(report: Report) -> bool:
    return "deaths of the server: 3 rounds" in report.tried


def test_a_file(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(random.Random(0).randbytes(300_000))
    report = checked("file.py", file=image)
    assert report.ok, str(report)
    assert outlives(report) and "several connections: 7 rounds" in report.tried


def test_a_database(tmp_path: Path) -> None:
    report = checked("sqlite.py", file=tmp_path / "disk.db", size="1M")
    assert report.ok, str(report)
    assert outlives(report)


def test_a_folder_of_disks(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(100_000))
    report = checked("exports.py", folder=tmp_path)
    assert report.ok, str(report)
    assert outlives(report)


@contextmanager
def web_server(content: bytes) -> Iterator[str]:
    """The URL of a file, of which ranges can be had."""
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self) -> None:
            [first, last] = map(int, re.findall(r"\d+", self.headers["Range"]))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.send_header("Content-Length", str(last - first + 1))
            self.end_headers()
            self.wfile.write(content[first:last + 1])

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/disk.img"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_file_on_the_web() -> None:
    with web_server(random.Random(1).randbytes(200_000)) as url:
        report = checked("web.py", url=url)
    assert report.ok, str(report)
    assert "requests that change the disk: the disk is read-only" in report.not_tried


def test_a_disk_in_redis(tmp_path: Path) -> None:
    pytest.importorskip("redis")
    redis = Redis(tmp_path)
    try:
        report = checked("redis_disk.py", size="1M", url=redis.url)
    finally:
        redis.stop()
    assert report.ok, str(report)
    assert any("the disk offers neither" in line for line in report.not_tried)


def test_the_disk_that_fails_on_purpose() -> None:
    report = checked("faulty.py")
    assert {fault.kind for fault in report.faults} == {"error"}
    assert len(report.faults[0].requests) == 1
