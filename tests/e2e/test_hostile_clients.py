# SPDX-License-Identifier: BSD-3-Clause
"""Clients that break the protocol's rules, or only its good manners: handshakes, requests, pace, noise."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

import wire
from conftest import Serve
from harness import Server
from hostile_kit import SIZE, over, requests, unharmed, watchful
from wire import Wire, contexts, export, option, request

MODELS = ["SERIALIZE_ALL_REQUESTS", "SERIALIZE_REQUESTS", "PARALLEL"]
MiB = 1 << 20
KINDS = [wire.READ, wire.WRITE, wire.FLUSH, wire.TRIM, wire.CACHE, wire.ZERO, wire.STATUS]
RANGED = [kind for kind in KINDS if kind != wire.FLUSH]


@pytest.fixture
def server(serve: Serve) -> Iterator[Server]:
    """A disk that watches, and that must be unharmed by what the test has done to it."""
    server = serve(watchful())
    yield server
    over(server)


# Requests.


@pytest.mark.parametrize("structured", [True, False], ids=["structured", "simple"])
def test_ranges_that_are_not_on_the_disk(server: Server, structured: bool) -> None:
    """Refused by nbdkit, each on its own: the connection goes on, and none reaches the script."""
    ranges = [(2**63, 1), (2**64 - 1, 1), (2**63 - 1, 1), (2**64 - 4096, 4096), (SIZE, 1), (SIZE - 1, 2), (0, SIZE + 1),
              (0, 0), (SIZE, 0), (2**64 - 1, 0), (4096, 2**32 - 4096), (0, 2**31), (2**63 - 1, 2**31 - 1)]
    with Wire(server.socket).ready(structured=structured) as client:
        for kind in RANGED:
            for offset, count in ranges:
                # nbdkit reads past the data of a write that it refuses, if it is not too much.
                data = bytes(count) if kind == wire.WRITE and count <= 2 * MiB else b""
                if kind != wire.WRITE or len(data) == count:
                    assert client.do(kind, offset, count, data).error in (wire.EINVAL, wire.ENOSPC), (kind, offset)
        assert requests(server) == []
        assert client.do(wire.READ, SIZE - 1, 1).data == b"\0"


@pytest.mark.parametrize("kind", RANGED)
def test_the_longest_count(server: Server, kind: int) -> None:
    with Wire(server.socket).ready() as client:
        client.send(request(kind, 0, 2**32 - 1, b"x" * 4096 if kind == wire.WRITE else b""))
        if kind == wire.WRITE:  # 4 GiB of data would have to be read first
            assert client.ends() == b""
        else:
            assert client.reply().error == (wire.ENOSPC if kind == wire.ZERO else wire.EINVAL)
    assert requests(server) == []


def test_the_limit_of_a_read_and_a_write(serve: Serve) -> None:
    """nbdkit's own is 64 MiB: what is above is refused, and the connection goes on."""
    server = serve(watchful(size=8 << 30))
    with Wire(server.socket).ready() as client:
        for count in (64 * MiB + 1, 64 * MiB + 512):
            assert client.do(wire.READ, 0, count).error
            assert client.do(wire.WRITE, 0, count, bytes(count)).error
        assert requests(server) == []
        assert client.do(wire.READ, 1, 64 * MiB).data == bytes(64 * MiB)
        assert client.do(wire.WRITE, 1, 64 * MiB, bytes(64 * MiB)).error == 0
        assert requests(server) == [f"{call} {64 * MiB} 1 0" for call in ("pread", "pwrite")]
        # Others have no data, and so no such limit.
        for kind in (wire.TRIM, wire.CACHE, wire.ZERO):
            assert client.do(kind, 4096, 2**32 - 1).error == 0
    over(server)


@pytest.mark.parametrize("count", [pytest.param(2**32 - 1, marks=pytest.mark.peer_fails), 2**32 - 4096])
def test_block_status_of_the_longest_range(serve: Serve, count: int) -> None:
    """The script tells of all the disk, 8 GiB: if nbdkit 1.32 were told as much, 2**32 - 1 would make it abort."""
    server = serve(watchful(size=8 << 30))
    with Wire(server.socket).ready() as client:
        for offset in (0, 4096, (8 << 30) - count):
            answer = client.do(wire.STATUS, offset, count)
            length, kind = struct.unpack(">II", answer.data)
            assert (answer.error, kind) == (0, 0) and length > 0
            assert client.do(wire.STATUS, offset, count, flags=wire.REQ_ONE).error == 0
    over(server)


