# SPDX-License-Identifier: BSD-3-Clause
"""Names that clients choose: of an export, on the wire, in Python, in the log; of their own socket."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import wire
from conftest import Serve
from harness import Server, environment
from hostile_kit import over, watchful
from wire import Wire, option

LONGEST = 4096  # bytes of a name, in NBD and in nbdkit
NAMES = {
    "empty": b"", "a dot": b".", "two dots": b"..", "a way out": b"../../etc/passwd", "absolute": b"/etc/passwd",
    "in and out": b"a/../b", "slashes": b"/" * LONGEST, "backslashes": rb"..\..\boot.ini", "a space": b" ",
    "an end of line": b"a\nb\r\n", "escapes": b"\x1b[2J\x1b]0;owned\x07\x9b1m\xc2\x9b1m\x7f\b\b",
    "formats": b"%s%n%d%%{}{0}$x", "control": bytes(range(1, 32)), "quotes": b"'; DROP TABLE block; -- \"",
    "a shell": b"$(reboot) `reboot` | reboot; reboot",
    "UTF-8": "d\u00efsk \U0001f4be \u202eksid \ufeff\u2028\ufffe".encode(), "not UTF-8": b"\xff\xfe\x80\xc3",
    "a surrogate": b"\xed\xa0\x80\xed\xb0\x80", "overlong": b"\xc0\xaf\xc0\xae\xe0\x80\xaf",
    "too high": b"\xf4\x90\x80\x80", "cut off": b"\xe2\x82", "all bytes": bytes(range(1, 256)),
    "longest": b"n" * LONGEST,
    "longest not UTF-8": b"\xff" * LONGEST, "longest UTF-8": "\u00e9".encode() * (LONGEST // 2),
}
BEYOND_UTF8 = {name for name, text in NAMES.items() if text.decode(errors="replace").encode() != text}
EACH_NAME = pytest.mark.parametrize("name", [
    pytest.param(text, marks=pytest.mark.peer_fails if key in BEYOND_UTF8 else ()) for key, text in NAMES.items()],
    ids=NAMES)

# It writes down the names, as the bytes that Python takes them for in a file's name.
NAMED = watchful() + """
    names = builtins.open(os.path.join(os.path.dirname(__file__), "names"), "w", buffering=1)

    def name():
        text = nbdkit.export_name()
        print(os.fsencode(text).hex(), text.encode("utf-8", "surrogateescape") == os.fsencode(text), file=names)
        return text

    unwatched = open
    def open(readonly):
        name()
        return unwatched(readonly)

    def export_description(h): return os.fsencode(name())
    def list_exports(readonly, is_tls): return [b"\\xff\\xed\\xa0\\x80", "\\u00e9", ("..", b"\\xff"), "n" * 4096]
