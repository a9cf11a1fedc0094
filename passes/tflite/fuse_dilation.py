"""fuse-dilation: a convolution of interleaved parts of an image is one with dilated weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.types import Shape
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, known, rest
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
Pairs = list[list[int]]


class DilationOfParts(Rule):
    """Space to batch, a convolution without padding, and batch to space are a dilated convolution."""

    def pattern(self, tfl: Dialect, x: Wildcard, block: Wildcard, paddings: Wildcard, crops: Wildcard) -> Pattern:
        """The three, with the same block."""
        parts = tfl.SPACE_TO_BATCH_ND(x, known(block), known(paddings), attributes=ANY, name="parts")
        convolution = tfl.any_of(*CONVOLUTIONS)(
            parts, rest("others"), attributes=ANY, name="convolution", padding="VALID"
        )
        return tfl.BATCH_TO_SPACE_ND(convolution, known(Wildcard("back")), known(crops), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """The blocks are the same, there are no strides, and no more is cut off than was put around."""
        if not np.array_equal(match.array("block"), match.array("back")) or match.array("block").size != 2:
            return "the blocks are not the same, or not of two dimensions"
        attrs = match.convolution.attrs
        if any(attrs.get(f"{what}{letter}{end}", 1) != 1 for what, letter, end in _OTHERS):
            return f"'{match.convolution.name}' has strides or is dilated"
        if match.x.type.quantization != match.parts.output.type.quantization:
            return "the parts are scaled otherwise"
        if match.root.output.type.quantization != match.convolution.output.type.quantization:
            return "the parts are scaled otherwise"
        if _around(match) is None:
            return "more is cut off the result than was put around the image"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The convolution, dilated, padded as SAME does where that is what is left."""
        around: Pairs = _around(match) or []
        block = match.array("block").tolist()
        attrs: dict[str, Any] = {"dilation_hfactor": block[0], "dilation_wfactor": block[1]}
        x, kernel = match.x, match.others[0].shape.static
        if any(map(any, around)):
            if kernel is not None and around == [
                _same(kernel[axis], by) for axis, by in zip((1, 2), block, strict=True)
            ]:
                attrs["padding"] = b"SAME"
            else:
                x = _padded(match, edit, around)
        inputs = [x, *match.others]
        types = [match.root.output.type]
        return edit.node(match.convolution.op, inputs, attrs, like=match.convolution, types=types).output


_OTHERS = [("stride_", "h", ""), ("stride_", "w", ""), ("dilation_", "h", "factor"), ("dilation_", "w", "factor")]


def _same(width: int, dilation: int) -> list[int]:
    """Zeros that SAME puts around for a stride of one."""
    total = (width - 1) * dilation
    return [total // 2, total - total // 2]


def _around(match: Match) -> Pairs | None:
    """Zeros that are left around the image once what is cut off the result is not computed; None if that is more."""
    left = []
    for pair, crop in zip(match.array("paddings").tolist(), match.array("crops").tolist(), strict=True):
        if crop[0] > pair[0] or crop[1] > pair[1]:
            return None
        left.append([pair[0] - crop[0], pair[1] - crop[1]])
    return left


def _padded(match: Match, edit: Editor, around: Pairs) -> Any:
    every = [[0, 0], *around, [0, 0]]
    held = edit.hold(np.array(every, np.int32), name=f"{match.root.name}/paddings")
    dims = match.x.shape.dims or (None,) * 4
    shape = Shape(dimensions.add(dim, sum(pair)) for dim, pair in zip(dims, every, strict=True))
    types = [match.x.type.with_shape(shape)]
    return edit.node("tfl.PAD", [match.x, held], name=f"{match.root.name}/padded", types=types).output


@dataclass(frozen=True)
class FuseDilation(RewritePass):
    """Write a convolution of interleaved parts of an image as one with dilated weights.

    *Given*

        %p = tfl.SPACE_TO_BATCH_ND(%x, %block, %paddings)
        %c = tfl.CONV_2D(%p, %weights, %bias) {padding = b"VALID"}
        %y = tfl.BATCH_TO_SPACE_ND(%c, %block, %crops)

    *Result*

        %y = tfl.CONV_2D(%x, %weights, %bias) {padding = b"SAME", dilation_hfactor = 2, dilation_wfactor = 2}

    Refuses blocks, paddings and crops that are not constant or do not belong together, and convolutions with strides.
    """

    rules: ClassVar[tuple[type[Rule], ...]] = (DilationOfParts,)
