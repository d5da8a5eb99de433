# SPDX-License-Identifier: BSD-3-Clause
"""QMPServer, a monitor of one's own: commands are coroutines, and mistakes are answered as QEMU answers them."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from ssl import SSLContext
from typing import TypeVar

from . import qemu_json
from .error import ConnectError
from .message import Message
from .protocol import HANG_UP, AsyncProtocol, Runstate
from .stream import SocketAddrT

Handler = Callable[..., Awaitable[object]]
H = TypeVar("H", bound=Handler)

# As in QEMU: more commands than these are read once one of them is done.
_COMMANDS_LIMIT = 8
_EVENTS_LIMIT = 10_000
_PAUSE = 0.1  # seconds; after a client that could not be taken

_VERSION: dict[str, object] = {"qemu": {"major": 0, "minor": 0, "micro": 0}, "package": "aqmp"}


class CommandError(Exception):
    """Raised in a command, it is the answer: an error of this description and class."""

    def __init__(self, desc: str, error_class: str = "GenericError") -> None:
        super().__init__(desc)
        self.error_class = error_class


class QMPServer(AsyncProtocol[Message]):
    """A monitor. It serves one client at a time, as QEMU does; others wait.

    `version` is what the greeting and query-version tell; `limit` the most bytes that a message may have (None: no
    limit). Besides the commands that are added there are qmp_capabilities, query-commands and query-version.
    `dropped` counts the events that a client did not take in time.
    """

    def __init__(self, name: str | None = None, limit: int | None = qemu_json.SIZE_LIMIT, *,
                 version: Mapping[str, object] = _VERSION) -> None:
        super().__init__(name, limit)
        self.version = dict(version)
        self.dropped = 0
        self._handlers: dict[str, Handler] = {}
        self._oob_commands: set[str] = set()
        self._serving: asyncio.Task[None] | None = None
        self.command("query-commands")(self._query_commands)
        self.command("query-version")(self._query_version)

    def command(self, name: str, *, oob: bool = False) -> Callable[[H], H]:
        """Decorate the coroutine function that is the command `name`; with `oob` it may be executed out of band.

        It gets the arguments as keywords, with `_` for `-` (and `class_` for `class`), or, if it takes `**arguments`,
        those that it does not name as they came. None means an empty object. CommandError is an error's answer; any
        other exception is one too, and is in the log. A client that goes has its commands cancelled.
        """

        def add(handler: H) -> H:
            self._handlers[name] = handler
            if oob:
                self._oob_commands.add(name)
            return handler

        return add

    async def serve(self, address: SocketAddrT, ssl: SSLContext | None = None) -> None:
        """Listen, and from now on serve one client after another until close(). Raises what start_server() does."""
        await self.start_server(address, ssl)
        self._serving = asyncio.create_task(self._serve(), name=f"{self!r} server")

    async def close(self) -> None:
        """Stop listening, and end the connection of the client that is there."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait({self._serving})
            self._serving = None
        try:
            await self.disconnect()
        except Exception as error:
            self.logger.info("the last client: %s", error)

    async def __aenter__(self) -> QMPServer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def emit(self, event: str, data: Mapping[str, object] | None = None) -> None:
        """Send an event to the client, if there is one and it has negotiated."""
        if self.runstate is not Runstate.RUNNING or not self._negotiated:
            return
        if self._outgoing.qsize() >= _EVENTS_LIMIT:
            self.dropped += 1
            return
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        msg = Message({"timestamp": {"seconds": seconds, "microseconds": nanoseconds // 1000}, "event": event})
        if data is not None:
            msg["data"] = data
        self._send(msg)

    def _stop_listening(self) -> None:
        if self._serving is None:
            super()._stop_listening()

    async def _serve(self) -> None:
        while True:
            try:
                await self._accept(None)
            except ConnectError as error:
                self.logger.info("%s", error)
                await asyncio.sleep(_PAUSE)
            while self.runstate is not Runstate.IDLE:
                await self.runstate_changed()

    # The protocol.

    async def _establish_session(self) -> None:
        self._input = qemu_json.Reader(self.limit)
        self._values: deque[object] = deque()
        self._negotiated = self._oob = False
        self._commands: asyncio.Queue[Message | CommandError] = asyncio.Queue()
        self._room = asyncio.Event()
        await self._send_now(Message({"QMP": {"version": self.version, "capabilities": ["oob"]}}))
        self._spawn(self._work(), "commands")

    async def _do_recv(self) -> Message:
        while True:
            while self._commands.qsize() >= _COMMANDS_LIMIT:
                self._room.clear()
                await self._room.wait()
            while not self._values:
                data = await self._read_some()
                if not data:
                    raise EOFError
                self._values.extend(self._input.feed(data))
            value = self._values.popleft()
            if isinstance(value, dict):
                return Message(value)
            what = str(value) if isinstance(value, qemu_json.ParseError) else "QMP input must be a JSON object"
            self._commands.put_nowait(CommandError(what))

    def _do_send(self, msg: Message) -> bytes:
        return bytes(msg) + b"\r\n"

    def _on_message(self, msg: Message) -> None:
        if self._oob and "exec-oob" in msg:
            self._spawn(self._reply(msg), "out-of-band command")
        else:
            self._commands.put_nowait(msg)

    async def _work(self) -> None:
        """The task that executes commands one after another."""
        try:
            while True:
                await self._reply(await self._commands.get())
                # A client that does not read gets no more answers.
                await self._writer.drain()
                self._room.set()
        except HANG_UP:
            self.logger.debug("the client hung up")

    async def _reply(self, msg: Message | CommandError) -> None:
        try:
            if isinstance(msg, CommandError):
                raise msg
            value = await self._execute(msg)
            reply = Message({"return": {} if value is None else value})
            bytes(reply)
        except CommandError as error:
            reply = Message({"error": {"class": error.error_class, "desc": str(error)}})
        except Exception as error:
            self.logger.exception("the command failed: %r", msg)
            reply = Message({"error": {"class": "GenericError", "desc": f"{type(error).__name__}: {error}"}})
        if isinstance(msg, Message) and "id" in msg:
            reply["id"] = msg["id"]
        try:
            self._send(reply)
        except (ValueError, RecursionError) as error:
            # Read, but not to be written: an infinite number, or a nesting too deep.
            desc = f"the id cannot be sent back: {error}"
            self._send(Message({"error": {"class": "GenericError", "desc": desc}}))

    async def _execute(self, msg: Message) -> object:
        name, arguments = self._checked(msg)
        if not self._negotiated and name != "qmp_capabilities":
            raise CommandError("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound")
        if name == "qmp_capabilities":
            handler: Handler = self._qmp_capabilities
        elif name in self._handlers:
            handler = self._handlers[name]
        else:
            raise CommandError(f"The command {name} has not been found", "CommandNotFound")
        if "exec-oob" in msg and name not in self._oob_commands:
            raise CommandError(f"The command {name} does not support OOB")
        return await handler(**_keywords(handler, arguments))

    def _checked(self, msg: Message) -> tuple[str, dict[str, object]]:
        """The command and its arguments."""
        command = None
        for key, value in msg.items():
            if key == "execute" or key == "exec-oob" and self._oob:
                if not isinstance(value, str):
                    raise CommandError(f"QMP input member '{key}' must be a string")
                if command is not None:
                    raise CommandError("QMP input member 'execute' clashes with 'exec-oob'")
                command = value
            elif key == "arguments":
                if not isinstance(value, dict):
                    raise CommandError("QMP input member 'arguments' must be an object")
            elif key != "id":
                raise CommandError(f"QMP input member '{key}' is unexpected")
        if command is None:
            raise CommandError("QMP input lacks member 'execute'")
        arguments = msg.get("arguments", {})
        assert isinstance(arguments, dict)
        return command, arguments

    # The commands of every monitor.

    async def _qmp_capabilities(self, enable: object = ()) -> None:
        if self._negotiated:
            raise CommandError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
        if not isinstance(enable, (list, tuple)):
            raise CommandError("Invalid parameter type for 'enable', expected: array")
        for number, capability in enumerate(enable):
            if not isinstance(capability, str):
                raise CommandError(f"Invalid parameter type for 'enable[{number}]', expected: string")
            if capability != "oob":
                raise CommandError(f"Parameter 'enable[{number}]' does not accept value '{capability}'")
        self._negotiated = True
        self._oob = "oob" in enable

    async def _query_commands(self) -> object:
        return [{"name": name} for name in sorted([*self._handlers, "qmp_capabilities"])]

    async def _query_version(self) -> object:
        return self.version


def _keywords(handler: Handler, arguments: dict[str, object]) -> dict[str, object]:
    """The arguments under the names that the handler has for them; a CommandError if they do not fit."""
    parameters = inspect.signature(handler).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = {p.name.rstrip("_"): p.name for p in parameters.values()
             if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    keywords: dict[str, object] = {}
    for argument, value in arguments.items():
        name = names.get(argument.replace("-", "_"))
        if name is None and not takes_any:
            raise CommandError(f"Parameter '{argument}' is unexpected")
        keywords[name or argument] = value
    for name in names.values():
        if name not in keywords and parameters[name].default is inspect.Parameter.empty:
            raise CommandError(f"Parameter '{name.rstrip('_').replace('_', '-')}' is missing")
    return keywords
