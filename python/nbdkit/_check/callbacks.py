# SPDX-License-Identifier: BSD-3-Clause
"""What nbdkit asks a script: the table of src/plugin/callbacks.def in Python (a test holds the two together)."""

from __future__ import annotations

from typing import NamedTuple


class Callback(NamedTuple):
    """A callback's name, and its parameters in both API versions."""

    name: str
    version_1: tuple[str, ...]
    version_2: tuple[str, ...]

    def parameters(self, version: int) -> tuple[str, ...]:
        """Its parameters in an API version."""
        return self.version_1 if version == 1 else self.version_2

    def shown(self, version: int) -> str:
        """How it is written, such as `flush(h)`."""
        return f"{self.name}({', '.join(self.parameters(version))})"


def _table(text: str) -> dict[str, Callback]:
    callbacks = {}
    for line in text.strip().splitlines():
        name, first, *second = (part.strip() for part in line.split("|"))
        version_1, version_2 = (tuple(p.split()) for p in (first, second[0] if second else first))
        callbacks[name] = Callback(name, version_1, version_2)
    return callbacks


# NAME | parameters in version 1 | in version 2, where they differ
CALLBACKS = _table("""
    load               |
    dump_plugin        |
    config             | key value
    config_complete    |
    thread_model       |
    get_ready          |
    after_fork         |
    cleanup            |
    unload             |
    preconnect         | readonly
    list_exports       | readonly is_tls
    default_export     | readonly is_tls
    open               | readonly
    close              | h
    export_description | h
    get_size           | h
    block_size         | h
    is_rotational      | h
    can_write          | h
    can_flush          | h
    can_trim           | h
    can_zero           | h
    can_fast_zero      | h
    can_extents        | h
    can_fua            | h
    can_cache          | h
    can_multi_conn     | h
    pread              | h count offset          | h buf offset flags
    pwrite             | h buf offset            | h buf offset flags
    flush              | h                       | h flags
    trim               | h count offset          | h count offset flags
    zero               | h count offset may_trim | h count offset flags
    extents            | h count offset flags
    cache              | h count offset flags
""")
REQUIRED = ("open", "get_size", "pread")
MAY_YIELD = ("list_exports", "extents")  # whose answers are iterated over
# Names that scripts give to other things too: what does not fit is left alone.
LENIENT = ("load", "unload", "config", "cleanup", "block_size", "zero", "extents", "cache")
