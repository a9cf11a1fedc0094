"""Whether nodes make sense by themselves, asked when a rule fails: files that contradict themselves are read too."""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.ir.errors import printable
from graphopt.ir.infer_nodes import NodeTypes
from graphopt.ir.operator_rules import OperatorRules
from graphopt.ir.ops import find
from graphopt.ir.shape_values import NODE_LIMIT, ShapeValues
from graphopt.ir.value import Node


def contradiction(nodes: Iterable[Node]) -> str | None:
    """What is wrong with the first of `nodes` whose attributes, inputs and types contradict one another, or None."""
    found: list[str] = []
    types = NodeTypes(ShapeValues(NODE_LIMIT))

    def report(node: Node, problem: str) -> None:
        found.append(f"'{printable(node.name)}' {problem}")

    for node in _with_producers(nodes):
        model = node.graph.model if node.graph is not None else None
        OperatorRules(model.functions if model is not None else {}, report).check(node)
        missing = _missing(node)
        if missing is not None:
            report(node, missing)
        for value in node.inputs:
            if value is not None and not value.dtype.code:
                report(node, f"reads '{printable(value.name)}', whose element type is not known")
        inferred = types.of(node)
        found += types.notes.values()
        for value, type in zip(node.outputs, inferred, strict=False):
            if value.shape.merged(type.shape) is None:
                found.append(f"'{printable(value.name)}' is {value.type}, its inputs and attributes make it {type}")
        if found:
            return found[0]
    return None


def refused(error: Exception, node: Node) -> str:
    """Why reading `node` failed, if it contradicts itself. Raises `error` again where it does not."""
    reason = contradiction((node,))
    if reason is None:
        raise error
    return f"{reason}, so that it contradicts itself"


def _with_producers(nodes: Iterable[Node]) -> dict[Node, None]:
    """`nodes` and what they read, which rules look at too."""
    found = dict.fromkeys(nodes)
    for node in list(found):
        found.update(dict.fromkeys(value.node for value in node.inputs if value is not None))
    return found


def _missing(node: Node) -> str | None:
    """An attribute or input that `node` lacks, although its operator cannot do without."""
    operator = find(node.op)
    if operator is None or operator.interface is None:
        return None
    try:
        operator.interface.output_types(node.attrs)
        count = len(operator.interface.input_types(node.attrs))
    except KeyError as attribute:
        return f"lacks the attribute {attribute}"
    except ValueError as error:  # of a wrong kind, or open, as in a generic function
        return f"cannot be typed: {error}"
    return None if count == node.input_count else f"has {node.input_count} inputs where its operator takes {count}"
