# SPDX-License-Identifier: BSD-3-Clause
"""Loads a translator's script, looks its methods up, and reads its options: what C++ calls when graphs change.

Everything wrong with the script is raised as one ScriptError whose text is for the person who wrote it.
"""

import gc
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from _glusterfs import FOPS, Child, Data
from nbdkit import _script
from nbdkit._errors import ScriptError

from ._translator import Place, Translator

Method = Callable[..., object]
# NAME, NAME_fop, NAME_cbk; whether the first one starts a coroutine, which will have the answer.
Handlers = tuple[Method | None, Method | None, Method | None, bool]

# Options that are the door's, or that GlusterFS itself sees to. So it does to those with `auth` in their names, which
# protocol/server gives to all below it.
_OWN = {"script", "module-name"}
_GLUSTERFS = {"log-level", "pass-through"}

_TRUE = {"1", "on", "yes", "true", "enable"}
_FALSE = {"0", "off", "no", "false", "disable"}
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def start(name: str, kind: str, children: tuple[Child, ...],
          options: dict[str, str]) -> tuple[Translator, list[Handlers]]:
    """The translator that the volume file asks for, and its methods for each file operation in the table's order."""
    script = _load(options)
    cls = getattr(script, "xlator", None)
    if not isinstance(cls, type) or not issubclass(cls, Translator):
        raise ScriptError("the script has no class xlator(Translator)")
    values = _options(cls, options)
    try:
        translator = cls(Place(name, kind, children, values))
    except ScriptError:
        raise
    except Exception as error:
        raise ScriptError(f"xlator.__init__ failed:\n{_script._text(error)}") from None
    if not hasattr(translator, "name"):
        raise ScriptError("xlator.__init__ has not called Translator.__init__(self, place)")
    _method(translator, "reconfigure", ("options",))
    _method(translator, "fini", ())
    return translator, _handlers(translator)


def _load(options: Mapping[str, str]) -> ModuleType:
    script, module = options.get("script"), options.get("module-name")
    if (script is None) == (module is None):
        raise ScriptError("expected one of the options script and module-name in the volume file")
    if module is None:
        assert script is not None
        return _script.load(script, False)
    from importlib.util import find_spec

    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not spec.has_location:
        raise ScriptError(f"option module-name: there is no module {module!r} on Python's path")
    return _script.load(spec.origin, False)


def _handlers(translator: Translator) -> list[Handlers]:
    rows: list[Handlers] = []
    for fop, (arguments, answer) in FOPS.items():
        direct = _method(translator, fop, ("next", *arguments))
        wind = _method(translator, f"{fop}_fop", ("frame", "this", *arguments))
        unwind = _method(translator, f"{fop}_cbk", ("frame", "cookie", "this", "op_ret", "op_errno", *answer))
        if direct and (wind or unwind):
            raise ScriptError(f"{fop}: expected either {fop}, which returns the answer, or {fop}_fop and {fop}_cbk, "
                              "got both")
        awaits = direct is not None and _script.is_async(direct)
        if direct and awaits:
            from ._requests import starting

            direct = starting(fop, direct)
        rows.append((direct, wind, unwind, awaits))
    for name in dir(translator):
        if name.endswith(("_fop", "_cbk")) and name[:-4] not in FOPS:
            raise ScriptError(f"{name}: {name[:-4]} is not a file operation of GlusterFS{_near(name)}")
    return rows


def _near(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name[:-4], FOPS, n=1)
    return f": did you mean {near[0] + name[-4:]!r}?" if near else ""


def _method(translator: Translator, name: str, parameters: tuple[str, ...]) -> Method | None:
    method = getattr(translator, name, None)
    if method is None:
        return None
    fault = _script.fault(method, name, False, ", ".join(parameters))
    if not fault and parameters[:1] != ("next",) and _script.is_async(method):
        fault = f"expected a plain function, got `async def {name}`"
        if name[:-4] in FOPS:
            fault += f": only {name[:-4]} can be asynchronous"
    if fault:
        raise ScriptError(f"{name}: {fault}")
    return method


def _options(cls: type[Translator], given: Mapping[str, str]) -> dict[str, Any]:
    """The values of the options that the class declares. Its `options` must still be the declaration."""
    declared = cls.options
    if not isinstance(declared, Mapping):
        raise ScriptError(f"xlator.options: expected a dict of defaults, got {declared!r}")
    for key in given:
        if key not in declared and key not in _OWN and key not in _GLUSTERFS and "auth" not in key:
            known = ", ".join(declared) or "none"
            raise ScriptError(f"option {key}: the script does not declare it in its options: {known}")
    values = {}
    for key, default in declared.items():
        if not isinstance(default, bool | int | float | str | None):
            raise ScriptError(f"xlator.options: {key}: expected a bool, int, float, str or None, got {default!r}")
        if key in given:
            values[key] = _parse(key, default, given[key])
        elif default is None:
            raise ScriptError(f"option {key}: the volume file must have it")
        else:
            values[key] = default
    return values


def _parse(key: str, default: bool | int | float | str | None, text: str) -> object:
    if default is None or isinstance(default, str):
        return text
    word = text.strip().lower()
    if isinstance(default, bool):
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise ScriptError(f"option {key}: expected on or off, got {text!r}")
    if isinstance(default, float):
        try:
            return float(word)
        except ValueError:
            raise ScriptError(f"option {key}: expected a number, got {text!r}") from None
    digits = word.removesuffix("b").rstrip("kmgtp")
    unit = word.removesuffix("b")[len(digits):]
    try:
        return int(digits) * _UNITS[unit]
    except (KeyError, ValueError):
        raise ScriptError(f"option {key}: expected an int, or a size such as 64KB, got {text!r}") from None


def reconfigure(translator: Translator, options: dict[str, str]) -> None:
    """Give the translator its new options."""
    values = _options(type(translator), options)
    translator.reconfigure(values)
    translator.options = values


def stop(translator: Translator) -> None:
    """The translator's last call. Graphs come and go in one process: its module goes with it."""
    sys.modules.pop(type(translator).__module__, None)
    translator.fini()


def release() -> None:
    """Take GlusterFS's memory from memoryviews that the script has kept."""
    gc.collect()
    for item in gc.get_objects():
        try:
            if type(item) is memoryview and isinstance(item.obj, Data):
                item.release()
        except (BufferError, ValueError):  # something else has its address, or it has been released
            pass