@pytest.mark.parametrize("structured", [True, False], ids=["structured", "simple"])
def test_flags(server: Server, structured: bool) -> None:
    """Each bit of the flags with each request: done, or refused. The script sees those that it knows."""
    with Wire(server.socket).ready(structured=structured) as client:
        for kind in KINDS:
            for flags in [0, *(1 << bit for bit in range(16)), 0xFFFF]:
                count = 0 if kind == wire.FLUSH else 512
                answer = client.do(kind, 0, count, bytes(count) if kind == wire.WRITE else b"", flags=flags)
                assert answer.error in (0, wire.EINVAL), (kind, flags)
                assert flags < 32 or answer.error == wire.EINVAL, (kind, flags)


def test_unknown_requests(server: Server) -> None:
    with Wire(server.socket).ready() as client:
        for kind in (8, 9, 255, 256, 0x7FFF, 0xFFFF):
            for offset, count in ((0, 0), (0, 512), (2**64 - 1, 2**32 - 1)):
                assert client.do(kind, offset, count).error == wire.EINVAL
        assert client.do(wire.FLUSH, 512, 512).error == wire.EINVAL
        assert requests(server) == []


def test_handles_are_given_back_as_they_came(server: Server) -> None:
    """Also those of several requests at once, and the same one for all."""
    handles = [0, 2**64 - 1, 2**63, 0x2569513, 7, 7, 7]
    with Wire(server.socket).ready() as client:
        client.send(b"".join(request(wire.READ, 0, 16, handle=handle) for handle in handles))
        assert [client.reply().handle for _ in handles] == handles


@pytest.mark.parametrize("magic", [0, 0xFFFFFFFF, wire.REQUEST ^ 1, wire.SIMPLE_REPLY, wire.CHUNK, 0x21E41C71])
def test_a_request_without_its_magic(server: Server, magic: int) -> None:
    """What follows it cannot be told apart: the server hangs up."""
    with Wire(server.socket).ready() as client:
        client.send(request(wire.WRITE, 0, 512, bytes(512), magic=magic) + request(wire.READ, 0, 16))
        assert client.rest() == b""
    assert requests(server) == []


def test_half_a_request(server: Server) -> None:
    """At each length that is not the whole of it."""
    whole = request(wire.WRITE, 0, 512, b"w" * 512)
    for length in [*range(1, 29), 100, len(whole) - 1]:
        with Wire(server.socket).ready() as client:
            client.send(whole[:length])
            assert client.ends() == b""
    assert requests(server) == []


def test_requests_after_goodbye(server: Server) -> None:
    with Wire(server.socket).ready() as client:
        client.send(request(wire.DISCONNECT) + request(wire.WRITE, 0, 512, bytes(512)) + request(wire.READ, 0, 512))
        assert client.rest() == b""
    assert requests(server) == []


def test_a_write_with_less_data_than_it_says(server: Server) -> None:
    """What follows, a request, is taken as its data, as in any length that lies."""
    inner = request(wire.READ, 0, 512)
    with Wire(server.socket).ready() as client:
        client.send(request(wire.WRITE, 0, 2 * len(inner), inner))
        client.send(request(wire.TRIM, 0, 4096))
        assert client.reply().error == 0
        assert client.do(wire.READ, 0, 2 * len(inner)).data == inner + request(wire.TRIM, 0, 4096)


# Handshakes.

UNUSUAL = {
    "no option": b"",
    "half an option": option(wire.GO)[:9],
    "another magic": option(wire.GO, export(b""), magic=b"IHAVEOPX"),
    "a length above all limits": option(wire.GO, length=2**32 - 1),
    "a length that is not kept": option(wire.GO, export(b""), length=1000),
    "an unknown option": option(99, b"data") + option(2**32 - 1),
    "an unknown option of 64 MiB": option(99, length=64 * MiB) + bytes(100),
    "an old option": option(4) + option(wire.EXPORT_NAME + 2**31),
    "GO without data": option(wire.GO) + option(wire.INFO),
    "GO with five bytes": option(wire.GO, b"\0" * 5),
    "a name longer than the data": option(wire.GO, export(b"", length=4096)) + option(wire.INFO, export(b"", length=1)),
    "a name of 4 GiB": option(wire.GO, export(b"", length=2**32 - 1)) + option(wire.GO, export(b"x", length=2**31)),
    "fewer questions than it says": option(wire.GO, export(b"", count=1)) + option(wire.INFO, export(b"", count=65535)),
    "more questions than it says": option(wire.GO, export(b"", 1, 2, 3, count=1)),
    "a list with data": option(wire.LIST, b"data") + option(wire.LIST) + option(wire.LIST),
    "TLS that is not there": option(wire.STARTTLS) + option(wire.STARTTLS, b"data"),
    "structured replies with data": option(wire.STRUCTURED, b"data") + option(wire.STRUCTURED) * 2,
    "contexts before structured replies": option(wire.SET_META, contexts(b"", b"base:allocation")),
    "an end by each means": option(wire.ABORT) + option(wire.GO, export(b"")),
    "an end with data": option(wire.ABORT, b"data") + option(wire.EXPORT_NAME, b""),
    "requests instead of options": request(wire.READ, 0, 512) * 3,
    "a greeting in return": wire.GREETING * 3,
}


