# SPDX-License-Identifier: BSD-3-Clause
"""The protocol without a store: bytes into messages, and what may be sent."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xenstore import InvalidRequest, Permission, ProtocolError, XenstoreException, _wire
from xenstore._exchange import Exchange, Parser
from xenstore._wire import HEADER, Message, Request, Type

# The same attempts each time, however slow the machine.
steady = settings(derandomize=True, deadline=None)
words = st.integers(0, 2**32 - 1)
messages = st.lists(st.builds(Message, words, words, words, st.binary(max_size=4096)), max_size=5)


@steady
@given(messages, st.data())
def test_messages_come_in_any_pieces(expected: list[Message], data: st.DataObject) -> None:
    stream = b"".join(HEADER.pack(m.type, m.request, m.transaction, len(m.payload)) + m.payload for m in expected)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    parser = Parser()
    found: list[Message] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)]):
        found += parser.feed(stream[start:end])
    assert found == expected


@steady
@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_a_protocol_error(data: bytes) -> None:
    try:
        for message in Parser().feed(data):
            Exchange[None]().match(message)
    except ProtocolError as error:
        assert error.errno == errno.EPROTO


def test_a_message_that_is_too_long_is_no_message() -> None:
    assert list(Parser().feed(HEADER.pack(2, 1, 0, 1 << 20))) == []
    with pytest.raises(ProtocolError, match="at most 1048576 bytes .* got one of type 2 that claims 1048577"):
        list(Parser().feed(HEADER.pack(2, 1, 0, (1 << 20) + 1)))


@steady
@given(st.binary(max_size=50))
def test_any_value_survives_as_text(value: bytes) -> None:
    assert _wire.value_bytes(_wire.value_text(value)) == value


@steady
@given(st.dictionaries(st.integers(0, 0x7FFF), st.sampled_from(list(Permission)), min_size=1))
def test_permissions_keep_their_order(permissions: dict[int, Permission]) -> None:
    payload = b"".join(field + b"\0" for field in _wire.permission_fields(permissions))
    assert list(_wire.permissions(payload).items()) == list(permissions.items())


def test_permissions_on_the_wire() -> None:
    assert _wire.permissions(b"n3\0r5\0w0\0b12\0") == {3: 0, 5: 1, 0: 2, 12: 3}
    assert _wire.permissions(b"n3\0r5\0w5\0") == {3: 0, 5: 1}, "a store takes a domain's first entry"
    for payload in (b"", b"x0\0", b"n\0", b"n0\0\0r1\0", b"n-1\0", b"0\0"):
        with pytest.raises(ProtocolError, match="expected permissions such as 'n0'"):
            _wire.permissions(payload)


@pytest.mark.parametrize(("permissions", "message"), [
    ({}, "EINVAL: permissions: expected the owner's first, got none at all"),
    ({0: 4}, "EINVAL: permissions of domain 0: expected one of PERM_NONE, .*, got 4"),
    ({-1: Permission.NONE}, "EINVAL: domid: expected 0 to 32767, got -1"),
    ({2**15: Permission.NONE}, "EINVAL: domid: expected 0 to 32767, got 32768"),
])
def test_permissions_that_are_none(permissions: dict[int, Permission], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        _wire.permission_fields(permissions)


@pytest.mark.parametrize("path", ["/", "/a", "/local/domain/7/device-_@", "data", "data/x", "@releaseDomain",
                                  "/" + 4000 * "x"])
def test_a_path(path: str) -> None:
    assert _wire.path_bytes(path) == path.encode()


@pytest.mark.parametrize(("path", "expected"), [
    ("", "expected a path, got none"),
    ("/a\0b", "expected one of A-Z a-z 0-9 - / _ @ only, got b'\\x00' in it"),
    ("/a b.", "got b' .' in it"),
    ("/é", "got b'\\xc3\\xa9' in it"),
    ("/a/", "expected names with a / between them, got an empty name"),
    ("//a", "got an empty name"),
])
def test_a_path_that_is_none(path: str, expected: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _wire.path_bytes(path)
    assert str(caught.value).startswith("EINVAL: path ") and str(caught.value).endswith(expected)
    assert caught.value.errno == errno.EINVAL


def test_the_limit_of_a_message() -> None:
    exchange: Exchange[str] = Exchange()
    number, packed = exchange.begin(Request(Type.WRITE, bytes(4096)), 7, "who")
    assert packed == HEADER.pack(11, number, 7, 4096) + bytes(4096)
    with pytest.raises(InvalidRequest, match="E2BIG: WRITE: expected a payload .* of at most 4096 bytes, got 4097"):
        exchange.begin(Request(Type.WRITE, bytes(4097), "/a"), 7, "who")
    assert list(exchange.waiters()) == ["who"]


def test_numbers_begin_anew_and_leave_out_those_in_use() -> None:
    exchange: Exchange[str] = Exchange()
    request = Request(Type.READ, b"/\0")
    assert exchange.begin(request, 0, "first")[0] == 1
    exchange._last = 2**32 - 2
    assert [exchange.begin(request, 0, "more")[0] for _ in range(3)] == [2**32 - 1, 2, 3], "0 is an event's, 1 in use"


def test_answers_are_matched_by_number_and_type() -> None:
    exchange: Exchange[str] = Exchange()
    for who in ("first", "second", "third"):
        exchange.begin(Request(Type.READ, b"/\0"), 0, who)
    assert exchange.match(Message(2, 2, 0, b"")) == "second"
    assert exchange.match(Message(16, 3, 0, b"EIO\0")) == "third"
    with pytest.raises(ProtocolError, match="of type 2 with the unknown number 2"):
        exchange.match(Message(2, 2, 0, b""))
    with pytest.raises(ProtocolError, match="expected an answer of type 2 for request 1, got one of type 11"):
        exchange.match(Message(11, 1, 0, b""))
    exchange.abandon(1)
    assert exchange.match(Message(2, 1, 0, b"")) is None
    with pytest.raises(ProtocolError, match="unknown number 1"):
        exchange.match(Message(2, 1, 0, b""))


def test_linux_answers_a_watch_without_its_number() -> None:
    exchange: Exchange[str] = Exchange()
    exchange.begin(Request(Type.UNWATCH, b"/\0a\0"), 0, "unwatch")
    for who in ("first", "second"):
        exchange.begin(Request(Type.WATCH, b"/\0b\0"), 0, who)
    answers = [exchange.match(Message(type, 0, 0, b"OK\0")) for type in (4, 4, 5)]
    assert answers == ["first", "second", "unwatch"]
    with pytest.raises(ProtocolError, match="unknown number 0"):
        exchange.match(Message(4, 0, 0, b"OK\0"))


@pytest.mark.parametrize(("payload", "number"), [(b"ENOENT\0", errno.ENOENT), (b"EQUOTA\0", errno.EIO),
                                                 (b"\xff", errno.EIO), (b"", errno.EIO), (b"errorcode\0", errno.EIO)])
def test_an_error(payload: bytes, number: int) -> None:
    error = _wire.error(Message(16, 1, 0, payload), Request(Type.READ, b"/a\0", "/a"))
    assert type(error) is XenstoreException and isinstance(error, OSError)
    assert (error.errno, error.filename) == (number, "/a")
    assert str(error) == (payload.rstrip(b"\0").decode("ascii", "backslashreplace") or "EIO")
    assert error.__notes__ == ["from the store, for READ of '/a'"]
    assert os.strerror(error.errno)


@pytest.mark.parametrize("wrong", [None, 5, 1.5, ["x"]])
def test_wrong_types(wrong: object) -> None:
    with pytest.raises(TypeError, match="path: expected a str"):
        _wire.path_bytes(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="value: expected a str or bytes"):
        _wire.value_bytes(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="token: expected a str"):
        _wire.word_bytes("token", wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("payload", [b"", b"/a", b"/a\0", b"\0"])
def test_an_event_that_is_none(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="expected a path and a token"):
        _wire.event(Message(15, 0, 0, payload))


def test_an_event_may_have_more_fields() -> None:
    assert _wire.event(Message(15, 9, 9, b"/a\0token\0more\0")) == ("/a", "token")
