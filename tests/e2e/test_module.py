# SPDX-License-Identifier: BSD-3-Clause
"""The nbdkit module as a script sees it: its functions, its constants, and what it says of what it cannot do.

Most tests `ask` a running server for the value of an expression: it is the export's name, and the answer comes back
as the export's description.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbd
import pytest

from conftest import Serve
from disks import disk
from harness import PLUGIN, TIMEOUT, Server, environment, nbdkit, serving, write_script
from wire import take_address

Ask = Callable[[str], str]
HEADER = Path("/usr/include/nbdkit-common.h")
CONFIG = subprocess.run(["nbdkit", "--dump-config"], text=True, capture_output=True, check=True).stdout
MINOR = int(re.search(r"^version_minor=(\d+)$", CONFIG, re.MULTILINE)[1])  # type: ignore[index]

EVALUATE = disk("""
    import errno, os, sys, threading, time

    ANSWERS = []

    def answer(expression):
        try:
            return ascii(eval(expression))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def config(key, value):
        ANSWERS.append(answer(value))

    def dump_plugin():
        print("\\n".join(ANSWERS))

    def open(readonly):
        name = nbdkit.export_name()
        return answer(name[1:]) if name.startswith("=") else ascii(name)

    def export_description(h):
        return h
""")


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("evaluator")
    with serving(folder, write_script(folder, EVALUATE), verbose=True) as server:
        yield server


@pytest.fixture
def ask(evaluator: Server) -> Ask:
    """ask(EXPRESSION): the value's text, or "NAME: MESSAGE" of the exception, from within open()."""
    return lambda expression: evaluator.connect("=" + expression, full_info=True).get_export_description()


@pytest.fixture
def ask_at_start(tmp_path: Path) -> Callable[..., list[str]]:
    """ask_at_start(EXPRESSION…): the same from within config(), before any connection."""

    def start(*expressions: str, **options: Any) -> list[str]:
        done = nbdkit("--dump-plugin", write_script(tmp_path, EVALUATE), *(f"eval={e}" for e in expressions), **options)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-len(expressions):]

    return start


def test_constants_are_those_of_the_header(ask: Ask) -> None:
    defines = re.findall(r"^#define NBDKIT_([A-Z_]+)\s+(\d+|\(1<<\d+\))\s", HEADER.read_text(), re.MULTILINE)
    expected = {name: eval(value) for name, value in defines}
    assert len(expected) >= 16
    assert eval(ask(f"{{name: getattr(nbdkit, name) for name in {list(expected)}}}")) == expected


FUNCTIONS = """absolute_path debug export_name is_tls nanosleep parse_bool parse_delay parse_int parse_int16_t
    parse_int32_t parse_int64_t parse_int8_t parse_probability parse_size parse_uint16_t parse_uint32_t parse_uint64_t
    parse_uint8_t parse_unsigned peer_gid peer_name peer_pid peer_uid read_password realpath set_error shutdown
    stdio_safe""".split()


def test_functions_are_there(ask: Ask) -> None:
    assert ask(f"[name for name in {FUNCTIONS} if not callable(getattr(nbdkit, name, None))]") == "[]"


NEWER = {  # what a server of this minor version has, and a call whose answer has this form there
    "disconnect": (34, "callable(nbdkit.disconnect)", "True"),
    "peer_security_context": (36, "nbdkit.peer_security_context()", r"(?!AttributeError)"),
    "peer_tls_dn": (40, "nbdkit.peer_tls_dn()", r"(?!AttributeError)"),
    "peer_tls_issuer_dn": (40, "nbdkit.peer_tls_issuer_dn()", r"(?!AttributeError)"),
    "debug_hexdump": (46, "nbdkit.debug_hexdump(b'abc', None, 0)", "None$"),
    "debug_hexdiff": (48, "nbdkit.debug_hexdiff(b'abc', b'abd', 'diff: ', 0)", "None$"),
    "name": (48, "nbdkit.name()", "None$|'.*'$"),
    "timestamp": (48, "nbdkit.timestamp()", r"'.+'$"),
}


@pytest.mark.parametrize("function", NEWER)
def test_functions_of_newer_servers(ask: Ask, function: str) -> None:
    minor, call, answer = NEWER[function]
    if minor <= MINOR:
        assert re.match(answer, ask(call))
        return
    assert ask(f"hasattr(nbdkit, '{function}'), '{function}' in dir(nbdkit)") == "(False, False)"
    assert re.fullmatch(rf"AttributeError: .*\b{function}\b.*\b1\.{minor}\b.*", ask(call))


