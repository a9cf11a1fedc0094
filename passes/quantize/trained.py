"""Ranges that training chose: of FAKE_QUANT operators, and of floats that are quantized and dequantized at once."""

from __future__ import annotations

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.known import TFLITE_CONSTANT, known_array
from graphopt.ir.tensors import ArrayTensor
from graphopt.ir.types import FLOAT32, Quantization
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.borders import DEQUANTIZE, QUANTIZE
from graphopt.passes.quantize.parameters import Array
from graphopt.passes.quantize.ranges import Range

FAKE_QUANT = "tfl.FAKE_QUANT"
LOOKED_AT = 64  # elements of a channel that are looked at first
OFF = 1e-3  # of a step
Trained = dict[Value, Range]


def has_trained_ranges(graph: Graph) -> bool:
    """Some operator of `graph` says what range training chose."""
    return any(_range_of(node) is not None for node in graph)


def take_trained_ranges(graph: Graph) -> Trained:
    """Remove what only says a range, and return the ranges by the tensors they are of.

    A tensor with several ranges has what they have in common. Constants take the values that training pretended.
    """
    found: Trained = {}
    for node in list(graph):
        given = _range_of(node)
        if given is None:
            continue
        value = _pretended(node)
        if known_array(value) is not None:
            continue
        known = found.get(value, given)
        common = Range(max(known.minimum, given.minimum), min(known.maximum, given.maximum))
        found[value] = common if common.minimum <= common.maximum else known
        _bypass(graph, node, value)
    return found


def fold_trained_weights(graph: Graph) -> None:
    """Let constants be what FAKE_QUANT makes of them."""
    for node in list(graph):
        if node.op != FAKE_QUANT:
            continue
        array = known_array(node.input(0))
        if array is None or node.output.is_output:
            continue
        held = ArrayTensor(_rounded(array.astype(np.float32), node), FLOAT32)
        made = graph.create_node(
            TFLITE_CONSTANT, attrs={"value": held}, name=f"{node.name}/trained", types=(node.output.type,), before=node,
            origins=node.source_names,
        )  # fmt: skip
        node.output.replace_all_uses_with(made.output)
        graph.remove(node)


def trained_magnitudes(weights: Array, axis: int | None, most: int) -> Array:
    """Limits of weights, per channel of `axis`, such that the integers of symmetric scales are the steps of training.

    Weights that training made multiples of a step stay what they are; the largest need not be `most` steps. Elsewhere
    the limit is the largest magnitude.
    """
    rows = weights.reshape(1, -1) if axis is None else np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    rows = np.abs(rows.astype(np.float64))
    largest: Array = rows.max(axis=1, initial=0.0)
    found: Array = largest.copy()
    pending = np.flatnonzero(largest)
    few = rows[:, :: max(1, rows.shape[1] // LOOKED_AT)]
    for steps in range(1, most + 1):
        hopeful = pending[_fits(few, largest, pending, steps)]
        fitting = hopeful[_fits(rows, largest, hopeful, steps)]
        found[fitting] = largest[fitting] * (most / steps)
        pending = pending[~np.isin(pending, fitting)]
        if not pending.size:
            break
    return found


def _fits(rows: Array, largest: Array, chosen: Array, steps: int) -> Array:
    """Whether rows are multiples of a step that their largest element is `steps` of."""
    codes = rows[chosen] * (steps / largest[chosen, None])
    off: Array = np.abs(codes - np.rint(codes)).max(axis=1, initial=0.0) < OFF
    return off


def merge_requantizations(graph: Graph) -> None:
    """Drop conversions to floats and back, and to what a tensor is already."""
    for node in list(graph):
        if node.op != QUANTIZE:
            continue
        source = node.input(0)
        if source.node.op == DEQUANTIZE and source.node.input(0).dtype is node.output.dtype:
            source = source.node.input(0)
        if source.type.quantization is None:
            continue
        if source.type == node.output.type and not node.output.is_output:
            node.output.replace_all_uses_with(source)
            graph.remove(node)
        else:
            node.replace_input(0, source)


def _pretended(node: Node) -> Value:
    """The floats whose range `node` says."""
    return node.input(0) if node.op == FAKE_QUANT else node.input(0).node.input(0)


def _range_of(node: Node) -> Range | None:
    if node.op == FAKE_QUANT:
        return Range(float(node.attrs["min"]), float(node.attrs["max"]))
    if node.op != DEQUANTIZE or node.input(0).node.op != QUANTIZE or _pretended(node).dtype is not FLOAT32:
        return None
    type = node.input(0).type
    given: Quantization | None = type.quantization
    if given is None or given.axis is not None or type.dtype.bits > 16:
        return None
    lowest = 0 if type.dtype.kind == "uint" else -(1 << (type.dtype.bits - 1))
    least, most = (place + lowest - given.zero_point[0] for place in (0, (1 << type.dtype.bits) - 1))
    return Range(least * given.scale[0], most * given.scale[0])


def _bypass(graph: Graph, node: Node, value: Value) -> None:
    """Let `value` take the place of what `node` yields; an output stays one, under its name."""
    output = node.output
    if output.is_output:
        if value.is_input or value.is_output or len(value.node.outputs) > 1:
            return
        graph.outputs = [value if item is output else item for item in graph.outputs]
        output.replace_all_uses_with(value)
        name = node.name
        graph.remove(node)
        graph.rename(value.node, name)
        return
    output.replace_all_uses_with(value)
    graph.remove(node)


def _rounded(array: Array, node: Node) -> Array:
    """The values of as many steps as the bits can tell apart, of which zero is one."""
    low, high = np.float32(node.attrs["min"]), np.float32(node.attrs["max"])
    least = 1 if node.attrs.get("narrow_range") else 0
    most = (1 << int(node.attrs.get("num_bits", 8))) - 1
    step = (high - low) / np.float32(most - least)
    zero = min(max(round(float(least - low / step)), least), most)
    floor, ceiling = (least - zero) * step, (most - zero) * step
    clipped = np.clip(array, floor, ceiling) - floor
    rounded: Array = (np.floor(clipped / step + np.float32(0.5)) * step + floor).astype(np.float32)
    return rounded
