# SPDX-License-Identifier: BSD-3-Clause
"""Whatever a server or a client sends, and wherever it stops: nothing hangs, no task is left, errors are QMPErrors."""

from __future__ import annotations

import asyncio
import json
import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from aqmp import ExecuteError, QMPClient, QMPError, QMPServer, Runstate
from aqmp_loop import run, runner
from aqmp_scripted import GREETING

LIMIT = 1 << 17
NEGOTIATED = b'{"return": {}, "id": "aqmp#negotiation"}\r\n'
EVENT = b'{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP", "data": {"x": "\\u00e9"}}\r\n'
REPLY = b'{"return": {"status": "running"}, "id": "aqmp#1"}\r\n'
ERROR = b'{"id": "aqmp#2", "error": {"class": "GenericError", "desc": "no"}}\r\n'
PRETTY = json.dumps({"return": [1, {"a": 2}], "id": "aqmp#3"}, indent=4).encode() + b"\r\n"
TRANSCRIPT = GREETING + NEGOTIATED + EVENT + REPLY + ERROR + PRETTY + EVENT


async def client_meets(data: bytes) -> list[object]:
    """A client whose server sends this and hangs up. What became of its commands, and of the connection."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    outcome: list[object] = []
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(theirs, data))
    sending.add_done_callback(lambda _: theirs.shutdown(socket.SHUT_WR))
    client = QMPClient(limit=LIMIT)
    try:
        await client.connect(ours, timeout=None)
        following = asyncio.create_task(follow(client))
        commands = [asyncio.create_task(client.execute(f"c{n}")) for n in range(3)]
        for result in await asyncio.gather(*commands, return_exceptions=True):
            outcome.append(result)
        while client.runstate is not Runstate.IDLE:
            await client.runstate_changed()
        outcome.append(await following)
        await client.disconnect()
    except QMPError as error:
        outcome.append(error)
    if not sending.done():
        sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    theirs.close()
    assert client.runstate is Runstate.IDLE
    for result in outcome:
        assert not isinstance(result, BaseException) or isinstance(result, QMPError), repr(result)
    return outcome


async def follow(client: QMPClient) -> int:
    return len([event async for event in client.events])


def test_a_server_that_stops_at_every_byte() -> None:
    async def session() -> None:
        for end in range(len(TRANSCRIPT)):
            await client_meets(TRANSCRIPT[:end])
        replied, error, pretty, events = await client_meets(TRANSCRIPT)
        assert replied == {"status": "running"} and isinstance(error, ExecuteError)
        assert pretty == [1, {"a": 2}] and events == 2

    run(session())


IDS: st.SearchStrategy[object] = st.sampled_from(
    ["aqmp#1", "aqmp#2", "aqmp#3", "aqmp#99", "aqmp#negotiation", "", None, 1, True, [], {"a": []}])
JSON: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=5)
MEMBERS = st.dictionaries(st.sampled_from(["return", "error", "event", "QMP"]), JSON)
MESSAGES = st.one_of(st.builds(lambda members, id_: {**members, "id": id_}, MEMBERS, IDS), MEMBERS, JSON).map(
    lambda value: json.dumps(value).encode() + b"\n")
PIECES = st.one_of(
    MESSAGES, MESSAGES, st.binary(max_size=20), st.sampled_from([EVENT, REPLY, ERROR, PRETTY]),
    st.sampled_from([b"\n", b"{\n", b"}\n", b"\0", b"[" * 100_000, b'{"a":' * 20_000, b"9" * 5000,
                     b"x" * (LIMIT + 1), b'{"return": "' + b"x" * (LIMIT - 100) + b'", "id": "aqmp#1"}\n']))
STREAMS = st.tuples(st.sampled_from([b"", GREETING, GREETING + NEGOTIATED, GREETING + NEGOTIATED]),
                    st.lists(PIECES, max_size=6), st.integers(0, 30)).map(
    lambda parts: (parts[0] + b"".join(parts[1]))[:-parts[2] or None])


def test_a_server_that_sends_anything() -> None:
    with runner() as run_it:

        @given(STREAMS)
        @settings(max_examples=400, deadline=None, derandomize=True)
        def never_hangs(data: bytes) -> None:
            run_it(client_meets(data))

        never_hangs()


COMMANDS = (b'{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}, "id": 1}\r\n'
            b'{"execute": "query-version"}{"exec-oob": "urgent", "id": "x"}\n'
            b'{"execute": "nope", "id": {"a": "\\u00e9"}}')


async def server_meets(data: bytes) -> bytes:
    """A server whose client sends this and stops; what it answers."""
    ours, theirs = socket.socketpair()
    server = QMPServer(limit=LIMIT)

    @server.command("urgent", oob=True)
    async def urgent() -> None:
        await asyncio.sleep(0)

    await server.connect(ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    writer.write(data)
    writer.write_eof()
    answers = await reader.read()
    writer.close()
    await server.close()
    assert server.runstate is Runstate.IDLE
    for line in answers.splitlines():
        json.loads(line)
    return answers


def test_a_client_that_stops_at_every_byte() -> None:
    async def session() -> None:
        for end in range(len(COMMANDS) + 1):
            await server_meets(COMMANDS[:end])

    run(session())


def test_a_client_that_sends_anything() -> None:
    pieces = st.one_of(
        st.sampled_from([COMMANDS, COMMANDS[:77], b"[" * 3000, b'{"a":' * 2000, b"x" * (LIMIT + 1), b'"' * 99,
                         b"9" * 999]),
        st.binary(max_size=20), MESSAGES)
    with runner() as run_it:

        @given(st.lists(pieces, max_size=6).map(b"".join))
        @settings(max_examples=250, deadline=None, derandomize=True)
        def never_hangs(data: bytes) -> None:
            run_it(server_meets(data))

        never_hangs()
