"""What a rule of lowering builds, read from its code: operators of the target that it, or a helper it calls, names."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

ATTRIBUTE_CLASS = re.compile(r"[A-Z]\w*(?<!Op)\Z")


@dataclass(frozen=True)
class Namer:
    """Says what of a rule's code names an operator.

    `operators` are the names there are; `houses` the modules in whose functions a search goes on, the first group of
    them that names anything; `dialects` the attributes whose members are operators too (`build.hlo.pad`), and
    `methods` a class whose methods are helpers.
    """

    operators: Container[str]
    houses: tuple[tuple[str, ...], ...]
    dialects: tuple[str, ...] = ()
    methods: type | None = None
    shown: Callable[[str], str] = field(default=str)

    def targets(self, function: Callable[..., Any], ops: tuple[str, ...]) -> tuple[str, ...]:
        """Operators of the target that the rule of `ops` names: itself, or where it names none, what it calls."""
        for houses in self.houses:
            found = [name for op in ops for name in self._named(inspect.unwrap(function), op, houses, {})]
            if found:
                return tuple(dict.fromkeys(map(self.shown, found)))
        return ()

    def _named(self, function: Any, op: str, houses: tuple[str, ...], seen: dict[Any, None]) -> Iterator[str]:
        """Operators that a function names, in the order of its text."""
        if function in seen:
            return
        seen[function] = None
        for node in _tree(function):
            if isinstance(node, ast.Constant):
                yield from self._operators(node.value, op)
            elif isinstance(node, ast.Attribute):
                yield from self._member(node, op, houses, seen)
            elif isinstance(node, ast.Name):
                held = function.__globals__.get(node.id)
                if inspect.isfunction(held) and held.__module__.startswith(houses):
                    yield from self._named(held, op, houses, seen)
                elif isinstance(held, (str, Mapping)):
                    yield from self._operators(held, op)

    def _member(self, node: ast.Attribute, op: str, houses: tuple[str, ...], seen: dict[Any, None]) -> Iterator[str]:
        if isinstance(node.value, ast.Attribute) and node.value.attr in self.dialects:
            if not ATTRIBUTE_CLASS.match(node.attr) and node.attr in self.operators:
                yield node.attr
        elif self.methods is not None and not isinstance(node.value, ast.Constant):
            method = self.methods.__dict__.get(node.attr)
            if inspect.isfunction(method):
                yield from self._named(method, op, houses, seen)

    def _operators(self, value: Any, op: str) -> Iterator[str]:
        """The operators that a value names: of a table by operator, those of `op` alone."""
        if isinstance(value, str):
            if value in self.operators:
                yield value
        elif isinstance(value, Mapping):
            keys = [key for key in (op, op.partition(".")[2]) if key in value]
            is_by_operator = any(isinstance(key, str) and key.startswith("tf.") for key in value)
            for item in [value[key] for key in keys] if keys or is_by_operator else value.values():
                yield from self._operators(item, op)
        elif isinstance(value, tuple):
            for item in value:
                yield from self._operators(item, op)


@cache
def _tree(function: Any) -> list[ast.AST]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    return [node for statement in tree.body for node in _in_order(statement)]


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)
