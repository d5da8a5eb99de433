# SPDX-License-Identifier: BSD-3-Clause
"""The nbdkit module used where it should not be: outside callbacks, in threads of the script's own, with odd numbers.

The script calls every function at every point of a server's life, and writes the answers down.
"""

from __future__ import annotations

import errno
import json
import os
import re
import textwrap
from collections.abc import Iterator
from contextlib import suppress

import nbd
import pytest

from conftest import Serve
from daemon import PATIENCE
from disks import disk
from harness import Server, raises_errno, serving, write_script
from launch import wait_until

# Every function that is about a server, with arguments that it takes, and its answer where there is no connection.
UNKNOWN = r"RuntimeError: nbdkit\.%s: not known: .*connection.*"
CALLS = {
    "debug": ("'a word'", "None"),
    "set_error": ("28", "None"),
    "debug_hexdump": ("b'bytes'", "None"),
    "debug_hexdiff": ("b'bytes', b'Bytes'", "None"),
    "parse_size": ("'1K'", "1024"),
    "parse_bool": ("'yes'", "True"),
    "parse_probability": ("'p', '50%'", r"0\.5"),
    "parse_delay": ("'d', '1ms'", r"\(0, 1000000\)"),
    **{f"parse_{kind}": ("'n', '7'", "7") for kind in ("int", "unsigned", "int8_t", "uint8_t", "int16_t", "uint16_t",
                                                      "int32_t", "uint32_t", "int64_t", "uint64_t")},
    "read_password": ("'secret'", "b'secret'"),
    "realpath": ("'/.'", "'/'"),
    "absolute_path": ("'/.'", r"'/\.'"),
    "shutdown": ("", "None"),
    "disconnect": ("True", "None"),
    "nanosleep": ("0, 1", "None"),
    "stdio_safe": ("", "False"),
    "name": ("", "None"),
    "timestamp": ("", "'.+'"),
    **{name: ("", UNKNOWN % name) for name in (
        "export_name", "is_tls", "peer_name", "peer_pid", "peer_uid", "peer_gid", "peer_security_context",
        "peer_tls_dn", "peer_tls_issuer_dn")},
}
# What is otherwise before the server serves, and when it ends.
BEFORE = {"stdio_safe": "True"}
ENDING = {"nanosleep": r"BrokenPipeError: .*nbdkit\.nanosleep: .*going away"}
PLACES = {
    **dict.fromkeys(("import", "load", "config", "config_complete", "thread_model", "get_ready", "a thread early"),
                    BEFORE),
    **dict.fromkeys(("after_fork", "a thread in after_fork", "a thread in pread"), {}),
    **dict.fromkeys(("cleanup", "unload", "atexit", "a thread in atexit"), ENDING),
}

EVERYWHERE = disk(f"""
    CALLS = {({name: arguments for name, (arguments, _) in CALLS.items()})!r}
""") + textwrap.dedent("""
    import atexit, builtins, json, os, threading

    FOLDER = os.path.dirname(__file__)
    answers = {}

    def function(name):
        if name != "shutdown":
            try:
                return repr(eval(f"nbdkit.{name}({CALLS[name]})"))
            except Exception as error:
                return f"{type(error).__name__}: {error}"

    def everything(place):
        answers[place] = {name: function(name) for name in CALLS if hasattr(nbdkit, name)}

    def in_a_thread(place):
        thread = threading.Thread(target=everything, args=[place])
        thread.start()
        thread.join()

    def last():
        everything("atexit")
        in_a_thread("a thread in atexit")
        functions = [name for name in dir(nbdkit) if callable(getattr(nbdkit, name)) and name[0] != "_"]
        with builtins.open(FOLDER + "/answers.json", "w") as file:
            json.dump([answers, functions], file)

    atexit.register(last)
    everything("import")
    in_a_thread("a thread early")
    def load(): everything("load")
    def config(key, value): everything("config")
    def config_complete(): everything("config_complete")
    def thread_model(): everything("thread_model"); return nbdkit.THREAD_MODEL_PARALLEL
    def get_ready(): everything("get_ready")
    def after_fork(): everything("after_fork"); in_a_thread("a thread in after_fork")
    def pread(h, buf, offset, flags): in_a_thread("a thread in pread")
    def cleanup(): everything("cleanup")
    def unload(): everything("unload")
""")

