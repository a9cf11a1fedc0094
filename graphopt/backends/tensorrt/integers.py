"""INT8, FP8 and INT4 by explicit Q/DQ: symmetric, activations by tensor, weights by channel or block, where TensorRT
fuses them.

A layer reads what is quantized; between a layer and its bias and rectifier nothing is. Of a residual sum, what the
layer does not yield itself is quantized, so that the layer adds it. A pool reads what is quantized where all who read
it do. One pair serves all readers of a tensor; what is joined, or moved without being changed, has one scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.tensorrt.layers import CONVOLUTIONS, LAYERS, MOVING, PRODUCTS, is_pool, layer_before, weights_of
from graphopt.backends.tensorrt.observing import Calibrated
from graphopt.backends.tensorrt.options import TensorRTOptions
from graphopt.backends.tensorrt.outcome import Outcome
from graphopt.backends.tensorrt.stored_weights import FP8, HIGHEST, INT4, SMALLEST, StoredWeights, block_size_of
from graphopt.ir.known import hold, known_tensor
from graphopt.ir.model import Model
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import FLOAT32, INT8, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.matching import RecipeMatcher
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.ranges import range_of
from graphopt.passes.quantize.recipe import OperatorRecipe

Reading = tuple[Node, int]


def quantize(model: Model, options: TensorRTOptions, known: Calibrated, method: RangeMethod) -> Outcome:
    """Put Q and DQ into the main graph of `model`, in place; ranges are chosen by `method` unless the recipe says how.

    Raises `UsageError` where statistics or the recipe do not fit.
    """
    work = _Quantizing(model, options, known, method)
    work.plan()
    work.carry_out()
    for node in list(model.graph):
        if node.op_type == "Initializer" and not node.has_uses:
            model.graph.remove(node)
    return work.outcome


class _Quantizing:
    """Decides first, from the graph as it is, and changes it then."""

    def __init__(self, model: Model, options: TensorRTOptions, known: Calibrated, method: RangeMethod):
        assert options.chosen_recipe is not None
        self.graph, self.options, self.known, self.method = model.graph, options, known, method
        self.matcher = RecipeMatcher(options.chosen_recipe, model)
        self.stored = FP8 if options.precision == "fp8" else INT8
        self.pinned = frozenset(options.pinned)
        self.readings: dict[Reading, OperatorRecipe] = {}
        self.magnitudes: dict[Value, float] = {}
        self.layers: dict[Node, tuple[Tensor, OperatorRecipe]] = {}
        self.blocks: dict[Node, int] = {}
        self.outcome = Outcome()

    # What is to be done -----------------------------------------------------------------------------------------

    def plan(self) -> None:
        """Which inputs of which nodes are quantized, and how far they reach."""
        candidates = [node for node in self.graph if node.op_type in LAYERS]
        for node in candidates:
            reason = self._layer(node)
            if reason is not None:
                self.outcome.reasons[node.name] = reason
        for node in self.graph:
            if node.op_type == "Add":
                self._residual(node)
        for node in self.graph:
            if is_pool(node):
                self._pool(node)
        self._join()
        self.outcome.notes.append(self._summary(len(candidates)))

    def _summary(self, count: int) -> str:
        integers = sum(recipe.mode == "int8" for _, recipe in self.layers.values())
        stored = len(self.layers) - integers
        parts = [f"{integers} of {count} layers compute with {self.stored.name}"] if integers or not stored else []
        parts += [f"{stored} of {count} have weights of fewer bits"] if stored else []
        return f"{', '.join(parts)}; the rest is {'float32' if self.options.body == 'fp32' else self.options.body}"

    def _recipe(self, node: Node) -> OperatorRecipe | None:
        """How the node is quantized; None where it stays float."""
        if not self.pinned.isdisjoint((node.name, *node.source_names)):
            return None
        found = self.matcher.for_node(node)
        return None if found.mode == "float" else found

    def _layer(self, node: Node) -> str | None:
        """Plan one layer; why it stays float, or None."""
        held, recipe = weights_of(node), self._recipe(node)
        if recipe is None:
            return "the recipe leaves it in floats, or it is pinned by its name"
        if held is None:
            return "its weights are computed, or nothing but constants is"
        if held.size < recipe.minimum_elements:
            return f"its weights have fewer than {recipe.minimum_elements} elements"
        array = held.numpy()
        if not np.isfinite(array.min(initial=0.0) + array.max(initial=0.0)):
            return "there are NaN or Inf among its weights"
        if recipe.mode == "weight-only" and (recipe.weight_bits == 4 or recipe.granularity == "block"):
            size = block_size_of(node, held, recipe, self.options.block_size)
            if isinstance(size, str):
                return size
            self.blocks[node] = size
        elif recipe.mode == "int8" and not self._is_quantizable(node.input(0), recipe):
            return "the samples say no range of what it reads"
        self.layers[node] = held, recipe
        if recipe.mode == "int8":
            self.readings[node, 0] = recipe
        return None

    def _is_quantizable(self, value: Value, recipe: OperatorRecipe) -> bool:
        """The value has a range, which is noted. Behind a DQ of the source there is nothing left to do."""
        if value.node.op_type == "DequantizeLinear" or known_tensor(value) is not None:
            return False
        if value not in self.magnitudes:
            self.magnitudes[value] = self._magnitude(value, recipe.calibration or self.method)
        return self.magnitudes[value] > SMALLEST

    def _magnitude(self, value: Value, method: RangeMethod) -> float:
        seen = self.known.observed.of(value) if self.known.observed is not None else None
        if seen is None or seen.nans + seen.infinities or value.dtype is not FLOAT32:
            return 0.0
        found = range_of(seen, method, symmetric=True)
        return 0.0 if found is None else max(-found.minimum, found.maximum)

    def _residual(self, node: Node) -> None:
        """A sum of a convolution's result and something of its shape: the latter is read quantized."""
        first, second = node.inputs
        recipe = self._recipe(node)
        if recipe is None or recipe.mode != "int8" or first is None or second is None or first.shape != second.shape:
            return
        if known_tensor(first) is not None or known_tensor(second) is not None:
            return
        adding = [layer_before(value) in self.layers and self._convolves(value) for value in (first, second)]
        if not any(adding):
            return
        place = 0 if adding[1] else 1
        if self._is_quantizable(node.input(place), recipe):
            self.readings[node, place] = recipe

    def _convolves(self, value: Value) -> bool:
        layer = layer_before(value)
        return layer is not None and layer.op_type in CONVOLUTIONS and (layer, 0) in self.readings

    def _pool(self, node: Node) -> None:
        """A mean over places reads what is quantized where all who read it do: else it would be written twice."""
        value, recipe = node.input(0), self._recipe(node)
        if recipe is None or recipe.mode != "int8" or value.is_output:
            return
        others = (use for use in value.uses if not is_pool(use[0]))
        if all(use in self.readings for use in others) and self._is_quantizable(value, recipe):
            self.readings[node, 0] = recipe

    def _join(self) -> None:
        """One range for what is joined by a Concat, or moved by operators that change no element."""
        quantized = dict.fromkeys(node.input(place) for node, place in self.readings)
        groups = _Groups()
        for node in self.graph:
            if node.op_type in MOVING or node.op_type == "Concat":
                joined = node.inputs if node.op_type == "Concat" else node.inputs[:1]
                for value in joined:
                    if value is not None and known_tensor(value) is None:
                        groups.join(node.outputs[0], value)
        largest: dict[Value, float] = {}
        for value in quantized:
            first = groups.first(value)
            largest[first] = max(largest.get(first, 0.0), self.magnitudes[value])
        for value in quantized:
            self.magnitudes[value] = largest[groups.first(value)]

    # Doing it ---------------------------------------------------------------------------------------------------

    def carry_out(self) -> None:
        """Put in the pairs, and the weights."""
        weights = StoredWeights(self.graph, self.known)
        for node, (held, recipe) in self.layers.items():
            if node in self.blocks:
                weights.by_blocks(node, held, self._weight_type(recipe), self.blocks[node], recipe.clip_weights)
            else:
                weights.by_channel(node, held, self.stored, recipe)
        readers: dict[Value, list[Node]] = {}
        for node, place in self.readings:
            readers.setdefault(node.input(place), []).append(node)
        made = {value: self._pair(value, nodes) for value, nodes in readers.items()}
        for node, place in self.readings:
            node.replace_input(place, made[node.input(place)])

    def _weight_type(self, recipe: OperatorRecipe) -> Any:
        return INT4 if recipe.weight_bits == 4 else self.stored

    def _pair(self, value: Value, readers: list[Node]) -> Value:
        name, graph, largest = value.node.name, self.graph, self.magnitudes[value]
        scale = np.array(largest / HIGHEST[self.stored], np.float32)
        parameters, attrs = [hold(graph, scale, name=f"{name}/scale")], {"output_dtype": self.stored}
        # ONNX Runtime's optimiser mistakes the type of a zero point that is spelled out where it makes a Gemm of a
        # product over three axes, and of one that is not where it makes pools of integers.
        if (value.shape.rank or 2) < 3 or any(node.op_type not in PRODUCTS for node in readers):
            parameters.append(hold(graph, np.zeros((), self.stored.numpy), name=f"{name}/zero_point"))
            attrs = {}
        quantized = graph.create_node(
            "onnx.QuantizeLinear", (value, *parameters), attrs, name=f"{name}/quantize",
            types=(TensorType(self.stored, value.shape),), origins=value.node.source_names,
        ).output  # fmt: skip
        self.outcome.scales.append({"tensor": value.name, "largest": largest, "scale": float(scale)})
        return graph.create_node(
            "onnx.DequantizeLinear", (quantized, *parameters), {}, name=f"{name}/dequantize", types=(value.type,),
            origins=value.node.source_names,
        ).output  # fmt: skip


class _Groups:
    """Values that share a range; a value that was never joined is a group of its own."""

    def __init__(self) -> None:
        self._before: dict[Value, Value] = {}

    def first(self, value: Value) -> Value:
        """What stands for the value's group."""
        while (before := self._before.get(value, value)) is not value:
            self._before[value] = self._before.get(before, before)
            value = before
        return value

    def join(self, first: Value, second: Value) -> None:
        """Make one group of two."""
        self._before[self.first(second)] = self.first(first)
