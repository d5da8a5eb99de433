# SPDX-License-Identifier: BSD-3-Clause
"""attach puts a disk into a real QEMU, and it comes out again without a trace."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from aqmp import ExecuteError
from aqmp_attach_kit import (FILE, RAMDISK, ROOT, SIZE, Aqmp, Attach, Guest, Witness, children, connect, gone,
                             until, uri_of)
from aqmp_real import is_listening

NO_CONTROLLER = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "q35,accel=tcg", "-m", "64",
                 "-device", "pcie-root-port,id=rp1,chassis=1",
                 "-chardev", "{chardev}", "-mon", "chardev=monitor,mode=control{pretty}"]


def test_a_guest_gets_the_disk(guest: Guest, attach: Attach, aqmp: Aqmp, image: Path) -> None:
    witness = guest()
    attached = attach(witness)
    assert attached.said() == ("file: 1 MiB, writable, a virtio-scsi disk on scsi0.0, target 0\n"
                               "in a Linux guest /dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_file\n")
    assert "wrote 4096/4096" in witness.io("file", "write -P 0x5a 4096 4096")
    assert image.read_bytes()[4096:8192] == b"\x5a" * 4096
    assert witness.nodes()["file"]["ro"] is False
    [server] = attached.servers()

    assert attached.end() == 0
    assert witness.nodes() == {} and "file" not in witness.devices()
    assert gone(server) and aqmp.left() == []
    assert attached.said().count("\n") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_detaches(daemon: Witness, attach: Attach, aqmp: Aqmp, number: int) -> None:
    attached = attach(daemon, "--export-only")
    assert attached.end(number) == 0
    assert daemon.nodes() == {} and aqmp.left() == []


def test_detach(guest: Guest, attach: Attach, aqmp: Aqmp) -> None:
    witness = guest()
    attached = attach(witness, "--id", "vault")
    wrong = aqmp.run("detach", "file")
    assert (wrong.returncode, wrong.stderr) == (
        1, "python3 -m aqmp detach: file is not attached; attached: vault\n")
    done = aqmp.run("detach", "vault")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert witness.nodes() == {} and "vault" not in witness.devices() and aqmp.left() == []
    assert attached.process.wait() == 0


def test_two_disks_in_one_machine(guest: Guest, folder: Path, attach: Attach, aqmp: Aqmp) -> None:
    """A monitor serves one client, so the second attach has one of its own."""
    witness = guest("-qmp", f"unix:{folder}/third.sock,server=on,wait=off")
    attach(witness)
    witness.monitor.socket = f"{folder}/third.sock"
    second = attach(witness, "--id", "other")
    assert "on scsi0.0, target 1\n" in second.said()
    assert set(witness.nodes()) == {"file", "other"}
    assert second.end() == 0
    assert set(witness.nodes()) == {"file"}


def test_an_export(daemon: Witness, attach: Attach, aqmp: Aqmp, image: Path) -> None:
    attached = attach(daemon, "--export-only", "--id", "out")
    assert attached.said() == f"out: 1 MiB, writable: nbd+unix:///out?socket={aqmp.runtime}/aqmp/exports/out\n"
    h = connect(uri_of(attached))
    h.pwrite(b"abc" * 512, 512)
    assert h.pread(1536, 512) == b"abc" * 512
    h.trim(512, 0)
    h.shutdown()
    assert image.read_bytes()[512:2048] == b"abc" * 512
    assert attached.end() == 0
    assert daemon.exports() == [] and daemon.nodes() == {} and aqmp.left() == []
    with pytest.raises(ExecuteError, match="not running"):
        daemon.ask("nbd-server-stop")


def test_a_client_keeps_an_export(daemon: Witness, attach: Attach, aqmp: Aqmp) -> None:
    """It is told, and nothing is cut off; when the client has gone, it works."""
    attached = attach(daemon, "--export-only")
    h = connect(uri_of(attached))
    refused = aqmp.run("detach", "file")
    assert refused.returncode == 1
    assert refused.stderr == "python3 -m aqmp detach: block-export-del: export 'file' still in use\n"
    h.pwrite(b"x" * 512, 0)
    h.shutdown()
    until(lambda: aqmp.run("detach", "file").returncode == 0)
    assert attached.process.wait() == 0


def test_an_export_on_a_server_that_runs_already(daemon: Witness, folder: Path, attach: Attach, aqmp: Aqmp) -> None:
    """It stays when the disk goes."""
    socket = folder / "theirs.sock"
    daemon.ask("nbd-server-start", addr={"type": "unix", "data": {"path": str(socket)}})
    attached = attach(daemon, "--export-only")
    assert attached.said() == "file: 1 MiB, writable: export file of the NBD server that QEMU runs already\n"
    h = connect(f"nbd+unix:///file?socket={socket}")
    assert h.get_size() == SIZE
    h.shutdown()
    assert attached.end() == 0
    assert socket.exists() and aqmp.left() == []
    daemon.ask("nbd-server-stop")


def test_a_server_that_others_use_stays(daemon: Witness, attach: Attach, aqmp: Aqmp) -> None:
    attached = attach(daemon, "--export-only")
    daemon.ask("blockdev-add", driver="null-co", node_name="other", size=512)
    daemon.ask("block-export-add", type="nbd", id="other", node_name="other", name="other")
    assert attached.end() == 0
    assert daemon.exports() == ["other"] and aqmp.left() == ["exports/file"]
    h = connect(f"nbd+unix:///other?socket={aqmp.runtime}/aqmp/exports/file")
    assert h.get_size() == 512
    h.shutdown()


def test_read_only(guest: Guest, attach: Attach, image: Path) -> None:
    witness = guest()
    attached = attach(witness, "--read-only")
    assert attached.said().startswith("file: 1 MiB, read-only, a virtio-scsi disk")
    assert witness.nodes()["file"]["ro"] is True
    assert "wrote" not in witness.io("file", "write -P 1 0 512")
    assert image.read_bytes() == bytes(SIZE)
    assert attached.end() == 0


def test_a_disk_that_cannot_be_written(daemon: Witness, folder: Path, attach: Attach) -> None:
    """Without being told so."""
    script = folder / "constant.py"
    script.write_text("API_VERSION = 2\ndef open(readonly): pass\ndef get_size(h): return 65536\n"
                      "def pread(h, buf, offset, flags): buf[:] = b'7' * len(buf)\n")
    attached = attach(daemon, "--export-only", script=(script,))
    assert attached.said().startswith("constant: 64 KiB, read-only: nbd+unix:")
    h = connect(uri_of(attached))
    assert h.is_read_only() and h.pread(4, 0) == b"7777"
    h.shutdown()
    assert attached.end() == 0


def test_a_controller_is_added(guest: Guest, attach: Attach, aqmp: Aqmp) -> None:
    """On q35, on a free port. The guest, which stands still, does not let go of it; the disk is out all the same."""
    witness = guest(command=NO_CONTROLLER)
    attached = attach(witness, "--timeout", 1)
    assert "a virtio-scsi disk on file-scsi.0, target 0\n" in attached.said()
    assert witness.devices() == {"rp1", "file", "file-scsi"}
    assert attached.end() == 1
    assert attached.said().endswith("python3 -m aqmp attach: the guest has not let go of file-scsi after 1 s\n")
    assert witness.devices() == {"rp1", "file-scsi"} and witness.nodes() == {} and aqmp.left() == []
    # The next one takes it.
    attached = attach(witness)
    assert "on file-scsi.0, target 0\n" in attached.said()
    assert attached.end() == 0


def test_a_controller_that_others_use_stays(guest: Guest, attach: Attach) -> None:
    witness = guest(command=NO_CONTROLLER)
    attached = attach(witness)
    witness.ask("blockdev-add", driver="null-co", node_name="other")
    witness.ask("device_add", driver="scsi-hd", drive="other", id="other", bus="file-scsi.0")
    assert attached.end() == 0
    assert witness.devices() == {"rp1", "other", "file-scsi"}


def test_no_place_for_a_controller(guest: Guest, attach: Attach, aqmp: Aqmp) -> None:
    witness = guest("-device", "virtio-rng-pci,bus=rp1", command=NO_CONTROLLER)
    done = aqmp.run("attach", RAMDISK, "--qmp", witness.monitor.socket)
    assert (done.returncode, done.stderr) == (
        1, "python3 -m aqmp attach: device_add: Bus 'pcie.0' does not support hotplugging; "
           "and no PCIe root port is free\n")
    # QEMU would take it, but no guest would see it.
    done = aqmp.run("attach", RAMDISK, "--qmp", witness.monitor.socket, "--device", "virtio-blk", "--bus", "rp1")
    assert (done.returncode, done.stderr) == (
        1, "python3 -m aqmp attach: the PCIe port rp1 has a device already, and room for one\n")
    assert witness.nodes() == {} and aqmp.left() == []


def test_virtio_blk_which_the_guest_keeps(guest: Guest, attach: Attach, aqmp: Aqmp) -> None:
    """A guest that stands still lets go of no PCI device: it keeps its disk, until the machine ends."""
    witness = guest(command=NO_CONTROLLER)
    attached = attach(witness, "--device", "virtio-blk", "--timeout", 0.5)
    assert attached.said() == ("file: 1 MiB, writable, a virtio-blk disk on rp1\n"
                               "in a Linux guest /dev/disk/by-id/virtio-file\n")
    done = aqmp.run("detach", "file")
    assert (done.returncode, done.stderr) == (
        1, "python3 -m aqmp detach: the guest has not let go of file after 0.5 s\n")
    attached.process.send_signal(signal.SIGTERM)
    attached.wait_for("^the guest has not let go of file after 0.5 s: it stays attached", 2)
    assert "read 512/512" in witness.io("/machine/peripheral/file/virtio-backend", "read 0 512")
    witness.monitor.stop()
    assert attached.process.wait() == 0
    assert attached.said().endswith("QEMU has ended, or closed its monitor: the disk's server ends too\n")
    assert aqmp.left() == []


def test_ended_all_the_same(guest: Guest, attach: Attach, aqmp: Aqmp) -> None:
    """By the second signal while the guest is waited for."""
    witness = guest(command=NO_CONTROLLER)
    attached = attach(witness, "--device", "virtio-blk", "--bus", "rp1")
    [server] = attached.servers()
    attached.process.send_signal(signal.SIGINT)
    assert attached.end(signal.SIGTERM) == 1
    assert attached.said().endswith("ended all the same; QEMU still has, without a server: node file, device file\n")
    assert gone(server) and aqmp.left() == []


def test_somebody_else_takes_it_out(guest: Guest, attach: Attach, aqmp: Aqmp) -> None:
    witness = guest()
    attached = attach(witness)
    witness.ask("device_del", id="file")
    assert attached.process.wait() == 0
    assert witness.nodes() == {} and aqmp.left() == []


@pytest.mark.parametrize("how", [(), ("--export-only",)], ids=["device", "export"])
def test_qemu_ends(guest: Guest, attach: Attach, aqmp: Aqmp, how: tuple[str, ...]) -> None:
    witness = guest()
    attached = attach(witness, *how)
    [server] = attached.servers()
    witness.monitor.stop()
    assert attached.process.wait() == 0
    assert attached.said().endswith("QEMU has ended, or closed its monitor: the disk's server ends too\n")
    assert gone(server) and aqmp.left() == []


@pytest.mark.parametrize("how", [(), ("--export-only",)], ids=["device", "export"])
def test_detach_after_attach_was_killed(guest: Guest, attach: Attach, aqmp: Aqmp,
                                        how: tuple[str, ...]) -> None:
    """Its server ends when QEMU disconnects; detach sees to that."""
    witness = guest()
    attached = attach(witness, *how)
    [server] = attached.servers()
    attached.end(signal.SIGKILL)
    again = aqmp.run("attach", RAMDISK, "--qmp", witness.monitor.socket, "--id", "file")
    assert (again.returncode, again.stderr) == (1, "python3 -m aqmp attach: file is attached already: detach it first, "
                                                   "or choose another name with --id\n")
    done = aqmp.run("detach", "file")
    assert (done.returncode, done.stderr) == (0, "")
    assert witness.nodes() == {} and witness.exports() == [] and "file" not in witness.devices()
    assert aqmp.left() == []
    until(lambda: gone(server))


def test_detach_after_both_were_killed(daemon: Witness, attach: Attach, aqmp: Aqmp) -> None:
    attached = attach(daemon, "--export-only")
    [server] = attached.servers()
    attached.end(signal.SIGKILL)
    daemon.monitor.stop()
    assert aqmp.run("detach", "file").returncode == 0
    assert aqmp.left() == []
    until(lambda: gone(server))


def test_nobody_reads_what_it_says(daemon: Witness, aqmp: Aqmp, image: Path) -> None:
    """Then it still does its work: the server is started again."""
    process = subprocess.Popen(
        aqmp.command("attach", "--qmp", daemon.monitor.socket, FILE, f"file={image}", "--export-only"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=aqmp.environment)
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    [server] = children(process.pid)
    os.kill(server, signal.SIGKILL)
    [again] = until(lambda: [pid for pid in children(process.pid) if pid != server])
    h = connect(f"nbd+unix:///file?socket={aqmp.runtime}/aqmp/exports/file")
    assert h.pread(512, 0) == bytes(512)
    h.shutdown()
    process.terminate()
    assert process.wait() == 0 and gone(again)


def test_nohup(daemon: Witness, aqmp: Aqmp, image: Path) -> None:
    """A terminal that goes does not end it."""
    process = subprocess.Popen(
        ["nohup", *aqmp.command("attach", "--qmp", daemon.monitor.socket, FILE, f"file={image}", "--export-only")],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=aqmp.environment)
    with process:
        assert process.stdout and process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        # The answer comes after the signal has: so it was not what ended it.
        assert aqmp.run("detach", "nothing").returncode == 1 and "file" in daemon.nodes()
        process.terminate()
        assert process.wait() == 0


def test_the_readmes_commands(aqmp: Aqmp, folder: Path) -> None:
    readme = (ROOT / "README.md").read_text().replace("/tmp/qmp", f"{folder}/qmp")
    [block] = re.findall(r"^    qemu-storage-daemon .*\n(?:    .*\n)+", readme, re.MULTILINE)
    daemon, shell, attach, detach = (line.strip() for line in block.splitlines())
    with ExitStack() as stack:

        def run(command: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(command, shell=True, cwd=ROOT, text=True, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, env=aqmp.environment)
            return stack.enter_context(process)

        served = run(f"exec {daemon}")
        stack.callback(served.kill)
        until(lambda: is_listening(str(folder / "qmp")))
        assert '"qemu"' in run(shell).communicate()[0]
        attached = run(attach)
        assert attached.stdout and attached.stdout.readline().startswith("ramdisk: 64 MiB, writable: nbd+unix:///")
        assert run(detach).wait() == 0 and attached.wait() == 0
