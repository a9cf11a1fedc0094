"""Nodes that TensorFlow and TFLite have alike take on TFLite's names: constants, inputs."""

from __future__ import annotations

from graphopt.backends.ends import INPUTS
from graphopt.ir.graph import Graph
from graphopt.ir.known import TFLITE_CONSTANT
from graphopt.ir.model import Function, Model

CONSTANT = "tf.Const"
CALL = "PartitionedCall"  # calls of functions are named so, numbers aside
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


def shorten_constants(model: Model) -> None:
    """Leave the calls that led to a constant out of its name, where that is free: they take kilobytes in a file.

    Operators keep theirs, by which they are recognised.
    """
    for graph in model.graphs:
        for node in list(graph):
            if node.op == TFLITE_CONSTANT and CALL in node.name and not node.output.is_output:
                parts = node.name.split("/")
                while len(parts) > 1 and (not parts[0] or CALL in parts[0]):
                    del parts[0]
                name = "/".join(parts)
                if name and graph.find(name) is None:
                    graph.rename(node, name)
