"""Types at a model's borders: callers feed and fetch integers instead of floats.

Where the border computes with integers these are the border's own; elsewhere a conversion stands there.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.types import FLOAT32, INT8, UINT8, DType, Quantization, TensorType, dtype_named
from graphopt.ir.value import Value
from graphopt.passes.quantize.borders import DEQUANTIZE, QUANTIZE
from graphopt.passes.quantize.integers import take_place
from graphopt.passes.quantize.kernels import KERNELS
from graphopt.passes.quantize.parameters import activation_parameters
from graphopt.passes.quantize.recipe import Recipe
from graphopt.passes.quantize.scales import RangeOf
from graphopt.passes.quantize.schemes import INT8_ACTIVATION, INT16_ACTIVATION, UINT8_ACTIVATION, Scheme

SCHEMES: Mapping[DType, Scheme] = {item.dtype: item for item in (INT8_ACTIVATION, UINT8_ACTIVATION, INT16_ACTIVATION)}
_OFFSET: Mapping[tuple[DType, DType], int] = {(INT8, UINT8): 128, (UINT8, INT8): -128}


def set_boundary(model: Model, recipe: Recipe, range_of: RangeOf) -> list[str]:
    """Give inputs and outputs of every signature's graph the types that the recipe wants; notes on those that stay.

    `range_of` says what a tensor takes on, where it is known.
    """
    graphs = dict.fromkeys((model.graph, *(signature.graph for signature in model.signatures.values())))
    notes: list[str] = []
    for graph in graphs:
        for kind, type, values in (
            ("input", recipe.input_type, graph.inputs),
            ("output", recipe.output_type, graph.outputs),
        ):
            scheme = SCHEMES.get(dtype_named(type))
            if scheme is None:
                continue
            for value in dict.fromkeys(values):
                given, name = value.dtype.name, value.name
                if reason := _change(kind, graph, value, scheme, range_of):
                    notes.append(f"{kind} '{name}' stays {given}: {reason}")
    return notes


def _change(kind: str, graph: Graph, value: Value, scheme: Scheme, range_of: RangeOf) -> str:
    """Give an input or output another type. Returns why not, and nothing where that is done or no question."""
    if value.dtype is not FLOAT32:
        return "" if value.type.quantization is None or value.dtype is scheme.dtype else "it is quantized already"
    if value.is_input and value.is_output:
        return "it is an input and an output"
    change, convert = (_set_input, _convert_input) if kind == "input" else (_set_output, _convert_output)
    if change(graph, value, scheme.dtype) or convert(graph, value, scheme, range_of):
        return ""
    return "no range of it is known"


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
    if not readers or len(readers) != len(value.users):
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
    if node.op != DEQUANTIZE:
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


# Borders in floats --------------------------------------------------------------------------------------------


def _convert_input(graph: Graph, value: Value, scheme: Scheme, range_of: RangeOf) -> bool:
    """Let what is fed be integers, which are dequantized before anything reads them."""
    found = range_of(value, scheme)
    if found is None:
        return False
    quantization = activation_parameters(*found, scheme).quantization
    node = graph.create_node(
        DEQUANTIZE, (value,), name=f"{value.node.name}/float32", types=(value.type,), before=value.node._next,
        origins=value.node.source_names,
    )  # fmt: skip
    for reader in value.users:
        for place, read in enumerate(reader.inputs):
            if read is value and reader is not node:
                reader.replace_input(place, node.output)
    value.type = TensorType(scheme.dtype, value.shape, quantization)
    return True


def _convert_output(graph: Graph, value: Value, scheme: Scheme, range_of: RangeOf) -> bool:
    """Let what is fetched be integers, quantized last."""
    quantization = _yielded(value, scheme, range_of)
    if quantization is None:
        return False
    node = graph.create_node(
        QUANTIZE, (value,), name=f"{value.node.name}/{scheme.dtype.name}", before=value.node._next,
        types=(TensorType(scheme.dtype, value.shape, quantization),), origins=value.node.source_names,
    )  # fmt: skip
    take_place(graph, value, node.output)
    return True


def _yielded(value: Value, scheme: Scheme, range_of: RangeOf) -> Quantization | None:
    """What integers stand for at an output: what kernels prescribe, as for probabilities, or what the range gives."""
    kernel = KERNELS.get(value.node.op)
    prescribed = {} if kernel is None else kernel.fixed
    if scheme.dtype in prescribed:
        return prescribed[scheme.dtype]
    if INT8 in prescribed and scheme.dtype is UINT8:
        return _converted(prescribed[INT8], INT8, UINT8)
    found = range_of(value, scheme)
    return None if found is None else activation_parameters(*found, scheme).quantization
