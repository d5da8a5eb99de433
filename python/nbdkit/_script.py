# SPDX-License-Identifier: BSD-3-Clause
"""Loads a script, and finds its callbacks: what C++ calls once at the start, never per request.

Everything wrong with the script is raised as one ScriptError whose text is for the person who wrote it.
This module is on every server's start-up path: `inspect`, `difflib` and `traceback` are imported where they are needed.
"""

import os
import sys
from _collections_abc import Callable, Iterable, Mapping  # as collections.abc, but loaded already
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

from ._errors import ScriptError

TYPE_CHECKING = False  # as in `typing`, whose import takes time
if TYPE_CHECKING:
    from ._parameters import Parameter

# How much a script must have a callback. A SHARED name is one that scripts also give to data and imports of their
# own (`cache = {}`, `from functools import cache`): what cannot be the callback is left alone. An ADDED one is new
# with this plugin, so that older scripts use it for functions of their own too (`def load(path)`).
REQUIRED, OPTIONAL, SHARED, ADDED = range(4)

# code.co_flags, as in the `inspect` module.
_CO_VARARGS = 0x04
_CO_GENERATOR = 0x20
_CO_COROUTINE = 0x80
_CO_ASYNC_GENERATOR = 0x200

# What cannot be `async def`: an instance must be there when its class is called, and before the server's fork, which
# takes no thread along, no loop runs.
_PLAIN = frozenset(("__init__", "load", "dump_plugin", "config", "config_complete", "thread_model", "get_ready"))

Callback = Callable[..., object]
Spec = tuple[str, int, bool, str]  # name, need, whether it may be a generator, the parameters

_sources: dict[str, bytes] = {}  # of the scripts that were loaded, by their file names


_folders = 0  # of scripts, at the start of sys.path


def load(name: str, main: bool = True) -> ModuleType:
    """Run the script, and return its module.

    name: the script's path, or `-` for standard input.
    main: whether it is the process's `__main__`, with sys.argv and sys.path as `python script.py` would have them.
        Else it gets a module of its own, which no `import` finds by accident, and its folder comes after those of the
        scripts before it.
    """
    global _folders
    if name == "-":
        source, filename = _standard_input(), "<stdin>"
        folder = os.getcwd()
    else:
        # Absolute, because a server that goes into the background changes to the root folder.
        filename = os.path.abspath(name)
        try:
            with open(filename, "rb") as file:
                source = file.read()
        except OSError as error:
            raise ScriptError(f"cannot read the script: {error.strerror}") from None
        folder = os.path.dirname(os.path.realpath(filename))
    script = sys.modules["__main__"] if main else _module(os.path.basename(filename))
    if name != "-":
        script.__file__ = filename
    if main:
        sys.argv[:] = [filename if name != "-" else name]
    if not sys.flags.safe_path:
        sys.path.insert(0 if main else _folders, folder)
        _folders += 1
    _sources[filename] = source
    try:
        code = _compile(source, filename)
    except (SyntaxError, ValueError) as error:
        raise ScriptError(f"cannot compile the script:\n{_text(error.with_traceback(None))}") from None
    try:
        exec(code, script.__dict__)
    except SystemExit as error:
        raise ScriptError(f"the script called sys.exit({'' if error.code is None else repr(error.code)}) while it was"
                          " loaded: it must come to its end, and then serve") from None
    except BaseException as error:
        # The first frame is the exec above.
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        raise ScriptError(f"the script failed while it was loaded:\n{_text(error.with_traceback(trace))}") from None
    return script


def _module(file: str) -> ModuleType:
    """A new module, called as its file is: `disk.py`, the next one of that name `disk.py (2)`."""
    name, number = file, 1
    while name in sys.modules:
        number += 1
        name = f"{file} ({number})"
    module = sys.modules[name] = ModuleType(name)
    return module


def _compile(source: bytes, filename: str) -> CodeType:
    try:
        import _nbdkit
    except ModuleNotFoundError:  # no server, but who wants to know about a script
        code: CodeType = compile(source, filename, "exec", dont_inherit=True)
        return code
    return _nbdkit._compile(source, filename)


def _standard_input() -> bytes:
    import linecache

    import _nbdkit

    if hasattr(_nbdkit, "stdio_safe") and not _nbdkit.stdio_safe():
        raise ScriptError("cannot read the script from standard input: with -s that is the client's connection")
    if sys.stdin is None or sys.stdin.closed:
        raise ScriptError("cannot read the script from standard input: it is not open")
    source = sys.stdin.buffer.read()
    # So that tracebacks can show the script's lines.
    lines = source.decode(errors="replace").splitlines(keepends=True)
    linecache.cache["<stdin>"] = (len(source), None, lines, "<stdin>")
    return source


def _text(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error)).rstrip()


