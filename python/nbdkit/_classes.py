# SPDX-License-Identifier: BSD-3-Clause
"""A disk as a class: finds in it, at load, the functions that nbdkit calls. What is called per request is no other.

A method, taken from its class, is a function whose first parameter is the instance; and the instance is the handle,
which comes first in every callback of a connection. So `pread(self, buf, offset, flags)` goes into the table as it is.
"""

from collections.abc import Iterable
from types import FunctionType, MethodType, ModuleType

from . import _script
from ._errors import ScriptError

_MARK = "__nbdkit__"  # the attribute that a decorator leaves in its class: what it is to be, such as "disk"


def mark(cls: object, kind: str) -> None:
    """Say that a class is the script's disk, or what else `kind` names."""
    if not isinstance(cls, type):
        raise TypeError(f"nbdkit.{kind}: expected a class, got {type(cls).__name__} {cls!r}")
    setattr(cls, _MARK, kind)


def marked(script: ModuleType, kind: str) -> type | None:
    """The class that the script has marked so, if there is one. One that others are derived from is not meant."""
    found = {value for value in list(vars(script).values())
             if issubclass(type(value), type) and vars(value).get(_MARK) == kind}
    found -= {base for cls in found for base in cls.__mro__[1:]}
    if len(found) > 1:
        names = " and ".join(sorted(cls.__name__ for cls in found))
        raise ScriptError(f"expected one class with @nbdkit.{kind}, got {names}")
    return found.pop() if found else None


def resolve(script: ModuleType, cls: type, kind: str, name: str, need: int, may_yield: bool, parameters: str,
            warnings: list[str]) -> _script.Callback | None:
    """One callback, as _script.resolve has it.

    What a connection is asked (its parameters begin with the handle) is a method; `open` is the class itself; all
    other callbacks are static or class methods, or functions of the script.
    """
    written = _written(cls, name)
    beside = getattr(script, name, None)
    of_instance = parameters.split(", ")[0] == "h"
    if name == "open" or of_instance or written is not None:
        if beside is not None and _script.own(script, beside):
            raise ScriptError(f"{name}: expected it in the class {cls.__name__} or as a function, not both"
                              if written is not None or name == "open" else
                              f"{name}: expected a method of the class {cls.__name__}, got a function beside it")
    else:
        return _script.resolve_function(script, name, need, may_yield, parameters, warnings)
    if name == "open":
        return _constructor(cls, kind, parameters)
    if of_instance:
        parameters = "self" + parameters[1:]
    if written is None:
        if need == _script.REQUIRED:
            raise ScriptError(f"the callback {name}({parameters}) is missing in the class {cls.__name__}"
                              f"{_script.near(_names(cls), name)}")
        return None
    callback = getattr(cls, name)
    fault = (_wrong_kind(written, name, of_instance, parameters)
             or _script.fault(callback, name, may_yield, parameters))
    return _script.accepted(callback, fault, callable(callback), f"{cls.__name__}.{name}", need, warnings)


def _written(cls: type, name: str) -> object:
    """What the class's body, or that of a class it is derived from, has under this name; None if nothing."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _names(cls: type) -> Iterable[str]:
    return [name for base in cls.__mro__[:-1] for name, value in vars(base).items()
            if isinstance(value, (FunctionType, MethodType, staticmethod, classmethod)) and not name.startswith("__")]


def _wrong_kind(written: object, name: str, of_instance: bool, parameters: str) -> str | None:
    """What is wrong with a method that has an instance where there is none, or none where there is one."""
    if of_instance and isinstance(written, (staticmethod, classmethod)):
        return f"expected a method {name}({parameters}), got a {type(written).__name__}"
    if not of_instance and isinstance(written, FunctionType):
        return (f"expected a static or class method {name}({parameters}), got a method: there is no instance when it "
                "is called")
    return None


def _constructor(cls: type, kind: str, parameters: str) -> _script.Callback:
    """The class as the callback `open`, whose answer, the handle, is an instance."""
    wanted = f"__init__(self, {parameters})"
    init, new, of_object = _written(cls, "__init__"), _written(cls, "__new__"), vars(object)
    abstract = getattr(cls, "__abstractmethods__", None)
    fault: str | None
    if _written(cls, "open") is not None:
        fault = f"expected {wanted} in its place: an instance is a connection"
        raise ScriptError(f"{cls.__name__}.open: {fault}")
    if abstract:
        fault = f"expected a class that can have instances, got one without {', '.join(sorted(abstract))}"
    elif new is not of_object["__new__"]:
        fault = _script.fault(cls, cls.__name__, False, parameters)
    elif init is of_object["__init__"]:
        # A disk has to look at `readonly`; a translator need not care for what it is opened as.
        if kind == "translator":
            return lambda *arguments: cls()
        fault = f"expected {wanted}, got none"
    else:
        fault = _script.fault(init, "__init__", False, f"self, {parameters}")
    if fault is not None:
        raise ScriptError(f"{cls.__name__}: {fault}")
    return cls
