# SPDX-License-Identifier: BSD-3-Clause
"""A server's life and a connection's, from a translator's side; several of them, and a disk in Python below."""

from __future__ import annotations

import errno
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import nbd
import pytest

from filter_kit import EVALUATE, FILTER, MEMORY, SIZE, Refused, Translate, evaluate
from harness import PLUGIN, TIMEOUT, Server, nbdkit, raises_errno, write_script
from late_kit import end_with_a_late_client, late, shake_hands
from wire import GREETING

# Says when it is called.
STEPS = """
import nbdkit
def said(name):
    def callback(*arguments):
        nbdkit.debug(f"{WHO}: {name} " + " ".join(repr(a) for a in arguments if type(a).__name__ != "Next"))
    return callback
for name in ("load config_complete get_ready after_fork cleanup unload close prepare finalize").split():
    globals()[name] = said(name)
def open(next, readonly, export_name, is_tls):
    said("open")(readonly, export_name, is_tls)
    next.open()
    said("opened")()
    return WHO
"""


def steps(who: str) -> str:
    return f"WHO = {who!r}\n{STEPS}"


def order(log: str, *who: str) -> list[str]:
    """The lines `WHO: what` of these, in the log's order."""
    return [line.strip() for line in re.findall(rf"debug: ((?:{'|'.join(who)}): .*)$", log, re.MULTILINE)]


def test_the_order_of_things(translate: Translate) -> None:
    server = translate(steps("outer"), steps("inner"), verbose=True)
    h = server.connect()
    h.shutdown()
    server.wait_for_log("inner: close")
    assert server.stop() == 0
    assert order(server.log(), "outer", "inner") == [
        "outer: load", "inner: load", "outer: config_complete", "inner: config_complete",
        "inner: get_ready", "outer: get_ready", "inner: after_fork", "outer: after_fork",
        "outer: open False '' False", "inner: open False '' False", "inner: opened", "outer: opened",
        "inner: prepare 'inner' False", "outer: prepare 'outer' False",
        "outer: finalize 'outer'", "inner: finalize 'inner'", "outer: close 'outer'", "inner: close 'inner'",
        "outer: cleanup", "inner: cleanup", "outer: unload", "inner: unload",
    ]


@pytest.mark.parametrize("way", [[], ["--exit-with-parent"], ["-t1"]])
def test_a_client_that_is_there_when_the_server_ends(translate: Translate, way: list[str]) -> None:
    server = translate(steps("it"), options=way, verbose=True)
    h = server.connect()
    assert h.pread(512, 0) == bytes(512)
    server.process.send_signal(signal.SIGTERM)
    with suppress(nbd.Error):  # it may have gone first
        h.shutdown()
    assert server.stop() == 0
    lines = [line.split()[1] for line in order(server.log(), "it")]
    assert lines.count("close") == 1 and lines[-2:] == ["cleanup", "unload"]


@pytest.mark.parametrize("twice", [False, True])
def test_a_client_that_nbdkit_does_not_know_of(translate: Translate, tmp_path: Path, twice: bool) -> None:
    """It is waited for as any other, also when the disk below hears of it twice."""
    disk = write_script(tmp_path, """
        API_VERSION = 2
        def open(readonly): pass
        def get_size(h): return 1 << 20
        def pread(h, buf, offset, flags): pass
        """)
    again = "def preconnect(next, readonly): next.preconnect(), next.preconnect()\n" if twice else ""
    server = translate(steps("it") + again, plugin=(PLUGIN, disk) if twice else MEMORY, verbose=True, env=late())
    with end_with_a_late_client(server) as client:
        assert client.receive(18).startswith(GREETING)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.7)
        shake_hands(client)
    assert server.process.wait(TIMEOUT) == 0, server.log()
    lines = [line.split()[1] for line in order(server.log(), "it")]
    assert "opened" in lines and lines[-3:] == ["close", "cleanup", "unload"]


