"""Which channels of which tensors may be scaled together without changing what a model computes.

Between a layer and the next, a channel may be made larger or smaller: the layer that yields it multiplies its weights
and bias, the one that reads it divides its own. What lies between must be homogeneous in each channel: sums,
rectifiers, pools, concatenations, means over space. A layer normalization yields channels too: its scale and offset
are multiplied. A rectifier that cuts off at 6 is not homogeneous: what it yields stays as it is, since no operator cuts
each channel off elsewhere. `Channels` numbers the channels, finds those that must be scaled alike, and those that must
stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.known import known_array
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Node, Value

Array = np.ndarray[Any, Any]
HOMOGENEOUS = (b"NONE", b"RELU")  # fused activations that commute with scaling a channel
# Layers: input of the weights, its axes of output and of input channels (None for depthwise), input of the bias.
LAYERS: Mapping[str, tuple[int, int, int | None, int]] = {
    "tfl.CONV_2D": (1, 0, 3, 2),
    "tfl.DEPTHWISE_CONV_2D": (1, 3, None, 2),
    "tfl.FULLY_CONNECTED": (1, 0, 1, 2),
}
PASSING = frozenset({"tfl.RELU", "tfl.MAX_POOL_2D", "tfl.AVERAGE_POOL_2D", "tfl.PAD", "tfl.RESIZE_BILINEAR",
                     "tfl.RESIZE_NEAREST_NEIGHBOR", "tfl.LEAKY_RELU"})  # fmt: skip


class Channels:
    """The channels of one graph. `ids` gives each tensor's, last axis first to last; equal ids are scaled alike."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.ids: dict[Value, Array] = {}
        self._through: dict[Node, None] = {}  # nodes whose output has the channels of their inputs
        self._count = 0
        self._frozen: list[Array] = []
        self._pairs: list[tuple[Array, Array]] = []
        order = graph.topological_order()
        for node in order:
            self._enter(node)
        for node in order:
            self._read(node)
        for value in (*graph.inputs, *graph.outputs):
            self._freeze(value)
        self._merge()

    @property
    def count(self) -> int:
        """How many ids there are."""
        return self._count

    # Numbering ------------------------------------------------------------------------------------------------

    def _new(self, value: Value) -> None:
        size = value.shape.dims[-1] if value.shape.dims else None
        if isinstance(size, int) and value.dtype is FLOAT32 and len(value.shape.dims or ()) > 1:
            self.ids[value] = np.arange(self._count, self._count + size)
            self._count += size

    def _enter(self, node: Node) -> None:
        """Number the outputs of a node: anew for a layer, like its inputs where it passes channels on."""
        if node.op in LAYERS:
            self._new(node.output)
            return
        passed = self._product(node) if node.op == "tfl.MUL" else self._passed(node)
        if passed is not None:
            self.ids[node.output] = passed
            self._through[node] = None
        else:
            for value in node.outputs:
                self._new(value)

    def _product(self, node: Node) -> Array | None:
        """The channels of a product with what a constant gives its channels: those of that, the other's stay."""
        if node.attrs.get("fused_activation_function") not in HOMOGENEOUS:
            return None
        for mine, other in ((node.input(1), node.input(0)), (node.input(0), node.input(1))):
            known = self.ids.get(mine) if mine.node.op == "tfl.MUL" and self.spread(mine.node) is not None else None
            if known is not None and mine.shape == other.shape:
                self._freeze(other)
                return known
        return None

    def _passed(self, node: Node) -> Array | None:
        first = node.inputs[0] if node.input_count else None
        known = self.ids.get(first) if first is not None else None
        if node.op == "tfl.CONCATENATION":
            return self._joined(node)
        if known is None or first is None or node.attrs.get("fused_activation_function", b"NONE") not in HOMOGENEOUS:
            return None
        if node.op in PASSING or (node.op == "tfl.MEAN" and _keeps_channels(node)):
            return known
        if node.op == "tfl.RESHAPE":
            return _reshaped(first, node.output, known)
        if node.op in ("tfl.ADD", "tfl.SUB"):
            return self._sum(node)
        return None

    def _joined(self, node: Node) -> Array | None:
        rank = node.output.shape.rank
        parts = [self.ids.get(value) for value in node.inputs if value is not None]
        if rank is None or node.attrs.get("axis") not in (-1, rank - 1) or any(part is None for part in parts):
            return None
        return np.concatenate([part for part in parts if part is not None])

    def _sum(self, node: Node) -> Array | None:
        left, right = node.input(0), node.input(1)
        if self.addend(node) is not None:
            return self.ids.get(left)
        first, second = self.ids.get(left), self.ids.get(right)
        if first is None or second is None or left.shape != right.shape:
            return None
        self._pairs.append((first, second))
        return first

    def addend(self, node: Node) -> Array | None:
        """The constant, one element a channel, that a sum adds to each channel."""
        array, known = known_array(node.input(1)), self.ids.get(node.input(0))
        if array is None or known is None or array.size != len(known) or array.shape[-1:] != (len(known),):
            return None
        return array

    # Freezing -------------------------------------------------------------------------------------------------

    def _freeze(self, value: Value) -> None:
        known = self.ids.get(value)
        if known is not None:
            self._frozen.append(known)

    def _read(self, node: Node) -> None:
        """Channels that some reader cannot take scaled, or some producer cannot yield scaled, stay as they are."""
        if node.op in LAYERS:
            if layer_weights(node) is None:
                self._freeze(node.input(0))
            if layer_weights(node) is None or node.attrs.get("fused_activation_function") not in HOMOGENEOUS:
                self._freeze(node.output)
            return
        if node.op == "tfl.MUL" and (self.factor(node) is not None or self.spread(node) is not None):
            if node.attrs.get("fused_activation_function") not in HOMOGENEOUS:
                self._freeze(node.output)
            return
        if node in self._through:
            return
        for value in (*(item for item in node.inputs if item is not None), *node.outputs):
            self._freeze(value)

    def factor(self, node: Node) -> Array | None:
        """The constant, one element a channel, that a product multiplies each channel by."""
        array, known = known_array(node.input(1)), self.ids.get(node.input(0))
        if array is None or known is None or array.size != len(known) or array.shape[-1:] != (len(known),):
            return None
        return array

    def spread(self, node: Node) -> tuple[int, Array] | None:
        """The constant, one element a channel, that a product gives channels to what has one: its input and itself.

        So layer normalization has it: a scale for each channel, times the deviation of each row.
        """
        channels = node.output.shape.dims[-1] if node.output.shape.dims else None
        for index in (0, 1):
            array, rows = known_array(node.input(index)), node.input(1 - index).shape.dims
            if array is None or not rows or rows[-1] != 1 or channels in (None, 1):
                continue
            if array.size == channels and array.shape[-1:] == (channels,):
                return index, array
        return None

    # Merging --------------------------------------------------------------------------------------------------

    def _merge(self) -> None:
        """Let channels that are added to each other have one id, and those that must stay the id -1."""
        labels = np.arange(self._count)
        while True:
            before = labels.copy()
            for first, second in self._pairs:
                left, right = labels[first], labels[second]
                least = np.minimum(left, right)
                for ids in (first, second, left, right):
                    np.minimum.at(labels, ids, least)
            labels = labels[labels]
            if np.array_equal(before, labels):
                break
        frozen = np.zeros(self._count, bool)
        for known in self._frozen:
            frozen[labels[known]] = True
        labels[frozen[labels]] = -1
        self.ids = {value: labels[known] for value, known in self.ids.items()}


def layer_weights(node: Node) -> Array | None:
    """The constant weights of a layer, None where they, or its bias, are computed."""
    place, _, _, bias = LAYERS[node.op]
    held = node.inputs[bias] if bias < node.input_count else None
    if held is not None and known_array(held) is None:
        return None
    return known_array(node.input(place))


def _keeps_channels(node: Node) -> bool:
    axes, rank = known_array(node.input(1)), node.input(0).shape.rank
    return axes is not None and rank is not None and all(int(a) % rank != rank - 1 for a in axes.reshape(-1))


def _reshaped(before: Value, after: Value, known: Array) -> Array | None:
    """Ids after a reshape: the same where the last axis stays, repeated where it takes in those before it."""
    last = after.shape.dims[-1] if after.shape.dims else None
    if last == len(known):
        return known
    inner = before.shape.dims[1:] if before.shape.dims else ()
    static = [dim for dim in inner if isinstance(dim, int)]
    if len(static) == len(inner) and isinstance(last, int) and last == int(np.prod(static)):
        return np.tile(known, last // len(known))
    return None
