# SPDX-License-Identifier: BSD-3-Clause
"""The exceptions of the package: everything that it raises about a connection is a QMPError."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .message import Message
    from .models import ErrorResponse
    from .protocol import Runstate


class QMPError(Exception):
    """The root of the tree. `error_message` is the text of any of them."""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return self.error_message


class ConnectError(QMPError):
    """No connection came about. `exc` is what stood in the way: an OSError, a TimeoutError, a ProtocolError …"""

    def __init__(self, error_message: str, exc: Exception) -> None:
        super().__init__(error_message)
        self.exc = exc

    def __str__(self) -> str:
        return f"{self.error_message}: {str(self.exc) or type(self.exc).__name__}"


class StateError(QMPError):
    """The call needs another runstate. `state` is the one that was, `required` the one that it takes."""

    def __init__(self, error_message: str, state: Runstate, required: Runstate) -> None:
        super().__init__(error_message)
        self.state = state
        self.required = required


class ListenerError(QMPError):
    """A listener is registered twice, or is asked for an event that can no longer come."""


class ExecInterruptedError(QMPError):
    """The command was sent, or nearly so, and its reply will not come: whether it ran is not known."""


class ExecTimeoutError(ExecInterruptedError, TimeoutError):
    """The command's time-out passed before its reply came. The connection goes on."""


class ExecuteError(QMPError):
    """The server answered a command with an error. str() is its description.

    `error` is the answer as an ErrorResponse; `sent` and `received` are the two messages.
    """

    def __init__(self, error_response: ErrorResponse, sent: Message, received: Message) -> None:
        super().__init__(error_response.error.desc)
        self.error = error_response
        self.sent = sent
        self.received = received

    @property
    def error_class(self) -> str:
        """QEMU's class of the error: `GenericError`, `CommandNotFound`, `DeviceNotFound` …"""
        return self.error.error.class_


class ProtocolError(QMPError):
    """The peer broke the protocol. The connection ends with it."""


class DeserializationError(ProtocolError):
    """What came is not JSON, or too much of it. `raw` holds the bytes, as far as they came."""

    def __init__(self, error_message: str, raw: bytes) -> None:
        super().__init__(error_message)
        self.raw = raw


class UnexpectedTypeError(ProtocolError):
    """What came is JSON, and no object. `value` is what it is."""

    def __init__(self, error_message: str, value: object) -> None:
        super().__init__(error_message)
        self.value = value


class _MessageError(ProtocolError):
    def __init__(self, error_message: str, msg: Message) -> None:
        super().__init__(error_message)
        self.msg = msg


class ServerParseError(_MessageError):
    """The server says, in `msg`, that it could not parse what it got."""


class BadReplyError(_MessageError):
    """`msg` answers `sent`, and is neither a return nor an error."""

    def __init__(self, error_message: str, msg: Message, sent: Message) -> None:
        super().__init__(error_message, msg)
        self.sent = sent


class _WrappedError(ProtocolError):
    def __init__(self, error_message: str, exc: Exception) -> None:
        super().__init__(error_message)
        self.exc = exc

    def __str__(self) -> str:
        return f"{self.error_message}: {str(self.exc) or type(self.exc).__name__}"


class GreetingError(_WrappedError):
    """The server's greeting did not come, or is none. `exc` says how."""


class NegotiationError(_WrappedError):
    """The negotiation of capabilities failed. `exc` says how."""
