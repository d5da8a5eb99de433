# SPDX-License-Identifier: BSD-3-Clause
"""The prompt: lines are typed with completion and a history, while events appear above them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import cast

from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout

from .. import ConnectError, EventListener, Message, QMPError, ReconnectingClient, Runstate
from ..address import parse_address
from .complete import complete
from .line import Command, InputError, parse
from .schema import Entity, Schema
from .text import failure, indented, one_line


def interact(program: str, socket: str, timeout: float) -> int:
    """Talk to the monitor at this address until Ctrl-D. The exit status is 1 if it cannot be reached at first."""
    # The shell tells by itself what happens to the connection.
    logging.getLogger("aqmp").addHandler(logging.NullHandler())
    try:
        asyncio.run(_Shell(socket).run(timeout))
    except ConnectError as error:
        print(f"{program}: {failure(error)}", file=sys.stderr)
        return 1
    return 0


class _Completer(Completer):
    """prompt_toolkit's view of complete()."""

    def __init__(self) -> None:
        self.schema = Schema()

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        for candidate in complete(text, self.schema):
            yield Completion(candidate.text, candidate.start - len(text), display_meta=candidate.hint)


class _Shell:
    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._client = ReconnectingClient()
        self._running: asyncio.Task[object] | None = None
        self._completer = _Completer()
        self._prompt: PromptSession[str] = PromptSession(
            self._message, completer=self._completer, complete_while_typing=False, history=_history(),
            enable_history_search=True)

    async def run(self, timeout: float) -> None:
        await self._client.connect(parse_address(self._socket), timeout=timeout)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)
        with patch_stdout(raw=True), self._client.listener() as events:
            tasks = [asyncio.create_task(self._show(events)), asyncio.create_task(self._follow())]
            try:
                await self._read_lines()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                with suppress(QMPError, OSError):
                    await self._client.disconnect()

    def _interrupt(self) -> None:
        """What Ctrl-C does, but for when it is a key at the prompt."""
        if self._running:
            self._running.cancel()

    def _message(self) -> FormattedText:
        """The prompt's text."""
        return FormattedText([("ansired", "" if self._connected() else "(not connected) "), ("", "QMP> ")])

    def _connected(self) -> bool:
        return self._client.runstate is Runstate.RUNNING

    async def _until(self, connected: bool) -> None:
        while self._connected() is not connected:
            await self._client.runstate_changed()

    async def _follow(self) -> None:
        """Tell of each connection and its end, and learn the schema of each: it may be another QEMU's."""
        while True:
            with suppress(QMPError):
                self._completer.schema = Schema(
                    cast("list[Entity]", await self._client.execute("query-qmp-schema")))
            _print("ansigreen", f"connected to {self._socket}{_version(self._client)}")
            await self._until(connected=False)
            _print("ansired", f"the connection to {self._socket} has ended; trying to connect again")
            await self._until(connected=True)

    async def _show(self, events: EventListener) -> None:
        async for event in events:
            _print("ansiyellow", f"{_time(event)} {event['event']}", f" {one_line(event.get('data', {}))}")

    async def _read_lines(self) -> None:
        while True:
            try:
                line = await self._prompt.prompt_async(handle_sigint=False)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if not line.strip():
                continue
            try:
                await self._execute(parse(line, self._completer.schema))
            except InputError as error:
                _print("ansired", failure(error))

    async def _execute(self, command: Command) -> None:
        """Show what a command returns, or its error. Ctrl-C ends the wait for it."""
        if not self._connected():
            return _print("ansired", f"{command.name}: not connected")
        task = asyncio.create_task(self._client.execute(command.name, command.arguments, command.oob))
        self._running = task
        await asyncio.wait({task})
        if task.cancelled():
            return _print("ansired", f"{command.name}: no longer waited for; QEMU may still do it")
        try:
            _print("", indented(task.result()))
        except QMPError as error:
            _print("ansired", failure(error, command.name))


def _print(style: str, text: str, more: str = "") -> None:
    print_formatted_text(FormattedText([(style, text), ("", more)]))


def _time(event: Message) -> str:
    """When an event happened, in local time."""
    stamp = cast("dict[str, int]", event.get("timestamp", {}))
    moment = datetime.fromtimestamp(stamp.get("seconds", 0))
    return f"{moment:%H:%M:%S}.{stamp.get('microseconds', 0) // 1000:03}"


def _version(client: ReconnectingClient) -> str:
    """Who is there, as far as its greeting tells."""
    numbers = client.greeting.QMP.version.get("qemu", {}) if client.greeting else {}
    return ": QEMU " + ".".join(str(numbers[part]) for part in ("major", "minor", "micro")) if numbers else ""


def _history() -> History:
    """The lines of earlier sessions, in $XDG_STATE_HOME/aqmp/history; of this one only where that cannot be written."""
    path = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", "aqmp", "history")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Lines may hold passwords: it is for nobody else to read.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as error:
        _print("ansired", f"no history: {failure(error)}")
        return InMemoryHistory()
    return FileHistory(str(path))
