# SPDX-License-Identifier: BSD-3-Clause
"""Finds, in its source, whether a pread fills its whole buffer, so that the plugin need not zero that before each call.

What proves it is a statement `buf[:] = …` on every way to a return: all of a memoryview can only be replaced by as many
bytes, and a callback that raises has no answer. So does a translator's `next.pread(buf, …)`, for what is below it fills
all of what it is given. Whatever is not as plain as that counts as not filled.
"""

import _ast as ast
from collections.abc import Iterator
from types import CodeType

_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST, without the import of `ast` at each server's start


class _Unfilled(Exception):
    """There is a return that the statement has not come before."""


def fills(source: bytes, code: CodeType, buf: str, below: str | None) -> bool:
    """Whether this function, which is defined in that source, returns only after filling its parameter `buf`.

    below: the parameter whose pread fills what it is given, if there is one.
    """
    tree = compile(source, code.co_filename, "exec", _ONLY_AST, dont_inherit=True)
    for node in _within(tree):
        # With decorators, the first line is theirs, and what is called may be another function.
        if isinstance(node, ast.FunctionDef) and (node.name, node.lineno) == (code.co_name, code.co_firstlineno):
            try:
                if below is not None and _is_rebound(node, below):
                    below = None
                return not node.decorator_list and not _is_rebound(node, buf) and _filled(node.body, buf, below)
            except _Unfilled:
                return False
    return False


def _within(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for field in node._fields:
        value = getattr(node, field, None)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                yield from _within(item)


def _is_rebound(function: ast.FunctionDef, buf: str) -> bool:
    """Whether the name may come to mean something else: it stands where it is not read, and is not the parameter."""
    for node in _within(function):
        if isinstance(node, ast.arg) or isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            continue
        for field in node._fields:
            value = getattr(node, field, None)
            if value == buf or isinstance(value, list) and buf in value:
                return True
    return False


def _filled(statements: list[ast.stmt], buf: str, below: str | None) -> bool:
    """Whether who comes out at the end of these statements, if anybody, has filled the buffer."""
    for statement in statements:
        if _fills_all(statement, buf, below) or isinstance(statement, ast.Raise):
            return True
        if isinstance(statement, ast.Return):
            raise _Unfilled
        blocks = [_filled(block, buf, below) for block in _blocks(statement)]
        if isinstance(statement, ast.If) and all(blocks):
            return True
        # What a `with` may swallow, or a loop leave out, is only searched for returns.
        if isinstance(statement, ast.Try) and (blocks[-1] or all(blocks[:-1])):
            return True
    return False


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The statements within this one, but for those of functions and classes. For a try, the last are `finally`'s."""
    match statement:
        case ast.If() | ast.For() | ast.While():
            return [statement.body, statement.orelse]
        case ast.With():
            return [statement.body]
        case ast.Try() | ast.TryStar():
            return [statement.body + statement.orelse, *(handler.body for handler in statement.handlers),
                    statement.finalbody]
        case ast.Match():
            return [case.body for case in statement.cases]
    return []


def _fills_all(statement: ast.stmt, buf: str, below: str | None) -> bool:
    """Whether it is `buf[:] = …` or `next.pread(buf, …)`, the latter perhaps returned."""
    match statement:
        case ast.Expr(value=call) | ast.Return(value=call):
            match call:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="pread"),
                              args=[ast.Name(id=first), *_]):
                    return name == below and first == buf
    if not isinstance(statement, ast.Assign):
        return False
    for target in statement.targets:
        match target:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Slice(lower=None, upper=None, step=None)):
                if name == buf:
                    return True
    return False
