# SPDX-License-Identifier: BSD-3-Clause
"""What a QMP server's commands take, as its answer to query-qmp-schema tells it.

The names of types are numbers there, which differ from build to build; only commands, events and QEMU's six built-in
types (str, int, number, bool, null, any) have names of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Entity = Mapping[str, Any]

ANY: Entity = {"name": "any", "meta-type": "builtin", "json-type": "value"}
"""The type of what no schema tells."""


@dataclass(frozen=True)
class Member:
    """One argument of a command, or one member of an object within it."""

    name: str
    type: Entity
    optional: bool
    features: frozenset[str]  # "deprecated", "unstable", …


class Schema:
    """The commands of one server, and the types of their arguments. Without entities it knows no command."""

    def __init__(self, entities: Iterable[Entity] = ()) -> None:
        self._entities: dict[str, Entity] = {entity["name"]: entity for entity in entities}
        self.commands: dict[str, Entity] = {
            name: entity for name, entity in sorted(self._entities.items()) if entity["meta-type"] == "command"}

    def arguments(self, command: str) -> Entity:
        """The type of a command's arguments: an object, or ANY if the command is not known."""
        entity = self.commands.get(command)
        return self._named(entity["arg-type"]) if entity else ANY

    def members(self, type_: Entity, chosen: Mapping[str, object]) -> dict[str, Member]:
        """The members of an object, in the schema's order; of an alternate, those of the objects it may be.

        `chosen` has what is known of the object's values: a variant's members count once its tag has a value.
        """
        found: dict[str, Member] = {}
        for object_ in self._alternatives(type_):
            for member in object_.get("members", ()) if object_["meta-type"] == "object" else ():
                found[member["name"]] = Member(member["name"], self._named(member["type"]), "default" in member,
                                               frozenset(member.get("features", ())))
            for variant in object_.get("variants", ()):
                if variant["case"] == chosen.get(object_["tag"]):
                    found.update(self.members(self._named(variant["type"]), chosen))
        return found

    def element(self, type_: Entity) -> Entity | None:
        """The type of an array's elements; None for what is no array."""
        for alternative in self._alternatives(type_):
            if alternative["meta-type"] == "array":
                return self._named(alternative["element-type"])
        return None

    def words(self, type_: Entity) -> list[str]:
        """The values of an enumeration or a boolean; none for what has too many to tell."""
        words: list[str] = []
        for alternative in self._alternatives(type_):
            if alternative["meta-type"] == "enum":
                words += [member["name"] for member in alternative["members"]]
            elif alternative["name"] in ("bool", "null"):
                words += {"bool": ["false", "true"], "null": ["null"]}[alternative["name"]]
        return words

    def kinds(self, type_: Entity) -> list[str]:
        """What a value may be: "str", "int", "number", "bool", "null", "any", "enum", "object" or "array"."""
        kinds = [alternative["name"] if alternative["meta-type"] == "builtin" else alternative["meta-type"]
                 for alternative in self._alternatives(type_)]
        return list(dict.fromkeys(kinds))

    def _named(self, name: str) -> Entity:
        return self._entities[name]

    def _alternatives(self, type_: Entity) -> Iterator[Entity]:
        if type_["meta-type"] == "alternate":
            for member in type_["members"]:
                yield from self._alternatives(self._named(member["type"]))
        else:
            yield type_
