"""Matching a pattern against the graph, with backtracking over operand orders and alternatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from graphopt.ir.errors import UsageError
from graphopt.ir.graph import Graph
from graphopt.ir.known import CONSTANTS, PASS_THROUGH, VARIABLE_VALUES, known_array, known_scalar, known_tensor
from graphopt.ir.ops import attributes, find
from graphopt.ir.tensors import Tensor
from graphopt.ir.value import Node, Value
from graphopt.passes.patterns import Either, Operand, Operation, Pattern, Rest, Wildcard

Bindings = dict[str, Any]
Trail = tuple[Node, ...]  # nodes matched so far, the root first
Trace = Callable[[int, str], None]  # gets how many nodes had matched, and why it ended there


class Match:
    """One match: captured values as attributes (`match.x`), captured nodes too, and every node matched."""

    __slots__ = ("_bindings", "nodes")

    def __init__(self, bindings: Bindings, nodes: Trail) -> None:
        self._bindings, self.nodes = bindings, tuple(dict.fromkeys(nodes))

    def __getattr__(self, name: str) -> Any:
        try:
            return self._bindings[name]
        except KeyError:
            raise AttributeError(f"the pattern captures nothing called '{name}'") from None

    def __contains__(self, name: str) -> bool:
        return name in self._bindings

    @property
    def root(self) -> Node:
        """The node that the match replaces."""
        return self.nodes[0]

    @property
    def interior(self) -> tuple[Node, ...]:
        """Matched nodes other than the root."""
        return self.nodes[1:]

    @property
    def graph(self) -> Graph:
        """The graph it is in."""
        graph = self.root.graph
        assert graph is not None
        return graph

    def grown(self, nodes: Iterable[Node], **captures: Any) -> Match:
        """The same match with more nodes of the graph in it, and more captures."""
        return Match({**self._bindings, **captures}, (*self.nodes, *nodes))

    def captures(self) -> Iterator[Value]:
        """Values captured by wildcards: what the matched part reads from outside."""
        for bound in self._bindings.values():
            for item in bound if isinstance(bound, tuple) else (bound,):
                if isinstance(item, Value):
                    yield item

    def attrs(self, name: str) -> Mapping[str, Any]:
        """Attributes, with defaults, of the captured node `name`."""
        return attributes(self._bindings[name])

    def tensor(self, name: str) -> Tensor | None:
        """The known tensor of the captured value `name`."""
        return known_tensor(self._bindings[name])

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """Values of a capture that the pattern requires to be known."""
        array = known_array(self._bindings[name])
        if array is None:
            raise UsageError(f"the pattern does not require '{name}' to be known")
        return array

    def scalar(self, name: str) -> Any:
        """The one number of a known capture, or None."""
        return known_scalar(self._bindings[name])


HOLDERS = frozenset({*CONSTANTS, *PASS_THROUGH, *VARIABLE_VALUES})  # operators that a known tensor may come from


def required_operators(pattern: Pattern) -> tuple[tuple[frozenset[str], ...], ...]:
    """For each alternative at the root, sets of operators each of which must be among the producers of the inputs.

    A cheap test that rules out most nodes before matching.
    """
    operations = pattern.alternatives if isinstance(pattern, Either) else (pattern,)
    return tuple(
        tuple(ops for operand in operation.inputs if (ops := _possible_operators(operand)) is not None)
        for operation in operations
        if isinstance(operation, Operation)
    )


def _possible_operators(operand: Operand) -> frozenset[str] | None:
    """Operators that can produce a value matching `operand`; None for any."""
    if isinstance(operand, Operation):
        return frozenset(operand.ops)
    if isinstance(operand, Wildcard):
        return HOLDERS if operand.known else None
    if isinstance(operand, Either):
        parts = [_possible_operators(alternative) for alternative in operand.alternatives]
        return None if any(part is None for part in parts) else frozenset().union(*(p for p in parts if p))
    return None


def match_node(pattern: Pattern, node: Node, trace: Trace | None = None) -> Match | None:
    """The first match of `pattern` rooted at `node`, or None; `trace` hears how far each attempt came."""
    operations = pattern.alternatives if isinstance(pattern, Either) else (pattern,)
    for operation in operations:
        if isinstance(operation, Operation) and operation.index < len(node.outputs):
            for bindings, nodes in _match_operation(operation, node, {}, (), trace):
                return Match(bindings, nodes)
    return None


def _match_value(
    pattern: Operand, value: Value | None, bindings: Bindings, nodes: Trail, trace: Trace | None
) -> Iterator[tuple[Bindings, Trail]]:
    if value is None or isinstance(pattern, Rest):
        return
    if isinstance(pattern, Operation):
        if pattern.index == value.index:
            yield from _match_operation(pattern, value.node, bindings, nodes, trace)
        elif trace is not None:
            trace(len(nodes), f"'{value.name}' is not output {pattern.index}")
    elif isinstance(pattern, Either):
        for alternative in pattern.alternatives:
            yield from _match_value(alternative, value, bindings, nodes, trace)
    else:
        extended = _bind_wildcard(pattern, value, bindings)
        if extended is not None:
            yield extended, nodes
        elif trace is not None:
            what = "is not known" if pattern.known and known_tensor(value) is None else "does not fit"
            trace(len(nodes), f"'{value.name}' {what} as '{pattern.name}'")


def _bind_wildcard(pattern: Wildcard, value: Value, bindings: Bindings) -> Bindings | None:
    if pattern.known:
        held = known_tensor(value)
        if held is None or held.dtype.numpy is None:  # a handle, or of no type
            return None
        if pattern.tensor_predicate is not None and not pattern.tensor_predicate(held):
            return None
    if pattern.predicate is not None and not pattern.predicate(value):
        return None
    if pattern.name is None:
        return bindings
    return _bind(pattern.name, value, bindings)


def _bind(name: str | None, item: Any, bindings: Bindings) -> Bindings | None:
    if name is None:
        return bindings
    if name in bindings:
        return bindings if bindings[name] is item else None
    return {**bindings, name: item}


def _match_operation(
    pattern: Operation, node: Node, bindings: Bindings, nodes: Trail, trace: Trace | None
) -> Iterator[tuple[Bindings, Trail]]:
    if node.op not in pattern.ops:
        if trace is not None:
            trace(len(nodes), f"'{node.name}' is {node.op}, not {' or '.join(pattern.ops)}")
        return
    reason = _attribute_mismatch(pattern, node)
    if reason:
        if trace is not None:
            trace(len(nodes), f"'{node.name}': {reason}")
        return
    bound = _bind(pattern.name, node, bindings)
    if bound is None:
        return
    for inputs in _input_orders(pattern, node, bound):
        if inputs is not None:
            yield from _match_inputs(inputs[1], inputs[0], (*nodes, node), trace)


def _input_orders(
    pattern: Operation, node: Node, bindings: Bindings
) -> Iterator[tuple[Bindings, list[tuple[Operand, Value | None]]] | None]:
    """Ways of pairing the operands of `pattern` with the inputs of `node`."""
    values = node.inputs
    for place, operand in enumerate(pattern.inputs):
        if isinstance(operand, Rest):
            after = len(pattern.inputs) - place - 1
            taken = len(values) - place - after
            if taken < 0:
                return
            bound = _bind(operand.name, values[place : place + taken], bindings)
            fixed = [*pattern.inputs[:place], *pattern.inputs[place + 1 :]]
            others = [*values[:place], *values[place + taken :]]
            yield (bound, list(zip(fixed, others, strict=True))) if bound is not None else None
            return
    if len(values) != len(pattern.inputs):
        return
    yield bindings, list(zip(pattern.inputs, values, strict=True))
    if pattern.commutative and values[0] is not values[1]:
        yield bindings, list(zip(pattern.inputs, reversed(values), strict=True))


def _match_inputs(
    pairs: list[tuple[Operand, Value | None]], bindings: Bindings, nodes: Trail, trace: Trace | None
) -> Iterator[tuple[Bindings, Trail]]:
    if not pairs:
        yield bindings, nodes
        return
    operand, value = pairs[0]
    for bound, extended in _match_value(operand, value, bindings, nodes, trace):
        yield from _match_inputs(pairs[1:], bound, extended, trace)


def _attribute_mismatch(pattern: Operation, node: Node) -> str | None:
    if not pattern.attrs and not pattern.strict:
        return None
    actual = attributes(node)
    for name, expected in pattern.attrs.items():
        if name not in actual:
            return f"has no attribute '{name}'"
        if not _accepts(expected, actual[name]):
            return f"attribute '{name}' is {actual[name]!r}"
    if pattern.strict:
        operator = find(node.op)
        defaults = operator.interface.defaults if operator is not None and operator.interface is not None else {}
        for name in pattern.strict:
            if name in node.attrs and name in defaults and not _same(node.attrs[name], defaults[name]):
                return f"attribute '{name}' is {node.attrs[name]!r}, not the default"
    return None


def _accepts(expected: Any, actual: Any) -> bool:
    if callable(expected):
        return bool(expected(actual))
    if isinstance(expected, str):
        return bool(expected.encode() == actual)
    if isinstance(expected, list):
        return _same(actual, tuple(expected))
    return _same(actual, expected)


def _same(left: Any, right: Any) -> bool:
    """Equal and of the same kind: 1, 1.0 and True are three different attribute values."""
    if isinstance(left, float) and isinstance(right, float):
        return left == right
    if type(left) is tuple and type(right) is tuple:
        return len(left) == len(right) and all(map(_same, left, right))
    return type(left) is type(right) and bool(left == right)
