# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest for the tests: a kernel with what virtio disks need, and a shell on its serial port."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from aqmp_real import TIMEOUT

# In the order in which they need each other. Some kernels have some of them built in.
MODULES = ["crct10dif_common", "crct10dif_generic", "crc-t10dif", "crc64", "crc64-rocksoft", "t10-pi", "virtio_ring",
           "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk", "scsi_common",
           "scsi_mod", "virtio_scsi", "sd_mod"]

INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for module in {' '.join(MODULES)}; do
    [ ! -e /modules/$module.ko ] || insmod /modules/$module.ko
done
stty -echo
echo ready
while read -r line; do
    eval "$line"
    echo "status $?"
done
"""


def write_archive(path: Path, files: dict[str, bytes]) -> None:
    """A cpio archive of executable files, with their directories, as the kernel unpacks it at its start."""

    def entry(out: BinaryIO, name: str, mode: int, data: bytes = b"") -> None:
        text = name.encode() + b"\0"
        fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(text), 0)
        out.write(b"070701" + b"".join(b"%08x" % field for field in fields) + text)
        out.write(bytes(-out.tell() % 4) + data)
        out.write(bytes(-out.tell() % 4))

    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    with path.open("wb") as out:
        for folder in sorted(folders | {"proc", "sys", "dev"}):
            entry(out, folder, 0o40755)
        for name, data in files.items():
            entry(out, name, 0o100755, data)
        entry(out, "TRAILER!!!", 0)


def contents(root: Path) -> Iterator[tuple[str, bytes]]:
    """The guest's files, from where the packages are unpacked."""
    yield "init", INIT.encode()
    yield "bin/busybox", next(root.glob("**/bin/busybox")).read_bytes()
    scsi_id = next(root.glob("**/udev/scsi_id"))
    yield "bin/scsi_id", scsi_id.read_bytes()
    linked = subprocess.run(["ldd", scsi_id], text=True, capture_output=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(0x", linked):
        yield library.lstrip("/"), Path(library).read_bytes()
    for name in MODULES:
        for module in root.glob(f"**/{name}.ko"):
            yield f"modules/{name}.ko", module.read_bytes()


def command(root: Path, folder: Path) -> list[str]:
    """A QEMU that boots it. Its serial port is folder/serial."""
    write_archive(folder / "initrd", dict(contents(root)))
    return ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "q35,accel=tcg", "-cpu", "qemu64",
            "-m", "256", "-kernel", str(next(root.glob("boot/vmlinuz-*"))), "-initrd", str(folder / "initrd"),
            "-append", "console=ttyS0 quiet panic=-1", "-device", "pcie-root-port,id=rp1,chassis=1",
            "-serial", f"unix:{folder}/serial,server=on,wait=on",
            "-chardev", "{chardev}", "-mon", "chardev=monitor,mode=control{pretty}"]


class Serial:
    """The guest's shell."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(5 * TIMEOUT)
        self._socket.connect(os.fspath(path))
        self._lines = self._socket.makefile("r", newline="\n", errors="replace")
        self._read_until("ready")

    def run(self, line: str) -> str:
        """What a line of shell prints. It must end with status 0."""
        self._socket.sendall(line.encode() + b"\n")
        return self._read_until("status 0")

    def _read_until(self, last: str) -> str:
        lines: list[str] = []
        for line in self._lines:
            text = line.rstrip("\r\n")
            if text == last:
                return "\n".join(lines)
            assert not text.startswith("status "), (text, lines)
            lines.append(text)
        raise AssertionError(f"the guest has ended: {lines}")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
