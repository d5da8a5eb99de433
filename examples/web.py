# SPDX-License-Identifier: BSD-3-Clause
"""A read-only disk whose bytes are in a file on a web server, fetched when a client reads them.

    nbdkit python web.py url=https://example.com/disk.img

The web server must be able to send ranges of bytes; for plain files, most can. Each client has a connection of its own
to it, made when it first reads, and kept. If the file is replaced meanwhile, reads fail: no client gets a mix of old
and new. (This file is not called http.py, because that would hide Python's own http.)
"""

import errno
import http.client
import urllib.parse

import nbdkit

API_VERSION = 2
url, size, same_file = urllib.parse.urlsplit(""), 0, {}  # the last two from get_ready on

def config(key: str, value: str) -> None:
    global url
    if key != "url":
        raise nbdkit.Error(errno.EINVAL, f"unknown parameter {key!r}: this disk has one, url=URL")
    url = urllib.parse.urlsplit(value)

def get_ready() -> None:
    """Called when the parameters are known and all is well so far; what fails here still stops the start."""
    global size, same_file
    if url.scheme not in ("http", "https") or not url.hostname:
        raise nbdkit.Error(errno.EINVAL, f"url=URL must begin with http:// or https://, not {url.geturl()!r}")
    web = open(readonly=True)
    headers, _ = request(web, "HEAD", {}, 200, 0)
    web.close()
    if "Content-Length" not in headers:
        raise nbdkit.Error(errno.EIO, f"{url.geturl()}: the web server does not tell the file's size")
    size = int(headers["Content-Length"])
    # An ETag names the file's present state. With If-Match, the web server answers only while it is in that state.
    tag = headers.get("ETag", "")
    same_file = {"If-Match": tag} if tag.startswith('"') else {}

def thread_model() -> int:
    return nbdkit.THREAD_MODEL_SERIALIZE_REQUESTS  # a client's requests share its connection, so they wait in line

def open(readonly: bool) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(url.hostname, url.port, timeout=30)  # not connected yet: that comes with the first request

def close(h: http.client.HTTPConnection) -> None:
    h.close()

def get_size(h: http.client.HTTPConnection) -> int:
    return size

def can_multi_conn(h: http.client.HTTPConnection) -> bool:
    return True  # nobody writes, so a client sees the same through each of its connections

def request(h: http.client.HTTPConnection, method: str, headers: dict[str, str], status: int, count: int):
    """Ask the web server, twice if need be, for this status and `count` bytes; return the headers and the bytes."""
    target = urllib.parse.urlunsplit(url._replace(scheme="", netloc="", fragment="")) or "/"
    for last_try in (False, True):
        try:
            h.request(method, target, headers=headers)  # this connects, after close() again
            answer = h.getresponse()
            if answer.status != status:
                raise http.client.HTTPException(f"{method}: {answer.status} {answer.reason}")
            body = answer.read(count + 1)  # a wrong answer may be endless
            if len(body) != count:
                raise http.client.HTTPException(f"{count} bytes expected, {len(body)} came")
            return answer.headers, body
        except (OSError, http.client.HTTPException) as error:
            h.close()
            if last_try:
                raise nbdkit.Error(errno.EIO, f"{url.geturl()}: {error!r}") from error

def pread(h: http.client.HTTPConnection, buf: memoryview, offset: int, flags: int) -> None:
    wanted = f"{offset}-{offset + len(buf) - 1}"
    headers, body = request(h, "GET", {"Range": f"bytes={wanted}", **same_file}, 206, len(buf))
    if headers["Content-Range"] != f"bytes {wanted}/{size}":
        raise nbdkit.Error(errno.EIO, f"{url.geturl()}: not bytes {wanted}/{size}, but {headers['Content-Range']}")
    buf[:] = body
