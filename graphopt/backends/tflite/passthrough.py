"""What has no builtin form becomes Flex operators or custom ones, where the caller allows either."""

from __future__ import annotations

from collections import Counter

from graphopt.backends.tflite.adoption import ADOPTED
from graphopt.backends.tflite.custom import custom_options, described_attributes
from graphopt.backends.tflite.flex import PREFIX, flex_options, is_flex_operator, refers_to_functions
from graphopt.backends.tflite.options import TFLiteOptions
from graphopt.ir.errors import UnsupportedError
from graphopt.ir.formats.tflite.element_types import number_of
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.types import UNKNOWN_DTYPE
from graphopt.ir.value import Node

CUSTOM = "tfl.CUSTOM"
REGISTERED = frozenset({"AudioSpectrogram", "Mfcc", "TFLite_Detection_PostProcess"})  # by LiteRT itself


def leftover_nodes(graph: Graph) -> list[Node]:
    """The nodes that are neither TFLite's yet nor taken over as they are."""
    return [node for node in graph if node.dialect != "tfl" and node.op not in ADOPTED]


def pass_through(model: Model, options: TFLiteOptions) -> None:
    """Make Flex operators of what is left where `options` allow it and the delegate has them, custom ones otherwise."""
    if not (options.allow_flex or options.allow_custom_ops):
        return
    for graph in model.graphs:
        for node in leftover_nodes(graph):
            if not has_stored_types(node):
                continue
            if options.allow_flex and can_be_flex(node):
                code, held = f"{PREFIX}{node.op_type}", flex_options(node)
            elif options.allow_custom_ops and not refers_to_functions(node):
                code, held = node.op_type, custom_options(described_attributes(node))
            else:
                continue
            _make_custom(node, code, held)


def custom_notes(model: Model) -> list[str]:
    """What the application needs beside LiteRT's own kernels to run the model, in sentences."""
    codes = Counter(node.attrs["custom_code"].decode() for graph in model.graphs for node in graph if node.op == CUSTOM)
    flex = [f"{code} ({count})" for code, count in sorted(codes.items()) if code.startswith(PREFIX)]
    custom = [
        f"{code} ({count})"
        for code, count in sorted(codes.items())
        if not code.startswith(PREFIX) and code not in REGISTERED
    ]
    notes = []
    if flex:
        notes.append(f"the model needs TensorFlow's kernels (the Flex delegate): {', '.join(flex)}")
    if custom:
        notes.append(f"the application has to register kernels: {', '.join(custom)}")
    return notes


def _make_custom(node: Node, code: str, held: bytes) -> None:
    node.op, node.extras = CUSTOM, None
    node.attrs = {"custom_code": code.encode(), "custom_options": held}


def can_be_flex(node: Node) -> bool:
    """The Flex delegate runs the node as it is."""
    if not is_flex_operator(node.op_type) or refers_to_functions(node):
        return False
    try:
        flex_options(node)
    except UnsupportedError:  # an attribute with no form in a NodeDef: a finding says so
        return False
    return True


def has_stored_types(node: Node) -> bool:
    """TFLite can store tensors of the types of all inputs and outputs."""
    for value in (*node.inputs, *node.outputs):
        if value is None or value.dtype is UNKNOWN_DTYPE:
            return False
        try:
            number_of(value.dtype)
        except UnsupportedError:
            return False
    return True
