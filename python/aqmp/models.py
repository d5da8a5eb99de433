# SPDX-License-Identifier: BSD-3-Clause
"""The messages of fixed shape, checked: Greeting with QMPGreeting, ErrorResponse with ErrorInfo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_NAMES: dict[object, str] = {dict: "an object", list: "a list", str: "a string"}


def _member(raw: Mapping[str, Any], key: str, kind: type) -> Any:
    """raw[key], if it is there (ValueError) and of this kind (TypeError)."""
    if key not in raw:
        raise ValueError(f"expected a member {key!r}, got {', '.join(map(repr, raw)) or 'none'}")
    if not isinstance(raw[key], kind):
        raise TypeError(f"expected {key!r} to be {_NAMES[kind]}, got {raw[key]!r}")
    return raw[key]


class Model:
    """An object of known members, made of a mapping that has them; members that are not known are let be."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._raw!r})"


class QMPGreeting(Model):
    """The member `QMP` of the greeting: `version` (as query-version has it) and `capabilities` on offer."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw)
        self.version: Mapping[str, Any] = _member(raw, "version", dict)
        self.capabilities: Sequence[object] = _member(raw, "capabilities", list)


class Greeting(Model):
    """What a monitor says first. `QMP` has the version and the capabilities."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw)
        self.QMP = QMPGreeting(_member(raw, "QMP", dict))

    def _asdict(self) -> dict[str, object]:
        return dict(self._raw)


class ErrorInfo(Model):
    """The member `error` of an error: `class_` and `desc`."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw)
        self.class_: str = _member(raw, "class", str)
        self.desc: str = _member(raw, "desc", str)


class ErrorResponse(Model):
    """An error as a reply: `error` and, if the command had one, `id`."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw)
        self.error = ErrorInfo(_member(raw, "error", dict))
        self.id: object = raw.get("id")
