# SPDX-License-Identifier: BSD-3-Clause
"""nbdkit.testing.serve: a real server for a test's length, and nothing left of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbd
import pytest

from check_disks import RAM
from nbdkit._check.plugin import find_plugin
from nbdkit.testing import PluginNotFound, Server, ServerError, check, serve

ROOT = Path(__file__).resolve().parents[2]
RAMDISK = ROOT / "examples" / "ramdisk.py"
MiB = 1 << 20


def written(folder: Path, text: str) -> Path:
    script = folder / "disk.py"
    script.write_text(text)
    return script


def gone(server: Server) -> bool:
    return not Path(f"/proc/{server.pid}").exists() and not server.socket.parent.exists()


def test_a_disk_for_a_block() -> None:
    with serve(RAMDISK, size="1M") as server:
        disk = server.connect()
        disk.pwrite(b"hello", 512)
        assert disk.pread(5, 512) == b"hello"
        assert disk.get_size() == MiB
        assert server.is_running
        assert subprocess.run(["nbdinfo", "--size", server.uri], text=True, capture_output=True).stdout == f"{MiB}\n"
    assert gone(server)


def test_parameters_are_text_or_become_it(tmp_path: Path) -> None:
    script = written(tmp_path, "def config(key, value): print(key, value, flush=True)\n" + RAM)
    with serve(script, "--filter=delay", "a=1", file=tmp_path, count=3, **{"with-dash": True}) as server:
        assert server.log() == f"a 1\nfile {tmp_path}\ncount 3\nwith-dash True\n"


def test_words_are_nbdkits() -> None:
    with serve(RAMDISK, "-r", "--filter=offset", "offset=4096", size="1M") as server:
        disk = server.connect()
        assert disk.is_read_only()
        assert disk.get_size() == MiB - 4096


def test_an_export_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1" * 512)
    (tmp_path / "two").write_bytes(b"2" * 512)
    with serve(ROOT / "examples" / "exports.py", folder=tmp_path) as server:
        assert server.connect("two").pread(3, 0) == b"222"
        assert server.connect().pread(3, 0) == b"111"
        with pytest.raises(nbd.Error):
            server.connect("three")


def test_many_at_once_do_not_clash() -> None:
    with serve(RAMDISK, size="1M") as one, serve(RAMDISK, size="1M") as other:
        one.connect().pwrite(b"1", 0)
        other.connect().pwrite(b"2", 0)
        assert one.connect().pread(1, 0) == b"1"
        assert other.connect().pread(1, 0) == b"2"


def test_a_disk_that_does_not_start() -> None:
    with pytest.raises(ServerError, match=r"exit status 1:\n(?s:.*)unknown parameter 'colour'"):
        with serve(RAMDISK, colour="red"):
            raise AssertionError("it has started")


def test_no_such_script(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no script '.*nothing.py'"):
        with serve(tmp_path / "nothing.py"):
            pass


def test_no_plugin(tmp_path: Path) -> None:
    """The package alone, where nbdkit has only its own plugin for Python, or none."""
    package = tmp_path / "site"
    package.mkdir()
    subprocess.run(["cp", "-r", ROOT / "python" / "nbdkit", package], check=True)
    text = f"from nbdkit.testing import serve\nwith serve({str(RAMDISK)!r}): pass"
    env = {key: value for key, value in os.environ.items() if key != "NBDKIT_PYTHON_PLUGIN"}
    done = subprocess.run([sys.executable, "-c", text], env={**env, "PYTHONPATH": str(package)}, text=True,
                          capture_output=True)
    assert f"{PluginNotFound.__module__}.PluginNotFound: nbdkit-python-plugin.so is not installed" in done.stderr


def test_a_plugin_that_is_installed(tmp_path: Path) -> None:
    """The package alone, and an nbdkit that finds this plugin by the name `python`."""
    package, wrapper = tmp_path / "site", tmp_path / "bin" / "nbdkit"
    package.mkdir()
    wrapper.parent.mkdir()
    subprocess.run(["cp", "-r", ROOT / "python" / "nbdkit", package], check=True)
    wrapper.write_text(f"""#!/bin/bash
for word; do
    [ "$word" = python ] && word={find_plugin()}
    words+=("$word")
done
exec {shutil.which("nbdkit")} "${{words[@]}}"
""")
    wrapper.chmod(0o755)
    text = f"""
from nbdkit.testing import serve
from nbdkit._check.plugin import find_plugin
with serve({str(RAMDISK)!r}, size="1M") as server:
    print(find_plugin(), server.connect().get_size())
