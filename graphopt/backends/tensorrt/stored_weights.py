"""Weights in fewer bits behind a DequantizeLinear: int8 or FP8 by channel, int4 or int8 by blocks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphopt.backends.tensorrt.layers import PRODUCTS, channel_axis, input_axis
from graphopt.backends.tensorrt.observing import Calibrated
from graphopt.backends.tensorrt.rounding import Array, round_to_floats, round_to_integers
from graphopt.ir.graph import Graph
from graphopt.ir.known import hold, known_tensor
from graphopt.ir.tensors import Tensor, pack, tensor
from graphopt.ir.types import DTYPES, FLOAT32, INT8, DType, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.clipping import clipped_magnitudes
from graphopt.passes.quantize.parameters import magnitudes
from graphopt.passes.quantize.recipe import OperatorRecipe
from graphopt.passes.quantize.schemes import INT4_WEIGHT, INT8_WEIGHT

INT4, FP8 = DTYPES["int4"], DTYPES["float8_e4m3fn"]
HIGHEST = {INT8: 127, FP8: 448, INT4: 7}  # numbers that stand for the largest value
SMALLEST = float(np.finfo(np.float32).tiny) * 448  # scales below would be denormal
BLOCKS = (128, 64)  # sizes that are tried where nobody chose one


class Rounded(NamedTuple):
    """Numbers, their scales, and what they shift the means of what the layer yields by, where that is known."""

    numbers: Array
    scale: Array
    shift: Array | None


class StoredWeights:
    """Makes the weights of one graph; those that layers share are made once.

    Where the means of what layers read are known, rounding keeps the means of what they yield.
    """

    def __init__(self, graph: Graph, known: Calibrated):
        self._graph, self._known = graph, known
        self._made: dict[Any, Value] = {}

    def by_channel(self, node: Node, held: Tensor, stored: DType, recipe: OperatorRecipe) -> None:
        """Let `node` read its weights from `stored` numbers, with a scale for each channel, or one for all."""
        axis = channel_axis(node, len(held.shape)) if recipe.granularity != "tensor" else None
        key = (held, stored, axis, recipe.clip_weights)
        rounded = self._known.rounded.get(key)
        if rounded is None:
            channels, means = channel_axis(node, len(held.shape)), self._means(node, held)
            rounded = self._known.rounded[key] = _by_channel(held.numpy(), stored, axis, channels, recipe, means)
        if rounded.shift is not None:
            self._correct(node, rounded.shift)
        self._put(node, key, rounded, {} if axis is None else {"axis": axis})

    def by_blocks(self, node: Node, held: Tensor, stored: DType, size: int, clip: bool) -> None:
        """Let `node`, a product, read its weights from `stored` numbers, each block of `size` inputs with a scale."""
        axis = input_axis(node, len(held.shape))
        key = (held, stored, axis, size, clip)
        rounded = self._known.rounded.get(key)
        if rounded is None:
            means = self._means(node, held)
            rounded = self._known.rounded[key] = _by_blocks(held.numpy(), stored, axis, size, clip, means)
        self._put(node, key, rounded, {"axis": axis, "block_size": size})

    def _means(self, node: Node, held: Tensor) -> Array | None:
        if self._known.is_plain:
            return np.zeros([1] * len(held.shape))  # no error counts
        return None if self._known.means is None else self._known.means.of(node, held.shape)

    def _correct(self, node: Node, shift: Array) -> None:
        """Take a shift of the means off the bias, where the layer has one of its own."""
        bias = node.inputs[2] if node.input_count > 2 else None
        held = known_tensor(bias)
        if bias is None or held is None or held.shape != shift.shape:
            return
        corrected = (held.numpy() - shift).astype(np.float32)
        node.replace_input(2, hold(self._graph, corrected, name=f"{bias.node.name}/corrected"))

    def _put(self, node: Node, key: Any, rounded: Rounded, attrs: dict[str, Any]) -> None:
        if key not in self._made:
            self._made[key] = self._dequantized(node.input(1), key[1], rounded, attrs)
        node.replace_input(1, self._made[key])

    def _dequantized(self, value: Value, stored: DType, rounded: Rounded, attrs: dict[str, Any]) -> Value:
        name, numbers = value.node.name, rounded.numbers
        held = pack(numbers, stored) if stored is INT4 else tensor(numbers)
        inputs = (
            hold(self._graph, held, name=f"{name}/{stored.name}"),
            hold(self._graph, rounded.scale, name=f"{name}/scale"),
        )
        return self._graph.create_node(
            "onnx.DequantizeLinear", inputs, attrs, name=f"{name}/dequantize",
            types=(TensorType(FLOAT32, Shape(numbers.shape)),), origins=value.node.source_names,
        ).output  # fmt: skip


def _by_channel(
    array: Array, stored: DType, axis: int | None, channels: int, recipe: OperatorRecipe, means: Array | None
) -> Rounded:
    limits = magnitudes(array, axis=axis)
    if recipe.clip_weights and stored is INT8:
        limits = clipped_magnitudes(array, INT8_WEIGHT, axis=axis)
    scale = (np.maximum(limits, SMALLEST) / HIGHEST[stored]).astype(np.float32)
    spread = scale if axis is None else scale.reshape([-1 if p == axis else 1 for p in range(array.ndim)])
    if stored is INT8:
        numbers = round_to_integers(array / spread, HIGHEST[stored], channels, means).astype(np.int8)
    else:
        numbers = round_to_floats(array / spread, np.dtype(stored.numpy), channels, means)
    shift = None
    if means is not None:
        errors = (numbers.astype(np.float32) * spread - array) * means
        shift = errors.sum(tuple(place for place in range(array.ndim) if place != channels), dtype=np.float64)
    return Rounded(numbers, scale if axis is not None else scale.reshape(()), shift)


def _by_blocks(array: Array, stored: DType, axis: int, size: int, clip: bool, means: Array | None) -> Rounded:
    scheme = INT4_WEIGHT if stored is INT4 else INT8_WEIGHT
    limits = magnitudes(array, axis=axis, block_size=size)
    if clip:
        limits = clipped_magnitudes(array, scheme, axis=axis, block_size=size)
    scale = (np.maximum(limits, SMALLEST) / HIGHEST[stored]).astype(np.float32)
    spread = np.repeat(scale, size, axis=axis)
    channels = array.ndim * 2 - 3 - axis  # the other one of the last two axes
    factors = None if means is None else means * spread
    return Rounded(round_to_integers(array / spread, HIGHEST[stored], channels, factors).astype(np.int8), scale, None)


def block_size_of(node: Node, held: Tensor, recipe: OperatorRecipe, chosen: int) -> int | str:
    """How many inputs of a layer share a scale; a sentence where its weights have no blocks."""
    if node.op_type not in PRODUCTS or len(held.shape) != 2:
        return "TensorRT takes blocks of weights in products with matrices only"
    inputs = held.shape[input_axis(node, 2)]
    outputs = held.shape[channel_axis(node, 2)]
    if outputs < 2:
        return "it has one output only"
    if recipe.block_size or chosen:
        size = recipe.block_size or chosen
        return size if inputs % size == 0 else f"its {inputs} inputs are no multiple of {size}"
    fitting = next((size for size in BLOCKS if inputs % size == 0), None)
    return f"its {inputs} inputs are no multiple of {BLOCKS[-1]}" if fitting is None else fitting
