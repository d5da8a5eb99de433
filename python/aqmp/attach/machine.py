# SPDX-License-Identifier: BSD-3-Clause
"""Machine: the commands that put a disk into QEMU or qemu-storage-daemon, and take it out again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from .. import EventListener, ExecuteError, Message, QMPClient
from .errors import AttachError
from .place import Step

DEVICES = {"virtio-scsi": "scsi-hd", "virtio-blk": "virtio-blk"}
SERIAL_LENGTH = 20  # virtio-blk has room for that many bytes
_PERIPHERALS = ("/machine/peripheral", "/machine/peripheral-anon")


class BusyError(AttachError):
    """QEMU, its guest or a client does not let go of the disk yet. Another unplug() may succeed."""


class _Bus(NamedTuple):
    """A bus in QEMU's tree of objects, and the type of the device that has it."""

    device: str
    name: str
    path: str


class Machine:
    """What QEMU has of one disk: a block node, and a device or an export, all of one name.

    `steps` is what has been put into QEMU, in order, as pairs of a kind and an id; `changed` is called after each
    change of it. `timeout` is how long, in seconds, unplug() waits for QEMU to let go of one of them.
    """

    reconnect_delay = 10
    """Seconds for which QEMU holds requests back while the disk has no server. Some commands wait for requests, and
    the whole of QEMU for such a command, so it must not be long."""

    def __init__(self, qmp: QMPClient, name: str, timeout: float, steps: list[Step],
                 changed: Callable[[], None]) -> None:
        self.name = name
        self.steps = steps
        self._qmp = qmp
        self._timeout = timeout
        self._changed = changed
        self._removers: dict[str, Callable[[str], Awaitable[None]]] = {
            "controller": self._remove_controller, "node": self._remove_node, "device": self._remove_device,
            "server": self._remove_server, "export": self._remove_export}

    async def plug_device(self, disk: Path, readonly: bool, device: str, bus: str | None) -> str:
        """Give the disk on this socket to the guest, on `bus` or on the first that will do; tells what it will see.

        `device` is one of DEVICES. Where there is no virtio-scsi controller yet, one is added.
        """
        if bus:
            await self._check_port(bus)
        elif device == "virtio-scsi":
            bus = await self._scsi_bus() or await self._add_controller()
        await self._add_node(disk, readonly)
        serial = self.name[:SERIAL_LENGTH]
        settings = {"driver": DEVICES[device], "id": self.name, "drive": self.name, "serial": serial}
        if bus:
            await self._add("device", self.name, "device_add", {**settings, "bus": bus})
        else:
            await self._add_on_pci("device", settings)
        link = f"scsi-0QEMU_QEMU_HARDDISK_{serial}" if device == "virtio-scsi" else f"virtio-{serial}"
        return (f"{await self._describe()}, a {device} disk on {await self._place()}\n"
                f"in a Linux guest /dev/disk/by-id/{link}")

    async def plug_export(self, disk: Path, readonly: bool, socket: Path) -> str:
        """Let QEMU export the disk on its NBD server, which is started on `socket` if there is none; tells where."""
        await self._add_node(disk, readonly)
        where = f"nbd+unix:///{quote(self.name)}?socket={quote(str(socket))}"
        try:
            await self._add("server", str(socket), "nbd-server-start",
                            {"addr": {"type": "unix", "data": {"path": str(socket)}}})
        except AttachError as error:
            if "already running" not in str(error):
                raise
            where = f"export {self.name} of the NBD server that QEMU runs already"
        await self._add("export", self.name, "block-export-add", {
            "type": "nbd", "id": self.name, "node-name": self.name, "name": self.name,
            "writable": not (await self._node(self.name))["ro"]})
        return f"{await self._describe()}: {where}"

    async def unplug(self) -> None:
        """Take out what was put in, the last first. What is gone already is none the worse.

        Raises BusyError if QEMU does not let go of it in time: then it and what came before it are still there.
        """
        while self.steps:
            kind, identifier = self.steps[-1]
            await self._removers[kind](identifier)
            self.steps.pop()
            self._changed()

    async def taken_out(self) -> None:
        """Wait until the guest, or somebody else, takes out the device or the export. Raises QMPError if QEMU ends."""
        with self._qmp.listener(("DEVICE_DELETED", "BLOCK_EXPORT_DELETED"), lambda event: self.name in (
                _data(event).get("device"), _data(event).get("id"))) as events:
            await events.get()

    # What is put in.

    async def _add(self, kind: str, identifier: str, command: str, arguments: dict[str, Any]) -> None:
        await self._execute(command, arguments)
        self.steps.append((kind, identifier))
        self._changed()

    async def _add_node(self, disk: Path, readonly: bool) -> None:
        await self._add("node", self.name, "blockdev-add", {
            "driver": "nbd", "node-name": self.name, "server": {"type": "unix", "path": str(disk)},
            "reconnect-delay": self.reconnect_delay, "discard": "unmap",
            # The second leaves it to the disk.
            "read-only" if readonly else "auto-read-only": True})

    async def _add_controller(self) -> str:
        identifier = f"{self.name}-scsi"
        await self._add_on_pci("controller", {"driver": "virtio-scsi", "id": identifier})
        return f"{identifier}.0"

    async def _add_on_pci(self, kind: str, settings: dict[str, Any]) -> None:
        """Add a device where QEMU puts it by itself, or else on a free PCIe root port, which QEMU does not look for."""
        try:
            return await self._add(kind, settings["id"], "device_add", settings)
        except AttachError as error:
            if "hotplugging" not in str(error):
                raise
            first = error
        async for port in self._buses("child<PCIE>", "{}"):
            if not await self._in_use(port.path):
                return await self._add(kind, settings["id"], "device_add", {**settings, "bus": port.name})
        raise AttachError(f"{first}; and no PCIe root port is free")

    # What is taken out.

    async def _remove_node(self, identifier: str) -> None:
        if await self._node(identifier):
            await self._execute("blockdev-del", {"node-name": identifier})

    async def _remove_device(self, identifier: str) -> None:
        with self._qmp.listener(("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR"),
                                lambda event: _data(event).get("device") == identifier) as events:
            try:
                await self._qmp.execute("device_del", {"id": identifier})
            except ExecuteError as error:
                if error.error_class == "DeviceNotFound":
                    return
                # The guest may still answer an earlier request.
                if "already in the process" not in str(error):
                    raise BusyError(f"device_del: {error}") from error
            event = await self._wait_for(events, f"the guest has not let go of {identifier}")
            if event["event"] != "DEVICE_DELETED":
                raise BusyError(f"the guest refuses to let go of {identifier}")

    async def _remove_controller(self, identifier: str) -> None:
        """Others may have put disks on it by now: then it is theirs."""
        if not await self._in_use(f"/machine/peripheral/{identifier}/virtio-backend/{identifier}.0"):
            await self._remove_device(identifier)

    async def _remove_export(self, identifier: str) -> None:
        exports = await self._execute("query-block-exports")
        if not any(export["id"] == identifier for export in exports):
            return
        with self._qmp.listener("BLOCK_EXPORT_DELETED",
                                lambda event: _data(event)["id"] == identifier) as events:
            try:
                await self._qmp.execute("block-export-del", {"id": identifier})
            except ExecuteError as error:
                raise BusyError(f"block-export-del: {error}") from error
            await self._wait_for(events, f"QEMU still exports {identifier}")

    async def _wait_for(self, events: EventListener, failure: str) -> Message:
        try:
            async with asyncio.timeout(self._timeout):
                return await events.get()
        except TimeoutError:
            raise BusyError(f"{failure} after {self._timeout:g} s") from None

    async def _remove_server(self, socket: str) -> None:
        """Others may have exports on it by now: then it is theirs."""
        exports = await self._execute("query-block-exports")
        if not any(export["type"] == "nbd" for export in exports):
            try:
                await self._execute("nbd-server-stop")
            except AttachError as error:
                if "not running" not in str(error):
                    raise

    # What is there.

    async def _execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        try:
            return await self._qmp.execute(command, arguments)
        except ExecuteError as error:
            if error.error_class == "CommandNotFound" and command == "device_add":
                raise AttachError("this QEMU has no machine to plug a disk into: use --export-only") from error
            raise AttachError(f"{command}: {error}") from error

    async def _list(self, path: str) -> list[dict[str, Any]]:
        """The properties of an object in QEMU's tree of objects; none if there is no such object."""
        try:
            found: list[dict[str, Any]] = await self._execute("qom-list", {"path": path})
        except AttachError:
            return []
        return found

    async def _buses(self, type_: str, inside: str) -> AsyncIterator[_Bus]:
        """The buses of a type that the machine's devices have, each `inside` its device."""
        for container in _PERIPHERALS:
            for device in await self._list(container):
                path = inside.format(f"{container}/{device['name']}")
                for child in await self._list(path):
                    if child["type"] == type_:
                        yield _Bus(device["type"], child["name"], f"{path}/{child['name']}")

    async def _check_port(self, bus: str) -> None:
        """Refuse a PCIe port that has a device: QEMU would take a second one, where no guest looks for it."""
        async for port in self._buses("child<PCIE>", "{}"):
            if port.name == bus and await self._in_use(port.path):
                raise AttachError(f"the PCIe port {bus} has a device already, and room for one")

    async def _scsi_bus(self) -> str | None:
        async for bus in self._buses("child<SCSI>", "{}/virtio-backend"):
            if bus.device.startswith("child<virtio-scsi-"):
                return bus.name
        return None

    async def _in_use(self, bus: str) -> bool:
        """Whether there are devices on a bus."""
        return any(child["name"].startswith("child[") for child in await self._list(bus))

    async def _node(self, name: str) -> dict[str, Any]:
        """What QEMU says of a node; empty if there is none."""
        nodes = await self._execute("query-named-block-nodes", {"flat": True})
        return next((node for node in nodes if node["node-name"] == name), {})

    async def _describe(self) -> str:
        node = await self._node(self.name)
        return f"{self.name}: {size_text(node['image']['virtual-size'])}, {'read-only' if node['ro'] else 'writable'}"

    async def _place(self) -> str:
        """Where the device is, as `BUS` or `BUS, target N`."""
        path = f"/machine/peripheral/{self.name}"
        bus = str(await self._execute("qom-get", {"path": path, "property": "parent_bus"})).rpartition("/")[2]
        if any(item["name"] == "scsi-id" for item in await self._list(path)):
            return f"{bus}, target {await self._execute('qom-get', {'path': path, 'property': 'scsi-id'})}"
        return bus


def _data(event: Message) -> dict[str, Any]:
    return cast("dict[str, Any]", event["data"])


def size_text(size: int) -> str:
    """A size in bytes as people say it: 64 MiB, or all digits where it is no whole number of any unit."""
    units = ["TiB", "GiB", "MiB", "KiB", "bytes"]
    while size and size % 1024 == 0 and len(units) > 1:
        size //= 1024
        units.pop()
    return f"{size} {units[-1]}"