"""


def names(server: Server) -> list[bytes]:
    """The names that the script has been asked for."""
    lines = (server.folder / "names").read_text().splitlines()
    assert all(line.endswith(" True") for line in lines)
    return [bytes.fromhex(line.split(" ")[0]) for line in lines]


@EACH_NAME
def test_a_name_comes_and_goes_unchanged(serve: Serve, name: bytes) -> None:
    """Through each option that has one, and from Python back to the client."""
    server = serve(NAMED)
    with Wire(server.socket).hello() as client:
        told = client.about(name, wire.ABOUT_NAME, wire.ABOUT_DESCRIPTION)
        assert isinstance(told, dict)
        assert (told[wire.ABOUT_NAME], told[wire.ABOUT_DESCRIPTION] if name else b"") == (name, name)
        told = client.about(name, wire.ABOUT_DESCRIPTION, last=True)
        assert client.do(wire.READ, 0, 4).error == 0
    with Wire(server.socket).hello() as client:
        client.send(option(wire.EXPORT_NAME, name))
        assert client.unpack(">Q") == (1 << 20,)
    assert names(server) == [name] * 5
    over(server)


@pytest.mark.parametrize("name", [b"n" * (LONGEST + 1), b"n" * 100000, b"\0", b"a\0b", b"a\0", b"\0" * LONGEST])
def test_a_name_that_nbdkit_refuses(serve: Serve, name: bytes) -> None:
    """Too long, or with a NUL in it: the script does not hear of it."""
    server = serve(NAMED)
    with Wire(server.socket).hello() as client:
        assert client.about(name, wire.ABOUT_NAME) == wire.INVALID
        assert client.about(name, last=True) == wire.INVALID
        client.send(option(wire.EXPORT_NAME, name))
        assert client.rest() == b""
    assert names(server) == []
    over(server)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_name_in_any_locale(serve: Serve, locale: str) -> None:
    server = serve(NAMED, env=environment(LC_ALL=locale))
    for name in NAMES.values():
        with Wire(server.socket).hello() as client:
            assert isinstance(client.about(name), dict)
    assert names(server) == list(NAMES.values())
    over(server)


def test_exports_in_a_list_are_any_bytes(serve: Serve) -> None:
    server = serve(NAMED)
    with Wire(server.socket).hello() as client:
        assert client.exports() == {
            b"\xff\xed\xa0\x80": b"", "\u00e9".encode(): b"", b"..": b"\xff", b"n" * LONGEST: b""}
    over(server)


@pytest.mark.parametrize("name", [b"d" * LONGEST, b"d" * (LONGEST - 6)])
def test_a_description_with_the_name_in_it(serve: Serve, name: bytes) -> None:
    """It may become too long for NBD: the client is told of none then."""
    server = serve(watchful() + "\n    def export_description(h): return 'about ' + nbdkit.export_name()\n")
    with Wire(server.socket).hello() as client:
        told = client.about(name, wire.ABOUT_DESCRIPTION)
        assert isinstance(told, dict)
        assert told.get(wire.ABOUT_DESCRIPTION) == (b"about " + name if len(name) < LONGEST else None)
    over(server)


# The log.

FAILS = """
    import errno, os
    import nbdkit

    API_VERSION = 2

    def open(readonly):
        how, name = nbdkit.export_name().split(":", 1)
        if how == "error": raise nbdkit.Error(errno.ENOENT, f"no disk {name}")
        if how == "exception": raise ValueError(f"no disk {name}")
        if how == "key": return {}[name]
        if how == "file": return os.open(name, os.O_RDONLY)
        return name

    def get_size(h): return h
    def pread(h, buf, offset, flags): pass
"""


@pytest.mark.peer_fails
@pytest.mark.parametrize("how", ["error", "exception", "key", "file", "answer"])
def test_a_name_in_the_log(serve: Serve, how: str) -> None:
    """What a script says of a name, and what the plugin says, cannot steer a terminal.

    Nor can it pass for another message, but where the text of an exception with a traceback has lines of its own.
    """
    server = serve(FAILS)
    name = b"\xff\x1b[2J\x07\x9b1m\xc2\x9b1m\x7f\b\r%s%n\nnbdkit: python[1]: error: forged\ttab"
    with Wire(server.socket).hello() as client:
        assert client.about(how.encode() + b":" + name, last=True) == wire.UNKNOWN
    log = server.logfile.read_bytes()
    assert b"forged" in log and b"%s%n" in log
    assert not re.search(rb"[\0-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]", log)
    assert log.decode()
    assert how == "exception" or b"\nnbdkit: python[1]: error: forged" not in log
    assert how != "error" or log.count(b"\n") == 1


# Where a client comes from.


@pytest.mark.peer_fails
@pytest.mark.parametrize("address", [
    None, "", b"\0", b"\0abstract", b"\0\xff\n\x1b[2J\0\0x", b"\0" * 100, b"\0" + b"n" * 107, b"plain", b"x" * 100,
    b"\xff\xed\xa0\x80", b"a\nb %s%n"], ids=ascii)
def test_the_address_of_a_client(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                 address: bytes | str | None) -> None:
    """A Unix socket's may be any path or abstract name; peer_name() is what getpeername() is."""
    server = serve(watchful() + "\n    def export_description(h): return ascii(nbdkit.peer_name())\n")
    monkeypatch.chdir(tmp_path)
    with Wire(server.socket, bind=address) as client:
        told = client.hello().about(b"", wire.ABOUT_DESCRIPTION, last=True)
        own = client.socket.getsockname()
        assert isinstance(told, dict)
        assert told[wire.ABOUT_DESCRIPTION].decode() == ascii(own)
    over(server)
