"""fuse-dilations: a convolution of the interleaved parts of an image is one with dilated weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, either, known
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


class DilationOfParts(Rule):
    """Space to batch, a convolution without padding, and batch to space are a dilated convolution."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tf: Dialect, x: Wildcard, block: Wildcard, paddings: Wildcard, crops: Wildcard) -> Pattern:
        """The three, with or without a bias."""
        parts = tf.SpaceToBatchND(x, known(block), known(paddings))
        layer = tf.any_of(*CONVOLUTIONS)(parts, Wildcard("weights"), attributes=ANY, name="layer")
        biased = tf.BiasAdd(layer, Wildcard("bias"), attributes=ANY, name="biased")
        return tf.BatchToSpaceND(either(biased, layer), known(Wildcard("back")), known(crops))

    def check(self, match: Match) -> str | None:
        """The blocks are the same, there are no strides, and no more is cut off than was put around."""
        block, back = match.array("block").tolist(), match.array("back").tolist()
        if block != back or len(block) != 2:
            return "the blocks are not the same, or not of two dimensions"
        attrs = match.layer.attrs
        if attrs.get("padding") != b"VALID" or attrs.get("data_format", b"NHWC") != b"NHWC":
            return "the convolution has padding, or channels first"
        if any(step != 1 for name in ("strides", "dilations") for step in attrs.get(name, ())):
            return "the convolution has strides or dilations of its own"
        if ((match.array("paddings") - match.array("crops")) < 0).any():
            return "more is cut off than was put around"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The convolution, dilated, with what is left of the padding."""
        left = (match.array("paddings") - match.array("crops")).tolist()
        height, width = match.array("block").tolist()
        attrs = {
            "padding": b"EXPLICIT", "explicit_paddings": (0, 0, *left[0], *left[1], 0, 0),
            "dilations": (1, height, width, 1),
        }  # fmt: skip
        layer, kind = match.layer, match.root.output.type
        made = edit.node(layer.op, (match.x, match.weights), attrs, like=layer, types=(kind,)).output
        if "biased" not in match:
            return made
        return edit.node("tf.BiasAdd", (made, match.bias), like=match.biased, types=(kind,)).output


@dataclass(frozen=True)
class FuseDilations(RewritePass):
    """Give convolutions between space-to-batch and batch-to-space dilations instead.

    *Given*

        %p = tf.SpaceToBatchND(%x, %block, %paddings)
        %c = tf.Conv2D(%p, %weights) {strides = [1, 1, 1, 1], padding = b"VALID"}
        %y = tf.BatchToSpaceND(%c, %block, %crops)

    *Result*

        %y = tf.Conv2D(%x, %weights) {strides = [1, 1, 1, 1], padding = b"EXPLICIT", dilations = [1, 2, 2, 1],
                                      explicit_paddings = [0, 0, 2, 2, 2, 2, 0, 0]}

    Refuses paddings and crops that are computed, blocks of other than two dimensions, and strides.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (DilationOfParts,)
