# SPDX-License-Identifier: BSD-3-Clause
"""Commands that nobody types: each answer is one line of JSON on standard output, and the first error is the end."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import cast

from .. import ExecuteError, QMPError, SocketAddrT, SyncQMPClient
from .line import InputError, parse
from .schema import Entity, Schema
from .text import failure, one_line


class BatchError(Exception):
    """A command failed. The message is one line."""


def execute_all(address: SocketAddrT, lines: Iterable[str], timeout: float) -> None:
    """Execute each line, and print what it returns; empty lines and those that begin with # are left out.

    Raises BatchError for the first that fails, and for a connection that does not come about in `timeout` seconds.
    """
    client = SyncQMPClient()
    try:
        _execute_all(client, address, lines, timeout)
    finally:
        # What ended the connection has been told if it mattered.
        with suppress(QMPError, OSError):
            client.close()


def _execute_all(client: SyncQMPClient, address: SocketAddrT, lines: Iterable[str], timeout: float) -> None:
    try:
        client.connect(address, timeout=timeout)
        schema = _schema(client)
    except QMPError as error:
        raise BatchError(failure(error)) from error
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            command = parse(line, schema)
        except InputError as error:
            raise BatchError(failure(error, line.split(None, 1)[0])) from error
        try:
            value = client.execute(command.name, command.arguments, command.oob)
        except QMPError as error:
            raise BatchError(failure(error, command.name)) from error
        print(one_line(value), flush=True)


def _schema(client: SyncQMPClient) -> Schema:
    try:
        return Schema(cast("list[Entity]", client.execute("query-qmp-schema")))
    except ExecuteError:
        # Not every server has one; then words are JSON, or else strings.
        return Schema()
