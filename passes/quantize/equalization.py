"""Cross-layer equalization: channels of a tensor are given ranges alike, where layers around can take that back.

A tensor of activations has one scale; a channel whose range is a tenth of the widest one's uses a tenth of the
integers. Such a channel is made larger where it is computed and smaller where it is read (Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction", 2019, whose weights are equalized; here it is
activations, whose ranges are known, since weights have a scale for each channel).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.known import known_array
from graphopt.ir.tensors import ArrayTensor
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.channels import LAYERS, Channels, layer_weights
from graphopt.passes.quantize.statistics import Statistics

Array = np.ndarray[Any, Any]
LIMIT = 64.0  # by which a channel is scaled at most
SHARE = 0.8  # of a tensor's range that a channel is made to fill at most: others than the samples may go further
_STEPS = 8  # of factors, to an octave


def equalize(graph: Graph, statistics: Statistics, strength: float = 1.0) -> dict[Value, Array]:
    """Scale channels of one graph in place, and `statistics` with them; returns the factors of each tensor's channels.

    `strength` is the exponent of what a channel lacks of its share of the range: 0 does nothing.
    """
    channels = Channels(graph)
    factors = _factors(channels, statistics, strength)
    if not (factors != 1.0).any():
        return {}
    for node in list(graph):
        _scale(node, channels, factors)
    found: dict[Value, Array] = {}
    for value, ids in channels.ids.items():
        scaled = np.where(ids < 0, 1.0, factors[ids]).astype(np.float32)
        if (scaled != 1).any():
            statistics.scale(value, scaled)
            found[value] = scaled
    return found


def _factors(channels: Channels, statistics: Statistics, strength: float) -> Array:
    """A factor, at least 1, for each id: none makes a channel fill more than its share of the range of any tensor."""
    factors = np.full(channels.count, LIMIT)
    seen = np.zeros(channels.count, bool)
    for value, ids in channels.ids.items():
        found = statistics.of(value)
        magnitude = found.channel_magnitude if found is not None else None
        if magnitude is None or magnitude.size != ids.size:
            continue
        free = ids >= 0
        known = magnitude > magnitude.max() * 1e-9  # a channel that is always zero needs no larger integers
        room = np.where(known, SHARE * magnitude.max() / np.where(known, magnitude, 1.0), 1.0)
        np.minimum.at(factors, ids[free], np.maximum(room[free], 1.0))
        seen[ids[free]] = True
    factors[~seen] = 1.0
    eighths = np.floor(
        np.log2(np.minimum(factors, LIMIT)) * strength * _STEPS + 1e-6
    )  # down: a second run finds nothing
    chosen: Array = np.exp2(eighths / _STEPS)
    return chosen


def _scale(node: Node, channels: Channels, factors: Array) -> None:
    """Take the factors into the constants of one node."""
    if node.op in LAYERS and layer_weights(node) is not None:
        _scale_layer(node, channels, factors)
    elif node.op == "tfl.MUL" and (factor := channels.factor(node)) is not None:
        made = factor * _of(channels, factors, node.output) / _of(channels, factors, node.input(0))
        hold(node, 1, made.reshape(factor.shape))
    elif node.op == "tfl.MUL" and (spread := channels.spread(node)) is not None:
        place, factor = spread
        hold(node, place, (factor * _of(channels, factors, node.output)).reshape(factor.shape))
    elif node.op in ("tfl.ADD", "tfl.SUB") and (addend := channels.addend(node)) is not None:
        hold(node, 1, (addend * _of(channels, factors, node.output)).reshape(addend.shape))


def _scale_layer(node: Node, channels: Channels, factors: Array) -> None:
    place, outputs, inputs, bias = LAYERS[node.op]
    weights = known_array(node.input(place))
    assert weights is not None
    made, read = _of(channels, factors, node.output), _of(channels, factors, node.input(0))
    if inputs is None:  # depthwise: each input channel has as many output channels in a row
        read = np.repeat(read, weights.shape[outputs] // len(read)) if len(read) > 1 else read
        scaled = weights * (made / read)
    else:
        shape = [1] * weights.ndim
        shape[outputs], wide = -1, [1] * weights.ndim
        wide[inputs % weights.ndim] = -1
        if len(read) > 1:  # a dense layer that reads images has a column for each place and channel
            read = np.tile(read, weights.shape[inputs] // len(read))
        scaled = weights * made.reshape(shape) / read.reshape(wide)
    hold(node, place, scaled)
    if bias < node.input_count and node.inputs[bias] is not None:
        held = known_array(node.input(bias))
        assert held is not None
        hold(node, bias, held * made)


def _of(channels: Channels, factors: Array, value: Value) -> Array:
    """The factor of each channel of a tensor; 1 throughout for one whose channels are not known."""
    ids = channels.ids.get(value)
    return np.ones(1) if ids is None else np.where(ids < 0, 1.0, factors[ids])


def hold(node: Node, index: int, array: Array) -> None:
    """Read another constant, of the same name where nobody else reads the old one."""
    old = node.input(index).node
    graph = node.graph
    assert graph is not None
    held = ArrayTensor(np.ascontiguousarray(array, np.float32))
    made = graph.create_node(
        old.op, attrs={"value": held}, name=old.name, types=(old.output.type,), before=old, origins=old.source_names
    )
    node.replace_input(index, made.output)
    if not old.has_uses:
        name = old.name
        graph.remove(old)
        graph.rename(made, name)
