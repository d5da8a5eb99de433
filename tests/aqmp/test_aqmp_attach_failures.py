# SPDX-License-Identifier: BSD-3-Clause
"""What cannot be attached is told in one line, and what had been done for it is undone."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from aqmp import QMPServer
from aqmp.attach import AttachError, Options, session
from aqmp.attach import attach as attach_disk
from aqmp.attach.machine import BusyError, Machine, size_text
from aqmp_attach_kit import RAMDISK, Aqmp, Guest, Witness, gone, until
from aqmp_loop import run
from aqmp_real import TIMEOUT

NO_DISK_TODAY = ("API_VERSION = 2\ndef get_size(h): return 512\ndef pread(h, buf, offset, flags): pass\n"
                 "def open(readonly): raise RuntimeError('no disk today')\n")


def fails(aqmp: Aqmp, witness: Witness, *arguments: object, **environment: str) -> str:
    """The one line that attach says at the end; nothing is left of it."""
    done = aqmp.run("attach", "--qmp", witness.monitor.socket, *arguments, **environment)
    assert done.returncode == 1 and done.stdout == ""
    assert set(witness.nodes()) <= {"taken"} and witness.exports() == []
    assert aqmp.left() == []
    *_, last = done.stderr.splitlines()
    return last.removeprefix("python3 -m aqmp attach: ")


def test_in_a_machine(guest: Guest, aqmp: Aqmp) -> None:
    witness = guest()
    devices = witness.devices()
    assert fails(aqmp, witness, RAMDISK, "--bus", "nowhere") == "device_add: Bus 'nowhere' not found"
    assert fails(aqmp, witness, RAMDISK, "--device", "virtio-blk") == (
        "device_add: Bus 'pcie.0' does not support hotplugging; and no PCIe root port is free")
    # The device's id is taken, after the node has been added.
    assert fails(aqmp, witness, RAMDISK, "--id", "scsi0").startswith("device_add: Duplicate device ID 'scsi0'")
    witness.ask("blockdev-add", driver="null-co", node_name="taken")
    assert fails(aqmp, witness, RAMDISK, "--id", "taken") == "blockdev-add: Duplicate nodes with node-name='taken'"
    assert witness.devices() == devices


def test_in_a_storage_daemon(daemon: Witness, aqmp: Aqmp) -> None:
    assert fails(aqmp, daemon, RAMDISK) == "this QEMU has no machine to plug a disk into: use --export-only"
    # Neither may the one that is there go.
    daemon.ask("blockdev-add", driver="null-co", node_name="taken")
    assert fails(aqmp, daemon, RAMDISK, "--export-only", "--id", "taken") == (
        "blockdev-add: Duplicate nodes with node-name='taken'")
    assert "taken" in daemon.nodes()


def test_a_disk_that_does_not_serve(daemon: Witness, folder: Path, aqmp: Aqmp) -> None:
    script = folder / "disk.py"
    script.write_text(NO_DISK_TODAY)
    # Newer nbdkits tell why.
    assert re.fullmatch(r"the server does not open its disk( \(RuntimeError: no disk today\))?: the log says why",
                        fails(aqmp, daemon, script, "--export-only"))
    assert fails(aqmp, daemon, RAMDISK, "colour=red", "--export-only") == (
        "nbdkit ended with status 1 before it served: its log says why")
    assert fails(aqmp, daemon, RAMDISK, "--export-only", NBDKIT_PYTHON_PLUGIN="/nowhere.so") == (
        "nbdkit ended with status 1 before it served: its log says why")


def test_no_monitor(folder: Path, aqmp: Aqmp) -> None:
    done = aqmp.run("attach", RAMDISK, "--qmp", folder / "nowhere")
    assert (done.returncode, done.stderr) == (
        1, f"python3 -m aqmp attach: cannot connect to {folder}/nowhere: [Errno 2] No such file or directory\n")
    assert aqmp.left() == []


@pytest.mark.parametrize(("arguments", "expected"), [
    (["attach", RAMDISK], "the following arguments are required: --qmp"),
    (["attach", "/nowhere.py", "--qmp", "x"], "there is no /nowhere.py"),
    (["attach", RAMDISK, "--qmp", "x", "--export-only", "--bus", "y"], "--export-only plugs it into no --bus"),
    (["attach", RAMDISK, "--qmp", "x", "--id", "a b"], "expected a letter, then up to 30 letters, digits and any of"),
    (["attach", RAMDISK, "--qmp", "x", "--id", "a" * 32], "expected a letter"),
    (["attach", RAMDISK, "--qmp", "x", "--timeout", "-1"], "expected a number of seconds, got '-1'"),
    (["detach", "../x"], "expected a letter"),
    (["eject"], "invalid choice: 'eject'"),
], ids=str)
def test_wrong_usage(aqmp: Aqmp, arguments: list[object], expected: str) -> None:
    done = aqmp.run(*arguments)
    assert done.returncode == 2 and expected in done.stderr


def test_ended_while_the_disk_is_loaded(daemon: Witness, folder: Path, aqmp: Aqmp) -> None:
    script = folder / "slow.py"
    script.write_text(f"import os, time\nopen({str(folder / 'loading')!r}, 'w').write(str(os.getpid()) + '.')\n"
                      "time.sleep(3600)\n")
    process = subprocess.Popen(
        aqmp.command("attach", script, "--export-only", "--qmp", daemon.monitor.socket), stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, env=aqmp.environment)
    until(lambda: (folder / "loading").exists() and (folder / "loading").read_text().endswith("."))
    server = int((folder / "loading").read_text()[:-1])
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, said) == (1, "python3 -m aqmp attach: ended before the disk was attached\n")
    assert gone(server) and aqmp.left() == [] and daemon.nodes() == {}


def test_a_monitor_that_somebody_else_uses(daemon: Witness, folder: Path, aqmp: Aqmp,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CONNECT_TIMEOUT", 0.2)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(aqmp.runtime))

    async def test() -> None:
        options = Options((str(RAMDISK),), str(folder / "second.sock"), "disk", device=None)
        with pytest.raises(AttachError, match="a monitor serves one client at a time"):
            await attach_disk(options, print)

    run(test())
    assert daemon.nodes() == {} and aqmp.left() == []


def test_a_runtime_directory_that_is_not_private(daemon: Witness, aqmp: Aqmp) -> None:
    (aqmp.runtime / "aqmp").mkdir()
    (aqmp.runtime / "aqmp").chmod(0o777)
    assert fails(aqmp, daemon, RAMDISK, "--export-only") == (
        f"{aqmp.runtime}/aqmp is not private to this user")


def test_a_guest_that_refuses(folder: Path) -> None:
    """Which no guest does that QEMU's tests could start: so the monitor is one of ours."""

    async def test() -> None:
        server = QMPServer()
        steps = [("node", "disk"), ("device", "disk")]

        @server.command("device_del")
        async def device_del(id: str) -> dict[str, object]:
            server.emit("DEVICE_UNPLUG_GUEST_ERROR", {"device": "another", "path": "/"})
            server.emit("DEVICE_UNPLUG_GUEST_ERROR", {"device": id, "path": "/"})
            return {}

        await server.serve(folder / "monitor")
        async with session._connected(str(folder / "monitor")) as qmp:
            with pytest.raises(BusyError, match="^the guest refuses to let go of disk$"):
                await Machine(qmp, "disk", TIMEOUT, steps, lambda: None).unplug()
        await server.close()
        assert steps == [("node", "disk"), ("device", "disk")]

    run(test())


@pytest.mark.parametrize(("size", "text"), [
    (0, "0 bytes"), (512, "512 bytes"), (1024, "1 KiB"), (1536, "1536 bytes"), (64 << 20, "64 MiB"),
    ((1 << 40) + 1024, "1073741825 KiB"), (1 << 60, "1048576 TiB")])
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text
