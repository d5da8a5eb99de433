# SPDX-License-Identifier: BSD-3-Clause
"""QMPServer beside a real monitor: it answers mistakes, and any input at all, in the same words."""

from __future__ import annotations

import asyncio
import json
import re
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aqmp import CommandError, QMPServer
from aqmp_loop import run
from aqmp_real import TIMEOUT, Monitor


class Talk:
    """A connection to a monitor; ask() it something, and it says all that comes until a command of ours is answered."""

    def __init__(self, path: str, negotiation: bytes) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(path)
        self.file = self.sock.makefile("rb")
        self.major: int = json.loads(self.file.readline())["QMP"]["version"]["qemu"]["major"]
        self.sock.sendall(negotiation)
        # A QEMU that has just started may greet twice.
        while negotiation and "return" not in json.loads(self.file.readline()):
            pass

    def ask(self, data: bytes) -> list[object]:
        # 0xff is an error that closes whatever is open.
        self.sock.sendall(data + b'\n\xff\n{"execute": "no-such-command", "id": "END"}\n')
        answers: list[object] = []
        while True:
            line = self.file.readline()
            assert line, "the monitor hung up"
            answer = json.loads(POSITION.sub(b'"desc": "', line))
            if answer.get("id") == "END":
                return answers
            if "QMP" not in answer:
                answers.append(answer)

    def close(self) -> None:
        self.file.close()
        self.sock.close()


# QEMU 11 has another parser: it finds mistakes in JSON sooner, and has other words for them, line and column first.
NEW_PARSER = 11
POSITION = re.compile(rb'"desc": "\d+:\d+: ')


def is_json(data: bytes) -> bool:
    try:
        json.loads(data, parse_constant=float.fromhex, object_pairs_hook=list)
    except ValueError:
        return False
    return b"\\" not in data


def compare(storage_daemon: Monitor, path: str, negotiation: bytes, inputs: list[bytes]) -> None:
    """Ask both monitors, and have the same answers."""

    async def session() -> None:
        server = QMPServer()

        @server.command("block-export-del")
        async def block_export_del(id: str) -> None:
            if not isinstance(id, str):
                raise CommandError("Invalid parameter type for 'id', expected: string")

        async with server:
            await server.serve(path)
            real = Talk(storage_daemon.socket, negotiation)
            ours = await asyncio.to_thread(Talk, path, negotiation)
            for data in inputs if real.major < NEW_PARSER else filter(is_json, inputs):
                assert await asyncio.to_thread(ours.ask, data) == real.ask(data), data
            real.close()
            ours.close()

    run(session())


NEGOTIATED = b'{"execute": "qmp_capabilities"}'
WITH_OOB = b'{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}'

MISTAKES = [
    b"", b"foo", b"{", b"}", b"[}", b'{"execute"}', b'{"execute":}', b'{"execute":1}', b"[]", b"1", b'"x"', b"null",
    b"true", b"{}", b'{"id":1}', b'{"execute":"query-commands","foo":1,"id":5}', b'{"execute":null}',
    b'{"execute":"query-commands","arguments":[],"id":5}', b'{"execute":"query-commands","arguments":{"a":1},"id":5}',
    b'{"execute":"nope","id":{"a":[1,2]}}', b"{'execute':'nope'}", b'{"execute":"nope","execute":"x"}',
    b'{"execute":"nope"}{"execute":"nope2"}', b'{"execute":\n"nope"}', b'{"exec-oob":"nope","id":1}',
    b'{"exec-oob":"nope"}', b'{"execute":"qmp_capabilities"}', b"\0", b"\xff", b'"\xff"', b'{"execute":"\xff"}',
    b'{"execute":"nope" "x"}', b'{"execute":"nope",}', b"[1,]", b"[1 2]", b"nan", b"NaN", b"01", b"-", b"1.", b"1e5",
    b'{"execute":"nope","id":1e5}', b'{"execute":"nope","id":123456789012345678901234567890}', b'"\\q"', b'"\\ud800"',
    b'{"execute":"\\u0000"}', b'"a\nb"', b"{1:2}", b'{"a":%s}', b"%p", b"\xef\xbb\xbf{}", b"/*c*/{}",
    b'{"execute":"nope"]', b"[" * 1100, b'{"execute":"nope","id":null}', b'{"x":1}', b"trueish", b"tru e",
    b'{"return":{}}', b'{"execute":""}', b'"\\u12"', b'"\\ufdd0"', b'"\xef\xbf\xbf"', b'"\xed\xa0\x80"',
    b'{"execute":"block-export-del","id":1}', b'{"execute":"block-export-del","arguments":{"id":1}}',
    b'{"execute":"block-export-del","arguments":{"id":"x","foo":1}}',
]


def test_mistakes_are_answered_as_by_a_real_monitor(storage_daemon: Monitor, path: str) -> None:
    compare(storage_daemon, path, NEGOTIATED, MISTAKES)


def test_mistakes_before_the_negotiation(storage_daemon: Monitor, path: str) -> None:
    compare(storage_daemon, path, b"", [
        *MISTAKES[:MISTAKES.index(b'{"execute":"qmp_capabilities"}')],
        b'{"execute":"qmp_capabilities","arguments":{"enable":"x"},"id":1}',
        b'{"execute":"qmp_capabilities","arguments":{"foo":"x"}}',
        b'{"execute":"qmp_capabilities","arguments":{"enable":[1]}}',
        b'{"execute":"qmp_capabilities","arguments":{"enable":["oob","oob"]}}',
        b'{"execute":"qmp_capabilities"}',
    ])


def test_mistakes_out_of_band(storage_daemon: Monitor, path: str) -> None:
    compare(storage_daemon, path, WITH_OOB, [
        b'{"exec-oob":"query-commands","id":1}', b'{"exec-oob":"nope","id":1}', b'{"exec-oob":"nope"}',
        b'{"exec-oob":1,"id":1}', b'{"exec-oob":"qmp_capabilities","id":1}', b'{"execute":"nope"}',
    ])


PIECES = [b"{", b"}", b"[", b"]", b":", b",", b'"a"', b"'b'", b'"', b"'", b"\\", b"\\u", b"d83d", b"\\ude00", b"1",
          b"0", b"-", b".", b"e", b"E", b"+", b"true", b"nul", b"X", b" ", b"\t", b"\n", b"\r", b"\0", b"\x1f", b"\xff",
          b"\xfe", b"\xc3\xa9", b"\xed\xa0\x80", b"\xc0\x80", b"\x7f", b'"execute"', b'"nope"', b'"id"', b"%"]


def test_any_input_is_read_as_by_a_real_monitor(storage_daemon: Monitor, path: str) -> None:
    """Of several mistakes in one object, which one is told depends on how QEMU hashes: no object has two members."""

    async def session() -> None:
        async with QMPServer() as server:
            await server.serve(path)
            real = Talk(storage_daemon.socket, NEGOTIATED)
            ours = await asyncio.to_thread(Talk, path, NEGOTIATED)

            if real.major >= NEW_PARSER:
                pytest.skip("QEMU 11 reads JSON in another way")

            @given(st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join))
            @settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
            def same(data: bytes) -> None:
                if data.count(b":") < 2:
                    assert ours.ask(data) == real.ask(data)

            await asyncio.to_thread(same)
            real.close()
            ours.close()

    run(session())
