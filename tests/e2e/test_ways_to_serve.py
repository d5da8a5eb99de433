# SPDX-License-Identifier: BSD-3-Clause
"""The ways in which nbdkit serves a script: thread models, TLS, -s, as a daemon, and with --run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from daemon import Daemonise
from harness import PLUGIN, TIMEOUT, environment, write_script

DISK = """
    import builtins, os
    import nbdkit

    API_VERSION = 2
    data = bytes(range(256)) * 16
    folder = os.path.dirname(os.path.abspath(__file__))

    def default_export(readonly, is_tls):
        return "with TLS" if is_tls else "plain"

    def after_fork():
        print("forked", flush=True)

    def cleanup():
        with builtins.open(os.path.join(folder, "cleaned"), "w") as mark:
            mark.write(str(os.getpid()))

    def open(readonly):
        return nbdkit.export_name()

    def get_size(h):
        return len(data)

    def export_description(h):
        return h

    def pread(h, buf, offset, flags):
        buf[:] = data[offset : offset + len(buf)]
"""
DATA = bytes(range(256)) * 16

OVERLAP = """
    import threading, time
    import nbdkit

    API_VERSION = 2
    lock = threading.Lock()
    meeting = threading.Barrier(2)
    inside = peak = 0

    def thread_model():
        return nbdkit.THREAD_MODEL_{model}

    def open(readonly):
        return 1

    def get_size(h):
        return 1 << 20

    def meet():
        # Each of two requests waits here until the other is here too.
        meeting.wait(60)

    def linger():
        # Long enough for another request to come in, if it can.
        global inside, peak
        with lock:
            inside += 1
            peak = max(peak, inside)
        time.sleep(0.1)
        with lock:
            inside -= 1

    def pread(h, buf, offset, flags):
        if offset == 0:
            meet()
        elif offset == 512:
            linger()
        else:
            buf[0] = peak