"""
    env = {key: value for key, value in os.environ.items() if key != "NBDKIT_PYTHON_PLUGIN"}
    done = subprocess.run([sys.executable, "-c", text], text=True, capture_output=True, env={
        **env, "PYTHONPATH": str(package), "PATH": f"{wrapper.parent}:{env['PATH']}"})
    assert done.stdout == f"python {MiB}\n", done.stderr


def test_a_server_that_dies_fails_the_block(tmp_path: Path) -> None:
    script = written(tmp_path, RAM + "def cache(h, count, offset, flags): os.abort()")
    with pytest.raises(ServerError, match="died of SIGABRT"):
        with serve(script) as server:
            with pytest.raises(nbd.Error):
                server.connect().cache(512, 0)
    assert gone(server)


def test_a_server_that_is_killed_is_no_failure() -> None:
    with serve(RAMDISK, size="1M") as server:
        server.kill()
        assert not server.is_running
    assert gone(server)


def test_a_server_that_ends_by_itself(tmp_path: Path) -> None:
    script = written(tmp_path, RAM + "def cache(h, count, offset, flags): nbdkit.shutdown()")
    with serve(script) as server:
        disk = server.connect()
        assert not server.ends_within(0.01)
        disk.cache(512, 0)
        disk.shutdown()
        assert server.ends_within(30)


def test_the_log_is_shown_when_a_block_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = written(tmp_path, RAM + "def pread(h, buf, offset, flags): raise ValueError('not today')")
    with pytest.raises(nbd.Error):
        with serve(script) as server:
            disk = server.connect()
            disk.pread(512, 0)
    assert "ValueError: not today" in capfd.readouterr().err
    assert "ValueError: not today" in server.log()
    assert gone(server)


def test_a_client_that_stays_does_not_keep_the_server() -> None:
    begin = time.monotonic()
    with serve(RAMDISK, size="1M") as server:
        disk = server.connect()
    assert time.monotonic() - begin < 20
    assert gone(server)
    del disk


def test_no_server_is_left_when_python_is_killed(tmp_path: Path) -> None:
    text = f"""
from nbdkit.testing import serve
with serve({str(RAMDISK)!r}, size="1M") as server:
    print(server.pid, flush=True)
    input()
"""
    # Its folder is left, and so in ours.
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", text], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    with process.stdin, process.stdout:
        server = int(process.stdout.readline())
        assert Path(f"/proc/{server}").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 30
        # A process that has ended, and that nobody waits for, is still there, with an empty command line.
        while Path(f"/proc/{server}").exists() and Path(f"/proc/{server}/cmdline").read_bytes():
            assert time.monotonic() < deadline, "the server is still there"
            time.sleep(0.01)


def test_the_fixture(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["nbdkit.pytest_plugin"]\n')
    (tmp_path / "test_it.py").write_text(f"""
RAMDISK = {str(RAMDISK)!r}
servers = []

def test_two(serve_disk):
    one, two = serve_disk(RAMDISK, size="1M"), serve_disk(RAMDISK, "-r", size="2M")
    servers.extend([one, two])
    assert (one.connect().get_size(), two.connect().get_size()) == ({MiB}, {2 * MiB})

def test_that_they_are_gone():
    assert servers and not any(server.is_running for server in servers)

def test_that_fails(serve_disk):
    server = serve_disk(RAMDISK, size="1M")
    assert server.connect().pread(3, 1 << 20) == b""
""")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tmp_path], env=env, cwd=tmp_path,
                          text=True, capture_output=True)
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    assert f"--- the log of nbdkit, which served {RAMDISK}" in done.stdout


def test_a_check_as_a_call(tmp_path: Path) -> None:
    assert check(RAMDISK, rounds=5, size="1M").ok
    script = written(tmp_path, RAM.replace("return SIZE", "return SIZE + 1"))
    report = check(script, rounds=5, seed=7)
    [fault] = report.faults
    assert fault.kind == "error" and [request.op for request in fault.requests] == ["pread"]
    assert "1. a request fails: pread fails: EIO" in str(report)
    assert "seed 7" in str(report)


def test_a_disk_that_is_not_to_be_written_to(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(200_000))
    before = image.read_bytes()
    report = check(ROOT / "examples" / "file.py", rounds=5, read_only=True, file=image)
    assert report.ok and report.requests > 50
    assert "requests that change the disk: -r" in report.not_tried
    assert image.read_bytes() == before
