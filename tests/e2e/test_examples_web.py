# SPDX-License-Identifier: BSD-3-Clause
"""The example that reads a disk from a web server: nginx, and one that breaks the rules."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from conftest import Serve
from example_kit import KiB, MiB, info, run
from harness import EXAMPLES, TIMEOUT, environment, raises_errno

WEB = EXAMPLES / "web.py"
SIZE = 4 * MiB + 100
IMAGE = random.Random(5).randbytes(SIZE)

NGINX = """
    daemon off;
    master_process off;
    pid nginx.pid;
    events {{}}
    http {{
        log_format requests '$connection $request_method $request_uri $status $http_range';
        access_log requests.log requests;
        {temporary}
        server {{
            listen 127.0.0.1:{port} {ssl};
            {certificate}
            root www;
            location /brief/ {{ keepalive_timeout 100ms; }}
            location /moved {{ return 302 /disk.img; }}
            location /guarded/ {{ if ($request_method = GET) {{ return 403; }} }}
        }}
    }}
"""


class Nginx:
    """A web server of our own, with its files in `folder/www`."""

    def __init__(self, folder: Path, tls: bool = False) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        for place in ["www", "www/brief", "www/guarded"]:
            (folder / place).mkdir()
            (folder / place / "disk.img").write_bytes(IMAGE)
        paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        (folder / "nginx.conf").write_text(NGINX.format(
            port=self.port, ssl="ssl" if tls else "", temporary=" ".join(f"{path}_temp_path {path};" for path in paths),
            certificate=f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;" if tls else ""))
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = subprocess.Popen([nginx, "-p", self.folder, "-c", "nginx.conf", "-e", "error.log"],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                said = (self.folder / "error.log").read_text() if (self.folder / "error.log").exists() else ""
                assert self.process.poll() is None and time.monotonic() < deadline, said
                time.sleep(0.005)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(TIMEOUT)

    def requests(self, count: int) -> list[list[str]]:
        """What it was asked: (connection, method, target, status, range) of each request, once there are so many.

        nginx writes a request down when it has answered it.
        """
        deadline = time.monotonic() + TIMEOUT
        while len(lines := (self.folder / "requests.log").read_text().splitlines()) < count:
            assert time.monotonic() < deadline, f"expected {count} requests, got {lines}"
            time.sleep(0.01)
        return [line.split() for line in lines]


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    (tmp_path / "nginx").mkdir()
    server = Nginx(tmp_path / "nginx")
    yield server
    server.stop()


def test_web_whole_disk(serve: Serve, nginx: Nginx, tmp_path: Path) -> None:
    server = serve(WEB, f"url={nginx.url}/disk.img")
    about = info(server.uri)
    assert (about["export-size"], about["is_read_only"], about["can_multi_conn"]) == (SIZE, True, True)
    run("nbdcopy", "--connections=4", server.uri, tmp_path / "copy.img")
    assert (tmp_path / "copy.img").read_bytes() == IMAGE
    with (tmp_path / "copy.img").open("ab") as copy:  # qemu-img sees whole sectors
        copy.write(bytes(-SIZE % 512))
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", tmp_path / "copy.img", server.uri)
    assert server.log() == ""


def test_web_fetches_what_is_read_over_one_connection_for_each_client(serve: Serve, nginx: Nginx) -> None:
    server = serve(WEB, f"url={nginx.url}/disk.img?a=%20b&c")
    run("nbdinfo", "--size", server.uri)
    assert [request[1:] for request in nginx.requests(1)] == [["HEAD", "/disk.img?a=%20b&c", "200", "-"]]
    one, two = server.connect(), server.connect()
    reads = [(one, 1, 0), (one, 70000, 99999), (two, 10, 5), (one, 100, SIZE - 100), (two, 4096, 4096)]
    for disk, count, offset in reads:
        assert disk.pread(count, offset) == IMAGE[offset : offset + count]
    asked = nginx.requests(1 + len(reads))[1:]
    assert [request[3:] for request in asked] == [["206", f"bytes={at}-{at + count - 1}"] for _, count, at in reads]
    connections = [request[0] for request in asked]
    assert connections == [connections[n] for n in (0, 0, 2, 0, 2)]
    assert len(set(connections)) == 2


def wait_until_dropped(port: int) -> None:
    """Wait until whoever listens on this port has closed a connection, and its client not yet."""
    close_wait, deadline = "08", time.monotonic() + TIMEOUT
    while not any(row[2].endswith(f":{port:04X}") and row[3] == close_wait
                  for row in map(str.split, Path("/proc/net/tcp").read_text().splitlines())):
        assert time.monotonic() < deadline, "the connection is not dropped"
        time.sleep(0.01)


def test_web_connection_dropped_while_idle(serve: Serve, nginx: Nginx) -> None:
    server = serve(WEB, f"url={nginx.url}/brief/disk.img")
    disk = server.connect()
    assert disk.pread(1000, 0) == IMAGE[:1000]
    wait_until_dropped(nginx.port)
    assert disk.pread(1000, 1000) == IMAGE[1000:2000]
    assert len({request[0] for request in nginx.requests(3)[1:]}) == 2
    assert server.log() == ""


def test_web_server_that_goes_and_comes_back(serve: Serve, nginx: Nginx) -> None:
    server = serve(WEB, f"url={nginx.url}/disk.img")
    disk = server.connect()
    assert disk.pread(10, 0) == IMAGE[:10]
    nginx.stop()
    with raises_errno(errno.EIO):
        disk.pread(10, 10)
    server.wait_for_log(re.escape(f"{nginx.url}/disk.img: ConnectionRefusedError"))
    nginx.start()
    assert disk.pread(10, 20) == IMAGE[20:30]


def test_web_file_that_is_replaced(serve: Serve, nginx: Nginx) -> None:
    server = serve(WEB, f"url={nginx.url}/disk.img")
    disk = server.connect()
    assert disk.pread(10, 0) == IMAGE[:10]
    path = nginx.folder / "www" / "disk.img"
    path.with_name("new").write_bytes(IMAGE[::-1])
    os.utime(path.with_name("new"), (0, 0))
    path.with_name("new").rename(path)
    for client in (disk, server.connect()):
        with raises_errno(errno.EIO):
            client.pread(10, 10)
    server.wait_for_log("GET: 412 Precondition Failed")


def test_web_forbidden(serve: Serve, nginx: Nginx) -> None:
    server = serve(WEB, f"url={nginx.url}/guarded/disk.img")
    with raises_errno(errno.EIO):
        server.connect().pread(10, 0)
    server.wait_for_log("GET: 403 Forbidden")


def test_web_wrong_url(start_fails: Callable[..., str], nginx: Nginx) -> None:
    none = f"{nginx.url}/none.img"
    assert f"{none}: HTTPException('HEAD: 404 Not Found')" in start_fails(WEB, f"url={none}")
    assert "302 Moved Temporarily" in start_fails(WEB, f"url={nginx.url}/moved")
    nginx.stop()
    assert "ConnectionRefusedError" in start_fails(WEB, f"url={nginx.url}/disk.img")
    wrong = "url: expected a URL that begins with http:// or https://, got "
    assert "config_complete: the parameter url=WEB_URL is missing" in start_fails(WEB)
    assert f"{wrong}'ftp://127.0.0.1/disk.img'" in start_fails(WEB, "url=ftp://127.0.0.1/disk.img")
    assert f"{wrong}'http:///disk.img'" in start_fails(WEB, "url=http:///disk.img")
    assert "unknown parameter 'uri': did you mean 'url'? The parameters are: url=WEB_URL" in start_fails(
        WEB, "uri=http://127.0.0.1/")


def test_web_as_http_py_hides_http(start_fails: Callable[..., str], nginx: Nginx, tmp_path: Path) -> None:
    shutil.copy(WEB, tmp_path / "http.py")
    assert "'http' is not a package" in start_fails(tmp_path / "http.py", f"url={nginx.url}/disk.img")


def test_web_tls(serve: Serve, start_fails: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "nginx"
    folder.mkdir()
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem",
        "-out", folder / "cert.pem")  # fmt: skip
    nginx = Nginx(folder, tls=True)
    try:
        trust = environment(SSL_CERT_FILE=str(folder / "cert.pem"))
        disk = serve(WEB, f"url={nginx.url}/disk.img", env=trust).connect()
        assert disk.pread(MiB, 77) == IMAGE[77 : 77 + MiB]
        assert "CERTIFICATE_VERIFY_FAILED" in start_fails(WEB, f"url={nginx.url}/disk.img")
    finally:
        nginx.stop()


class Rogue(BaseHTTPRequestHandler):
    """A web server that breaks the rules; the path says which. `asked` has the connection's number of each GET."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, int]] = []

    def do_HEAD(self) -> None:
        self.answer(200, b"", {} if self.path == "/no-length" else {"Content-Length": SIZE})

    def do_GET(self) -> None:
        tries = sum(path == self.path for path, _ in self.asked)
        self.asked.append((self.path, self.client_address[1]))
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        body = IMAGE[first : last + 1]
        fields = {"Content-Range": f"bytes {first}-{last}/{SIZE}", "Content-Length": len(body)}
        if self.path == "/whole":
            self.answer(200, IMAGE, {"Content-Length": SIZE})
        elif self.path == "/short" or self.path == "/short-once" and tries == 0:
            self.answer(206, body[:-1], fields)
            self.close_connection = True
        elif self.path == "/long":
            self.answer(206, body + b"more", fields | {"Content-Length": len(body) + 4})
        elif self.path == "/elsewhere":
            self.answer(206, body, fields | {"Content-Range": f"bytes {first + 1}-{last + 1}/{SIZE}"})
        elif self.path == "/another-size":
            self.answer(206, body, fields | {"Content-Range": f"bytes {first}-{last}/{SIZE + 1}"})
        elif self.path == "/no-content-range":
            self.answer(206, body, {"Content-Length": len(body)})
        elif self.path == "/silent":
            self.close_connection = True
        else:  # /drop closes the connection after each answer, without having said so
            self.answer(206, body, fields)
            self.close_connection = self.path == "/drop"

    def answer(self, status: int, body: bytes, fields: dict[str, object]) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, str(value))
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            pass  # the client may well be no longer interested

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def rogue() -> Iterator[str]:
    Rogue.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Rogue) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path, said, requests", [
    ("/whole", "GET: 200 OK", 2),
    ("/short", "10000 bytes expected, 9999 came", 2),
    ("/long", "10000 bytes expected, 10001 came", 2),
    ("/elsewhere", f"not bytes 5-10004/{SIZE}, but bytes 6-10005/{SIZE}", 1),
    ("/another-size", f"not bytes 5-10004/{SIZE}, but bytes 5-10004/{SIZE + 1}", 1),
    ("/no-content-range", f"not bytes 5-10004/{SIZE}, but None", 1),
    ("/silent", "RemoteDisconnected", 2),
])  # fmt: skip
def test_web_server_that_breaks_the_rules(serve: Serve, rogue: str, path: str, said: str, requests: int) -> None:
    server = serve(WEB, f"url={rogue}{path}")
    disk = server.connect()
    with raises_errno(errno.EIO):
        disk.pread(10000, 5)
    message = server.wait_for_log(re.escape(said)).string
    assert f"{rogue}{path}" in message
    assert "Traceback" not in message
    assert len(Rogue.asked) == requests
    with raises_errno(errno.EIO):  # again, on a connection that has not kept anything of the first answer
        disk.pread(10000, 5)
    assert len(Rogue.asked) == 2 * requests


@pytest.mark.parametrize("path, connections", [("/good", 1), ("/drop", 3), ("/short-once", 2)])
def test_web_connection_that_is_dropped(serve: Serve, rogue: str, path: str, connections: int) -> None:
    server = serve(WEB, f"url={rogue}{path}")
    disk = server.connect()
    for offset in (0, 10000, 7):
        assert disk.pread(64 * KiB, offset) == IMAGE[offset : offset + 64 * KiB]
    assert len({connection for _, connection in Rogue.asked}) == connections
    assert server.log() == ""


def test_web_server_that_tells_no_size(start_fails: Callable[..., str], rogue: str) -> None:
    assert "the web server does not tell the file's size" in start_fails(WEB, f"url={rogue}/no-length")
