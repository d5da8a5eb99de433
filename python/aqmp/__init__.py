# SPDX-License-Identifier: BSD-3-Clause
"""aqmp: QEMU's monitor protocol, QMP, for asyncio. See docs/aqmp.md."""

from .error import (
    BadReplyError,
    ConnectError,
    DeserializationError,
    ExecInterruptedError,
    ExecTimeoutError,
    ExecuteError,
    GreetingError,
    ListenerError,
    NegotiationError,
    ProtocolError,
    QMPError,
    ServerParseError,
    StateError,
    UnexpectedTypeError,
)
from .events import EventListener, Events
from .message import Message
from .models import ErrorInfo, ErrorResponse, Greeting, QMPGreeting
from .protocol import AsyncProtocol, Runstate
from .qmp_client import QMPClient
from .stream import SocketAddrT

__all__ = [
    "AsyncProtocol",
    "BadReplyError",
    "ConnectError",
    "DeserializationError",
    "ErrorInfo",
    "ErrorResponse",
    "EventListener",
    "Events",
    "ExecInterruptedError",
    "ExecTimeoutError",
    "ExecuteError",
    "Greeting",
    "GreetingError",
    "ListenerError",
    "Message",
    "NegotiationError",
    "ProtocolError",
    "QMPClient",
    "QMPError",
    "QMPGreeting",
    "Runstate",
    "ServerParseError",
    "SocketAddrT",
    "StateError",
    "UnexpectedTypeError",
]
