# SPDX-License-Identifier: BSD-3-Clause
"""What a script's source shows without running it: wrong signatures, misspelt callbacks, promises that nothing keeps.

Only what is certain is said of a function: one that is written out in the script, is the last thing of its name, and
has no decorator. What is made in other ways, nbdkit's plugin looks at when it loads the script.
"""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Iterator

from .callbacks import CALLBACKS, LENIENT, MAY_YIELD, REQUIRED, Callback
from .report import Fault

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

# What says that something can be done, and the callback that does it.
PROMISES = {
    "can_write": "pwrite", "can_flush": "flush", "can_trim": "trim", "can_zero": "zero", "can_extents": "extents",
}
VERSIONS = (1, 2)


def read_source(source: bytes, name: str) -> tuple[list[Fault], bool]:
    """The faults that a script's source shows, and whether the disk may start all the same."""
    try:
        tree = ast.parse(source, name)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        return [Fault("source", f"{type(error).__name__}: {getattr(error, 'msg', None) or error}", line)], False
    reader = _Reader(tree)
    fatal = list(reader.fatal())
    return sorted([*fatal, *reader.other()], key=lambda fault: fault.line or 0), not fatal


class _Reader:
    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.bound: dict[str, ast.stmt] = {}  # each name at the top level, and what it got its value from last
        self.imports_all = False
        self.disk: ast.ClassDef | None = None  # the class that is the disk
        marks = _marks(tree)
        for statement in _statements(tree.body):
            for bound in _names(statement):
                self.bound[bound] = statement
            self.imports_all |= _is_star(statement)
            if isinstance(statement, ast.ClassDef) and marks.intersection(map(ast.unparse, statement.decorator_list)):
                self.disk = statement
        in_class = {name: s for s in _statements(self.disk.body if self.disk else []) for name in _names(s)}
        self.methods = {name: s for name, s in in_class.items() if isinstance(s, FUNCTION)}
        # Callbacks may come by other means, as by globals()["pread"] = …, from a class that this one is derived from,
        # or in one that is marked later: then what is missing need not be.
        self.is_dynamic = self.imports_all or any(
            isinstance(node, ast.Name) and node.id in ("globals", "locals", "setattr", "exec", "vars")
            or isinstance(node, ast.Global) and CALLBACKS.keys() & node.names for node in ast.walk(tree))
        self.is_dynamic |= bool(self.disk.bases or self.disk.keywords) if self.disk else any(
            isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) in marks for node in ast.walk(tree))
        self.callbacks: dict[str, ast.stmt] = {**self.bound, **in_class}
        if "__init__" in self.methods:
            self.callbacks.setdefault("open", self.methods["__init__"])
        self.functions = {name: node for name, node in self.callbacks.items()
                          if isinstance(node, FUNCTION) and not node.decorator_list}

    def fatal(self) -> Iterator[Fault]:
        """What keeps the disk from starting."""
        version = self.version()
        if isinstance(version, Fault):
            yield version
            return
        for name, function in self.functions.items():
            if name in CALLBACKS:
                yield from self.callback(name, function, version)
        if self.disk or self.is_dynamic or any(map(_may_be_a_disk, self.bound.values())):
            return
        for name in REQUIRED:
            if name not in self.callbacks:
                yield Fault("source", f"the callback {CALLBACKS[name].shown(version)} is missing" + self.near(name))

    def version(self) -> int | Fault:
        """API_VERSION, 1 if it is not there, and 2 if it cannot be told or the disk is a class."""
        statement = self.bound.get("API_VERSION")
        match statement:
            case None:
                return 2 if self.disk or self.imports_all else 1
            case ast.Assign(value=ast.Constant(value=value)) | ast.AnnAssign(value=ast.Constant(value=value)):
                if value in VERSIONS and type(value) is int:
                    return value
                return Fault("source", f"API_VERSION: expected 1 or 2, got {value!r}", statement.lineno)
        return 2

    def callback(self, name: str, function: Function, version: int) -> Iterator[Fault]:
        """Can this function be the callback?"""
        callback = CALLBACKS[name]
        method = function in self.methods.values()
        if _takes(function, _needed(callback, version, method)):
            if name not in MAY_YIELD and _yields(function) and name not in LENIENT:
                yield Fault("source", f"{name}: a function with `yield` in it does not run when it is called",
                            function.lineno)
        elif name not in LENIENT:
            other = 3 - version
            fits_other = callback.version_1 != callback.version_2 and _takes(function, len(callback.parameters(other)))
            hint = f"; that is how version {other} has it: is it API_VERSION = {other}?" if fits_other else ""
            named = function.name  # that of `open` is __init__
            names = ["self", *(p for p in callback.parameters(version) if p != "h")]
            wanted = f"{named}({', '.join(names)})" if method else callback.shown(version)
            written = f"{named}({ast.unparse(function.args)})"
            yield Fault("source", f"expected {wanted}, got {written}{hint}", function.lineno)

    def other(self) -> Iterator[Fault]:
        """What is wrong, but does not keep the disk from starting."""
        for name, does in PROMISES.items():
            statement = self.callbacks.get(name)
            if statement and does not in self.callbacks and not self.is_dynamic and _says_yes(statement):
                yield Fault("source", f"{name} is there, and {does} is not: requests that it promises would fail",
                            statement.lineno)
        nodes = list(ast.walk(self.tree))
        used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        for name, function in self.functions.items():
            meant = self.meant(name)
            if meant and name not in used and _could_be(function, CALLBACKS[meant], function in self.methods.values()):
                yield Fault("source", f"{name} is no callback, and nothing calls it: did you mean {meant}?",
                            function.lineno)
        yield from self.fua()

    def meant(self, name: str) -> str | None:
        """The callback that a name may be a misspelling of."""
        if name in CALLBACKS or name.startswith("_"):
            return None
        plain = {callback.replace("_", ""): callback for callback in CALLBACKS if callback not in self.callbacks}
        near = difflib.get_close_matches(name.replace("_", "").lower(), plain, n=1, cutoff=0.8)
        return plain[near[0]] if near else None

    def near(self, name: str) -> str:
        for other in self.functions:
            if self.meant(other) == name:
                return f": did you mean {other!r}?"
        return ""

    def fua(self) -> Iterator[Fault]:
        """With FUA_NATIVE, pwrite and the like must look at their flags, unless all they do lasts at once.

        So it does where there is nothing to flush, or a word of what is called or opened says that it is synchronous.
        """
        can_fua, flush = self.functions.get("can_fua"), self.functions.get("flush")
        if can_fua is None or flush is None or self.version() != 2 or "FUA_NATIVE" not in _words(can_fua):
            return
        if all(isinstance(s, ast.Pass) or isinstance(s, (ast.Expr, ast.Return)) and
               (s.value is None or isinstance(s.value, ast.Constant)) for s in flush.body):
            return
        if _words(self.tree) & {"O_SYNC", "O_DSYNC", "RWF_SYNC", "RWF_DSYNC"}:
            return
        for name in ("pwrite", "zero", "trim"):
            function = self.functions.get(name)
            if function is None or function.args.vararg:
                continue
            parameters, words = [*function.args.posonlyargs, *function.args.args], _words(function)
            if len(parameters) >= 4 and parameters[3].arg not in words and not any(
                    "sync" in word or "flush" in word for word in words):
                yield Fault("source", f"can_fua says FUA_NATIVE, but {name} does not look at its flags for FLAG_FUA",
                            function.lineno)


