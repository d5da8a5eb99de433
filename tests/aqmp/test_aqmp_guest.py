# SPDX-License-Identifier: BSD-3-Clause
"""A real Linux guest gets disks, uses them while their server dies, and gives them back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aqmp_attach_kit import Aqmp, Attach, Witness, gone, until
from aqmp_guest_kit import Serial, command
from aqmp_real import Monitor

ROOT = os.environ.get("AQMP_GUEST")
pytestmark = pytest.mark.skipif(not ROOT, reason="takes a Linux kernel: ./test guest")


@pytest.fixture
def linux(start: Callable[..., Monitor], folder: Path) -> Iterator[tuple[Serial, Witness]]:
    """The shell of a guest that has started, and its machine."""
    assert ROOT
    second = f"{folder}/second.sock"
    monitor = start(command(Path(ROOT), folder), "-qmp", f"unix:{second},server=on,wait=off")
    until((folder / "serial").exists)
    serial = Serial(folder / "serial")
    witness = Witness(monitor, second)
    with witness:
        yield serial, witness
    serial.close()


def rounds_of(serial: Serial) -> int:
    """How often the guest has written and read all of its disk so far."""
    return int(serial.run("grep -c ^round /log || true"))


@pytest.mark.parametrize(("device", "disk", "name"), [
    ("virtio-scsi", "sda", "scsi_id --whitelisted --device=/dev/sda --export | grep ^ID_SERIAL="),
    ("virtio-blk", "vda", "cat /sys/block/vda/serial; echo")])
def test_a_disk_comes_and_goes(linux: tuple[Serial, Witness], attach: Attach, aqmp: Aqmp, image: Path,
                               device: str, disk: str, name: str) -> None:
    """udev makes the link in /dev/disk/by-id of what is asked for here."""
    serial, witness = linux
    for _ in range(2):
        attached = attach(witness, "--device", device)
        link = attached.said().split()[-1].rpartition("/dev/disk/by-id/")[2]
        until(lambda: disk in serial.run("cat /proc/partitions"))
        assert link == {"virtio-scsi": "scsi-", "virtio-blk": "virtio-"}[device] + serial.run(name).rpartition("=")[2]
        serial.run(f"echo from the guest | dd of=/dev/{disk} conv=fsync 2>/dev/null")
        assert image.read_bytes().startswith(b"from the guest\n")
        [server] = attached.servers()
        # The guest answers, so a controller goes too.
        assert attached.end() == 0
        assert witness.devices() == {"rp1"} and witness.nodes() == {}
        assert disk not in serial.run("cat /proc/partitions")
        assert gone(server) and aqmp.left() == []


def test_the_guest_sees_no_error(linux: tuple[Serial, Witness], attach: Attach, image: Path) -> None:
    """Its reads and writes go on while the server is killed again and again."""
    serial, witness = linux
    attached = attach(witness)
    until(lambda: "sda" in serial.run("cat /proc/partitions"))
    serial.run("dd if=/dev/urandom of=/data bs=64k count=16 2>/dev/null")
    serial.run("touch /go; while [ -e /go ]; do dd if=/data of=/dev/sda bs=64k oflag=direct && "
               "dd if=/dev/sda bs=64k iflag=direct | cmp - /data && echo round || touch /failed; done >/log 2>&1 &")
    for deaths in range(1, 4):
        rounds = rounds_of(serial)
        until(lambda: rounds_of(serial) > rounds)
        attached.kill_server()
        attached.wait_for("^the disk's server serves again$", deaths)
    # It has done a round with the last one.
    rounds = rounds_of(serial)
    until(lambda: rounds_of(serial) > rounds)
    serial.run("rm /go; wait; [ ! -e /failed ]")
    assert "error" not in serial.run("dmesg").lower()
    assert attached.end() == 0
