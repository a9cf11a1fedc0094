"""Inputs and outputs of graphs, as every target wants them: outputs that something computes, under their own names."""

from __future__ import annotations

from graphopt.ir.graph import Graph
from graphopt.ir.known import PASS_THROUGH
from graphopt.ir.model import Function, Model
from graphopt.ir.traversal import reachable
from graphopt.ir.value import Node, Value
from graphopt.passes.removal import is_removable

INPUTS = frozenset({"tf.Placeholder", "tf.PlaceholderV2", "tf.PlaceholderWithDefault", "tf._Arg"})
_SEVERAL = "tf.IdentityN"
_IDENTITIES = frozenset({*PASS_THROUGH, _SEVERAL})


def plain_outputs(model: Model) -> None:
    """Let outputs that pass something on be what they pass on, under their own names where that had no other use."""
    for graph in model.graphs:
        outputs = [_passed_on(value) for value in graph.outputs]
        if all(old is new for old, new in zip(graph.outputs, outputs, strict=True)):
            continue
        identities = dict.fromkeys(value.node for value in graph.outputs if value.node.op in _IDENTITIES)
        merged = list(dict.fromkeys(outputs))
        for signature in model.signatures.values():
            if signature.graph is graph and not isinstance(graph, Function):
                signature.outputs = {name: merged.index(outputs[place]) for name, place in signature.outputs.items()}
        graph.outputs = outputs if isinstance(graph, Function) else merged
        for node in identities:
            if node.graph is graph and not node.has_uses:
                name, producer = node.name, node.input(0)
                graph.remove(node)
                if node.op == _SEVERAL:
                    continue
                if producer.index == 0 and not producer.is_input and len(producer.node.outputs) == 1:
                    producer.node.origins = tuple(dict.fromkeys((*producer.node.source_names, name)))
                    graph.rename(producer.node, name)


def guard_outputs(model: Model) -> None:
    """Let an identity stand for each output that is not the first one of its node: the rules may replace that node by
    several, none of which could have the output's name. `plain_outputs` takes the identities away again."""
    for graph in model.graphs:
        if any(_needs_guard(value) for value in graph.outputs):
            guards = {value: _guard(graph, value) for value in dict.fromkeys(graph.outputs) if _needs_guard(value)}
            graph.outputs = [guards.get(value, value) for value in graph.outputs]


def _needs_guard(value: Value) -> bool:
    return value.index > 0 and not value.is_input and value.node.dialect == "tf"


def _guard(graph: Graph, value: Value) -> Value:
    name = f"{value.node.name}/{value.index}"
    return graph.create_node("tf.Identity", [value], {"T": value.dtype}, name=name, types=(value.type,)).output


def _passed_on(value: Value) -> Value:
    while value.node.op in _IDENTITIES and not value.is_input and value.index < value.node.input_count:
        value = value.node.input(value.index)
    return value


def drop_idle_targets(model: Model) -> None:
    """Let functions run nothing for its effect that has none: what is left of variables that were read, say."""
    for function in model.functions.values():
        idle = {node: None for node in function.targets if all(_is_idle(needed) for needed in reachable([node]))}
        function.control_outputs = {key: node for key, node in function.control_outputs.items() if node not in idle}
        function.targets = [node for node in function.targets if node not in idle]


def _is_idle(node: Node) -> bool:
    return node.op in INPUTS or is_removable(node)
