"""Types at a model's borders: callers feed and fetch integers instead of floats, where the border is quantized."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.types import FLOAT32, INT8, UINT8, DType, Quantization, TensorType, dtype_named
from graphopt.ir.value import Value
from graphopt.passes.quantize.borders import DEQUANTIZE, QUANTIZE
from graphopt.passes.quantize.recipe import Recipe

_OFFSET: Mapping[tuple[DType, DType], int] = {(INT8, UINT8): 128, (UINT8, INT8): -128}


def set_boundary(model: Model, recipe: Recipe) -> list[str]:
    """Give inputs and outputs of every signature's graph the types that the recipe wants; notes on those that stay."""
    graphs = dict.fromkeys((model.graph, *(signature.graph for signature in model.signatures.values())))
    notes: list[str] = []
    for graph in graphs:
        if recipe.input_type != "float32":
            for value in graph.inputs:
                if value.dtype is FLOAT32 and not _set_input(graph, value, dtype_named(recipe.input_type)):
                    notes.append(f"input '{value.name}' stays float32: what reads it computes in floats")
        if recipe.output_type != "float32":
            for value in graph.outputs:
                if value.dtype is FLOAT32 and not _set_output(graph, value, dtype_named(recipe.output_type)):
                    notes.append(f"output '{value.name}' stays float32: it is computed in floats")
    return notes


def _converted(quantization: Quantization, given: DType, wanted: DType) -> Quantization | None:
    """The same scale for another type; None where the types do not stand for the same numbers."""
    if given is wanted:
        return quantization
    offset = _OFFSET.get((given, wanted))
    if offset is None:
        return None
    return Quantization(quantization.scale, tuple(zero + offset for zero in quantization.zero_point))


def _set_input(graph: Graph, value: Value, wanted: DType) -> bool:
    readers = [node for node in value.users if node.op == QUANTIZE]
    if not readers or len(readers) != len(value.users) or value.is_output:
        return False
    first = readers[0].output.type
    quantization = None if first.quantization is None else _converted(first.quantization, first.dtype, wanted)
    if quantization is None:
        return False
    value.type = TensorType(wanted, value.shape, quantization)
    for node in readers:
        if node.output.type == value.type:
            node.output.replace_all_uses_with(value)
            if not node.has_uses:
                graph.remove(node)
    return True


def _set_output(graph: Graph, value: Value, wanted: DType) -> bool:
    node = value.node
    if node.op != DEQUANTIZE or value.is_input:
        return False
    integers = node.input(0)
    given = integers.type.quantization
    quantization = None if given is None or given.axis is not None else _converted(given, integers.dtype, wanted)
    if quantization is None:
        return False
    if value.use_count:  # others read the floats
        made = graph.create_node(
            QUANTIZE, (integers,), name=f"{node.name}/{wanted.name}", before=node._next,
            types=(TensorType(wanted, value.shape, quantization),), origins=node.source_names,
        )  # fmt: skip
        graph.outputs = [made.output if item is value else item for item in graph.outputs]
        return True
    name, place = node.name, graph.outputs
    if wanted is not integers.dtype:
        node.op, value.type = QUANTIZE, TensorType(wanted, value.shape, quantization)
        return True
    graph.outputs = [integers if item is value else item for item in place]
    graph.remove(node)
    if len(integers.node.outputs) == 1 and not integers.is_input:
        graph.rename(integers.node, name)
    return True
