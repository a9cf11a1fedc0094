"""Which products compute with integers, decided beforehand: by a recipe and, for int8 activations, statistics.

Weights have a scale for each channel of the result, or one for all, and no zero point. Activations have one scale and a
zero point, so that zero is exact; where a recipe says `dynamic`, they get them when the program runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphopt.backends.observed import Observed, given_statistics
from graphopt.backends.xla.layer import Layer
from graphopt.backends.xla.options import XlaOptions
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model
from graphopt.ir.ops import attributes
from graphopt.ir.tensors import ArrayTensor, Tensor
from graphopt.ir.types import FLOAT32, INT8
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.arithmetic import quantize
from graphopt.passes.quantize.clipping import clipped_magnitudes
from graphopt.passes.quantize.matching import RecipeMatcher
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.parameters import Parameters, activation_parameters, weight_parameters
from graphopt.passes.quantize.ranges import range_of
from graphopt.passes.quantize.recipe import OperatorRecipe, Recipe, load_recipe, preset
from graphopt.passes.quantize.schemes import INT8_ACTIVATION, INT8_WEIGHT, Scheme
from graphopt.passes.quantize.statistics import Statistics

PRESETS = {"int8": "int8", "int8-weights": "weight-only"}  # by precision
MODES = ("float", "int8", "dynamic", "weight-only")
SYMMETRIC = Scheme(INT8, symmetric=True, narrow=False)
DEFAULT = RangeMethod("mse", clipping=4.0)
# Place of the weights, and their axis of channels; None where an einsum's equation says it, or the transposition.
LAYERS: Mapping[str, tuple[int, int | None]] = {
    "tf.Conv2D": (1, 3), "tf.Conv3D": (1, 4), "tf.DepthwiseConv2dNative": (1, 2), "tf.Conv2DBackpropInput": (1, 2),
    "tf.Conv3DBackpropInputV2": (1, 3), "tf.MatMul": (1, None), "tf.BatchMatMulV2": (1, None), "tf.Einsum": (1, None),
    "tf.GatherV2": (0, 1), "tf.Gather": (0, 1),
}  # fmt: skip
STORED = {  # what stays float beside integer weights, and why
    "tf.DepthwiseConv2dNative": "a depthwise convolution has too few products for integers to be faster",
    "tf.Conv2DBackpropInput": "a transposed convolution computes in floats",
    "tf.Conv3DBackpropInputV2": "a transposed convolution computes in floats",
    "tf.GatherV2": "a table is only looked up in",
    "tf.Gather": "a table is only looked up in",
}
KEEPING = frozenset({"Identity", "Reshape", "Squeeze", "ExpandDims", "Transpose"})
LEAST = 1024  # elements below which storing integers saves less than it costs


@dataclass
class Integers:
    """Layers by node, and what the user should know."""

    layers: dict[Node, Layer] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def plan_integers(model: Model, options: XlaOptions) -> Integers:
    """Decide for every product of a prepared model. What cannot be done is left float, and the notes say why.

    Raises `UsageError` for a recipe or data that do not fit, and where int8 activations have no statistics.
    """
    planner = _Planner(model, options)
    nodes = [node for graph in model.graphs for node in graph if node.op in LAYERS]
    plan = Integers()
    reasons: dict[str, list[str]] = {}
    for node in nodes:
        layer, reason = planner.decide(node)
        if layer is not None:
            plan.layers[node] = layer
        if reason:
            reasons.setdefault(reason, []).append(node.name)
    computing = sum(layer.computes_in_integers for layer in plan.layers.values())
    plan.notes.append(
        f"{computing} of {len(nodes)} products compute with int8 weights and activations, "
        f"{len(plan.layers) - computing} with int8 weights alone"
    )
    for reason, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        plan.notes.append(f"'{printable(names[0])}'{more}: {reason}")
    return plan


class _Planner:
    def __init__(self, model: Model, options: XlaOptions):
        self.model, self.options = model, options
        self.recipe = _recipe_of(options)
        self.matcher = RecipeMatcher(self.recipe, model)
        self._quantized: dict[Any, tuple[Tensor, Parameters]] = {}
        self._observed: Observed | None = None

    def decide(self, node: Node) -> tuple[Layer | None, str]:
        """What becomes of one product, and why it is not what the recipe says, if it is not."""
        recipe = self.matcher.for_node(node)
        if recipe.mode == "float":
            return None, ""
        place, _ = LAYERS[node.op]
        value = node.input(place)
        held = known_tensor(value)
        if held is None or held.dtype is not FLOAT32 or len(held.shape) < 2:
            return None, "its weights are no constant" if held is None else ""
        if held.size < max(recipe.minimum_elements, LEAST if recipe.mode == "weight-only" else 0):
            return None, ""
        axis = None if recipe.granularity == "tensor" else _channel_axis(node, len(held.shape))
        is_alone = axis is not None and _has_one_free_axis(node, len(held.shape))
        made = self._weights(value, held, recipe, axis)
        if made is None:
            return None, "its weights hold NaN or Inf"
        layer = Layer(place, made[0], made[1].scale, axis)
        if recipe.mode == "weight-only":
            return layer, ""
        if node.op in STORED:
            return layer, f"int8 weights alone: {STORED[node.op]}"
        if recipe.mode == "dynamic":
            return layer._replace(is_dynamic=True), ""
        activation = self._activation(node.input(0), recipe, recipe.symmetric or not is_alone)
        if activation is None:
            return layer, "int8 weights alone: the statistics do not know what it reads"
        return layer._replace(activation=activation), ""

    def _weights(
        self, value: Value, held: Tensor, recipe: OperatorRecipe, axis: int | None
    ) -> tuple[Tensor, Parameters] | None:
        key = id(held), axis, recipe.clip_weights
        if key not in self._quantized:
            array = held.numpy()
            if not np.isfinite(array).all():
                return None
            limits = clipped_magnitudes(array, INT8_WEIGHT, axis=axis) if recipe.clip_weights else None
            parameters = weight_parameters(array, INT8_WEIGHT, axis=axis, magnitude=limits)
            self._quantized[key] = ArrayTensor(quantize(array, parameters), INT8), parameters
        return self._quantized[key]

    def _activation(self, value: Value, recipe: OperatorRecipe, symmetric: bool) -> Parameters | None:
        observed = self._statistics()
        seen = observed.of(value)
        method = recipe.calibration or observed.statistics.method
        if seen is None or seen.nans + seen.infinities:
            return None
        found = range_of(seen, method, symmetric=symmetric)
        if found is None:
            return None
        return activation_parameters(*found, SYMMETRIC if symmetric else INT8_ACTIVATION)

    def _statistics(self) -> Observed:
        """What was observed, gathered when it is first asked for."""
        if self._observed is None:
            self._observed = Observed(self._gathered(), KEEPING)
        return self._observed

    def _gathered(self) -> Statistics:
        options = self.options
        if options.statistics is not None:
            return given_statistics(options.statistics)
        if options.data is None:
            raise UsageError(
                "int8 activations need ranges: give samples (data, --data) or statistics (--calibration), or ask for "
                "int8-weights"
            )
        from graphopt.calibration import calibrate, own_runtime

        runtime = own_runtime(self.model)
        return calibrate(self.model, options.data, method=DEFAULT, also=self.recipe.range_methods, runtime=runtime)


def _recipe_of(options: XlaOptions) -> Recipe:
    """The recipe asked for. Raises `UsageError` for what XLA has no form for."""
    if options.recipe is None:
        return preset(PRESETS[options.precision])
    recipe = options.recipe if isinstance(options.recipe, Recipe) else load_recipe(options.recipe)
    for rule in recipe.rules:
        if rule.mode not in MODES:
            raise UsageError(f"mode '{rule.mode}' is not for XLA, which takes {', '.join(MODES)}")
        if rule.mode != "float" and (rule.weight_bits != 8 or rule.block_size):
            raise UsageError("XLA takes weights of 8 bits, by channel or tensor: no blocks, no 4 bits")
    if (recipe.input_type, recipe.output_type) != ("float32", "float32"):
        raise UsageError("XLA's programs take and yield floats: a recipe may not change the model's borders")
    return recipe


def _channel_axis(node: Node, rank: int) -> int | None:
    """The axis of the weights that the result has and that nothing is summed over; None where that is not plain."""
    known = LAYERS[node.op][1]
    if known is not None:
        return known
    if node.op == "tf.Einsum":
        free = _free_labels(node, rank)
        return free[-1] if free else None
    attrs = attributes(node)
    return rank - 2 if attrs.get("transpose_b") or attrs.get("adj_y") else rank - 1


def _has_one_free_axis(node: Node, rank: int) -> bool:
    """All axes of the weights but that of the channels are summed over: a zero point adds a number for each channel."""
    if node.op == "tf.Einsum":
        terms, _, result = _equation(node).partition("->")
        return len(_free_labels(node, rank)) == 1 == sum(label in result for label in terms.partition(",")[2])
    return node.op not in ("tf.MatMul", "tf.BatchMatMulV2") or rank == 2


def _free_labels(node: Node, rank: int) -> list[int]:
    """Axes of an einsum's weights that are in the result alone."""
    terms, _, result = _equation(node).partition("->")
    left, _, right = terms.partition(",")
    if len(right) != rank or "." in right or len(set(right)) != rank:
        return []
    if any(label not in left and label not in result for label in right):
        return []
    return [axis for axis, label in enumerate(right) if label in result and label not in left]


def _equation(node: Node) -> str:
    return str(attributes(node)["equation"].decode(errors="replace")).replace(" ", "")
