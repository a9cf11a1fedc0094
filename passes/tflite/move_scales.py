"""move-scales: numbers that attention multiplies by, and cells of recurrent layers add, go into a layer before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, known, rest
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.tflite.layers import (
    ACTIVATION,
    activation,
    bias_array,
    bias_value,
    channel_count,
    is_plain_float,
    per_channel,
    rebuilt,
    weights_tensor,
)

MOVES = frozenset({"tfl.TRANSPOSE", "tfl.RESHAPE"})
PRODUCT, LAYER = "tfl.BATCH_MATMUL", "tfl.FULLY_CONNECTED"
LONGEST = 8  # operators between the layer and the product


class ScaleOfProducts(Rule):
    """A scaled product of matrices is the product of what a layer with scaled weights yields."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tfl: Dialect, value: Wildcard, scale: Wildcard) -> Pattern:
        """Anything times one number."""
        return tfl.MUL(value, known(scale, _is_number), attributes=ANY, **{ACTIVATION: "NONE"})

    def grow(self, match: Match) -> Match | str | None:
        """What is between the product and a layer, read by nothing else."""
        value = match.value
        if value.node.op not in (*MOVES, PRODUCT) or not is_plain_float(match.root.output):
            return None
        if match.scale.shape.rank and match.scale.shape.rank > (match.root.output.shape.rank or 0):
            return None
        for place in (0, 1) if value.node.op == PRODUCT else (-1,):
            chain = _chain(value, match.root, place)
            if chain is not None:
                return match.grown(chain, chain=tuple(chain), place=place)
        return None

    def check(self, match: Match) -> str | None:
        """The scaled weights and bias stay finite."""
        layer = match.chain[-1]
        if not all(np.isfinite(array).all() for array in _scaled(match) if array is not None):
            return f"the scaled weights of '{printable(layer.name)}' would not be finite"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The layer with scaled weights, and everything after it again."""
        *between, layer = match.chain
        weights, bias = _scaled(match)
        made = rebuilt(edit, layer, layer.output, weights=weights, bias=bias)
        for node in reversed(between):
            inputs = list(node.inputs)
            inputs[match.place if node.op == PRODUCT else 0] = made
            type = match.root.output.type if node is between[0] else node.output.type
            made = edit.node(node.op, inputs, like=node, types=[type]).output
        return made


class BiasOfSummand(Rule):
    """A bias that is added to the sum of a layer and something else is the layer's."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tfl: Dialect, other: Wildcard, constant: Wildcard) -> Pattern:
        """A constant added to a sum, of which one part is a layer."""
        plain = {ACTIVATION: "NONE"}
        layer = tfl.FULLY_CONNECTED(rest("operands"), attributes=ANY, name="layer", **plain)
        return tfl.ADD(tfl.ADD(layer, other, attributes=ANY, **plain), known(constant), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """Float32, one number a channel."""
        for value in (match.layer.output, match.other, match.root.output):
            if not is_plain_float(value):
                return f"'{printable(value.name)}' is {value.dtype.name}, or quantized"
        if self.numbers(match) is None:
            return f"the constant is not one number for each channel of '{printable(match.layer.name)}'"
        return None

    def numbers(self, match: Match) -> np.ndarray[Any, Any] | None:
        """The bias and the constant together."""
        layer = match.layer
        channels = channel_count(layer)
        bias = None if channels is None else bias_array(layer, channels)
        held = match.tensor("constant")
        if held is None or channels is None or bias is None:
            return None
        added = per_channel(held, (channels,), layer.output.shape.rank)
        return None if added is None else bias + added

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The layer with both, and the sum."""
        made = rebuilt(edit, match.layer, match.layer.output, bias=self.numbers(match))
        attrs = {ACTIVATION: activation(match.root)}
        return edit.node("tfl.ADD", [made, match.other], attrs, types=[match.root.output.type]).output


def _is_number(tensor: Tensor) -> bool:
    return tensor.size == 1 and tensor.dtype is FLOAT32


def _chain(value: Value, reader: Node, place: int) -> list[Node] | None:
    """The nodes from `value` back to a layer, which ends the list; through input `place` of a product of matrices."""
    found: list[Node] = []
    while len(found) < LONGEST:
        node = value.node
        if value.users != (reader,) or value.is_output or value.is_input or not is_plain_float(value):
            return None
        found.append(node)
        if node.op == LAYER:
            return found if _is_scalable(node) else None
        if node.op not in MOVES and (node.op != PRODUCT or len(found) > 1):
            return None
        reader, value = node, node.input(place if node.op == PRODUCT else 0)
    return None


def _is_scalable(layer: Node) -> bool:
    """Constant weights that nothing else reads, no activation."""
    held = weights_tensor(layer)
    channels = channel_count(layer)
    if held is None or channels is None or layer.input(1).use_count > 1 or activation(layer) != b"NONE":
        return False
    return bias_array(layer, channels) is not None


def _scaled(match: Match) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """Weights and bias, if there is one, of the layer."""
    layer = match.chain[-1]
    scale = match.array("scale").reshape(()).astype(np.float32)
    held = weights_tensor(layer)
    assert held is not None
    bias = None if bias_value(layer) is None else bias_array(layer, channel_count(layer) or 0)
    with np.errstate(all="ignore"):
        return np.asarray(held.numpy() * scale), None if bias is None else np.asarray(bias * scale)


@dataclass(frozen=True)
class MoveScales(RewritePass):
    """Put a number that a product of matrices is multiplied by into the weights of a layer that goes into it.

    *Given*

        %q = tfl.FULLY_CONNECTED(%x, %weights, %bias)
        %r = tfl.RESHAPE(%q, %heads)
        %t = tfl.TRANSPOSE(%r, %order)
        %p = tfl.BATCH_MATMUL(%t, %keys)
        %y = tfl.MUL(%p, %scale)

    *Result*

        %q = tfl.FULLY_CONNECTED(%x, %scaled_weights, %scaled_bias)
        %r = tfl.RESHAPE(%q, %heads)
        %t = tfl.TRANSPOSE(%r, %order)
        %y = tfl.BATCH_MATMUL(%t, %keys)

    That is how attention scales its scores, of which there are as many as pairs of positions. Layers behind reshapes
    and transposes alone are found, too. A bias that is added to the sum of a layer and something else, as in the cells
    of recurrent layers, becomes the layer's.

    Refuses a product with an activation, tensors that are quantized or not float32, weights that others read, parts
    that something else reads, and weights that would not stay finite.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (ScaleOfProducts, BiasOfSummand)
