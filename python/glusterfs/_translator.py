# SPDX-License-Identifier: BSD-3-Clause
"""Translator: what a script's class `xlator` is derived from."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import _glusterfs


class Place(NamedTuple):
    """Where in the graph a translator is: what `Translator.__init__` is called with."""

    name: str
    type: str
    children: tuple[_glusterfs.Child, ...]
    options: Mapping[str, Any]


class Translator(_glusterfs.Translator):
    """A translator in GlusterFS's graph. A script derives its class `xlator` from it.

    Its methods are called for the file operations whose names they have: `readv(self, next, …)`, which returns the
    answer; or `readv_fop(self, frame, this, …)`, which calls `self.wind_readv` or `self.unwind_readv`, and
    `readv_cbk(self, frame, cookie, this, op_ret, op_errno, …)`. What it has no method for goes to the first child.

    name, type: as in the volume file.
    children: the translators below, a tuple of Child.
    options: what the volume file says, by the names in the class's `options`.
    """

    # The options that it takes, with their defaults; the type of a default is the option's: bool, int, float or str.
    # None: a str that must be there.
    options: Mapping[str, Any] = {}

    name: str
    type: str
    children: tuple[_glusterfs.Child, ...]

    def __init__(self, place: Place) -> None:
        self.name, self.type, self.children, self.options = place

    def reconfigure(self, options: Mapping[str, Any]) -> None:
        """The options have changed to these; self.options has the old ones until this returns."""

    def fini(self) -> None:
        """The translator is about to leave the graph, or the process to end."""
