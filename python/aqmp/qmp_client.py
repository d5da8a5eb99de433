# SPDX-License-Identifier: BSD-3-Clause
"""QMPClient, the client of a QMP monitor: commands, their replies, and events."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping

from .error import (
    BadReplyError,
    ExecInterruptedError,
    ExecTimeoutError,
    ExecuteError,
    GreetingError,
    NegotiationError,
    ProtocolError,
    QMPError,
    ServerParseError,
)
from .events import Events
from .message import Message
from .models import ErrorResponse, Greeting
from .protocol import LIMIT, AsyncProtocol, Runstate
from .stream import Descriptor


class _Pending:
    """A command whose reply is awaited."""

    def __init__(self, sent: Message) -> None:
        self.sent = sent
        self.future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()


class QMPClient(AsyncProtocol[Message], Events):
    """A client of one monitor. It can be made without an event loop, and connected again and again.

    Set `await_greeting` and `negotiate` to False for the guest agent, which does neither.
    """

    def __init__(self, name: str | None = None, limit: int | None = LIMIT) -> None:
        self._pending: dict[object, _Pending] = {}
        # Commands without an id: their replies have none either, and come in the order of the commands.
        self._unnamed: deque[_Pending] = deque()
        self._number = 0
        self._greeting: Greeting | None = None
        self.await_greeting = True
        self.negotiate = True
        AsyncProtocol.__init__(self, name, limit)
        Events.__init__(self)

    @property
    def greeting(self) -> Greeting | None:
        """What the monitor said first, in this connection or the last one."""
        return self._greeting

    async def execute(self, cmd: str, arguments: Mapping[str, object] | None = None, oob: bool = False, *,
                      timeout: float | None = None) -> object:
        """Execute a command, out of band if `oob`, and return what it returns.

        Raises ExecuteError if the server answers with an error; ExecTimeoutError after `timeout` seconds (None: no
        limit); ExecInterruptedError if the connection ends before the reply comes; StateError unless RUNNING.
        """
        return await self._returned(self.make_execute_msg(cmd, arguments, oob), timeout)

    async def execute_msg(self, msg: Message, *, timeout: float | None = None) -> object:
        """execute(), for a message that is made already. It gets an id if it has none.

        Raises what execute() does; ValueError for an id that is in use, or a message that executes nothing.
        """
        if "execute" not in msg and "exec-oob" not in msg:
            raise ValueError(f"expected a message with 'execute' or 'exec-oob', got {dict(msg)!r}")
        return await self._returned(Message(msg), timeout)

    @classmethod
    def make_execute_msg(cls, cmd: str, arguments: Mapping[str, object] | None = None, oob: bool = False) -> Message:
        """The message that executes a command."""
        msg = Message({"exec-oob" if oob else "execute": cmd})
        if arguments is not None:
            msg["arguments"] = arguments
        return msg

    async def _raw(self, msg: Message | Mapping[str, object] | bytes, assign_id: bool = True, *,
                   timeout: float | None = None) -> Message:
        """Send a message and return its reply, an error too. It is given an id if it has none, and `assign_id`.

        Raises what execute() does but ExecuteError; ValueError for an id that is in use, or an out-of-band command
        without one (its reply may overtake others, and could not be told from theirs).
        """
        return await self._exchange(Message(msg), assign_id, timeout)

    async def _returned(self, msg: Message, timeout: float | None) -> object:
        reply = await self._exchange(msg, True, timeout)
        if "return" in reply:
            return reply["return"]
        if "error" not in reply:
            raise BadReplyError("the reply has neither a return nor an error", reply, msg)
        try:
            response = ErrorResponse(reply)
        except (ValueError, TypeError) as error:
            raise BadReplyError(f"the reply is a malformed error: {error}", reply, msg) from error
        raise ExecuteError(response, msg, reply)

    async def _exchange(self, msg: Message, assign_id: bool, timeout: float | None) -> Message:
        self._require(Runstate.RUNNING, command_name(msg))
        if assign_id and "id" not in msg:
            self._number += 1
            msg["id"] = f"aqmp#{self._number}"
        pending = _Pending(msg)
        if "id" in msg:
            key = _key(msg["id"])
            if key in self._pending:
                raise ValueError(f"the id {msg['id']!r} is in use")
            self._send(msg)
            self._pending[key] = pending
        elif "exec-oob" in msg:
            raise ValueError("an out-of-band command needs an id")
        else:
            key = None
            self._send(msg)
            self._unnamed.append(pending)
        try:
            if timeout is None:
                return await pending.future
            async with asyncio.timeout(timeout):
                return await pending.future
        except TimeoutError as error:
            raise ExecTimeoutError(f"{command_name(msg)}: no reply within {timeout:g} s") from error
        finally:
            # Without an id it stays in its place: a reply that comes late is for it, and for nobody else.
            if key is not None:
                self._pending.pop(key, None)

    def send_fd_scm(self, fd: int) -> None:
        """Send a duplicate of a file descriptor, for the command `getfd` or `add-fd` that comes next.

        Raises StateError unless RUNNING; ValueError unless it goes over a UNIX socket without TLS; OSError if `fd` is
        no file descriptor.
        """
        self._require(Runstate.RUNNING, "send_fd_scm")
        self._outgoing.put_nowait(Descriptor(fd, self._writer))

    def _on_message(self, msg: Message) -> None:
        if "event" in msg:
            self._event_dispatch(msg)
        elif "id" in msg:
            pending = self._pending.get(_key(msg["id"]))
            # The reply to a command that nobody waits for any more, or to nothing.
            if pending is None:
                self.logger.debug("dropped a reply to nobody: %s", msg)
            elif not pending.future.done():
                pending.future.set_result(msg)
        elif self._unnamed:
            future = self._unnamed.popleft().future
            if not future.done():
                future.set_result(msg)
        elif "error" in msg:
            raise ServerParseError("the server could not parse a message", msg)
        else:
            raise ProtocolError(f"expected an event or a reply with an id, got {dict(msg)!r}")

    async def _do_recv(self) -> Message:
        line = await self._readline()
        if line.rstrip() == b"{":
            # A monitor with pretty=on: the object ends at a closing brace in the first column.
            lines = [line]
            while line.rstrip() != b"}":
                line = await self._readline()
                lines.append(line)
            line = b"\n".join(lines)
        return Message(line)

    def _do_send(self, msg: Message) -> bytes:
        return bytes(msg) + b"\n"

    def _put(self, data: bytes) -> None:
        super()._put(data)
        # QEMU 7.2 leaves the last bytes of a TLS record until the next one comes: an empty line has one of its own.
        if self._writer.get_extra_info("sslcontext") is not None:
            self._writer.write(b"\n")

    async def _establish_session(self) -> None:
        self._set_ended(False)
        self._greeting = None
        if self.await_greeting:
            self._greeting = await self._get_greeting()
        if self.negotiate:
            try:
                await self._negotiate()
            except (EOFError, QMPError, OSError, ValueError, TypeError) as error:
                raise NegotiationError("the negotiation failed", error) from error

    async def _get_greeting(self) -> Greeting:
        try:
            return Greeting(await self._recv())
        except EOFError as error:
            raise GreetingError("no greeting", EOFError("the server hung up")) from error
        except (QMPError, ValueError, TypeError) as error:
            raise GreetingError("expected a greeting", error) from error

    async def _negotiate(self) -> None:
        """Ask for out-of-band commands if they are on offer, and wait for the answer."""
        offered = self._greeting is not None and "oob" in self._greeting.QMP.capabilities
        msg = self.make_execute_msg("qmp_capabilities", {"enable": ["oob"]} if offered else None)
        msg["id"] = "aqmp#negotiation"
        await self._send_now(msg)
        while True:
            reply = await self._recv()
            if "event" in reply:
                self._event_dispatch(reply)
            elif reply.get("id") == msg["id"] or "error" in reply:
                break
        if "error" in reply:
            raise ExecuteError(ErrorResponse(reply), msg, reply)
        if "return" not in reply:
            raise BadReplyError("the reply has neither a return nor an error", reply, msg)

    def _cleanup(self, lost: bool) -> None:
        self._interrupt()
        self._set_ended(True)

    def _interrupt(self) -> None:
        """Fail the commands whose replies will not come."""
        for pending in [*self._pending.values(), *self._unnamed]:
            if not pending.future.done():
                name = command_name(pending.sent)
                error = ExecInterruptedError(f"{name}: the connection ended before the reply came")
                error.__cause__ = self._error
                pending.future.set_exception(error)
        self._pending.clear()
        self._unnamed.clear()


def _key(identifier: object) -> object:
    """An id, any JSON value, as the key of a dict: 1 is neither true nor "1"."""
    return identifier if type(identifier) is str else ("json", json.dumps(identifier, sort_keys=True))


def command_name(msg: Message) -> str:
    """What a message is called in an error."""
    return str(msg.get("execute", msg.get("exec-oob", "a message without a command")))
