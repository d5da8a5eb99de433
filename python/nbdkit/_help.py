# SPDX-License-Identifier: BSD-3-Clause
"""What a script says about itself and its parameters: the page of `help SCRIPT`, and lines of --dump-plugin."""

import inspect
import textwrap
from types import ModuleType

from . import _parameters, _script


_UNBROKEN = "\u00a0"  # a space where no line ends


def page(script: ModuleType, name: str = "", width: int = 80) -> str:
    """A script's help page: its usage, its docstring, its parameters; lines of at most `width` characters.

    script: the module that the script was loaded as.
    name: what to call it in the usage; default: its file's.
    """
    parameters = _script.parameters(script)
    words = [f"[{p.usage()}]" if not p.required else p.usage() for p in parameters]
    whole = [word.replace(" ", _UNBROKEN) for word in words]
    usage = textwrap.fill(" ".join(["nbdkit python", name or getattr(script, "__file__", "") or "-", *whole]), width,
                          initial_indent="usage: ", subsequent_indent="    ", break_long_words=False,
                          break_on_hyphens=False).replace(_UNBROKEN, " ")
    blocks = [usage, inspect.cleandoc(script.__doc__ or "")]
    if parameters:
        blocks.append("Parameters:\n\n" + "\n".join(_entry(p, width) for p in parameters))
    return "\n\n".join(filter(None, blocks)) + "\n"


def _entry(parameter: "_parameters.Parameter[object]", width: int) -> str:
    text = " ".join(filter(None, [parameter.help, f"({parameter.remark()})" if parameter.remark() else ""]))
    beside = width >= 60  # else it is below
    indent = " " * (28 if beside else 8)
    first = f"    {parameter.usage():24}"
    lines = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
    if not beside or len(first) > len(indent) or not lines:
        return "\n".join([first.rstrip(), *lines])
    return "\n".join([first + lines[0].lstrip(), *lines[1:]])


def dump(script: ModuleType) -> str:
    """A line of --dump-plugin for each parameter, `python_parameter_NAME=TYPE (remarks): help`."""
    lines = []
    for p in _script.parameters(script):
        remark = f" ({p.remark()})" if p.remark() else ""
        text = f": {' '.join(p.help.split())}" if p.help else ""
        lines.append(f"python_parameter_{p.name}={p.usage().partition('=')[2]}{remark}{text}\n")
    return "".join(lines)
