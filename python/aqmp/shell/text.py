# SPDX-License-Identifier: BSD-3-Clause
"""What the shell prints: values as JSON, errors in one line, and nothing that a terminal would obey."""

from __future__ import annotations

import json

from .. import ExecuteError


def one_line(value: object) -> str:
    """A value as JSON in one line of ASCII."""
    return json.dumps(value)


def indented(value: object) -> str:
    """A value as JSON for people; what is short stays in one line."""
    text = json.dumps(value)
    return text if len(text) <= 80 else json.dumps(value, indent=2)


def failure(error: Exception, command: str | None = None) -> str:
    """An exception in one line, with the command that failed and QEMU's class of error."""
    text = str(error) or type(error).__name__
    if isinstance(error, ExecuteError):
        text += f" ({error.error_class})"
    return plain(f"{command}: {text}" if command else text)


def plain(text: str) -> str:
    """A text with what is not printable escaped: line ends, and what would control a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
