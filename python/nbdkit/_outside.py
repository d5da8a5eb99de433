# SPDX-License-Identifier: BSD-3-Clause
"""nbdkit's functions where there is no server: in a test of a script, for a type checker, at a prompt.

What can be done without a server is done as there; the rest raises a RuntimeError that says so. Each server has its own
in C++ under these names, but for what an older one lacks.
"""

import os

from . import _parse

__all__ = [  # what `import nbdkit` gives
    "absolute_path", "debug", "debug_hexdiff", "debug_hexdump", "disconnect", "export_name", "is_tls", "name",
    "nanosleep", "parse_bool", "parse_delay", "parse_int", "parse_int16_t", "parse_int32_t", "parse_int64_t",
    "parse_int8_t", "parse_probability", "parse_size", "parse_uint16_t", "parse_uint32_t", "parse_uint64_t",
    "parse_uint8_t", "parse_unsigned", "peer_gid", "peer_name", "peer_pid", "peer_security_context", "peer_tls_dn",
    "peer_tls_issuer_dn", "peer_uid", "read_password", "realpath", "set_error", "shutdown", "stdio_safe", "timestamp",
]

TYPE_CHECKING = False  # as in `typing`, whose import takes time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeVar

    from _typeshed import ReadableBuffer, StrOrBytesPath

    T = TypeVar("T")


# Messages and errors.


def debug(message: object) -> None:
    """Log a message (a str, bytes, or anything that str() takes) if nbdkit is verbose (-v).

    Without a server: a record of level DEBUG of the logger `nbdkit`.
    """
    import logging

    text = message.decode(errors="backslashreplace") if isinstance(message, bytes) else str(message)
    logging.getLogger("nbdkit").debug("%s", text)


def set_error(err: int) -> None:
    """The errno that the client gets if this callback goes on to raise an exception; 0 takes it back.

    err: an error number such as errno.ENOSPC. Without a server there is no client, and it is only checked.
    Raises TypeError, ValueError.
    """
    if isinstance(err, bool):
        raise TypeError(f"nbdkit.set_error: err: expected an int such as errno.ENOSPC, got bool {err}")
    _number("nbdkit.set_error: err", err, 4095)


def debug_hexdump(buf: "ReadableBuffer", prefix: str | None = None, start: int = 0) -> None:
    """Log bytes in hexadecimal if nbdkit is verbose; start: the offset to show for the first. nbdkit 1.46."""
    prefix = _optional("nbdkit.debug_hexdump: prefix", prefix)
    data = bytes(memoryview(buf))
    for offset in range(0, len(data), 16):
        debug(f"{prefix}{start + offset:08x}: {data[offset:offset + 16].hex(' ')}")


def debug_hexdiff(buf1: "ReadableBuffer", buf2: "ReadableBuffer", prefix: str | None = None, start: int = 0) -> None:
    """Log where two buffers of one size differ, if nbdkit is verbose. nbdkit 1.48.

    Raises ValueError for two sizes.
    """
    prefix = _optional("nbdkit.debug_hexdiff: prefix", prefix)
    one, two = bytes(memoryview(buf1)), bytes(memoryview(buf2))
    if len(one) != len(two):
        raise ValueError(f"nbdkit.debug_hexdiff: expected two buffers of one size, got {len(one)} and {len(two)} bytes")
    for offset in range(0, len(one), 16):
        for sign, line in zip("-+", (one[offset:offset + 16], two[offset:offset + 16])):
            if one[offset:offset + 16] != two[offset:offset + 16]:
                debug(f"{prefix}{sign}{start + offset:08x}: {line.hex(' ')}")


# Parameters.


def parse_size(str: str) -> int:
    """The bytes that a size such as 512, 4k or 1G stands for. Raises ValueError."""
    return _parsed("nbdkit.parse_size", _parse.size, _text("nbdkit.parse_size", str))


def parse_bool(str: str) -> bool:
    """What true or false, on or off, yes or no, 1 or 0 stands for. Raises ValueError."""
    return _parsed("nbdkit.parse_bool", _parse.boolean, _text("nbdkit.parse_bool", str))


