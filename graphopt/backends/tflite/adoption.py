"""Nodes that TensorFlow and TFLite have alike take on TFLite's names: constants, inputs."""

from __future__ import annotations

from graphopt.backends.ends import INPUTS
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model
from graphopt.names import CALL, without_calls

CONSTANT = "tf.Const"
IDLE = frozenset({"tf.NoOp", "tf._Retval"})
ADOPTED = frozenset({*INPUTS, CONSTANT, *IDLE})


def adopt(model: Model) -> None:
    """Make of a lowered model one of TFLite's format."""
    for graph in model.graphs:
        _adopt_graph(graph)
    model.versions, model.metadata = (0, 0, ()), {}
    model.format = "tflite"
    for signature in model.signatures.values():
        signature.inferred = False


def _adopt_graph(graph: Graph) -> None:
    graph.metadata = {}
    graph.targets = ()
    for node in list(graph):
        if node.op == CONSTANT:
            node.op, node.attrs, node.extras = "tfl.CONSTANT", {"value": node.attrs["value"]}, None
        elif node.op in INPUTS:
            node.op, node.attrs, node.extras = "tfl.INPUT", {}, None
            node.set_inputs(())
        elif node.op in IDLE and not node.has_uses:
            graph.remove(node)
        node.device = ""
    if isinstance(graph, Function):
        graph.attrs, graph.control_outputs, graph.gradient = {}, {}, None


def shorten_names(model: Model) -> None:
    """Leave the calls that led to a node out of its name, where that is free: they take kilobytes in a file.

    Names of inputs and outputs stay.
    """
    for graph in model.graphs:
        for node in list(graph):
            if CALL in node.name and not any(value.is_output or value.is_input for value in node.outputs):
                name = without_calls(node.name)
                if name and graph.find(name) is None:
                    graph.rename(node, name)
