"""Bias correction: what rounding the weights shifts a layer's outputs by, on the average, is taken off its bias.

Rounding changes weights by fixed amounts. An input with a mean other than zero, as behind every rectifier, turns them
into a shift of each output channel, the same for all samples: the errors of weights times the means of the input's
channels (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2).
What padding adds at the edges is left out of account.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.known import TFLITE_CONSTANT, known_array
from graphopt.ir.tensors import ArrayTensor
from graphopt.ir.types import FLOAT32, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.arithmetic import dequantize, quantize
from graphopt.passes.quantize.channels import LAYERS, layer_weights
from graphopt.passes.quantize.equalization import hold
from graphopt.passes.quantize.parameters import Array, weight_parameters
from graphopt.passes.quantize.schemes import INT8_WEIGHT
from graphopt.passes.quantize.statistics import Statistics

_MOVING = frozenset({"tfl.RESHAPE", "tfl.SQUEEZE", "tfl.EXPAND_DIMS"})  # what may stand between a layer and an output


def correct_biases(graph: Graph, statistics: Statistics, codes: Mapping[Node, Array] | None = None) -> int:
    """Change biases of one graph in place for int8 weights with a scale for each channel; returns how many layers.

    `codes` are integers of layers whose weights are not rounded to the nearest. Layers whose input has no known means
    stay as they are.
    """
    count = 0
    for node in list(graph):
        if node.op not in LAYERS:
            continue
        weights, means = layer_weights(node), input_means(node, statistics)
        if weights is None or means is None:
            continue
        parameters = weight_parameters(weights, INT8_WEIGHT, axis=LAYERS[node.op][1])
        chosen = codes.get(node) if codes is not None else None
        errors = dequantize(quantize(weights, parameters) if chosen is None else chosen, parameters) - weights
        _shift(node, -layer_mean(node, errors, means))
        count += 1
    return count


def restore_bias(node: Node, source: Node) -> None:
    """Give a layer the bias that `source`, the same layer of an uncorrected model, has."""
    place = LAYERS[node.op][3]
    held = known_array(source.inputs[place]) if place < source.input_count else None
    if held is not None:
        hold(node, place, held)
    elif place < node.input_count:
        node.set_inputs([*node.inputs[:place], None][: source.input_count])


def input_means(node: Node, statistics: Statistics) -> Array | None:
    """The mean of each channel that a layer reads, float64; None where it is not known."""
    weights = layer_weights(node)
    found = statistics.of(node.input(0))
    means = found.channel_mean if found is not None else None
    if weights is None or means is None:
        return None
    _, outputs, inputs, _ = LAYERS[node.op]
    wanted = weights.shape[inputs] if inputs is not None else weights.shape[outputs]
    fits = means.size == wanted if inputs is not None else wanted % means.size == 0
    return means if fits else None


def layer_mean(node: Node, weights: Array, means: Array) -> Array:
    """What a layer with these `weights` and no bias yields, on the average, for each channel of its output: float64."""
    _, outputs, inputs, _ = LAYERS[node.op]
    others = tuple(axis for axis in range(weights.ndim) if axis not in (outputs, inputs))
    summed = weights.sum(others, dtype=np.float64)
    if inputs is None:
        products: Array = summed * np.repeat(means, summed.size // means.size)
        return products
    total: Array = summed @ means
    return total


def _shift(node: Node, amount: Array) -> None:
    """Add to the bias; a layer without one gets one."""
    place = LAYERS[node.op][3]
    graph = node.graph
    assert graph is not None
    if place < node.input_count and node.inputs[place] is not None:
        held = known_array(node.input(place))
        assert held is not None
        hold(node, place, held + amount)
        return
    constant = graph.create_node(
        TFLITE_CONSTANT, attrs={"value": ArrayTensor(amount.astype(np.float32))}, before=node,
        name=graph.unique_name(f"{node.name}/bias"), types=(TensorType(FLOAT32, Shape(amount.shape)),),
        origins=node.source_names,
    )  # fmt: skip
    node.set_inputs([*node.inputs[:place], constant.output])


def correct_output(value: Value, shift: Array) -> bool:
    """Take the mean error of an output's channels, which was measured, off the bias of the layer that yields it.

    Nothing is done, and False returned, where no layer without an activation yields it, or something else reads that.
    """
    if value.use_count:
        return False
    while value.node.op in _MOVING:
        value = value.node.input(0)
        if value.use_count > 1 or value.is_output:
            return False
    node = value.node
    if node.op not in LAYERS or node.attrs.get("fused_activation_function") != b"NONE":
        return False
    weights = layer_weights(node)
    if weights is None or weights.shape[LAYERS[node.op][1]] != shift.size:
        return False
    _shift(node, -shift)
    return True
