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

def web_url(text: str) -> urllib.parse.SplitResult:
    """The type of a parameter is a function of what the command line says."""
    url = urllib.parse.urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"expected a URL that begins with http:// or https://, got {text!r}")
    return url

url = nbdkit.parameter("url", web_url, help="Where the file is.", magic=True)
size, same_file = 0, dict[str, str]()  # from get_ready on

@nbdkit.disk
class Web:
    """A client, and its connection to the web server."""

    def __init__(self, readonly: bool) -> None:
        kind = http.client.HTTPSConnection if url.value.scheme == "https" else http.client.HTTPConnection
        self.web = kind(url.value.hostname, url.value.port, timeout=30)  # connects with the first request

    def close(self) -> None:
        self.web.close()

    def get_size(self) -> int:
        return size

    def can_multi_conn(self) -> bool:
        return True  # nobody writes, so a client sees the same through each of its connections

    def request(self, method: str, headers: dict[str, str], status: int, count: int):
        """Ask the web server, twice if need be, for this status and `count` bytes; return the headers and the bytes."""
        target = urllib.parse.urlunsplit(url.value._replace(scheme="", netloc="", fragment="")) or "/"
        for last_try in (False, True):
            try:
                self.web.request(method, target, headers=headers)  # this connects, after close() again
                answer = self.web.getresponse()
                if answer.status != status:
                    raise http.client.HTTPException(f"{method}: {answer.status} {answer.reason}")
                if len(body := answer.read(count + 1)) == count:  # not all, since a wrong answer may be endless
                    return answer.headers, body
                raise http.client.HTTPException(f"{count} bytes expected, {len(body)} came")
            except (OSError, http.client.HTTPException) as error:
                self.web.close()
                if last_try:
                    raise nbdkit.Error(errno.EIO, f"{url.value.geturl()}: {error!r}") from error

    def pread(self, buf: memoryview, offset: int, flags: int) -> None:
        wanted = f"{offset}-{offset + len(buf) - 1}"
        headers, body = self.request("GET", {"Range": f"bytes={wanted}", **same_file}, 206, len(buf))
        if (got := headers["Content-Range"]) != f"bytes {wanted}/{size}":
            raise nbdkit.Error(errno.EIO, f"{url.value.geturl()}: not bytes {wanted}/{size}, but {got}")
        buf[:] = body

def thread_model() -> int:
    return nbdkit.THREAD_MODEL_SERIALIZE_REQUESTS  # a client's requests share its connection, so they wait in line

def get_ready() -> None:
    """Called when the parameters are known and all is well so far; what fails here still stops the start."""
    global size, same_file
    headers, _ = Web(readonly=True).request("HEAD", {}, 200, 0)
    if "Content-Length" not in headers:
        raise nbdkit.Error(errno.EIO, f"{url.value.geturl()}: the web server does not tell the file's size")
    size = int(headers["Content-Length"])
    # An ETag names the file's present state. With If-Match, the web server answers only while it is in that state.
    same_file = {"If-Match": tag} if (tag := headers.get("ETag", "")).startswith('"') else {}