def parse_probability(what: str, str: str) -> float:
    """The probability that 0.25, 25%, 1:4 or 1/4 stands for, from 0.0 up.

    what: the parameter's name, for the message of the ValueError that anything else raises.
    """
    return _named("parse_probability", _parse.probability, what, str)


def parse_delay(what: str, str: str) -> tuple[int, int]:
    """The delay that 5 or 5s (seconds), 2.5s, 100ms, 20us or 30ns stands for, as (seconds, nanoseconds).

    what: the parameter's name, for the message of the ValueError that anything else raises.
    """
    return _named("parse_delay", _parse.delay, what, str)


def parse_int(what: str, str: str) -> int:
    """The integer that a parameter's value stands for; decimal, 0x or 0 before it for hexadecimal or octal.

    what: the parameter's name, for the message. Raises ValueError for what does not fit into C's int; the others are
    for its other types.
    """
    return _integer("parse_int", what, str, -2**31, 2**31 - 1)


def parse_unsigned(what: str, str: str) -> int:
    """From 0 to 2**32 - 1; else as parse_int."""
    return _integer("parse_unsigned", what, str, 0, 2**32 - 1)


def parse_int8_t(what: str, str: str) -> int:
    """From -128 to 127; else as parse_int."""
    return _integer("parse_int8_t", what, str, -2**7, 2**7 - 1)


def parse_uint8_t(what: str, str: str) -> int:
    """From 0 to 255; else as parse_int."""
    return _integer("parse_uint8_t", what, str, 0, 2**8 - 1)


def parse_int16_t(what: str, str: str) -> int:
    """From -2**15 to 2**15 - 1; else as parse_int."""
    return _integer("parse_int16_t", what, str, -2**15, 2**15 - 1)


def parse_uint16_t(what: str, str: str) -> int:
    """From 0 to 2**16 - 1; else as parse_int."""
    return _integer("parse_uint16_t", what, str, 0, 2**16 - 1)


def parse_int32_t(what: str, str: str) -> int:
    """From -2**31 to 2**31 - 1; else as parse_int."""
    return _integer("parse_int32_t", what, str, -2**31, 2**31 - 1)


def parse_uint32_t(what: str, str: str) -> int:
    """From 0 to 2**32 - 1; else as parse_int."""
    return _integer("parse_uint32_t", what, str, 0, 2**32 - 1)


def parse_int64_t(what: str, str: str) -> int:
    """From -2**63 to 2**63 - 1; else as parse_int."""
    return _integer("parse_int64_t", what, str, -2**63, 2**63 - 1)


def parse_uint64_t(what: str, str: str) -> int:
    """From 0 to 2**64 - 1; else as parse_int."""
    return _integer("parse_uint64_t", what, str, 0, 2**64 - 1)


def read_password(value: str) -> bytes:
    """The password that a parameter's value stands for.

    It is the value itself, `-` to ask for it, `+FILE` for the first line of a file, or `-FD` for that of an open file
    descriptor, which is closed. Raises OSError.
    """
    text = _text("nbdkit.read_password", value)
    if text == "-":
        import getpass

        return getpass.getpass("password: ").encode(errors="surrogateescape")
    if not text.startswith(("-", "+")):
        return text.encode()
    source: int | str = text[1:]
    if text[0] == "-":
        source = _integer("read_password", "password file descriptor", text[1:], 3, 2**31 - 1)
    with open(source, "rb") as file:
        return file.readline().removesuffix(b"\n").partition(b"\0")[0]


def realpath(path: "StrOrBytesPath") -> str:
    """The canonical absolute path of a file that exists. Raises OSError."""
    return os.path.realpath(_path("nbdkit.realpath", path), strict=True)


def absolute_path(path: "StrOrBytesPath") -> str:
    """The path made absolute; the file need not exist. Raises OSError.

    In the background a server works in the root folder, so that parameters must be made absolute in config.
    """
    return os.path.join(os.getcwd(), _path("nbdkit.absolute_path", path))


# The server.


def shutdown() -> None:
    """Ask the server to end, once the requests that it is working on are done."""
    _needs_a_server("shutdown")


