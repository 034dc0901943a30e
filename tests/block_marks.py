"""Which blocks of a module's Python code ran: marks at the start of each, cheap enough for every fuzzed frame.

A copy of the module's source gets ``_marks[n] = 1`` at the start of every function, branch, loop and handler, and
beside every second and later operand of ``and`` and ``or``; then the code of the module's own functions and methods is
swapped for the marked copy. That costs some 30 ns a block, a hundredth of what ``sys.settrace`` costs.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterator
from typing import Any

BLOCKS_MAX = 1 << 13  # all modules together; the gateway's and the engine's Python have some 2,000


class _Marker(ast.NodeTransformer):
    """Puts the marks in."""

    def __init__(self, first: int) -> None:
        self.count = first

    def _mark(self, at: ast.AST) -> ast.stmt:
        n, self.count = self.count, self.count + 1
        return ast.copy_location(ast.parse(f"_marks[{n}] = 1").body[0], at)

    def _marked(self, body: list[ast.stmt], at: ast.AST) -> list[ast.stmt]:
        return [self._mark(at), *body]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        doc = 1 if ast.get_docstring(node, clean=False) is not None else 0
        node.body = [*node.body[:doc], self._mark(node.body[0]), *node.body[doc:]]
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        node.body, node.orelse = self._marked(node.body, node), self._marked(node.orelse, node)
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.body = self._marked(node.body, node)
        return node

    def visit_While(self, node: ast.While) -> ast.AST:
        self.generic_visit(node)
        node.body = self._marked(node.body, node)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.generic_visit(node)
        node.body = self._marked(node.body, node)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        for i in range(1, len(node.values)):
            n, self.count = self.count, self.count + 1
            mark = ast.parse(f"_marks.__setitem__({n}, 1)", mode="eval").body
            node.values[i] = ast.copy_location(ast.BoolOp(ast.Or(), [mark, node.values[i]]), node.values[i])
        return node


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)


def _functions(owner: Any, module: str) -> Iterator[types.FunctionType]:
    """The plain functions and methods that are written in a module."""
    for value in list(vars(owner).values()):
        inner = getattr(value, "__func__", value)
        found = [inner.fget, inner.fset] if isinstance(inner, property) else [inner]
        for one in found:
            if isinstance(one, types.FunctionType) and one.__module__ == module:
                yield one
            elif inspect.isclass(one) and one.__module__ == module and one is not owner:
                yield from _functions(one, module)


class Marked:
    """Context: the modules run with marks, ``marks[n]`` is 1 for each block that ran since they were cleared."""

    def __init__(self, modules: list[types.ModuleType]) -> None:
        self.modules = modules
        self.marks = bytearray(BLOCKS_MAX)
        self.count = 0
        self._before: list[tuple[types.FunctionType, types.CodeType]] = []

    def __enter__(self) -> Marked:
        for module in self.modules:
            marker = _Marker(self.count)
            tree = marker.visit(ast.parse(inspect.getsource(module)))
            self.count = marker.count
            compiled = compile(ast.fix_missing_locations(tree), module.__file__ or "", "exec", dont_inherit=True)
            copies = {(c.co_qualname, c.co_firstlineno): c for c in _codes(compiled)}
            for function in _functions(module, module.__name__):
                code = function.__code__
                copy = copies.get((code.co_qualname, code.co_firstlineno))
                if copy is not None and copy.co_freevars == code.co_freevars:
                    self._before.append((function, code))
                    function.__code__ = copy
            vars(module)["_marks"] = self.marks
        assert self.count <= BLOCKS_MAX
        return self

    def __exit__(self, *exc: object) -> None:
        for function, code in self._before:
            function.__code__ = code
        for module in self.modules:
            vars(module).pop("_marks", None)