def marked(script: ModuleType, kind: str) -> type | None:
    """The class that the script has marked as its `kind`: `disk`, as by @nbdkit.disk. None: there is none."""
    # Without the module that makes the marks, there are none, and it is not needed.
    classes = sys.modules.get("nbdkit._classes")
    return classes.marked(script, kind) if classes else None


def api_version(script: ModuleType, highest: int, kind: str) -> int:
    """The script's API_VERSION; without it 2 for a class, which no older script has, and 1 for functions."""
    version = getattr(script, "API_VERSION", 2 if marked(script, kind) else 1)
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= highest:
        raise ScriptError(f"API_VERSION: expected 1 or {highest}, got {version!r}")
    return version


def magic_config_key(script: ModuleType, kind: str) -> str | None:
    """The key under which the script wants parameters that come without one."""
    key = getattr(script, "magic_config_key", None)
    if key is not None and not isinstance(key, str):
        raise ScriptError(f"magic_config_key: expected a str, got {type(key).__name__} {key!r}")
    found = parameters(script, kind)
    if not found:
        return key
    from . import _parameters

    declared = _parameters.magic_key(found)
    if key is not None and declared not in (key, None):
        raise ScriptError(f"magic_config_key: expected {declared!r}, the parameter with magic=True, got {key!r}")
    return key or declared


def parameters(script: ModuleType, kind: str = "disk") -> "list[Parameter[object]]":
    """The parameters that the script has declared, in their order."""
    # As with marks: without the module, there are none.
    module = sys.modules.get("nbdkit._parameters")
    declared: list[Parameter[object]] = module.declared(script, marked(script, kind)) if module else []
    return declared


def dump(script: ModuleType) -> str:
    """The lines of --dump-plugin about the script's parameters."""
    if not parameters(script):
        return ""
    from . import _help

    return _help.dump(script)


def resolve(script: ModuleType, specs: Iterable[Spec], kind: str) -> tuple[list[Callback | None], list[str]]:
    """The script's callbacks in the order of `specs`, None where it has none; and a line on each thing left alone.

    They are functions of the script, or in the class that it has marked as its `kind`.
    """
    specs = list(specs)
    warnings: list[str] = []
    cls = marked(script, kind)
    if cls is None:
        table = {spec[0]: resolve_function(script, *spec, warnings) for spec in specs}
    else:
        from . import _classes

        table = {spec[0]: _classes.resolve(script, cls, kind, *spec, warnings) for spec in specs}
    declared = parameters(script, kind)
    if declared:
        from . import _parameters

        for name in table.keys() & _parameters.CALLBACKS.keys():
            table[name] = _parameters.CALLBACKS[name](declared, table[name])
    for name, _, _, names in specs:
        callback = table[name]
        if callback is not None and is_async(callback):
            from ._loop import waiting

            table[name] = waiting(name, callback, names)
    if kind == "translator":
        _refuse_misspelt(vars(script if cls is None else cls), {spec[0]: spec[3] for spec in specs})
    return list(table.values()), warnings


def _refuse_misspelt(scope: Mapping[str, object], known: Mapping[str, str]) -> None:
    """A translator without its pwrite works, and writes what it should not: so a name that is none is no detail.

    What is meant for a callback has as many parameters, `next` in the same place, and a name that is near to its.
    """
    for name, value in scope.items():
        if name in known or name.startswith("_") or not isinstance(value, FunctionType):
            continue
        names = value.__code__.co_varnames[:value.__code__.co_argcount]
        alike = [callback for callback, parameters in known.items()
                 if [n == "next" for n in names] == [n == "next" for n in parameters.split(", ")]]
        if "next" in names and (meant := near(alike, name)):
            raise ScriptError(f"{name}: there is no such callback{meant}")


def resolve_function(script: ModuleType, name: str, need: int, may_yield: bool, parameters: str,
                     warnings: list[str]) -> Callback | None:
    """The callback of this name that the script has at its top level."""
    callback = getattr(script, name, None)
    if callback is None:
        if need == REQUIRED:
            names = [n for n, value in vars(script).items() if isinstance(value, (FunctionType, MethodType))]
            raise ScriptError(f"the callback {name}({parameters}) is missing{near(names, name)}")
        return None
    return accepted(callback, fault(callback, name, may_yield, parameters), own(script, callback), name, need, warnings)


def accepted(callback: Callback, fault: str | None, own: bool, name: str, need: int,
             warnings: list[str]) -> Callback | None:
    """The callback if it has no fault; else None, and a warning, if its name may mean something else."""
    if fault is None:
        return callback
    if need == ADDED or need == SHARED and not own:
        # An import (`from functools import cache`) is no mistake; the others may be meant as the callback.
        if own or not isinstance(callback, (FunctionType, BuiltinFunctionType, type)):
            warnings.append(f"warning: {name}: {fault}: left alone, since scripts use this name for other things too")
        return None
    raise ScriptError(f"{name}: {fault}")


def own(script: ModuleType, callback: object) -> bool:
    """Whether what runs when this is called was written in the script."""
    function, _ = _function(_called(callback))
    return function is not None and function.__globals__ is vars(script)