def test_a_disk_in_python_below(translate: Translate, tmp_path: Path) -> None:
    """One interpreter for both: what the one has set, the other sees; each has log and errors of its own."""
    disk = write_script(tmp_path, """
        import sys, threading, nbdkit
        API_VERSION = 2
        sys.shared = []
        local = threading.local()
        data = bytearray(1 << 20)
        def thread_model(): return nbdkit.THREAD_MODEL_PARALLEL
        def open(readonly): return "disk"
        def get_size(h): return len(data)
        def pread(h, buf, offset, flags):
            local.reads = getattr(local, "reads", 0) + 1
            sys.shared.append(offset)
            if offset == 4096: raise nbdkit.Error(28, "the disk is full of it")
            buf[:] = data[offset:offset + len(buf)]
        def pwrite(h, buf, offset, flags): data[offset:offset + len(buf)] = buf
        def unload(): print("unload disk")
        """)
    server = translate("""
import sys, nbdkit
def pread(h, next, buf, offset, flags):
    try:
        next.pread(buf, offset)
    except OSError as error:
        assert error.errno == 28 and isinstance(error, nbdkit.Error)
        sys.shared.append("caught")
        raise
    assert sys.shared[-1] == offset
    buf[0] = 7
def unload(): print("unload translator")
""", plugin=(PLUGIN, disk))
    h = server.connect()
    h.pwrite(b"abc", 0)
    assert h.pread(3, 0) == b"\x07bc"
    with raises_errno(errno.ENOSPC):
        h.pread(512, 4096)
    assert h.pread(1, 1) == b"\x07"
    h.shutdown()
    assert server.stop() == 0
    log = server.log()
    assert "disk.py: pread: the disk is full of it [ENOSPC]" in log
    assert "translator0.py: pread: next.pread has failed [ENOSPC]" in log
    assert log.index("unload disk") < log.index("unload translator")


def test_a_view_of_a_buffer_that_was_handed_down_is_taken_back(translate: Translate, tmp_path: Path) -> None:
    disk = write_script(tmp_path, """
        API_VERSION = 2
        kept = []
        def open(readonly): pass
        def get_size(h): return 1 << 20
        def pread(h, buf, offset, flags):
            buf[:] = b"x" * len(buf)
            if offset: kept.append(buf)
        """)
    server = translate("""
def pread(h, next, buf, offset, flags):
    next.pread(buf, offset)
""", plugin=(PLUGIN, disk))
    h = server.connect()
    assert h.pread(4, 0) == b"xxxx"
    with raises_errno(errno.EIO):
        h.pread(4, 512)
    assert "disk.py: pread: the request's buffer is still in use after the callback" in server.log()
    assert h.pread(4, 0) == b"xxxx"


@pytest.mark.parametrize("word", ["1/0", "raise OSError(28, 'x')", "import sys; sys.exit(3)"])
@pytest.mark.parametrize("callback", ["load()", "config_complete()", "get_ready()", "after_fork(next)"])
def test_a_step_that_fails(refused: Refused, callback: str, word: str) -> None:
    said = refused(f"print('seen')\ndef {callback}: {word}\n")
    assert f"translator0.py: {callback.split('(')[0]}: " in said and "seen" in said


def test_open_changes_what_is_opened(translate: Translate) -> None:
    # The export of nbdkit's own plugin for files is a file's name.
    server = translate("""
import nbdkit
def open(next, readonly, export_name, is_tls):
    next.open(readonly=True, export_name=export_name.upper())
""", plugin=("info", "mode=exportname"))
    h = server.connect(export="hello")
    assert h.pread(5, 0) == b"HELLO"
    assert h.is_read_only()


def test_the_connection_is_refused(translate: Translate) -> None:
    server = translate("""
import nbdkit
def preconnect(next, readonly):
    next.preconnect()
    if refuse: raise nbdkit.Error(1, "not you")
refuse = True
""")
    with pytest.raises(nbd.Error):
        server.connect()
    assert "not you [EPERM]" in server.log()


def test_the_plugins_preconnect_is_not_left_out(translate: Translate, tmp_path: Path) -> None:
    disk = write_script(tmp_path, """
        API_VERSION = 2
        def preconnect(readonly): raise PermissionError("the plugin says no")
        def open(readonly): pass
        def get_size(h): return 1 << 20
        def pread(h, buf, offset, flags): pass
        """)
    for text in ("def preconnect(next, readonly): pass\n",
                 "def preconnect(next, readonly): next.preconnect(readonly)\n"):
        server = translate(text, plugin=(PLUGIN, disk))
        with pytest.raises(nbd.Error):
            server.connect()
        assert "the plugin says no" in server.log()


def exports(server: Server) -> list[tuple[str, str]]:
    found = []
    h = nbd.NBD()
    h.set_opt_mode(True)
    h.connect_unix(str(server.socket))
    h.opt_list(lambda name, description: found.append((name, description)) or 0)  # type: ignore[func-returns-value]
    h.opt_abort()
    return found


