"""Nodes that TensorFlow and ONNX have alike take on ONNX's names: constants, inputs."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.backends.ends import INPUTS
from graphopt.ir.formats.onnx.elements import DOMAINS, INITIALIZER, INPUT, domain_of
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model, Signature
from graphopt.ir.value import Value

CONSTANT = "tf.Const"
VERSIONS = {"ai.onnx.ml": 4}  # of operator sets beside ONNX's own
IDLE = frozenset({"tf.NoOp", "tf._Retval"})
ADOPTED = frozenset({*INPUTS, CONSTANT, *IDLE})


def adopt(model: Model, opset: int) -> None:
    """Make of a lowered model one of ONNX's format, whose inputs and outputs are called as the signature says."""
    for graph in model.graphs:
        _adopt_graph(graph)
    model.versions, model.metadata = (0, 0, ()), {DOMAINS: {"": opset, **_others(model)}}
    model.format = "onnx"
    taken: dict[str, Value] = {}
    for signature in model.signatures.values():
        signature.inferred = False
        for name, value in signature.input_values().items():
            value.name = name
            taken[name] = value
        _own_outputs(model.graph, signature)
        for name, value in signature.output_values().items():
            value.name = name
            taken[name] = value
    _give_way(model.graph, taken)


def _own_outputs(graph: Graph, signature: Signature) -> None:
    """Give each output of a signature a value of its own: of what is an input, or several outputs, an identity."""
    seen = dict.fromkeys(signature.input_values().values())
    outputs = []
    for name, value in signature.output_values().items():
        if value in seen:
            node = graph.create_node("onnx.Identity", (value,), {}, name=graph.unique_name(name), types=(value.type,))
            value = node.output
        seen[value] = None
        outputs.append(value)
    signature.outputs = {name: place for place, name in enumerate(signature.outputs)}
    graph.outputs = outputs


def _others(model: Model) -> dict[str, int]:
    """Versions of the operator sets in use beside ONNX's own."""
    used = {domain_of(node.op)[0] for graph in model.graphs for node in graph if node.dialect not in ("onnx", "tf")}
    return {domain: version for domain, version in VERSIONS.items() if domain in used}


def _give_way(graph: Graph, taken: Mapping[str, Value]) -> None:
    """Other values that are called like an input or output get another name."""
    for node in graph:
        for value in node.outputs:
            if taken.get(value.name, value) is not value:
                value.name = f"{value.name}/inner"


def _adopt_graph(graph: Graph) -> None:
    graph.metadata = {}
    graph.targets = ()
    for node in list(graph):
        if node.op == CONSTANT:
            node.op, node.attrs, node.extras = INITIALIZER, {"value": node.attrs["value"]}, None
        elif node.op in INPUTS:
            node.op, node.attrs, node.extras = INPUT, {}, None
            node.set_inputs(())
        elif node.op in IDLE and not node.has_uses:
            graph.remove(node)
        node.device = ""
    if isinstance(graph, Function):
        graph.attrs, graph.control_outputs, graph.gradient = {}, {}, None