def near(names: Iterable[str], name: str) -> str:
    """": did you mean …?", if one of the names is near to this one."""
    import difflib

    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f": did you mean {found[0]!r}?" if found else ""


def fault(callback: object, name: str, may_yield: bool, parameters: str) -> str | None:
    """Why this cannot be the callback, or None."""
    if not callable(callback):
        return f"expected a function {name}({parameters}), got {type(callback).__name__} {_short(callback)}"
    function, bound = _function(callback)
    flags = _flags(callback)
    if is_async(callback) and name in _PLAIN:
        return f"expected a plain function, got `async def {name}`: callbacks can be asynchronous from after_fork on"
    if flags & (_CO_GENERATOR | _CO_ASYNC_GENERATOR) and not may_yield:
        return "expected a plain function, got a generator: a call of a function with `yield` does not run it"
    if not _fits(callback, function, bound, parameters.count(",") + 1 if parameters else 0):
        return f"expected {name}({parameters}), got {name}{_signature(callback)}"
    return None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _function(callback: object) -> tuple[FunctionType | None, int]:
    """The function written in Python that runs when this is called, and how many of its parameters are taken."""
    if isinstance(callback, FunctionType):
        return callback, 0
    if isinstance(callback, MethodType):
        function, bound = _function(callback.__func__)
        return function, bound + 1
    call = getattr(type(callback), "__call__", None)  # noqa: B004  # not whether, but what is called
    if isinstance(call, FunctionType):
        return call, 1
    return None, 0


def is_async(callback: object) -> bool:
    """Whether a call of this makes a coroutine, or an asynchronous generator."""
    if _flags(callback) & (_CO_COROUTINE | _CO_ASYNC_GENERATOR):
        return True
    # One that is marked as such: where that is not imported, none is.
    inspect = sys.modules.get("inspect")
    return inspect is not None and inspect.iscoroutinefunction(callback)


def _flags(callback: object) -> int:
    """The co_flags of what runs when this is called; 0 where that is not written in Python."""
    function, _ = _function(_called(callback))
    return function.__code__.co_flags if function else 0


def _called(callback: object) -> object:
    """What a functools.partial (known by its name, without importing functools) calls in the end; else the callback."""
    while type(callback).__name__ == "partial":
        callback = callback.func  # type: ignore[attr-defined]
    return callback


def _fits(callback: Callback, function: FunctionType | None, bound: int, count: int) -> bool:
    """Whether the callback can be called with so many positional arguments."""
    if function is None:
        # A class, a partial object, a built-in function.
        import inspect

        try:
            inspect.signature(callback).bind(*range(count))
        except TypeError:
            return False
        except ValueError:  # this one does not tell its signature
            pass
        return True
    code = function.__code__
    given = count + bound
    keywords = code.co_varnames[code.co_argcount:code.co_argcount + code.co_kwonlyargcount]
    return (code.co_argcount - len(function.__defaults__ or ()) <= given
            and (given <= code.co_argcount or bool(code.co_flags & _CO_VARARGS))
            and set(keywords) <= set(function.__kwdefaults__ or ()))


def _signature(callback: Callback) -> str:
    import inspect

    try:
        return str(inspect.signature(callback, follow_wrapped=False))
    except (TypeError, ValueError):
        return "(…)"


def takes_count(pread: Callback, parameters: str) -> bool:
    """Whether a pread is the one that takes a count and returns a buffer.

    parameters: of the one that fills a buffer, `buf`. The name in its place tells: `count`, or anything else.
    """
    place = parameters.split(", ").index("buf")
    function, bound = _function(pread)
    if function is not None:
        code = function.__code__
        names = code.co_varnames[bound:code.co_argcount]
        if len(names) <= place and hasattr(pread, "__wrapped__"):  # (*args) in front of a function that has the names
            return takes_count(pread.__wrapped__, parameters)
    else:
        import inspect

        try:
            names = tuple(inspect.signature(pread).parameters)
        except (TypeError, ValueError):  # this one does not tell its signature
            names = ()
    return names[place:place + 1] == ("count",)


def fills_buffer(pread: Callback, parameters: str) -> bool:
    """Whether this pread is sure to fill `buf` before it returns, as far as the script's source shows.

    parameters: their names, as the door has them; the script may use others. A `next` among them has a pread, too.
    """
    function, bound = _function(pread)
    if function is None or function.__code__.co_filename not in _sources:
        return False
    from ._fills import fills

    code, names = function.__code__, parameters.split(", ")
    place = bound + names.index("buf")
    if place >= code.co_argcount:
        return False
    buf = code.co_varnames[place]
    below = code.co_varnames[bound + names.index("next")] if "next" in names else None
    try:
        return fills(_sources[code.co_filename], code, buf, below)
    except RecursionError:  # the source is nested too deeply to be looked through
        return False