"""


def wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.01)


def read_at_once(connections: list[nbd.NBD], offset: int) -> None:
    """Two reads under way at once: on two connections, or both on one."""
    buffers = [nbd.Buffer(512), nbd.Buffer(512)]
    pairs = [(connections[n % len(connections)], buffer) for n, buffer in enumerate(buffers)]
    cookies = [(h, h.aio_pread(buffer, offset)) for h, buffer in pairs]
    for h, cookie in cookies:
        # poll also moves the connection on, so that it belongs into the condition.
        wait_until(lambda: h.poll(0) >= 0 and h.aio_command_completed(cookie), "a read did not come back")


@pytest.mark.parametrize("connections", [1, 2])
def test_parallel_requests_overlap(serve: Serve, connections: int) -> None:
    server = serve(OVERLAP.format(model="PARALLEL"))
    read_at_once([server.connect() for _ in range(connections)], 0)


def test_serialized_requests_overlap_only_between_connections(serve: Serve) -> None:
    server = serve(OVERLAP.format(model="SERIALIZE_REQUESTS"))
    one, two = server.connect(), server.connect()
    read_at_once([one, two], 0)
    read_at_once([one], 512)
    assert one.pread(1, 1024) == b"\x01"


@pytest.mark.parametrize("connections", [1, 2])
def test_with_all_requests_serialized_none_overlap(serve: Serve, connections: int) -> None:
    server = serve(OVERLAP.format(model="SERIALIZE_ALL_REQUESTS"))
    handles = [server.connect() for _ in range(connections)]
    read_at_once(handles, 512)
    assert handles[0].pread(1, 1024) == b"\x01"


def test_with_connections_serialized_one_waits_for_the_other(serve: Serve) -> None:
    server = serve(OVERLAP.format(model="SERIALIZE_CONNECTIONS"))
    first = server.connect()
    second: list[nbd.NBD] = []
    waiting = threading.Thread(target=lambda: second.append(server.connect()))
    waiting.start()
    waiting.join(0.2)
    assert not second, "the second connection was served beside the first"
    first.shutdown()
    waiting.join(TIMEOUT)
    assert second[0].pread(1, 1024) == b"\0"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.psk"
    subprocess.run(["psktool", "-u", "alice", "-p", path], check=True, capture_output=True, timeout=TIMEOUT)
    path.chmod(0o600)
    return path


def test_tls_with_a_pre_shared_key(serve: Serve, keys: Path, tmp_path: Path) -> None:
    server = serve(DISK, options=("--tls=require", f"--tls-psk={keys}"))
    alice = {"tls": nbd.TLS_REQUIRE, "tls_psk_file": str(keys), "tls_username": "alice"}
    h = server.connect(full_info=True, **alice)
    assert h.get_tls_negotiated()
    assert h.get_export_description() == "with TLS"
    assert h.pread(len(DATA), 0) == DATA
    h.shutdown()

    with pytest.raises(nbd.Error):
        server.connect()
    wrong = tmp_path / "wrong.psk"
    wrong.write_text(f"alice:{'00' * 32}\n")
    with pytest.raises(nbd.Error):
        server.connect(**{**alice, "tls_psk_file": str(wrong)})
    assert server.connect(**alice).pread(16, 16) == DATA[16:32]


def test_tls_is_the_clients_choice(serve: Serve, keys: Path) -> None:
    server = serve(DISK, options=("--tls=on", f"--tls-psk={keys}"))
    assert server.connect(full_info=True).get_export_description() == "plain"
    h = server.connect(full_info=True, tls=nbd.TLS_ALLOW, tls_psk_file=str(keys), tls_username="alice")
    assert h.get_tls_negotiated() and h.get_export_description() == "with TLS"


def test_single_connection_on_standard_input(tmp_path: Path) -> None:
    """nbdkit -s: the client starts the server and talks to it through its standard input and output."""
    script = write_script(tmp_path, DISK)
    h = nbd.NBD()
    h.set_full_info(True)
    h.connect_command(["nbdkit", "-s", PLUGIN, str(script)])
    assert h.get_export_description() == "plain"
    assert h.pread(len(DATA), 0) == DATA
    h.shutdown()
    del h
    wait_until((tmp_path / "cleaned").exists, "the server did not end with its connection")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_daemon(daemonise: Daemonise, tmp_path: Path, sign: signal.Signals) -> None:
    """The script's name was relative to a folder that is not the daemon's own."""
    write_script(tmp_path, DISK)
    daemon = daemonise(Path("disk.py"), cwd=tmp_path)
    pid = daemon.pid
    for _ in range(2):
        h = nbd.NBD()
        h.connect_unix(str(daemon.socket))
        assert h.pread(len(DATA), 0) == DATA
        h.shutdown()
    assert daemon.stop(sign) == 0
    assert (tmp_path / "cleaned").read_text() == str(pid), "cleanup was not called by the daemon itself"


def run_captive(tmp_path: Path, command: str) -> subprocess.CompletedProcess[str]:
    script = write_script(tmp_path, DISK)
    return subprocess.run(["nbdkit", "-U", "-", PLUGIN, script, "--run", command], text=True, capture_output=True,
                          env=environment(), timeout=TIMEOUT, stdin=subprocess.DEVNULL)


def test_run_a_client(tmp_path: Path) -> None:
    image = tmp_path / "image"
    done = run_captive(tmp_path, f"""nbdinfo --size "$uri" && nbdcopy "$uri" '{image}' && echo copied""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-3:] == ["4096", "copied", ""]
    assert image.read_bytes() == DATA
    wait_until((tmp_path / "cleaned").exists, "cleanup was not called")


def test_run_passes_the_clients_status_on(tmp_path: Path) -> None:
    assert run_captive(tmp_path, "exit 7").returncode == 7


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd is not installed")
def test_socket_activation(tmp_path: Path) -> None:
    """A service manager listens, and starts the server when the first client comes."""
    script = write_script(tmp_path, DISK)
    socket = tmp_path / "nbd.sock"
    process = subprocess.Popen(["systemd-socket-activate", f"--listen={socket}", "nbdkit", "-f", PLUGIN, str(script)],
                               env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        wait_until(socket.exists, "systemd-socket-activate does not listen")
        h = nbd.NBD()
        h.connect_unix(str(socket))
        assert h.pread(len(DATA), 0) == DATA
        h.shutdown()
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    finally:
        process.kill()
        process.wait()
