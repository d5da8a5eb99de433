# SPDX-License-Identifier: BSD-3-Clause
"""A real nbdkit with translators on top of one of its plugins."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbd

from harness import PLUGIN, ROOT, Server, nbdkit, serving, write_script

FILTER = os.environ.get("NBDKIT_PYTHON_FILTER") or str(Path(PLUGIN).with_name("nbdkit-python-filter.so"))
EXAMPLES = ROOT / "examples" / "translators"
MEMORY = ("memory", "1M")
SIZE = 1 << 20  # bytes, of MEMORY

Words = Sequence[object]
Translate = Callable[..., Server]
Refused = Callable[..., str]
Requests = list[Callable[[], object]]


def parameters(folder: Path, words: Words) -> list[str]:
    """A command line's: a text with a newline in it is a translator's, and is written to a file."""
    found = []
    for number, word in enumerate(words):
        if isinstance(word, str) and "\n" in word:
            word = f"translator={write_script(folder, word, f'translator{number}.py')}"
        elif isinstance(word, Path):
            word = f"translator={word}"
        found.append(str(word))
    return found


@contextmanager
def translating(folder: Path, *words: object, plugin: Words = MEMORY, options: Sequence[str] = (),
                below: Sequence[str] = (), **settings: Any) -> Iterator[Server]:
    """Serve a plugin, its own parameters first, under translators: texts, paths, and KEY=VALUE for them.

    below: nbdkit's options for filters between the translators and the plugin.
    """
    name, *own = map(str, plugin)
    rest = [*own, *parameters(folder, words)]
    with serving(folder, *rest, options=(*options, f"--filter={FILTER}", *below), plugin=name, **settings) as server:
        yield server


def attempt(folder: Path, *words: object, plugin: Words = MEMORY,
            options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run such an nbdkit to its end, which must come by itself."""
    name, *own = map(str, plugin)
    return nbdkit(*options, f"--filter={FILTER}", *own, *parameters(folder, words), plugin=name)


# A translator that evaluates the Python expression that is written to it, with `next`; the result is read back.
EVALUATE = """
import errno, nbdkit
said = ""
kept = []

def pwrite(h, next, buf, offset, flags):
    global said
    try:
        said = repr(eval(bytes(buf).rstrip(b"\\0").decode()))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"

def pread(h, next, buf, offset, flags):
    buf[:] = said.encode().ljust(len(buf), b"\\0")[:len(buf)]

def can_write(h, next):
    return True
"""


def evaluate(h: nbd.NBD, expression: str) -> str:
    """The repr of what EVALUATE makes of it, or `TYPE: TEXT` of what it raises."""
    h.pwrite(expression.encode().ljust(4096, b"\0"), 0)
    return h.pread(4096, 0).rstrip(b"\0").decode()