@pytest.mark.skipif(MINOR < 34, reason="this nbdkit has no nbdkit_disconnect")
def test_disconnect(serve: Serve) -> None:
    server = serve(disk("def pread(h, buf, offset, flags): nbdkit.disconnect(True)\n"))
    h = server.connect()
    with pytest.raises(nbd.Error):
        h.pread(512, 0)
    assert not h.aio_is_ready()
    assert server.connect().get_size() == 1 << 20


VALUES = {
    "parse_size('0')": 0, "parse_size('512')": 512, "parse_size('1K')": 1024, "parse_size('100M')": 100 << 20,
    "parse_size('1s')": 512, "parse_size('7E')": 7 << 60, "parse_size('1b')": 1,
    **{f"parse_bool({word!r})": True for word in ("1", "true", "t", "yes", "y", "on", "TRUE", "On")},
    **{f"parse_bool({word!r})": False for word in ("0", "false", "f", "no", "n", "off", "FALSE", "Off")},
    "parse_int('n', '0x1F')": 31, "parse_unsigned('n', '010')": 8, "parse_int64_t('n', '-0x10')": -16,
    "parse_delay('d', '10')": (10, 0), "parse_delay('d', '1.5')": (1, 500_000_000), "parse_delay('d', '2s')": (2, 0),
    "parse_delay('d', '1500ms')": (1, 500_000_000), "parse_delay('d', '12us')": (0, 12_000),
    "parse_delay('d', '12\u03bcs')": (0, 12_000), "parse_delay('d', '7ns')": (0, 7), "parse_delay('d', '0')": (0, 0),
    "parse_probability('p', '0.1')": 0.1, "parse_probability('p', '1e-1')": 0.1, "parse_probability('p', '10%')": 0.1,
    "parse_probability('p', '1:10')": 0.1, "parse_probability('p', '1/10')": 0.1, "parse_probability('p', '200%')": 2.0,
    "parse_probability('p', '0')": 0.0, "parse_probability('p', '1')": 1.0,
    "read_password('secret')": b"secret", "read_password('\u00e9')": "é".encode(), "read_password('')": b"",
    "set_error(errno.EIO)": None, "set_error(0)": None, "nanosleep(0, 1000)": None, "is_tls()": False,
}


def test_values(ask: Ask) -> None:
    assert {call: ask(f"nbdkit.{call}") for call in VALUES} == {call: ascii(value) for call, value in VALUES.items()}