def disconnect(force: bool) -> None:
    """End this callback's connection: at once, or (force false) when its requests are done. nbdkit 1.34."""
    _needs_a_server("disconnect")


def nanosleep(sec: int, nsec: int) -> None:
    """Sleep for that many seconds and nanoseconds, or until the server ends or the client goes.

    That raises OSError (ESHUTDOWN).
    """
    import time

    time.sleep(_number("nbdkit.nanosleep: sec", sec, 2**31 - 1)
               + _number("nbdkit.nanosleep: nsec", nsec, 2**32 - 1) / 10**9)


def stdio_safe() -> bool:
    """Whether standard input and output are free to use: not with `nbdkit -s`, nor once the server serves."""
    return True


def name() -> str | None:
    """The name that the server was given with --name. nbdkit 1.48."""
    return None


def timestamp() -> str:
    """The time of day as the server's log shows it. nbdkit 1.48."""
    import datetime

    return datetime.datetime.now().isoformat(" ")


# The connection.


def export_name() -> str:
    """The export that this connection's client asked for.

    It can be anything: bytes that are not UTF-8 arrive as lone surrogates, as in file names. Raises RuntimeError
    outside a connection, as those below do.
    """
    _needs_a_connection("export_name")


def is_tls() -> bool:
    """Whether this connection is encrypted."""
    _needs_a_connection("is_tls")


def peer_name() -> str | bytes | tuple[object, ...]:
    """The client's address, in the form of socket.getpeername()."""
    _needs_a_connection("peer_name")


def peer_pid() -> int:
    """The client's process id; on Unix sockets."""
    _needs_a_connection("peer_pid")


def peer_uid() -> int:
    """The client's user id; on Unix sockets."""
    _needs_a_connection("peer_uid")


def peer_gid() -> int:
    """The client's group id; on Unix sockets."""
    _needs_a_connection("peer_gid")


def peer_security_context() -> str:
    """The client's security label (SELinux and others). nbdkit 1.36."""
    _needs_a_connection("peer_security_context")


def peer_tls_dn() -> str:
    """The distinguished name in the client's TLS certificate. nbdkit 1.40."""
    _needs_a_connection("peer_tls_dn")


def peer_tls_issuer_dn() -> str:
    """The distinguished name of who issued the client's TLS certificate. nbdkit 1.40."""
    _needs_a_connection("peer_tls_issuer_dn")


def _needs_a_server(function: str) -> "NoReturn":
    raise RuntimeError(f"nbdkit.{function}: there is no server: this process is not nbdkit's")


def _needs_a_connection(function: str) -> "NoReturn":
    raise RuntimeError(f"nbdkit.{function}: not known: there is no connection, since this process is not nbdkit's")


# Arguments.


def _text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{where}: expected a str, got {type(value).__name__} {value!r}")
    text = str.__str__(value)  # of a subclass too, whatever it makes of itself
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{where}: expected a str that UTF-8 can encode, without NULs, got {text!r}")
    return text


def _optional(where: str, value: object) -> str:
    return "" if value is None else _text(where, value)


def _number(where: str, value: object, high: int) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{where}: expected an int, got {type(value).__name__} {value!r}")
    if not 0 <= value <= high:
        raise ValueError(f"{where}: expected an int from 0 to {high}, got {value}")
    return value


def _path(where: str, value: object) -> str:
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{where}: expected a path, got {type(value).__name__} {value!r}")
    path = os.fsdecode(value)
    if "\0" in path:
        raise ValueError(f"{where}: expected a path without NULs, got {path!r}")
    if not path:
        import errno

        raise OSError(errno.EINVAL, f"{where}: expected a path, got ''")
    return path


def _parsed(where: str, parser: "Callable[[str], T]", text: str) -> "T":
    try:
        return parser(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _named(function: str, parser: "Callable[[str], T]", what: str, text: str) -> "T":
    name = _text(f"nbdkit.{function}: what", what)
    return _parsed(name, parser, _text(f"nbdkit.{function}: str", text))


def _integer(function: str, what: str, text: str, low: int, high: int) -> int:
    return _named(function, lambda checked: _parse.integer(checked, low, high), what, text)