def test_exports_are_changed_on_their_way(translate: Translate, tmp_path: Path) -> None:
    disk = write_script(tmp_path, """
        import nbdkit
        API_VERSION = 2
        def list_exports(readonly, is_tls): return [("one", "the first"), "two"]
        def default_export(readonly, is_tls): return "one"
        def open(readonly): return nbdkit.export_name()
        def get_size(h): return 512
        def pread(h, buf, offset, flags): buf[:] = h.encode().ljust(len(buf), b".")
        """)
    server = translate("""
def list_exports(next, readonly, is_tls):
    yield from ((name + "!", description) for name, description in next.list_exports())
    yield "three"
def default_export(next, readonly, is_tls):
    return next.default_export().upper()
""", """
def list_exports(next, readonly, is_tls):
    return list(reversed(next.list_exports(readonly=True)))
""", plugin=(PLUGIN, disk))
    assert exports(server) == [("two!", ""), ("one!", "the first"), ("three", "")]
    assert server.connect().pread(4, 0) == b"ONE."


def test_prepare_that_fails(translate: Translate) -> None:
    server = translate("""
def prepare(h, next, readonly):
    raise ValueError("no such partition")
""", steps("inner"), verbose=True)
    with pytest.raises(nbd.Error):
        server.connect()
    server.wait_for_log("inner: close")
    assert "no such partition" in server.log()
    assert [line.split()[1] for line in order(server.log(), "inner")][-3:] == ["prepare", "finalize", "close"]


def test_finalize_may_write(translate: Translate) -> None:
    server = translate("""
def prepare(h, next, readonly): next.pwrite(b"prepared", 0)
def finalize(h, next):
    next.pwrite(b"final", next.get_size() - 512)
    next.flush()
""")
    h = server.connect()
    assert h.pread(8, 0) == b"prepared"
    h.shutdown()
    # The next connection may begin before that one's end.
    h = server.connect()
    while h.pread(5, SIZE - 512) != b"final":
        pass


PARALLEL = """
import threading, nbdkit
inside, most, both = 0, 0, threading.Event()
def pread(h, next, buf, offset, flags):
    global inside, most
    inside += 1
    most = max(most, inside)
    if inside > 1: both.set()
    both.wait(WAIT)
    next.pread(buf, offset)
    inside -= 1
    buf[:1] = bytes([most])
"""


def two_at_once(server: Server) -> int:
    h = server.connect()
    buffers = [nbd.Buffer(512), nbd.Buffer(512)]
    for buffer in buffers:
        h.aio_pread(buffer, 0, lambda error: 1)
    while h.aio_in_flight():
        h.poll(-1)
    return max(buffer.to_bytearray()[0] for buffer in buffers)


def test_parallel_by_default(translate: Translate) -> None:
    assert two_at_once(translate(f"WAIT = 20\n{PARALLEL}")) == 2


@pytest.mark.parametrize("model", ["SERIALIZE_REQUESTS", "SERIALIZE_ALL_REQUESTS", "SERIALIZE_CONNECTIONS"])
def test_the_thread_model_can_be_tightened(translate: Translate, model: str) -> None:
    text = f"WAIT = 0.05\n{PARALLEL}\ndef thread_model(): return nbdkit.THREAD_MODEL_{model}\n"
    # The tightest of all counts.
    assert two_at_once(translate("def config_complete(): pass\n", text)) == 1


def test_the_gil_is_free_while_what_is_below_waits(translate: Translate) -> None:
    """Two translators, and a plugin that answers a read when another one has come."""
    server = translate("""
import threading
reads = threading.Semaphore(0)
def pread(h, next, buf, offset, flags):
    reads.release()
    next.pread(buf, offset)
""", """
import threading
def pread(h, next, buf, offset, flags):
    if offset == 0: waiting.wait(20)
    else: waiting.set()
    next.pread(buf, offset)
waiting = threading.Event()
""")
    h = server.connect()
    one, two = nbd.Buffer(512), nbd.Buffer(512)
    h.aio_pread(one, 0, lambda error: 1)
    h.aio_pread(two, 512, lambda error: 1)
    while h.aio_in_flight():
        h.poll(-1)


BACKGROUND = """
import threading, nbdkit
copy = bytearray(4096)
def after_fork(next):
    global own, thread
    own = next.background()
    nbdkit.debug(f"size {own.get_size()} {own.can_write()} {type(own).__name__}")
    own.pwrite(b"from the background", 0)
    thread = threading.Thread(target=work)
    thread.start()
def work():
    own.pread(copy, 0)
    done.set()
done = threading.Event()
def pread(h, next, buf, offset, flags):
    assert done.wait(20)
    buf[:] = copy[:len(buf)]
def cleanup():
    thread.join()
    CLOSE
    try:
        own.pread(512, 0)
    except RuntimeError as error:
        nbdkit.debug(f"error {error}")
"""


