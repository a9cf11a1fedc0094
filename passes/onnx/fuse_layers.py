"""fuse-layers: biases and margins of ONNX's layers become part of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphopt.ir.known import known_array, known_tensor
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, known, rest
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule

LAYERS = ("Conv", "ConvTranspose")


class BiasIntoConvolution(Rule):
    """A constant by channel that is added to a convolution without a bias is its bias."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, onnx: Dialect, bias: Wildcard) -> Pattern:
        """A sum of a convolution and a constant."""
        return onnx.Add(onnx.any_of(*LAYERS)(rest("operands"), attributes=ANY, name="layer"), known(bias))

    def check(self, match: Match) -> str | None:
        """The layer has no bias yet; the constant has one element a channel, or one in all."""
        if len(match.layer.inputs) != 2:
            return "the convolution has a bias already"
        channels, rank = _channels(match), match.root.output.shape.rank
        shape = match.array("bias").shape
        if channels is None or rank is None or len(shape) > rank:
            return "the number of channels is not known"
        aligned = (1,) * (rank - len(shape)) + shape
        if any(size != 1 for place, size in enumerate(aligned) if place != 1) or aligned[1] not in (1, channels):
            return f"the constant of shape {list(shape)} is not one by channel"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The layer with the bias."""
        channels = _channels(match)
        array = np.ascontiguousarray(np.broadcast_to(match.array("bias").reshape(-1), (channels or 1,)))
        bias = edit.hold(array, name=match.bias.node.name)
        layer = match.layer
        return edit.node(
            layer.op, (*layer.inputs, bias), like=layer, name=match.root.name, types=(match.root.output.type,)
        ).output


def _channels(match: Match) -> int | None:
    held = known_tensor(match.layer.input(1))
    if held is None:
        return None
    if match.layer.op == "onnx.Conv":
        return held.shape[0]
    return held.shape[1] * int(match.layer.attrs.get("group", 1))


class BiasIntoProduct(Rule):
    """A vector that is added to the product of two matrices makes one operator of both."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, onnx: Dialect, x: Wildcard, weights: Wildcard, bias: Wildcard) -> Pattern:
        """A sum of a product with a constant and of a constant."""
        return onnx.Add(onnx.MatMul(x, known(weights)), known(bias))

    def check(self, match: Match) -> str | None:
        """Matrices, and a vector as long as their rows."""
        held, bias = match.tensor("weights"), match.tensor("bias")
        if match.x.shape.rank != 2 or held is None or len(held.shape) != 2 or bias is None:
            return "it multiplies no matrices"
        if bias.size not in (1, held.shape[1]) or len(bias.shape) > 1:
            return f"the constant of shape {list(bias.shape)} is no row"
        if not match.root.output.dtype.is_float:
            return f"it multiplies {match.root.output.dtype.name}"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One operator."""
        kind = match.root.output.type
        return edit.node("onnx.Gemm", (match.x, match.weights, match.bias), {}, types=(kind,)).output


class SumIntoProduct(Rule):
    """What is added to a product of a matrix with weights, or to each of its rows, makes one operator of both."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, onnx: Dialect, x: Wildcard, weights: Wildcard, other: Wildcard) -> Pattern:
        """A sum of a product with a constant and of anything."""
        return onnx.Add(onnx.MatMul(x, known(weights)), other)

    def check(self, match: Match) -> str | None:
        """Matrices, all of them floats of known or equal sizes."""
        made, added = match.root.output.shape.dims, match.other.shape.dims
        if match.x.shape.rank != 2 or made is None or added is None or len(made) != 2 or len(added) > 2:
            return "it adds no matrices"
        if any(one is None or other not in (1, one) for one, other in zip(made[::-1], added[::-1], strict=False)):
            return f"the shape {match.other.shape} does not fit the product's"
        if not match.root.output.dtype.is_float or known_tensor(match.other) is not None:
            return "it multiplies no floats, or a constant is added"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One operator."""
        kind = match.root.output.type
        return edit.node("onnx.Gemm", (match.x, match.weights, match.other), {}, types=(kind,)).output


class MarginIntoConvolution(Rule):
    """Zeros around what a convolution or a maximum reads are its own padding."""

    def pattern(self, onnx: Dialect, x: Wildcard, pads: Wildcard) -> Pattern:
        """A convolution of something padded, whether the margin's value is spelled out or not."""
        margin = onnx.Pad(x, known(pads), rest("values"), attributes=ANY, name="margin")
        return onnx.Conv(margin, rest("operands"), attributes=ANY, name="layer")

    def check(self, match: Match) -> str | None:
        """Zeros, none of them at batches or channels, and no padding that follows from the size."""
        pads = match.array("pads")
        half = len(pads) // 2
        if match.margin.attrs.get("mode", b"constant") != b"constant":
            return "the margin repeats what it borders on"
        if any((array := known_array(value)) is None or array.any() for value in match.values):
            return "the margin is not of zeros"
        if any(pads[[0, 1, half, half + 1]]) or (pads < 0).any():
            return "it pads batches or channels, or cuts off"
        if match.layer.attrs.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            return "the convolution's padding follows from its size"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The convolution with more padding."""
        pads = match.array("pads").astype(int)
        half, layer = len(pads) // 2, match.layer
        added: list[Any] = [*pads[2:half], *pads[half + 2 :]]
        own = layer.attrs.get("pads", (0,) * len(added))
        attrs = {"pads": tuple(int(a) + int(b) for a, b in zip(own, added, strict=True)), "auto_pad": b"NOTSET"}
        inputs = (match.x, *layer.inputs[1:])
        made = edit.node(layer.op, inputs, attrs, like=layer, name=layer.name, types=(layer.output.type,))
        return made.output


@dataclass(frozen=True)
class FuseLayers(RewritePass):
    """Put biases and margins of zeros into ONNX's convolutions and matrix products.

    *Given*

        %p = onnx.Pad(%x, %pads) {mode = b"constant"}
        %c = onnx.Conv(%p, %weights) {strides = [2, 2], kernel_shape = [3, 3]}
        %y = onnx.Add(%c, %bias)

    *Result*

        %y = onnx.Conv(%x, %weights, %bias) {strides = [2, 2], kernel_shape = [3, 3], pads = [0, 0, 1, 1]}

    Refuses constants that are not by channel, margins that are not zeros, and layers that something else reads.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (
        BiasIntoConvolution,
        BiasIntoProduct,
        SumIntoProduct,
        MarginIntoConvolution,
    )
