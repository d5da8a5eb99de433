#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Checks who includes whom, and that the core needs no symbol of a server's.

    check_includes.py ROOT [CORE_LIBRARY NM]

Includes run downward only: doors -> call -> script, buffer -> convert, error, interpreter, type -> attach, ref,
server -> python. Exit status 1, and a line on each fault, where they do not.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# The core's headers, from the lowest room to the highest. module.hpp declares what the interpreter registers; all else
# in its folder stands on everything.
ROOMS = [
    {"python.hpp"},
    {"attach.hpp", "ref.hpp", "server.hpp", "module.hpp"},
    {"convert.hpp", "error.hpp", "interpreter.hpp", "type.hpp"},
    {"script.hpp", "buffer.hpp"},
    {"call.hpp"},
]
ROOM = {header: number for number, room in enumerate(ROOMS) for header in room}
HIGHEST = len(ROOMS) - 1

# Whose headers they are, and the only places that may include them.
ALLOWED = {
    r"Python\.h": ["include/nbdkit_python/python.hpp"],
    r"pybind11/.*": ["src/core/module/"],
    r"nbdkit-plugin\.h": ["src/plugin/", "src/nbdkit/"],
    r"nbdkit-filter\.h": ["src/filter/"],
    r"nbdkit-.*": ["nbdkit's own headers"],
    r"glusterfs/.*": ["src/gluster/"],
}

# What a room of the doors' may use beside the core and itself.
SHARED = {"plugin": "nbdkit", "filter": "nbdkit"}

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include(?:_next)?\b[ \t]*(.*?)[ \t]*$", re.MULTILINE)

Include = tuple[int, str]  # line, and what follows #include


def includes(file: Path) -> Iterator[Include]:
    # Comments go, their line ends stay.
    text = COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), file.read_text())
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1]


def resolved(root: Path, file: Path, name: str) -> Path | None:
    """The file of the project's that a quoted include means."""
    for folder in (file.parent, root / "include"):
        path = Path(folder / name).resolve()
        if path.is_file() and path.is_relative_to(root):
            return path.relative_to(root)
    return None


def is_core(path: Path) -> bool:
    return path.parts[0] == "include" or path.parts[:2] == ("src", "core")


def room(path: Path) -> int | None:
    """Where one of the core's own files is; None: the rooms above do not have it."""
    if path.parent.name == "module" and path.name != "module.hpp":
        return HIGHEST + 1
    return ROOM.get(path.with_suffix(".hpp").name)


def fault(root: Path, includer: Path, name: str) -> str | None:
    """What is wrong with a file's including this, or None."""
    kind, inner = name[:1], name[1:-1]
    if kind not in {'"', "<"} or name[-1:] != {'"': '"', "<": ">"}[kind]:
        return "a name is expected after #include, not a macro"
    for pattern, places in ALLOWED.items():
        if re.fullmatch(pattern, inner):
            at = includer.as_posix()
            if any(at == place or place.endswith("/") and at.startswith(place) for place in places):
                return None
            return f"only in {' and '.join(places)}"
    if kind == "<":
        return "the project's own headers are included in quotes" if inner.startswith("nbdkit_python/") else None
    target = resolved(root, root / includer, inner)
    if target is None:
        return "no such file in the project; headers of others are included in <>"
    if is_core(includer):
        if not is_core(target):
            return "the core knows no door"
        mine, its = room(includer), room(target)
        if mine is None or its is None:
            return f"{(includer if mine is None else target).name} has no room in tests/check_includes.py"
        if its > mine or its == mine and includer.suffix == ".hpp":
            return "includes run downward only"
    elif target.parts[:2] == ("src", "core"):
        return "the headers in include/ are the only way into the core"
    elif target.parts[0] == "src" and target.parts[1] not in {includer.parts[1], SHARED.get(includer.parts[1])}:
        return "a door knows no other door"
    return None


def check_tree(root: Path) -> Iterator[str]:
    found = [path for top in ("include", "src") for path in sorted((root / top).rglob("*"))]
    files = [path for path in found if path.suffix in {".hpp", ".cpp", ".h", ".def"}]
    if len(files) < len(ROOM):
        yield f"{root}: expected the project's sources, found {len(files)} files"
    for file in files:
        includer = file.relative_to(root)
        if is_core(includer) and room(includer) is None:
            yield f"{includer}: has no room in tests/check_includes.py"
            continue
        for line, name in includes(file):
            if why := fault(root, includer, name):
                yield f"{includer}:{line}: #include {name}: {why}"


def check_symbols(library: str, nm: str) -> Iterator[str]:
    """The core must load where no nbdkit is."""
    listing = subprocess.run([nm, "-D", "--undefined-only", library], check=True, capture_output=True, text=True).stdout
    names = [line.split()[-1] for line in listing.splitlines()]
    if not any(name.startswith("Py") for name in names):
        yield f"{library}: expected symbols of Python's, found none among {len(names)}"
    for name in names:
        if name.startswith("nbdkit_"):
            yield f"{library}: needs the server's symbol {name}"


def main(root: str, library: str | None = None, nm: str = "nm") -> int:
    faults = list(check_tree(Path(root).resolve()))
    if library is not None:
        faults += check_symbols(library, nm)
    for line in faults:
        print(line, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
