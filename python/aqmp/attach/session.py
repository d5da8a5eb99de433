# SPDX-License-Identifier: BSD-3-Clause
"""attach() and detach(): a disk's way into a machine, its stay there, and its way out."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from .. import ConnectError, QMPClient, QMPError, SocketAddrT
from .control import Control, request
from .errors import AttachError
from .machine import BusyError, Machine
from .place import Place, State, attached
from .server import STOP_TIMEOUT, DiskServer

CONNECT_TIMEOUT = 10.0  # seconds; a monitor that somebody else uses never answers
END_TIMEOUT = 1.0  # seconds; for nbdkit, when the end is by force


@dataclass(frozen=True)
class Options:
    """What to attach, and how. `arguments` are nbdkit's after the plugin's name: the script, then its parameters.

    `qmp` is the monitor, an absolute path or (host, port); `name` becomes the id of all that is made. `device` is a key
    of machine.DEVICES, or None to have QEMU export the disk instead; `bus` where the device goes, None for the first
    that will do. `timeout` is how long, in seconds, the guest may take to let go of it.
    """

    arguments: tuple[str, ...]
    qmp: str | tuple[str, int]
    name: str
    device: str | None = "virtio-scsi"
    bus: str | None = None
    readonly: bool = False
    timeout: float = 30.0


class _Requests:
    """What has been asked for: the first signal, or `detach`, to take the disk out, a second signal to just end."""

    def __init__(self) -> None:
        self.detach = asyncio.Event()
        self.end = asyncio.Event()

    def signalled(self) -> None:
        (self.end if self.detach.is_set() else self.detach).set()

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """While in it, signals are requests."""
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        # nohup ignores it for us.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self.signalled)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


async def attach(options: Options, say: Callable[[str], None]) -> None:
    """Attach a disk, and return when it has been detached; `say` is called with each line of news.

    Raises AttachError if it could not be attached, after taking back what had been done, or not be detached.
    """
    place = Place(options.name)
    place.claim()
    requests = _Requests()
    control = Control(place.control, requests.detach.set)
    failure: str | None = "attach has been ended"
    try:
        with requests.handling_signals():
            await control.listen()
            await _attach(options, place, requests, control, say)
        failure = None
    except (AttachError, QMPError) as error:
        failure = str(error)
        raise AttachError(failure) from error
    finally:
        control.close()
        place.release()
        control.answer(failure)


async def detach(name: str) -> None:
    """Have the attach of that name take its disk out, and wait until it has. If it was killed, do it in its place.

    Raises AttachError if there is none, or if the disk cannot be taken out.
    """
    place = Place(name)
    if not place.folder.is_dir():
        others = attached()
        raise AttachError(f"{name} is not attached" + (others and f"; attached: {', '.join(others)}" or ""))
    if await request(place.control):
        return
    state = place.state()
    if state.steps:
        try:
            async with _connected(state.qmp) as qmp:
                await Machine(qmp, name, state.timeout, state.steps, lambda: place.note(state)).unplug()
        except ConnectError as error:
            # QEMU has ended as well, or else it may still have the disk.
            if not isinstance(error.exc, (FileNotFoundError, ConnectionRefusedError)):
                raise AttachError(str(error)) from error
            place.export.unlink(missing_ok=True)
        except QMPError as error:
            raise AttachError(str(error)) from error
    place.release()


async def _attach(options: Options, place: Place, requests: _Requests, control: Control,
                  say: Callable[[str], None]) -> None:
    async with _connected(options.qmp) as qmp:
        server = DiskServer(place.disk, options.arguments, options.readonly, say)
        start = time.monotonic()
        if not await _until(requests.detach, server.start()):
            raise AttachError("ended before the disk was attached")
        state = State(options.qmp, options.timeout)
        machine = Machine(qmp, options.name, options.timeout, state.steps, lambda: place.note(state))
        # What took long once will take long again.
        machine.reconnect_delay += 2 * math.ceil(time.monotonic() - start)
        try:
            if not await _until(requests.end, _stay(options, place, machine, requests, control, say)):
                kept = ", ".join(f"{kind} {identifier}" for kind, identifier in state.steps)
                raise AttachError(f"ended all the same; QEMU still has, without a server: {kept or 'nothing'}")
        except QMPError:
            place.export.unlink(missing_ok=True)
            say("QEMU has ended, or closed its monitor: the disk's server ends too")
        finally:
            # At the end by force QEMU is still connected, and nbdkit would wait for it.
            await server.stop(END_TIMEOUT if requests.end.is_set() else STOP_TIMEOUT)


async def _stay(options: Options, place: Place, machine: Machine, requests: _Requests, control: Control,
                say: Callable[[str], None]) -> None:
    """From the disk's way into QEMU to its way out."""
    say(await _plug(options, place, machine))
    while True:
        await _until(requests.detach, machine.taken_out())
        try:
            return await machine.unplug()
        except BusyError as error:
            if ("node", machine.name) not in machine.steps:
                raise
            say(f"{error}: it stays attached (a second Ctrl-C while it waits ends it all the same)")
            control.answer(str(error))
            requests.detach.clear()


async def _plug(options: Options, place: Place, machine: Machine) -> str:
    try:
        if options.device is None:
            return await machine.plug_export(place.disk, options.readonly, place.export)
        return await machine.plug_device(place.disk, options.readonly, options.device, options.bus)
    except QMPError as error:
        place.export.unlink(missing_ok=True)
        raise AttachError(f"the monitor is lost: {error}") from error
    except AttachError as error:
        try:
            await machine.unplug()
        except (AttachError, QMPError) as another:
            raise AttachError(f"{error}; and then: {another}") from error
        raise


@asynccontextmanager
async def _connected(qmp: SocketAddrT) -> AsyncIterator[QMPClient]:
    client = QMPClient()
    await client.connect(qmp, timeout=CONNECT_TIMEOUT)
    try:
        yield client
    finally:
        # How a connection ended that is not needed any more is of no interest.
        with suppress(QMPError, OSError):
            await client.disconnect()


async def _until(event: asyncio.Event, work: Coroutine[Any, Any, object]) -> bool:
    """Run this to its end, and return True; or until the event: then it is cancelled."""
    task = asyncio.create_task(work)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finished = task.done()
    finally:
        for each in (task, waiting):
            each.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
    if finished:
        task.result()
    return finished
