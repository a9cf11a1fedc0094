"""Concatenations of concatenations, and of the same function of several values."""

from __future__ import annotations

from typing import ClassVar

from graphopt.ir.known import known_scalar
from graphopt.ir.ops import Trait, find, traits_of
from graphopt.ir.ops.derive import derived_names
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, rest
from graphopt.passes.rule import Editor, Replacement, Rule

JOIN = "tf.ConcatV2"
OPERANDS = 1000  # of one concatenation


class JoinOnce(Rule):
    """A concatenation among the operands of another along the same axis is part of it."""

    def pattern(self, tf: Dialect, axis: Wildcard) -> Pattern:
        """A concatenation."""
        return tf.ConcatV2(rest("operands"), axis, attributes=ANY)

    def grow(self, match: Match) -> Match | str | None:
        """All operands that are concatenations themselves, and that nothing else reads."""
        inner = dict.fromkeys(v.node for v in match.operands if v.node.op == JOIN and v.use_count == 1)
        if not inner:
            return None
        axis = _axis(match.root)
        if axis is None or any(_axis(node) != axis for node in inner):
            return "their axes are not known to be the same"
        if len(match.operands) + sum(node.input_count for node in inner) > OPERANDS:
            return f"it would have more than {OPERANDS} operands"
        return match.grown(inner, inner=inner, read=tuple(value for node in inner for value in node.inputs))

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One concatenation of all operands."""
        parts: list[Value] = []
        for value in match.operands:
            parts += filter(None, value.node.inputs[:-1]) if value.node in match.inner else (value,)
        return edit.value(JOIN, *parts, match.axis, N=len(parts))


class FunctionOfJoined(Rule):
    """The same function of each operand of a concatenation is that function of the concatenation.

    One node does the work of several; vectorised kernels may round the last bits otherwise at other places.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tf: Dialect, axis: Wildcard) -> Pattern:
        """A concatenation."""
        return tf.ConcatV2(rest("operands"), axis, attributes=ANY)

    def grow(self, match: Match) -> Match | str | None:
        """The nodes that compute the operands."""
        nodes = dict.fromkeys(value.node for value in match.operands)
        first = match.operands[0].node
        if len(nodes) < 2 or len(nodes) < len(match.operands) or not is_function_of_elements(first):
            return None
        if any(node.op != first.op or node.input(0).dtype is not first.input(0).dtype for node in nodes):
            return None
        return match.grown(nodes, function=first, values=tuple(node.input(0) for node in nodes))

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The function, after the concatenation of what it was applied to."""
        joined = edit.value(JOIN, *match.values, match.axis, N=len(match.values), name=f"{match.root.name}/joined")
        return edit.value(match.function.op, joined)


def is_function_of_elements(node: Node) -> bool:
    """An operator that maps each element by itself, with one operand and nothing but types for attributes."""
    operator = find(node.op)
    if operator is None or operator.interface is None or not traits_of(node.op) & Trait.ELEMENTWISE:
        return False
    if node.input_count != 1 or len(node.outputs) != 1 or traits_of(node.op) & Trait.PASS_THROUGH:
        return False
    return derived_names(operator.interface).issuperset(operator.interface.attr_kinds)


def _axis(node: Node) -> int | None:
    """The axis of a concatenation, counted from the end where the rank is known."""
    axis, rank = known_scalar(node.input(node.input_count - 1)), node.output.shape.rank
    if axis is None:
        return None
    return int(axis) if rank is None or axis < 0 else int(axis) - rank


JOINING_RULES: tuple[type[Rule], ...] = (JoinOnce, FunctionOfJoined)
