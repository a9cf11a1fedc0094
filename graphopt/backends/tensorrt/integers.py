"""INT8 and FP8 by explicit Q/DQ: symmetric, activations by tensor, weights by channel, where TensorRT fuses them."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.tensorrt.observing import observe
from graphopt.backends.tensorrt.options import TensorRTOptions
from graphopt.ir.graph import Graph
from graphopt.ir.known import hold, known_tensor
from graphopt.ir.model import Model
from graphopt.ir.types import DTYPES, FLOAT32, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.methods import range_method
from graphopt.passes.quantize.parameters import magnitudes
from graphopt.passes.quantize.ranges import range_of
from graphopt.passes.quantize.statistics import Statistics

Array = np.ndarray[Any, Any]
HIGHEST = {DTYPES["int8"]: 127, DTYPES["float8_e4m3fn"]: 448}  # numbers that stand for the largest value
STORED = {"int8": DTYPES["int8"], "fp8": DTYPES["float8_e4m3fn"]}  # by precision
LAYERS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
POOLS = frozenset({"AveragePool", "GlobalAveragePool"})  # through a MaxPool, TensorRT moves a Q by itself
SMALLEST = float(np.finfo(np.float32).tiny) * 448


def quantize(model: Model, options: TensorRTOptions) -> list[str]:
    """Put Q and DQ before layers with constant weights, pools and residual sums; what the user should know of it.

    Raises `UsageError` where the samples do not fit.
    """
    placing = _Placing(model.graph, observe(model, options), options)
    layers = [node for node in model.graph if node.op_type in LAYERS]
    done = sum(placing.layer(node) for node in layers)
    for node in list(model.graph):
        if node.op_type in POOLS:
            placing.read_quantized(node, 0)
        elif node.op_type == "Add":
            placing.residual(node)
    for node in list(model.graph):
        if node.op_type == "Initializer" and not node.has_uses:
            model.graph.remove(node)
    kind = placing.stored.name
    return [f"{done} of {len(layers)} layers compute with {kind} weights and activations; the rest is float32"]


class _Placing:
    def __init__(self, graph: Graph, statistics: Statistics, options: TensorRTOptions):
        self.graph, self.statistics, self.method = graph, statistics, range_method(options.method)
        self.pinned = frozenset(options.pinned)
        self.stored = STORED[options.precision]
        self.highest = HIGHEST[self.stored]
        self.known: dict[Value, Value | None] = {}

    def layer(self, node: Node) -> bool:
        """Quantize what a layer reads, where its weights are constant; whether that was done."""
        weights = node.input(1)
        held = known_tensor(weights)
        if held is None or held.dtype is not FLOAT32 or len(held.shape) < 2 or known_tensor(node.input(0)) is not None:
            return False
        if not self.pinned.isdisjoint((node.name, *node.source_names)):
            return False
        array = held.numpy()
        if not np.isfinite(array).all() or not self.read_quantized(node, 0):
            return False
        node.replace_input(1, self._weights(weights, array, _channel_axis(node, array.ndim)))
        return True

    def read_quantized(self, node: Node, place: int) -> bool:
        """Let `node` read the input through Q and DQ, one pair for all who do."""
        value = node.input(place)
        if value.node.op_type == "DequantizeLinear":
            return True
        if value not in self.known:
            self.known[value] = self._activation(value)
        made = self.known[value]
        if made is None:
            return False
        node.replace_input(place, made)
        return True

    def residual(self, node: Node) -> None:
        """A sum of a layer's result and something else: the latter is quantized, so that the layer can add it."""
        first, second = node.input(0), node.input(1)
        if known_tensor(first) is not None or known_tensor(second) is not None or first.shape != second.shape:
            return
        for place, other in ((0, second), (1, first)):
            value = node.input(place)
            is_last = other.node.op_type in LAYERS and other.use_count == 1
            if is_last and (value.node.op_type not in LAYERS or place == 0):
                self.read_quantized(node, place)
                return

    def _activation(self, value: Value) -> Value | None:
        seen = self.statistics.of(value)
        found = None if seen is None or seen.nans + seen.infinities else range_of(seen, self.method, symmetric=True)
        if found is None or value.dtype is not FLOAT32:
            return None
        largest = max(-found.minimum, found.maximum)
        if largest <= SMALLEST:
            return None
        return self._pair(value, np.array(largest / self.highest, np.float32))

    def _pair(self, value: Value, scale: Array) -> Value:
        name, after = value.node.name, value
        factor = hold(self.graph, scale, name=f"{name}/scale")
        zero = hold(self.graph, np.zeros(scale.shape, self.stored.numpy), name=f"{name}/zero_point")
        quantized = self.graph.create_node(
            "onnx.QuantizeLinear", (after, factor, zero), {}, name=f"{name}/quantize",
            types=(TensorType(self.stored, value.shape),), origins=value.node.source_names,
        ).output  # fmt: skip
        return self.graph.create_node(
            "onnx.DequantizeLinear", (quantized, factor, zero), {}, name=f"{name}/dequantize", types=(value.type,),
            origins=value.node.source_names,
        ).output  # fmt: skip

    def _weights(self, value: Value, array: Array, axis: int) -> Value:
        if value not in self.known:
            largest = np.maximum(magnitudes(array, axis=axis), SMALLEST)
            scale = (largest / self.highest).astype(np.float32)
            spread = scale.reshape([-1 if place == axis else 1 for place in range(array.ndim)])
            scaled = array / spread if self.stored.is_float else np.rint(array / spread)
            numbers = np.clip(scaled, -self.highest, self.highest).astype(self.stored.numpy)
            name = value.node.name
            inputs = (
                hold(self.graph, numbers, name=f"{name}/{self.stored.name}"),
                hold(self.graph, scale, name=f"{name}/scale"),
                hold(self.graph, np.zeros(scale.shape, self.stored.numpy), name=f"{name}/zero_point"),
            )
            self.known[value] = self.graph.create_node(
                "onnx.DequantizeLinear", inputs, {"axis": axis}, name=f"{name}/dequantize",
                types=(TensorType(FLOAT32, Shape(array.shape)),), origins=value.node.source_names,
            ).output  # fmt: skip
        made = self.known[value]
        assert made is not None
        return made


def _channel_axis(node: Node, rank: int) -> int:
    """The axis of the weights along which results lie."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if int(node.attrs.get("group", 1)) == 1 else 0
    return 0 if node.attrs.get("transB") else rank - 1