INTEGERS = {
    "parse_int": (-2**31, 2**31 - 1), "parse_unsigned": (0, 2**32 - 1),
    **{f"parse_int{bits}_t": (-2**(bits - 1), 2**(bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"parse_uint{bits}_t": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}


@pytest.mark.parametrize("function", INTEGERS)
def test_bounds_of_integers(ask: Ask, function: str) -> None:
    least, most = INTEGERS[function]
    assert [ask(f"nbdkit.{function}('blocks', '{n}')") for n in (least, most)] == [str(least), str(most)]
    for text in least - 1, most + 1, "", "lots", "1x", "0x":
        assert re.fullmatch(rf"ValueError: .*blocks.*{text}.*", ask(f"nbdkit.{function}('blocks', '{text}')"))


ERRORS = [
    *((f"parse_size('{text}')", f"ValueError: .*{text}") for text in ("", "abc", "-1", "1Q", "9E", "1 K x")),
    *((f"parse_bool('{text}')", f"ValueError: .*{text}") for text in ("", "maybe", "2", "yess")),
    *((f"parse_delay('delay', '{text}')", f"ValueError: .*delay.*{text}")
      for text in ("", "soon", "-1", "1h", "ms", "nan")),
    *((f"parse_probability('chance', '{text}')", f"ValueError: .*chance.*{re.escape(text)}")
      for text in ("", "often", "-1", "1:0", "inf", "nan", "1:", "50%%")),
    *((f"{call}", "TypeError: .") for call in (
        "parse_size(1)", "parse_size(None)", "parse_size()", "parse_bool(True)", "parse_int('n', 1)",
        "parse_int(1, '1')", "parse_int('1')", "parse_delay('d', 1)", "parse_probability('p', 0.1)", "read_password(1)",
        "realpath(1)", "absolute_path(None)", "nanosleep('1', 0)", "nanosleep(1)", "set_error('EIO')",
        "set_error(None)", "set_error()", "shutdown(1)", "export_name(1)", "debug()")),
    *((f"{call}", "ValueError: .") for call in (
        "set_error(-1)", "set_error(99999)", "nanosleep(-1, 0)", "nanosleep(0, -1)", r"parse_int('n', '1\0')",
        r"parse_size('1\0K')", r"realpath('/\0')", r"read_password('a\0b')")),
    ("realpath('/no/such/file')", r"FileNotFoundError: \[Errno 2\] .*/no/such/file"),
    ("read_password('+/no/such/file')", r"FileNotFoundError: \[Errno 2\] .*read_password"),
    ("read_password('-0')", "(ValueError|OSError): ."),
]


@pytest.mark.parametrize("call, message", ERRORS)
def test_errors(ask: Ask, call: str, message: str) -> None:
    assert re.match(message, answer := ask(f"nbdkit.{call}")), answer


def test_the_same_before_any_connection(ask_at_start: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("disk.py")
    awkward = os.fsdecode(bytes(tmp_path) + b"/\xff")
    Path(awkward).touch()
    answers = {
        "nbdkit.parse_size('1K')": "1024", "nbdkit.parse_bool('on')": "True", "nbdkit.parse_int('n', '-1')": "-1",
        "nbdkit.stdio_safe()": "True", "nbdkit.nanosleep(0, 1)": "None", "nbdkit.set_error(5)": "None",
        "nbdkit.read_password('secret')": "b'secret'",
        "nbdkit.realpath('link')": ascii(str(tmp_path / "disk.py")),
        "nbdkit.absolute_path('link')": ascii(str(tmp_path / "link")),
        "nbdkit.absolute_path('/no/such/file')": "'/no/such/file'",
        f"nbdkit.realpath({ascii(awkward)})": ascii(awkward),
    }
    assert dict(zip(answers, ask_at_start(*answers, cwd=tmp_path))) == answers


@pytest.mark.parametrize("call", ["export_name", "is_tls", "peer_name", "peer_pid", "peer_uid", "peer_gid"])
def test_outside_a_connection(ask_at_start: Callable[..., list[str]], call: str) -> None:
    [answer] = ask_at_start(f"nbdkit.{call}()")
    assert re.fullmatch(rf"RuntimeError: .*\b{call}\b.*connection.*", answer)


def test_read_password(ask: Ask, ask_at_start: Callable[..., list[str]], tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"  p\xffss w\xc3\xb6rd \nsecond line\n")
    assert ask(f"nbdkit.read_password('+{file}')") == ascii(b"  p\xffss w\xc3\xb6rd ")
    with file.open() as descriptor:
        call = f"nbdkit.read_password('-{descriptor.fileno()}')"
        assert ask_at_start(call, pass_fds=[descriptor.fileno()]) == [ascii(b"  p\xffss w\xc3\xb6rd ")]


def test_nanosleep_sleeps_and_lets_other_threads_run(ask: Ask) -> None:
    deadline = time.monotonic() + TIMEOUT
    ran = 1.0
    # On a busy machine, the other thread may not come to run within the 0.2 s.
    while ran >= 0.2 and time.monotonic() < deadline:
        slept, ran = eval(ask(
            "[ran := [], other := threading.Timer(0.05, lambda ran: ran.append(time.monotonic()), [ran]),"
            " other.start(), begin := time.monotonic(), nbdkit.nanosleep(0, 200_000_000), end := time.monotonic(),"
            " other.join(), (end - begin, ran[0] - begin)][-1]"))
        assert slept >= 0.2
    assert ran < 0.2, "the other thread has run after the sleep"


def test_nanosleep_ends_with_the_server(serve: Serve) -> None:
    server = serve(disk("def pread(h, buf, offset, flags): nbdkit.nanosleep(1000, 0)\n"), verbose=True)
    h = server.connect()
    threading.Timer(0.2, server.process.send_signal, [signal.SIGTERM]).start()
    begin = time.monotonic()
    with pytest.raises(nbd.Error):
        h.pread(512, 0)
    assert time.monotonic() - begin < TIMEOUT


def test_shutdown_in_a_callback(serve: Serve) -> None:
    server = serve(disk("def pread(h, buf, offset, flags): nbdkit.shutdown()\n"))
    h = server.connect()
    assert h.pread(512, 0) == bytes(512)
    assert server.process.wait(TIMEOUT) == 0


@pytest.mark.parametrize("when", ["load", "config_complete", "get_ready", "after_fork"])
@pytest.mark.parametrize("options", [["-f"], []], ids=["foreground", "daemon"])
def test_shutdown_before_the_first_connection(tmp_path: Path, when: str, options: list[str]) -> None:
    ended = tmp_path / "ended"
    script = write_script(tmp_path, disk(f"""
        def {when}(): nbdkit.shutdown()
        def cleanup(): __builtins__.open({str(ended)!r}, "x")
    """))
    pidfile = tmp_path / "pid"
    command = ["nbdkit", *options, "-U", str(tmp_path / "sock"), "-P", str(pidfile), PLUGIN, str(script)]
    subprocess.run(command, check=True, timeout=TIMEOUT, env=environment())
    deadline = time.monotonic() + TIMEOUT
    while not ended.exists():
        if time.monotonic() > deadline:
            os.kill(int(pidfile.read_text()), signal.SIGTERM)
            pytest.fail("the server did not end")
        time.sleep(0.01)


@pytest.mark.parametrize("argument, line", [
    ("'hello'", "hello"), ("'\\u00e9'", "é"), ("b'bytes'", "bytes"), ("123", "123"), ("None", "None"), ("''", ""),
    ("['a', 'list']", r"['a', 'list']"), ("OSError(2, 'gone')", "[Errno 2] gone"),
    ("'100% %s %n %d'", "100% %s %n %d"), ("b'100% %s %n'", "100% %s %n"),
])
def test_debug(evaluator: Server, ask: Ask, argument: str, line: str) -> None:
    assert ask(f"nbdkit.debug({argument})") == "None"
    # Later servers escape what is not ASCII.
    evaluator.wait_for_log(f"debug: {re.escape(line).replace('é', r'(é|.xc3.xa9)')}$")


@pytest.mark.parametrize("argument", [r"'\udcff'", r"b'\xff'", r"'a\0b'", r"b'a\0b'", "'x' * 100_000"])
def test_debug_of_odd_strings(ask: Ask, argument: str) -> None:
    assert ask(f"nbdkit.debug({argument})") == "None"


@pytest.mark.parametrize("name", ["", "main", "é🐍", "with space", "a\nb", "../..", "%s%n%d", "n" * 4000],
                         ids=lambda name: ascii(name[:20]))
def test_export_name(evaluator: Server, name: str) -> None:
    assert evaluator.connect(name, full_info=True).get_export_description() == ascii(name)


def exact(connection: socket.socket, count: int) -> bytes:
    data = connection.recv(count, socket.MSG_WAITALL)
    assert len(data) == count
    return data


def described(server: Server, name: bytes) -> str:
    """The description of an export whose name libnbd would not send."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.socket))
        assert exact(connection, 16) == b"NBDMAGICIHAVEOPT"
        connection.sendall(exact(connection, 2).rjust(4, b"\0"))  # every handshake flag that it offers
        request = struct.pack(">I", len(name)) + name + struct.pack(">HH", 1, 2)  # NBD_INFO_DESCRIPTION
        connection.sendall(b"IHAVEOPT" + struct.pack(">II", 6, len(request)) + request)  # NBD_OPT_INFO
        while True:
            _, _, kind, length = struct.unpack(">QIII", exact(connection, 20))
            reply = exact(connection, length)
            assert kind == 3, f"expected NBD_REP_INFO, got {kind}: {reply!r}"
            if reply[:2] == b"\0\2":
                return reply[2:].decode()


@pytest.mark.parametrize("name", [b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80"])
def test_export_name_that_is_not_utf8(evaluator: Server, name: bytes) -> None:
    assert described(evaluator, name) == ascii(name.decode(errors="surrogateescape"))


def test_peer_on_a_unix_socket(evaluator: Server, ask: Ask, tmp_path: Path) -> None:
    assert ask("nbdkit.peer_name()") == "''"
    for call in "pid", "uid", "gid":
        assert ask(f"nbdkit.peer_{call}()") == str(getattr(os, f"get{call}")())
    for address, expected in ((str(tmp_path / "client"), ascii(str(tmp_path / "client"))), ("\0nb", r"b'\x00nb'")):
        connection = socket.socket(socket.AF_UNIX)
        take_address(connection, address)
        connection.connect(str(evaluator.socket))
        assert ask_over(connection, "nbdkit.peer_name()") == expected


def ask_over(connection: socket.socket, expression: str) -> str:
    h = nbd.NBD()
    h.set_full_info(True)
    h.set_export_name("=" + expression)
    h.connect_socket(connection.detach())
    return h.get_export_description()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_over_inetd(tmp_path: Path, host: str) -> None:
    try:
        listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")
    with listener:
        client = socket.create_connection(listener.getsockname()[:2])
        served, address = listener.accept()
    command = ["nbdkit", "-s", PLUGIN, str(write_script(tmp_path, EVALUATE)), "eval=nbdkit.stdio_safe()"]
    with served, subprocess.Popen(command, stdin=served.fileno(), stdout=served.fileno(), env=environment()) as process:
        assert ask_over(client, "nbdkit.peer_name(), nbdkit.is_tls(), ANSWERS") == ascii((address, False, ["False"]))
    assert process.returncode == 0