Answers = tuple[dict[str, dict[str, str]], list[str]]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What each function answered at each place, and the functions that there are."""
    folder = tmp_path_factory.mktemp("everywhere")
    with serving(folder, write_script(folder, EVERYWHERE), "key=value") as server:
        server.connect().pread(512, 0)
    found, functions = json.loads((folder / "answers.json").read_text())
    return found, functions


def test_every_function_is_called(answers: Answers) -> None:
    declarations = set("AsyncNext Background Next Parameter choice delay disk list_of parameter password path "
                       "probability size translator".split())
    functions = {name for name in CALLS if name in answers[0]["import"]}
    assert sorted(answers[1]) == sorted({"Error"} | declarations | functions)


@pytest.mark.parametrize("name", CALLS)
def test_where_no_connection_is(answers: Answers, name: str) -> None:
    if name not in answers[0]["import"]:
        pytest.skip(f"this nbdkit has no nbdkit_{name}")
    for place, otherwise in PLACES.items():
        answer = answers[0][place][name]
        assert name == "shutdown" or re.fullmatch(otherwise.get(name, CALLS[name][1]), str(answer)), (place, answer)


@pytest.mark.parametrize("place", ["cleanup", "unload", "atexit", "thread"])
def test_shutdown_late_or_in_a_thread(serve: Serve, place: str) -> None:
    server = serve(disk("""
        import atexit, threading

        def end():
            for _ in range(3):
                nbdkit.shutdown()

        if PLACE == "atexit":
            atexit.register(end)
        elif PLACE == "thread":
            def pread(h, buf, offset, flags): threading.Thread(target=end).start()
        else:
            globals()[PLACE] = end
    """).replace("PLACE", repr(place)))
    h = server.connect()
    assert h.pread(512, 0) == bytes(512)
    with suppress(nbd.Error):  # the server may have hung up first
        h.shutdown()
    assert (server.process.wait(PATIENCE) if place == "thread" else server.stop()) == 0
    assert server.log() == ""


def test_threads_use_the_module_while_requests_run(serve: Serve) -> None:
    server = serve(EVERYWHERE + textwrap.dedent("""
        import errno

        first = {}
        surprises = []

        def after_fork():
            for number in range(4):
                threading.Thread(target=use, args=[number], daemon=True).start()

        def use(number):
            try:
                while True:
                    everything(number)
                    before = first.setdefault(number, answers[number])
                    surprises.extend(name for name, answer in answers[number].items()
                                     if answer != before[name] and name != "timestamp")
            except Exception as error:
                surprises.append(repr(error))

        def pread(h, buf, offset, flags):
            nbdkit.set_error(errno.ENOSPC)
            nbdkit.nanosleep(0, 1000)
            text = f"{nbdkit.export_name()} {nbdkit.is_tls()} {nbdkit.peer_pid()} {len(first)} {surprises}".encode()
            buf[:len(text)] = text
            if offset:
                raise ValueError
    """), "key=value")
    clients = {name: server.connect(name) for name in ("one", "two", "three")}
    wait_until(lambda: b" 4 []" in clients["one"].pread(512, 0), server.log())
    for _ in range(30):
        for name, h in clients.items():
            assert h.pread(512, 0).rstrip(b"\0").decode() == f"{name} False {os.getpid()} 4 []"
            with raises_errno(errno.ENOSPC):
                h.pread(512, 512)


SCRIPT = disk("""
    import enum, errno

    class Code(enum.IntEnum):
        FULL = errno.ENOSPC

    class Number(int):
        def __int__(self): return 1 / 0
        __index__ = __repr__ = __int__

    def open(readonly): return nbdkit.export_name()

    def pread(h, buf, offset, flags):
        exec(h)
""")
NUMBERS: dict[str, int | type[Exception]] = {  # and the exception that it leads to, or the errno that counts
    "-1": ValueError, "2 ** 31": ValueError, "2 ** 32": ValueError, "2 ** 32 + 28": ValueError,
    "2 ** 64 + 28": ValueError, "10 ** 30": ValueError, "-10 ** 30": ValueError, "4096": ValueError,
    "None": TypeError, "'EIO'": TypeError, "b'EIO'": TypeError, "28.0": TypeError, "[28]": TypeError,
    "OSError": TypeError, "errno": TypeError,
    "True": TypeError,
    "Code.FULL": errno.ENOSPC, "Number(28)": errno.ENOSPC, "4095": errno.EIO, "errno.EPERM": errno.EPERM,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("numbers")
    with serving(folder, write_script(folder, SCRIPT)) as running:
        yield running


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("then", ["pass", "raise KeyError('then')", "raise OSError(errno.ENOMEM, 'then')"])
def test_set_error(server: Server, number: str, then: str) -> None:
    expected = NUMBERS[number]
    before = len(server.log())
    h = server.connect(f"nbdkit.set_error({number}); {then}")
    if not isinstance(expected, int):
        with raises_errno(errno.EIO):
            h.pread(512, 0)
        said = server.log()[before:]
        assert re.search(rf"\n{expected.__name__}: nbdkit\.set_error: err: expected an int.*, got ", said), said
    elif then == "pass":
        assert h.pread(512, 0) == bytes(512)
    else:
        with raises_errno(expected):
            h.pread(512, 0)
        assert "then" in server.log()[before:]


@pytest.mark.parametrize("number", NUMBERS | {"0": ValueError})
def test_error(server: Server, number: str) -> None:
    expected = (NUMBERS | {"0": ValueError})[number]
    before = len(server.log())
    with raises_errno(expected if isinstance(expected, int) else errno.EIO):
        server.connect(f"raise nbdkit.Error({number}, 'on purpose')").pread(512, 0)
    said = server.log()[before:]
    if not isinstance(expected, int):
        assert re.search(rf"\n{expected.__name__}: nbdkit\.Error: errno: expected .*, got ", said), said
    else:
        assert re.search(r": pread: on purpose \[\w+", said), said
        assert "Traceback" not in said