@pytest.mark.parametrize("flags", [wire.FIXED | wire.NO_ZEROES, wire.FIXED, 0, wire.NO_ZEROES, 4, 2**32 - 1])
def test_unusual_handshakes(server: Server, flags: int) -> None:
    for said in UNUSUAL.values():
        with Wire(server.socket).hello(flags) as client:
            client.send(said)
            client.ends()
    assert requests(server) == []


def test_what_is_refused_leaves_the_handshake_alone(server: Server) -> None:
    """Refusals that let a client go on: the next option is heard, and the disk can be used."""
    with Wire(server.socket).hello() as client:
        for number, data in ((99, b"data"), (wire.GO, b"\0" * 5), (wire.INFO, export(b"", count=1)),
                             (wire.LIST, b"data"), (wire.STARTTLS, b""), (wire.STRUCTURED, b"data"),
                             (wire.INFO, export(b"n" * 4097)), (wire.GO, export(b"a\0b"))):
            [(kind, _)] = client.ask(number, data)
            assert kind & wire.ERROR, number
        assert isinstance(client.about(b"", last=True), dict)
        assert client.do(wire.READ, 0, 4).data == bytes(4)


def test_each_question_about_an_export_is_an_open_and_a_close(server: Server) -> None:
    """As many as nbdkit allows before it hangs up: that opened all are closed is for the disk itself to see."""
    with Wire(server.socket).hello() as client, suppress(EOFError):
        for number in range(100):
            assert isinstance(client.about(b"%d" % number, wire.ABOUT_NAME, wire.ABOUT_DESCRIPTION, 77), dict)
        raise AssertionError("nbdkit listens for ever")
    assert 30 < number < 70


CONTEXTS = {
    "none": [], "empty": [b""], "a colon": [b":"], "all of base": [b"base:"], "no namespace": [b"allocation"],
    "another one": [b"qemu:dirty-bitmap:x"], "capitals": [b"BASE:ALLOCATION"], "with a NUL": [b"base:allocation\0"],
    "a NUL in it": [b"base:\0allocation"], "not UTF-8": [b"base:\xff\xed\xa0\x80"], "formats": [b"%s%n%s%n:%d"],
    "escapes": [b"\x1b]0;x\x07:\n\r"], "as long as may be": [b"x" * 4096], "longer": [b"x" * 4097],
    "many": [b"base:allocation"] * 1000,
}


@pytest.mark.parametrize("queries", CONTEXTS.values(), ids=CONTEXTS)
def test_meta_contexts(server: Server, queries: list[bytes]) -> None:
    """Only what was agreed on can be asked: block status without base:allocation is refused."""
    with Wire(server.socket).hello() as client:
        assert client.ask(wire.STRUCTURED) == [(wire.ACK, b"")]
        client.structured = True
        for number in (wire.LIST_META, wire.SET_META):
            *agreed, _ = client.ask(number, contexts(b"", *queries))
        assert isinstance(client.about(b"", last=True), dict)
        assert (client.do(wire.STATUS, 0, 4096).error == 0) == bool(agreed)


def test_meta_contexts_of_another_export(server: Server) -> None:
    with Wire(server.socket).hello() as client:
        client.ask(wire.STRUCTURED)
        assert client.ask(wire.SET_META, contexts(b"one", b"base:allocation"))[-1] == (wire.ACK, b"")
        assert isinstance(client.about(b"another", last=True), dict)
        client.structured = True
        assert client.do(wire.STATUS, 0, 4096).error == wire.EINVAL


