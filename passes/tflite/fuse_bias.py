"""fuse-bias: sums and products by channel become part of the layer before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphopt.ir.errors import UsageError
from graphopt.ir.known import known_tensor
from graphopt.ir.tensors import tensor
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, known, rest
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.tflite.layers import (
    ACTIVATION,
    LAYERS,
    activation,
    bias_array,
    channel_axes,
    channel_count,
    is_plain_float,
    layer_of,
    maybe_reshaped,
    per_channel,
    rebuilt,
    reshaped_again,
    weights_tensor,
)

SHARED = 4096  # bytes of weights up to which a copy for one of several readers is worth an operator less


def _layer(tfl: Dialect) -> Pattern:
    layer = tfl.any_of(*LAYERS)(rest("operands"), attributes=ANY, name="layer", **{ACTIVATION: "NONE"})
    return maybe_reshaped(tfl, layer)


def _operand(match: Match) -> Value:
    """What the constant is combined with: the layer's result, or that reshaped."""
    node: Node = match.between if "between" in match else match.layer
    return node.output


def _in_place(match: Match, edit: Editor, **changes: Any) -> Value:
    """The layer with changes, and the activation of the root, in its place."""
    own = activation(match.root)
    if "between" not in match:
        return rebuilt(edit, match.layer, match.root.output, activation=own, **changes)
    layer = match.layer
    made = rebuilt(edit, layer, layer.output, activation=own, name=layer.name, **changes)
    return reshaped_again(match, edit, made)


def _why_not(match: Match) -> str | None:
    """Why the constant cannot be put into the layer's bias."""
    layer, output = match.layer, match.root.output
    if not is_plain_float(output) or not is_plain_float(layer.output):
        return f"its type is {output.dtype.name}, or quantized"
    channels = channel_count(layer)
    if channels is None:
        return f"how many channels '{layer.name}' has is not known"
    if bias_array(layer, channels) is None:
        return f"the bias of '{layer.name}' is not a float32 constant"
    shape = _operand(match).shape
    axes = channel_axes(shape, channels)
    if axes is None:
        return f"'{match.between.name}' moves channels" if "between" in match else "its channels are not known"
    constant = match.tensor("constant")
    if constant is None or per_channel(constant, axes, shape.rank) is None:
        found = None if constant is None else list(constant.shape)
        return f"a constant of shape {found} is not one number a channel"
    return None


def _numbers(match: Match) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The bias and the constant, one number a channel."""
    channels, shape = channel_count(match.layer) or 0, _operand(match).shape
    axes = channel_axes(shape, channels)
    numbers = None if axes is None else per_channel(tensor(match.array("constant")), axes, shape.rank)
    bias = bias_array(match.layer, channels)
    if bias is None or numbers is None:
        raise UsageError("what was checked before has changed")
    return bias, numbers


class BiasOfSum(Rule):
    """A constant by channel added to a layer, or subtracted, is part of its bias."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tfl: Dialect, constant: Wildcard) -> Pattern:
        """A sum or difference of a layer and a constant."""
        return tfl.ADD(_layer(tfl), known(constant), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """One number a channel, everything float32."""
        return _why_not(match)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The layer with the sum of both, and the activation that the sum had."""
        bias, numbers = _numbers(match)
        return _in_place(match, edit, bias=bias + numbers)


class BiasOfDifference(BiasOfSum):
    """A constant by channel subtracted from a layer is part of its bias."""

    def pattern(self, tfl: Dialect, constant: Wildcard) -> Pattern:
        """A layer less a constant."""
        return tfl.SUB(_layer(tfl), known(constant), attributes=ANY)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The layer with the difference of both, and the activation that the difference had."""
        bias, numbers = _numbers(match)
        return _in_place(match, edit, bias=bias - numbers)


class ScaleOfProduct(Rule):
    """A layer times a constant by channel, or divided by one, is the layer with scaled weights and bias."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tfl: Dialect, constant: Wildcard) -> Pattern:
        """A product of a layer and a constant."""
        return tfl.MUL(_layer(tfl), known(constant), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """One number a channel; weights that are constant, that nobody else reads, and that stay finite."""
        reason = _why_not(match)
        if reason is not None:
            return reason
        layer = match.layer
        held, source = weights_tensor(layer), layer.input(layer_of(layer).weights)
        if held is None:
            return f"the weights of '{layer.name}' are not a float32 constant"
        if source.use_count > 1 and held.nbytes > SHARED:
            return f"other nodes read the weights of '{layer.name}', too"
        if not all(np.isfinite(array).all() for array in self.scaled(match)):
            return "the scaled weights would not be finite"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The layer with weights and bias scaled, and the activation that the product had."""
        weights, bias = self.scaled(match)
        return _in_place(match, edit, weights=weights, bias=bias)

    def scaled(self, match: Match) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Weights and bias of the result."""
        bias, numbers = _numbers(match)
        layer = match.layer
        held = known_tensor(layer.input(layer_of(layer).weights))
        assert held is not None
        along = [1] * len(held.shape)
        along[layer_of(layer).channels] = len(numbers)
        with np.errstate(all="ignore"):
            return self.combined(held.numpy(), numbers.reshape(along)), self.combined(bias, numbers)

    def combined(self, array: np.ndarray[Any, Any], numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What the weights become."""
        return np.asarray(array * numbers, np.float32)


class ScaleOfQuotient(ScaleOfProduct):
    """A layer divided by a constant by channel is the layer with divided weights and bias."""

    def pattern(self, tfl: Dialect, constant: Wildcard) -> Pattern:
        """A layer divided by a constant."""
        return tfl.DIV(_layer(tfl), known(constant), attributes=ANY)

    def combined(self, array: np.ndarray[Any, Any], numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What the weights become."""
        return np.asarray(array / numbers, np.float32)


@dataclass(frozen=True)
class FuseBias(RewritePass):
    """Put sums and products by channel into the bias and the weights of the layer before.

    *Given*

        %c = tfl.CONV_2D(%x, %weights, %zeros)
        %y = tfl.ADD(%c, %offsets) {fused_activation_function = b"RELU"}

    *Result*

        %y = tfl.CONV_2D(%x, %weights, %offsets) {fused_activation_function = b"RELU"}

    Layers are convolutions, plain, depthwise, transposed and three-dimensional, and fully connected ones. A constant
    added or subtracted goes into the bias, one that multiplies or divides into weights and bias. A reshape between
    them that leaves the channels in place, or splits them into heads, does not matter.

    Refuses constants that are not one number or one for each channel, tensors that are quantized or not float32, a
    layer with an activation of its own or another reader, and scales for weights that other layers read as well or
    that would not stay finite.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (BiasOfSum, BiasOfDifference, ScaleOfProduct, ScaleOfQuotient)
