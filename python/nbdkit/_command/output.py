# SPDX-License-Identifier: BSD-3-Clause
"""A progress bar and tables: by rich on a terminal, plain text otherwise, or where rich is not installed."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from .._check.run import Progress


def _is_rich(stream: TextIO) -> bool:
    if not stream.isatty():
        return False
    try:
        import rich  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error until the end of the block, moved by what this gives; nothing if that is no terminal."""
    if not _is_rich(sys.stderr):
        yield lambda what, part: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def tell(what: str, part: float) -> None:
            bar.update(task, description=what, completed=part)

        yield tell


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output, whose first column is text, and the others figures."""
    if _is_rich(sys.stdout):
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD)
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    for row in (heads, *rows):
        cells = [cell.rjust(width) if number else cell.ljust(width)
                 for number, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())


def heading(text: str) -> str:
    """Text that stands out on a terminal."""
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() else text


def fitted(text: str) -> str:
    """A line of text, which on a terminal is broken between words."""
    if not sys.stdout.isatty():
        return text
    return textwrap.fill(text, max(shutil.get_terminal_size().columns, 20), subsequent_indent="    ",
                         break_long_words=False, break_on_hyphens=False)