@pytest.mark.parametrize("below", [[], ["def get_size(h, next): return next.get_size() // 2\n"]])
@pytest.mark.parametrize("close", ["own.close()", "with own: pass", "pass"])
def test_a_connection_in_the_background(translate: Translate, below: list[str], close: str) -> None:
    server = translate(BACKGROUND.replace("CLOSE", close), *below, verbose=True)
    h = server.connect()
    assert h.pread(19, 0) == b"from the background"
    h.shutdown()
    assert server.stop() == 0
    log = server.log()
    assert f"size {SIZE // 2 if below else SIZE} True Background" in log
    assert ("error nbdkit.Background.pread: it is closed" in log) == (close != "pass")
    # However it is closed, nbdkit is told.
    assert log.count("memory: open readonly") == 2
    # nbdkit itself leaves a client's connection open that has not ended when it is told to.
    assert log.count("memory: close") in {1, 2}
    assert log.count("memory: finalize") == 2


def test_a_background_where_it_is_not_safe(translate: Translate) -> None:
    text = BACKGROUND.replace("CLOSE", "pass").replace("own.pread(copy, 0)", """
    try:
        own.pread(copy, 0)
    except RuntimeError as error:
        nbdkit.debug(f"refused {error}")""")
    # By nbdkit's own filter, since a translator's wish of this kind is met by a lock of ours.
    server = translate(text, below=["--filter=noparallel"], plugin=("memory", "1M", "serialize=all-requests"),
                       verbose=True)
    server.wait_for_log("refused nbdkit.Background.pread: this server serves one request at a time: it can be used in "
                        "callbacks only")
    server = translate(BACKGROUND.replace("CLOSE", "pass"), below=["--filter=noparallel"], verbose=True,
                       plugin=("memory", "1M", "serialize=requests"))
    assert server.connect().pread(512, 0)


def test_no_background_where_one_connection_is_served(refused: Refused) -> None:
    said = refused("def after_fork(next): next.background()\n"
                   "def thread_model(): return 0\n")
    assert "next.background: this server serves one connection at a time, and this would be another" in said


def test_wrong_use_of_the_background(translate: Translate) -> None:
    server = translate(EVALUATE + """
def after_fork(next):
    global own
    own = next.background(readonly=True, export_name="")
    kept.append(next)
""")
    h = server.connect()
    assert evaluate(h, "own.pwrite(bytes(512), 0)") == \
        "ValueError: next.pwrite: what is below is read-only: ask next.can_write() first"
    assert evaluate(h, "own.pread(4, 2**40)").startswith("ValueError: next.pread: expected a range within")
    assert evaluate(h, "kept[0].background()").startswith("RuntimeError: next.background: the call that this")
    assert evaluate(h, "next.background()") == "RuntimeError: next.background: not in pwrite: only in after_fork"
    assert evaluate(h, "own.close(), own.close()") == "(None, None)"
    assert evaluate(h, "own.get_size()") == "RuntimeError: nbdkit.Background.get_size: it is closed"


@pytest.mark.parametrize("operation", ["pread(Closing(), 0)", "pread(512, Closing())", "pwrite(bytes(512), Closing())",
                                       "flush(Closing())", "zero(Closing(), 0)", "extents(512, 0, Closing())"])
def test_an_argument_that_closes_the_background(translate: Translate, operation: str) -> None:
    """Python runs while it is turned into a number."""
    server = translate(EVALUATE + """
class Closing:
    def __index__(self):
        own.close()
        return 512

def after_fork(next):
    global own
    own = next.background()
""")
    said = evaluate(server.connect(), f"own.{operation}")
    assert re.fullmatch(r"RuntimeError: nbdkit.Background.\w+: it is closed", said)


def test_the_plugin_forks_before_it_serves(translate: Translate) -> None:
    """nbdkit's plugin for shell scripts runs one in after_fork, between our get_ready and our after_fork."""
    server = translate("def config_complete(): pass\n",
                       plugin=("eval", "get_size=echo 1M", "pread=dd if=/dev/zero count=$3 iflag=count_bytes",
                               "after_fork=true"))
    assert server.connect().pread(512, 0) == bytes(512)


def test_dump_plugin_leaves_the_plugins_alone(tmp_path: Path) -> None:
    script = write_script(tmp_path, "def config_complete(): pass\n")
    done = nbdkit("--dump-plugin", f"--filter={FILTER}", *MEMORY[1:], f"translator={script}", plugin="memory")
    assert done.returncode == 0 and "name=memory" in done.stdout
