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
from .reconnect import ReconnectingClient
from .server import CommandError, QMPServer
from .stream import SocketAddrT
from .sync import SyncListener, SyncQMPClient

__all__ = [
    "AsyncProtocol",
    "BadReplyError",
    "CommandError",
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
    "QMPServer",
    "ReconnectingClient",
    "Runstate",
    "ServerParseError",
    "SocketAddrT",
    "StateError",
    "SyncListener",
    "SyncQMPClient",
    "UnexpectedTypeError",
]
