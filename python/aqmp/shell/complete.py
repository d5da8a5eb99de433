# SPDX-License-Identifier: BSD-3-Clause
"""What could come next on a line that is being typed: commands, their arguments, and the values of these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .line import InputError, Tree, chosen, split, tree
from .schema import Entity, Member, Schema


class Candidate(NamedTuple):
    """A text that may stand from `start` on, in place of what has been typed there, and a word on what it is."""

    start: int
    text: str
    hint: str = ""


def complete(text: str, schema: Schema) -> list[Candidate]:
    """The candidates for the end of `text`; none within JSON, and none where the schema knows nothing."""
    try:
        words = split(text)
        last = words.pop() if words and not text[-1].isspace() else None
        start, typed = last if last else (len(text), "")
        if not words:
            found = ((name, _features(command.get("features", ()))) for name, command in schema.commands.items())
        else:
            path, equals, _ = typed.partition("=")
            *parents, name = path.split(".")
            type_, given = _within(schema, schema.arguments(words[0].text), tree(words[1:]), parents)
            prefix = "".join(f"{parent}." for parent in parents)
            if equals:
                member = _member(schema, type_, given, name)
                found = ((f"{path}={word}", "") for word in (schema.words(member) if member else ()))
            else:
                found = ((prefix + text, hint) for text, hint in _names(schema, type_, given))
    except (InputError, RecursionError):
        return []
    return [Candidate(start, text, hint) for text, hint in found if text.startswith(typed)]


def _within(schema: Schema, type_: Entity, given: Tree, parents: list[str]) -> tuple[Entity, Tree]:
    """The type at the end of a path, and what has been given there so far."""
    for parent in parents:
        inner = _member(schema, type_, given, parent)
        if inner is None:
            raise InputError(f"{parent} is not known")
        node = given.get(parent, {})
        type_, given = inner, node if isinstance(node, dict) else {}
    return type_, given


def _member(schema: Schema, type_: Entity, given: Tree, name: str) -> Entity | None:
    if name.isdecimal():
        return schema.element(type_)
    member = schema.members(type_, chosen(given)).get(name)
    return member.type if member else None


def _names(schema: Schema, type_: Entity, given: Tree) -> Iterator[tuple[str, str]]:
    """The members that can still be given, those that must be first; or the next element."""
    element = schema.element(type_)
    if element is not None:
        yield from _ways(schema, str(sum(name.isdecimal() for name in given)), element, "")
    members = schema.members(type_, chosen(given)).values()
    for member in sorted(members, key=lambda member: member.optional):
        if isinstance(given.get(member.name, {}), dict):
            yield from _ways(schema, member.name, member.type, _hint(member), member.name in given)


def _ways(schema: Schema, name: str, type_: Entity, hint: str, opened: bool = False) -> Iterator[tuple[str, str]]:
    """A name goes on with `=` if a word can be its value, with `.` if it has members."""
    kinds = schema.kinds(type_)
    hint = ", ".join(filter(None, [" or ".join(kinds), hint]))
    if set(kinds) - {"object", "array"} and not opened:
        yield f"{name}=", hint
    if {"object", "array"} & set(kinds):
        yield f"{name}.", hint


def _hint(member: Member) -> str:
    return ", ".join(filter(None, ["" if member.optional else "required", _features(member.features)]))


def _features(features: object) -> str:
    return ", ".join(word for word in ("deprecated", "unstable") if word in features)  # type: ignore[operator]
