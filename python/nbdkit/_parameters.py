# SPDX-License-Identifier: BSD-3-Clause
"""A script's parameters, declared: read from the command line, checked, and described, all from one line of the script.

Loaded when a script first uses `nbdkit.parameter` or one of the types.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from types import GenericAlias, ModuleType, NoneType

from . import _parse
from ._errors import ScriptError

TYPE_CHECKING = False  # as in `typing`, whose import takes time
if TYPE_CHECKING:
    from typing import Any, Generic, TypeVar, overload

    T = TypeVar("T")
else:

    class Generic:
        __class_getitem__ = classmethod(GenericAlias)

    T = object


# The types: functions of a parameter's text, whose ValueError says what was expected.


def size(text: str) -> int:
    """Bytes: 512, 4k, 64M, 1G …; a factor is a power of 1024."""
    return _parse.size(text)


def delay(text: str) -> float:
    """A delay in seconds: 5 or 5s, 2.5s, 100ms, 20us, 30ns."""
    seconds, nanoseconds = _parse.delay(text)
    return seconds + nanoseconds / 10**9


def probability(text: str) -> float:
    """From 0.0 to 1.0: 0.25, 25%, 1:4, 1/4."""
    value = _parse.probability(text)
    if value > 1:
        raise ValueError(f"expected a probability up to 1 or 100%, got {text!r}")
    return value


def path(text: str) -> str:
    """A path, made absolute: in the background, a server works in the root folder. The file need not exist."""
    if not text:
        raise ValueError("expected a path, got ''")
    return os.path.abspath(text)


def password(text: str) -> bytes:
    """The password itself, or `-` to be asked for it, `+FILE` or `-FD` for a first line that has it."""
    import nbdkit

    return nbdkit.read_password(text)


def choice(*words: str) -> Callable[[str], str]:
    """One of these words. Raises TypeError for what is no str, and without any."""
    if not words or not all(isinstance(word, str) for word in words):
        raise TypeError(f"nbdkit.choice: expected words such as 'fast', 'safe', got {', '.join(map(repr, words))}")

    def choose(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected {' or '.join(words)}, got {text!r}")
        return text

    choose.__name__ = "|".join(words)
    return choose


class list_of(Generic[T]):
    """A parameter that may be given more than once: a list of what `type` makes of each text, in their order.

    Raises TypeError for what is no type.
    """

    def __init__(self, type: Callable[[str], T]) -> None:
        _check_type("nbdkit.list_of", type)
        self.type = type
        self.__name__ = f"{_name(type)} …"

    def __call__(self, text: str) -> list[T]:
        return [_reader(self.type)(text)]


def _bool(text: str) -> bool:
    return _parse.boolean(text)


def _int(text: str) -> int:
    try:
        return _parse.integer(text, -2**63, 2**63 - 1)
    except ValueError:
        raise ValueError(f"expected an integer of 64 bits such as 10, -1 or 0x1f, got {text!r}") from None


def _float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise ValueError(f"expected a number such as 0.5 or 1e6, got {text!r}")
    return value


def _reader(type: "Callable[[str], Any]") -> "Callable[[str], Any]":
    """What reads a text. Python's own types are not meant for a command line's: bool("no") is True."""
    own: dict[object, Callable[[str], Any]] = {bool: _bool, int: _int, float: _float}
    return own.get(type, type)


def _name(type: object) -> str:
    return str(getattr(type, "__name__", type))


def _check_type(where: str, type: object) -> None:
    if not callable(type):
        raise TypeError(f"{where}: expected a type such as nbdkit.size or int, got {type!r}")
    if type in (choice, list_of):
        raise TypeError(f"{where}: expected a type such as nbdkit.choice('a', 'b') or nbdkit.list_of(int), got "
                        f"nbdkit.{_name(type)} without arguments")


class Parameter(Generic[T]):
    """A parameter that a script has declared; made by nbdkit.parameter(), which says what the attributes are.

    value: what was given on the command line, or else the default. LookupError where there is neither, which cannot be
        once the server's start has come to config_complete.
    given: whether it is from the command line.
    """

    value: T

    def __init__(self, name: str, type: "Callable[[str], Any]", default: object, minimum: object, maximum: object,
                 help: str, magic: bool) -> None:
        self.name = name
        self.type: Any = type
        self.default = default
        self.minimum = minimum
        self.maximum = maximum
        self.help = help
        self.magic = magic
        self.given = False
        self._least, self._most = self._bound("minimum", minimum), self._bound("maximum", maximum)
        if isinstance(self.type, list_of) and not (default is ... or isinstance(default, (list, tuple, str, NoneType))):
            raise TypeError(f"nbdkit.parameter: {name}: default: expected a list, got {_name(default.__class__)} "
                            f"{default!r}")
        if self._least is not None and self._most is not None and self._most < self._least:
            raise ValueError(f"nbdkit.parameter: {name}: expected a minimum up to the maximum, got {minimum} and "
                             f"{maximum}")

    def __repr__(self) -> str:
        return f"<nbdkit.Parameter {self.usage()}>"

    def _bound(self, which: str, bound: object) -> "Any":
        if not isinstance(bound, str):
            return bound
        try:
            return _reader(self.type.type if isinstance(self.type, list_of) else self.type)(bound)
        except (OSError, ValueError) as error:
            raise ValueError(f"nbdkit.parameter: {self.name}: {which}: {error}") from None

    @property
    def required(self) -> bool:
        """Whether it must be given: it has no default."""
        return self.default is ...

    if not TYPE_CHECKING:

        def __getattr__(self, attribute: str) -> object:
            # Only the first time: then the value is an attribute like any other.
            if attribute != "value":
                raise AttributeError(f"a parameter has no attribute {attribute!r}", name=attribute, obj=self)
            if self.required:
                raise LookupError(f"the parameter {self.name} has not been given, and has no default")
            default = self.default
            if isinstance(default, str):
                self.value = self._read(default)
            else:
                if default is not None:
                    self._check_range(default, str(default))
                self.value = list(default) if isinstance(default, list) else default
            return self.value

    def set(self, text: str) -> None:
        """Take a value as the command line has it, and in a test that has no command line.

        Raises ValueError, which begins with the parameter's name: for what is not of its type, or out of its range, or
        given once more and no list.
        """
        before: Any = self.value if self.given else []
        if self.given and not isinstance(self.type, list_of):
            raise ValueError(f"{self.name}: given more than once")
        value = self._read(text)
        self.value = before + value if self.given else value
        self.given = True

    def _read(self, text: str) -> "Any":
        try:
            value = _reader(self.type)(text)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.name}: {error}") from None
        self._check_range(value, text)
        return value

    def _check_range(self, value: "Any", text: str) -> None:
        for item in value if isinstance(self.type, list_of) else [value]:
            try:
                too_small = self._least is not None and item < self._least
                too_large = self._most is not None and item > self._most
            except TypeError:
                bound = self._most if self._least is None else self._least
                raise ValueError(f"{self.name}: expected a minimum and maximum of the type of {item!r}, got {bound!r}"
                                 ) from None
            if too_small:
                raise ValueError(f"{self.name}: expected {self.minimum} or more, got {text!r}")
            if too_large:
                raise ValueError(f"{self.name}: expected {self.maximum} or less, got {text!r}")

    def usage(self) -> str:
        """What may be written for it on the command line, such as `size=SIZE`."""
        name = _name(self.type)
        return f"{self.name}={name if '|' in name else name.upper()}"

    def remark(self) -> str:
        """Whether it is required, its default, its range, and whether it may go without its name."""
        remarks = ["required" if self.required else _shown(self.default),
                   "" if self.minimum is None else f"at least {self.minimum}",
                   "" if self.maximum is None else f"at most {self.maximum}",
                   f"`{self.name}=` may be left out" if self.magic else ""]
        return ", ".join(filter(None, remarks))


def _shown(default: object) -> str:
    """A default as the command line would have it; nothing where there is nothing to say."""
    if isinstance(default, (list, tuple)):
        text = " ".join(map(str, default))
    else:
        text = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
    return f"default {text}" if text else ""


if TYPE_CHECKING:

    @overload
    def parameter(name: str, type: Callable[[str], T], *, minimum: object = None, maximum: object = None,
                  help: str = "", magic: bool = False) -> Parameter[T]: ...
    @overload
    def parameter(name: str, type: Callable[[str], T], *, default: None, minimum: object = None,
                  maximum: object = None, help: str = "", magic: bool = False) -> Parameter[T | None]: ...
    # Of `[]` alone a type checker does not know what is in it.
    @overload
    def parameter(name: str, type: list_of[T], *, default: Sequence[T] | str, minimum: object = None,
                  maximum: object = None, help: str = "", magic: bool = False) -> Parameter[list[T]]: ...
    @overload
    def parameter(name: str, type: Callable[[str], T], *, default: T | str, minimum: object = None,
                  maximum: object = None, help: str = "", magic: bool = False) -> Parameter[T]: ...


def parameter(name: str, type: "Callable[[str], Any]", *, default: object = ..., minimum: object = None,
              maximum: object = None, help: str = "", magic: bool = False) -> "Parameter[Any]":
    """Declare a parameter, at the script's top level or in its class: NAME=VALUE on the command line gives its `value`.

    name: letters, digits and `-._`, the first one a letter.
    type: nbdkit.size, delay, probability, path, password, choice(…) or list_of(…); int, float, bool or str; or a
        function of the text that raises ValueError, saying what it expected.
    default: a str as the command line would have it, a value of the type, or None. Without it the parameter must be
        given.
    minimum, maximum: the least and the largest value, likewise; for a list, of its items. Default: what the type takes.
    help: a sentence for the help page and --dump-plugin.
    magic: whether a word without a `=` is its value. Only one can be.

    Raises TypeError and ValueError.
    """
    if not isinstance(name, str):
        raise TypeError(f"nbdkit.parameter: name: expected a str, got {_name(name.__class__)} {name!r}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", name):
        raise ValueError(f"nbdkit.parameter: name: expected letters, digits and -._ after a letter, got {name!r}")
    if name == "script" and not magic:
        raise ValueError("nbdkit.parameter: name: `script` is nbdkit's own, which comes as a word without a `=` does")
    _check_type("nbdkit.parameter: type", type)
    return Parameter(name, type, default, minimum, maximum, help, magic)


# What a server's start does with them.


def declared(script: ModuleType, cls: type | None) -> list[Parameter[object]]:
    """The parameters that a script, and its class, have declared, in their order."""
    places = [vars(script), *(vars(base) for base in reversed(cls.__mro__ if cls else ()))]
    found = list(dict.fromkeys(v for place in places for v in list(place.values()) if type(v) is Parameter))
    names = [parameter.name for parameter in found]
    for name in names:
        if names.count(name) > 1:
            raise ScriptError(f"the parameter {name} is declared more than once")
    return found


def magic_key(parameters: Iterable[Parameter[object]]) -> str | None:
    """The name of the one that may be given without its name."""
    names = [parameter.name for parameter in parameters if parameter.magic]
    if len(names) > 1:
        raise ScriptError(f"expected one parameter with magic=True, got {' and '.join(names)}")
    return names[0] if names else None


def config(parameters: Iterable[Parameter[object]], own: Callable[..., object] | None) -> Callable[..., None]:
    """The callback `config`: what is declared goes to its parameter, the rest to the script's own config if it has one.

    Without that, the rest is an error; a translator, whose config has `next` before the key, passes it on.
    """
    by_name = {parameter.name: parameter for parameter in parameters}

    def config(*arguments: "Any") -> None:
        *below, key, value = arguments
        if key in by_name:
            try:
                by_name[key].set(value)
            except ValueError as error:
                raise ScriptError(str(error)) from None
        elif own is not None:
            own(*arguments)
        elif below:
            below[0].config(key, value)
        else:
            from ._script import near

            usages = " ".join(parameter.usage() for parameter in by_name.values())
            raise ScriptError(f"unknown parameter {key!r}{near(by_name, key) or '.'} The parameters are: {usages}")

    # For who traces calls.
    config.secrets = {name for name, p in by_name.items() if p.type is password}  # type: ignore[attr-defined]
    return config


def config_complete(parameters: Iterable[Parameter[object]], own: Callable[..., object] | None) -> Callable[[], None]:
    """The callback `config_complete`: each parameter has its value from here on; then the script's own."""

    def config_complete() -> None:
        for parameter in parameters:
            if parameter.required and not parameter.given:
                raise ScriptError(f"the parameter {parameter.usage()} is missing")
            try:
                # Now, not when a client comes: a path is made absolute, and a default that is wrong stops the start.
                parameter.value  # noqa: B018
            except ValueError as error:
                raise ScriptError(str(error)) from None
        if own is not None:
            own()

    return config_complete


# What takes the place of a script's own callbacks, by their names.
CALLBACKS: dict[str, Callable[[list[Parameter[object]], Callable[..., object] | None], Callable[..., None]]] = {
    "config": config,
    "config_complete": config_complete,
}