@pytest.mark.parametrize("lie", [
    contexts(b"", count=1), contexts(b"", b"base:", count=2), contexts(b"", b"base:allocation", count=2**32 - 1),
    contexts(b"")[:7], b"", struct.pack(">I", 2**32 - 1) * 2, contexts(b"", b"") + struct.pack(">I", 2**31),
    contexts(b"n" * 4097, b"base:allocation"), contexts(b"a\0b", b"base:allocation")])
def test_meta_contexts_that_lie_about_their_length(server: Server, lie: bytes) -> None:
    with Wire(server.socket).hello() as client:
        client.ask(wire.STRUCTURED)
        client.send(option(wire.SET_META, lie) + option(wire.LIST_META, lie) + option(wire.GO, export(b"")))
        client.ends()


# Pace.


@pytest.mark.parametrize("model", [
    pytest.param(model, marks=pytest.mark.peer_fails if model == MODELS[0] else ()) for model in MODELS])
def test_silent_clients_stop_nobody(serve: Serve, model: str) -> None:
    """200 that connect and say nothing, or stop in the middle of what they say."""
    server = serve(watchful(model=model))
    begun = [b"", b"\0\0", option(wire.GO)[:12], option(wire.INFO, export(b"")) + option(wire.GO, length=6)]
    with Wire(server.socket).ready() as busy, ExitStack() as stack:
        for number in range(200):
            client = stack.enter_context(Wire(server.socket))
            assert client.receive(18)[:16] == wire.GREETING
            client.send(begun[number % 4] and b"\0\0\0\3" + begun[number % 4])
        assert busy.do(wire.READ, 0, 512).data == bytes(512)
        unharmed(server)
    over(server)


@pytest.mark.parametrize("model", MODELS[:2])
def test_idle_clients_stop_nobody(serve: Serve, model: str) -> None:
    """200 that have come in and ask for nothing; half of them leave in the middle of a request."""
    server = serve(watchful(model=model))
    with ExitStack() as stack:
        clients = [stack.enter_context(Wire(server.socket).ready()) for _ in range(200)]
        for client in clients[::2]:
            client.send(request(wire.WRITE, 0, 4096, b"x" * 100))
        unharmed(server)
        for client in clients[::2]:
            client.socket.close()
        for client in clients[1::2]:
            assert client.do(wire.READ, SIZE - 4, 4).data == bytes(4)
    over(server)


def test_a_client_that_speaks_byte_by_byte(server: Server) -> None:
    """Others are served between its bytes."""
    said = (option(wire.INFO, export(b"name", 1, 2)) + option(wire.GO, export(b"")) +
            request(wire.WRITE, 0, 64, b"w" * 64) + request(wire.READ, 0, 64))
    with Wire(server.socket).hello() as client:
        for place in range(0, len(said), 50):
            client.send(said[place : place + 50], piece=1)
            unharmed(server)
        client.answers(wire.INFO)
        client.answers(wire.GO)
        assert client.reply().error == 0
        assert client.reply(64).data == b"w" * 64


# Noise.


def mutated(chance: random.Random, message: bytes) -> bytes:
    """The message with something wrong in it, or something else altogether."""
    at = chance.randrange(len(message) + 1)
    noise = chance.randbytes(chance.choice([1, 1, 2, 4, 8, 60]))
    extreme = chance.choice([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\x10\0", b"\0\0\x10\1"])
    return chance.choice([
        noise, message[:at], message[:at] + noise, message[:at] + noise + message[at:], message * 2, message[at:],
        message[:at] + noise + message[at + len(noise) :], message[:at] + extreme + message[at + 4 :]])


@pytest.mark.parametrize("seed", range(4))
def test_noise_at_every_stage(server: Server, seed: int) -> None:
    """A session of all kinds of messages, up to one that is broken; what comes after it may be heard or not."""
    chance = random.Random(seed)
    session = [
        b"\0\0\0\3", option(wire.LIST), option(wire.INFO, export(b"name", 1, 2, 3)), option(wire.STRUCTURED),
        option(wire.LIST_META, contexts(b"", b"base:")), option(wire.SET_META, contexts(b"", b"base:allocation")),
        option(wire.GO, export(b"", 3)),
        *(request(kind, 512, 512, bytes(512) if kind == wire.WRITE else b"") for kind in RANGED),
        request(wire.FLUSH), request(wire.READ, 0, SIZE), request(wire.DISCONNECT)]
    for number in range(1000):
        broken = number % len(session)
        with Wire(server.socket) as client:
            client.send(b"".join(session[:broken]) + mutated(chance, session[broken]) + b"".join(session[broken + 1 :]))
            client.ends()
