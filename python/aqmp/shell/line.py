# SPDX-License-Identifier: BSD-3-Clause
"""The language of the shell's lines: a typed line becomes a command, with its values of the types that it takes.

    query-status
    blockdev-add driver=nbd node-name=d0 server.type=unix server.path=/run/disk.sock
    blockdev-add {"driver": "null-co", "node-name": "d1"}
    {"exec-oob": "migrate-pause"}

A value is a bare word, a string in double quotes (as in JSON), or a JSON array or object. A dot goes into an object
or, with a number, an array. A bare word gets the type that the schema tells; where it tells none, it is a JSON number,
true, false or null if it reads as one, and otherwise a string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Union

from .schema import ANY, Entity, Schema


class InputError(ValueError):
    """A line is not in the shell's language, or a value not of its type. The message is one line."""


@dataclass(frozen=True)
class Command:
    """What to execute: a name, its arguments (None for none), and whether out of band."""

    name: str
    arguments: dict[str, Any] | None = None
    oob: bool = False


class Bare(str):
    """A word whose type is not known yet."""


@dataclass(frozen=True)
class Json:
    """A value whose type is known, since it was typed as JSON."""

    value: Any


Node = Union[Bare, Json, "dict[str, Node]"]
"""What was typed for an argument; a dict for one whose members were given one by one."""

Tree = dict[str, Node]


class Word(NamedTuple):
    """A piece of a line between spaces, JSON in one piece, and where it begins."""

    start: int
    text: str


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_JSON_AHEAD = re.compile(r'(?:[^\s={["]+=)?(?=[{["])')
_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_INTEGER = re.compile(r"[+-]?(\d+|0[xX][0-9a-fA-F]+)")
_EXPECTED = {
    "int": "an integer", "number": "a number", "bool": "true or false", "null": "null",
    "array": "an array: {path}=[…] or {path}.0=…", "object": "an object: {path}={{…}} or {path}.NAME=…",
}


def parse(text: str, schema: Schema) -> Command:
    """The command that a line of one of the forms above asks for; InputError if it is of none."""
    try:
        return _parse(text, schema)
    except RecursionError:
        raise InputError("the values are nested too deeply") from None


def _parse(text: str, schema: Schema) -> Command:
    words = split(text)
    if not words:
        raise InputError("expected a command")
    if words[0].text.startswith("{"):
        return _parse_message(words)
    name = words[0].text
    if "=" in name or name.startswith(("[", '"')):
        raise InputError(f"expected a command before {name}")
    if len(words) > 1 and words[1].text.startswith("{"):
        if len(words) > 2:
            raise InputError(f"expected nothing after the arguments, got {words[2].text}")
        return Command(name, json.loads(words[1].text))
    arguments = _typed(schema, schema.arguments(name), tree(words[1:]), "") if words[1:] else None
    return Command(name, arguments)


def split(text: str) -> list[Word]:
    """The words of a line; InputError where JSON in it is broken or does not end."""
    words = []
    position = 0
    while match := re.compile(r"\s*(?=\S)").match(text, position):
        start = match.end()
        if ahead := _JSON_AHEAD.match(text, start):
            try:
                _, position = _DECODER.raw_decode(text, ahead.end())
            except json.JSONDecodeError as error:
                raise InputError(f"bad JSON at column {error.pos + 1}: {error.msg}") from None
            except ValueError as error:
                raise InputError(f"bad JSON after column {ahead.end()}: {error}") from None
            if text[position:position + 1].strip():
                raise InputError(f"expected a space at column {position + 1}, after the JSON")
        else:
            position = start + len(text[start:].split(None, 1)[0])
        words.append(Word(start, text[start:position]))
    return words


def tree(words: list[Word]) -> Tree:
    """What NAME=VALUE and NAME.NAME=VALUE words say, as one tree."""
    root: Tree = {}
    for _, text in words:
        path, equals, value = text.partition("=")
        *parents, last = path.split(".")
        if not equals or not all([*parents, last]) or set(path) & set('{["'):
            raise InputError(f"expected NAME=VALUE, got {text}")
        place = root
        for name in parents:
            inner = place.setdefault(name, {})
            if not isinstance(inner, dict):
                raise InputError(f"{path} is given, and {name} as a whole too")
            place = inner
        if last in place:
            raise InputError(f"{path} is given twice")
        place[last] = Json(json.loads(value)) if value.startswith(("{", "[", '"')) else Bare(value)
    return root


def chosen(node: Mapping[str, Node]) -> dict[str, object]:
    """The values given for an object's own members: they choose among its variants."""
    return {name: value.value if isinstance(value, Json) else str(value)
            for name, value in node.items() if not isinstance(value, dict)}


def _parse_message(words: list[Word]) -> Command:
    message = json.loads(words[0].text)
    if len(words) > 1:
        raise InputError(f"expected nothing after the object, got {words[1].text}")
    arguments = message.get("arguments", {})
    # An id would be of no use: the shell prints no answer's.
    [name, *more] = [message[key] for key in ("execute", "exec-oob") if key in message] or [None]
    unknown = set(message) - {"execute", "exec-oob", "arguments", "id"}
    if more or unknown or not isinstance(name, str) or not isinstance(arguments, dict):
        raise InputError('expected {"execute": NAME, "arguments": {…}}, or "exec-oob" in place of "execute"')
    return Command(name, arguments or None, oob="exec-oob" in message)


def _typed(schema: Schema, type_: Entity, node: Node, path: str) -> Any:
    if isinstance(node, Json):
        return node.value
    if isinstance(node, Bare):
        return _typed_word(schema, type_, node, path)
    kinds = schema.kinds(type_)
    prefix = f"{path}." if path else ""
    if all(name.isdecimal() for name in node) and ("array" in kinds or "any" in kinds) and path:
        if sorted(map(int, node)) != list(range(len(node))):
            raise InputError(f"{path}: expected elements 0 to {len(node) - 1}, got {', '.join(node)}")
        element = schema.element(type_) or ANY
        return [_typed(schema, element, node[str(i)], f"{prefix}{i}") for i in range(len(node))]
    if "object" not in kinds and "any" not in kinds:
        raise InputError(f"{path}: expected {_expectation(schema, type_, path)}, got {prefix}{next(iter(node))}=…")
    members = schema.members(type_, chosen(node))
    return {name: _typed(schema, members[name].type if name in members else ANY, value, prefix + name)
            for name, value in node.items()}


def _typed_word(schema: Schema, type_: Entity, word: str, path: str) -> Any:
    kinds = schema.kinds(type_)
    try:
        value = _DECODER.decode(word)
    except ValueError:
        value = str(word)
    if "any" in kinds:
        return value
    if "null" in kinds and word == "null":
        return None
    if "bool" in kinds and word in ("true", "false"):
        return word == "true"
    if "int" in kinds and _INTEGER.fullmatch(word):
        return int(word, 16 if "x" in word.lower() else 10)
    if "number" in kinds and type(value) in (int, float):
        return value
    if "str" in kinds or word in schema.words(type_):
        return str(word)
    raise InputError(f"{path}: expected {_expectation(schema, type_, path)}, got {word!r}")


def _expectation(schema: Schema, type_: Entity, path: str) -> str:
    expected = []
    for kind in schema.kinds(type_):
        if kind == "enum":
            expected.append(f"one of {', '.join(schema.words(type_))}")
        else:
            expected.append(_EXPECTED.get(kind, "a string").format(path=path))
    return " or ".join(expected)
