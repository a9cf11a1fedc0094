"""Weights in fewer bits behind a DequantizeLinear: int8 or FP8 by channel, int4 or int8 by blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.tensorrt.channel_means import ChannelMeans, shift_of
from graphopt.backends.tensorrt.layers import PRODUCTS, channel_axis, input_axis
from graphopt.backends.tensorrt.rounding import Array, round_to_floats, round_to_integers
from graphopt.ir.graph import Graph
from graphopt.ir.known import hold, known_tensor
from graphopt.ir.tensors import Tensor, pack
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


class StoredWeights:
    """Makes the weights of one graph; those that layers share are made once. `means` of what layers read, where they
    are known, let rounding keep the means of what they yield."""

    def __init__(self, graph: Graph, means: ChannelMeans | None = None):
        self._graph, self._means = graph, means
        self._made: dict[Any, Value] = {}

    def by_channel(self, node: Node, held: Tensor, stored: DType, recipe: OperatorRecipe) -> None:
        """Let `node` read its weights from `stored` numbers, with a scale for each channel, or one for all."""
        axis = channel_axis(node, len(held.shape)) if recipe.granularity != "tensor" else None
        key = (node.input(1), stored, axis, recipe.clip_weights)
        if key not in self._made:
            self._made[key] = self._by_channel(node, held.numpy(), stored, axis, recipe.clip_weights)
        node.replace_input(1, self._made[key])

    def by_blocks(self, node: Node, held: Tensor, stored: DType, size: int, clip: bool) -> None:
        """Let `node`, a product, read its weights from `stored` numbers, each block of `size` inputs with a scale."""
        axis = input_axis(node, len(held.shape))
        key = (node.input(1), stored, axis, size, clip)
        if key not in self._made:
            self._made[key] = self._by_blocks(node, held.numpy(), stored, axis, size, clip)
        node.replace_input(1, self._made[key])

    def _by_channel(self, node: Node, array: Array, stored: DType, axis: int | None, clip: bool) -> Value:
        limits = magnitudes(array, axis=axis)
        if clip and stored is INT8:
            limits = clipped_magnitudes(array, INT8_WEIGHT, axis=axis)
        scale = (np.maximum(limits, SMALLEST) / HIGHEST[stored]).astype(np.float32)
        spread = scale if axis is None else scale.reshape([-1 if p == axis else 1 for p in range(array.ndim)])
        channels, means = channel_axis(node, array.ndim), self._known_means(node, array.shape)
        if stored is INT8:
            numbers = round_to_integers(array / spread, HIGHEST[stored], channels, means).astype(np.int8)
        else:
            numbers = round_to_floats(array / spread, np.dtype(stored.numpy), channels, means)
        if means is not None:
            self._correct(node, shift_of(node, numbers.astype(np.float32) * spread - array, means))
        kept = scale if axis is not None else scale.reshape(())
        return self._dequantized(node, numbers, kept, {} if axis is None else {"axis": axis})

    def _known_means(self, node: Node, shape: tuple[int, ...]) -> Array | None:
        return None if self._means is None else self._means.of(node, shape)

    def _correct(self, node: Node, shift: Array) -> None:
        """Take a shift of the means off the bias, where the layer has one of its own."""
        bias = node.inputs[2] if node.input_count > 2 else None
        held = known_tensor(bias)
        if bias is None or held is None or held.shape != shift.shape:
            return
        corrected = (held.numpy() - shift).astype(np.float32)
        node.replace_input(2, hold(self._graph, corrected, name=f"{bias.node.name}/corrected"))

    def _by_blocks(self, node: Node, array: Array, stored: DType, axis: int, size: int, clip: bool) -> Value:
        scheme = INT4_WEIGHT if stored is INT4 else INT8_WEIGHT
        find = clipped_magnitudes(array, scheme, axis=axis, block_size=size) if clip else None
        limits = magnitudes(array, axis=axis, block_size=size) if find is None else find
        scale = (np.maximum(limits, SMALLEST) / HIGHEST[stored]).astype(np.float32)
        scaled = array / np.repeat(scale, size, axis=axis)
        channels, means = channel_axis(node, array.ndim), self._known_means(node, array.shape)
        if means is not None:
            means = means * np.repeat(scale, size, axis=axis)
        numbers = round_to_integers(scaled, HIGHEST[stored], channels, means).astype(np.int8)
        held = pack(numbers, stored) if stored is INT4 else numbers
        return self._dequantized(node, held, scale, {"axis": axis, "block_size": size})

    def _dequantized(self, node: Node, numbers: Array | Tensor, scale: Array, attrs: dict[str, Any]) -> Value:
        value = node.input(1)
        name, dtype = value.node.name, FLOAT32
        kind = numbers.dtype.name if isinstance(numbers, Tensor) else np.dtype(numbers.dtype).name
        inputs = (hold(self._graph, numbers, name=f"{name}/{kind}"), hold(self._graph, scale, name=f"{name}/scale"))
        return self._graph.create_node(
            "onnx.DequantizeLinear", inputs, attrs, name=f"{name}/dequantize",
            types=(TensorType(dtype, Shape(value.shape.static or ())),), origins=value.node.source_names,
        ).output  # fmt: skip


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