def _words(tree: ast.AST) -> set[str]:
    """The names and attributes that are used in it."""
    return {node.id if isinstance(node, ast.Name) else node.attr for node in ast.walk(tree)
            if isinstance(node, (ast.Name, ast.Attribute))}


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of the top level, also within if, try, with and loops."""
    for statement in body:
        yield statement
        for field in ("body", "orelse", "finalbody"):
            if not isinstance(statement, (*FUNCTION, ast.ClassDef)):
                yield from _statements(getattr(statement, field, []))
        for part in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
            yield from _statements(part.body)


def _names(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement gives something to."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in names)
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.For() | ast.With() | ast.Delete():
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id


def _is_star(statement: ast.stmt) -> bool:
    """Whether it is `from … import *`."""
    return isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*"


def _marks(tree: ast.Module) -> set[str]:
    """How the script writes `nbdkit.disk`, whatever it has imported it as."""
    marks = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                marks |= {f"{alias.asname or alias.name}.disk" for alias in names if alias.name == "nbdkit"}
            case ast.ImportFrom(module="nbdkit", names=names):
                marks |= {alias.asname or alias.name for alias in names if alias.name in ("disk", "*")}
    return {"disk" if mark == "*" else mark for mark in marks}


def _may_be_a_disk(statement: ast.stmt) -> bool:
    """Whether it imports what may be a class that is marked where it is written."""
    return isinstance(statement, ast.ImportFrom) and bool(
        statement.level or (statement.module or "").partition(".")[0] not in {"nbdkit", *sys.stdlib_module_names})


def _takes(function: Function, count: int) -> bool:
    """Whether a function can be called with so many positional arguments."""
    a = function.args
    most = len(a.posonlyargs) + len(a.args)
    required_keywords = any(default is None for default in a.kw_defaults)
    return most - len(a.defaults) <= count and (count <= most or a.vararg is not None) and not required_keywords


def _needed(callback: Callback, version: int, method: bool) -> int:
    """How many arguments it is called with; a method's `self` is the handle, or comes before them."""
    return len(callback.parameters(version)) + (method and callback.version_2[:1] != ("h",))


def _could_be(function: Function, callback: Callback, method: bool) -> bool:
    """Whether it has as many parameters as the callback, in one of the versions."""
    return any(_takes(function, _needed(callback, version, method)) for version in VERSIONS)


def _yields(function: Function) -> bool:
    """Whether there is a yield in it, and not only in a function within it."""
    def inside(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (*FUNCTION, ast.Lambda)):
                yield child
                yield from inside(child)

    return any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in inside(function))


def _says_yes(statement: ast.stmt) -> bool:
    """Whether a callback answers yes, whatever it is asked about: another answer is seen when the disk is served."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            answers = [node.value for node in ast.walk(statement) if isinstance(node, ast.Return)]
        case ast.Assign(value=ast.Lambda(body=answer)):
            answers = [answer]
        case _:
            return False
    return bool(answers) and all(isinstance(answer, ast.Constant) and bool(answer.value) for answer in answers)
