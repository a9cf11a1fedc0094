"""fuse-dilation: a convolution of interleaved parts of an image is one with dilated weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Value
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, known, rest
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.tflite.margins import Pairs, around

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


class DilationOfParts(Rule):
    """Space to batch, a convolution without padding, and batch to space are a dilated convolution."""

    def pattern(self, tfl: Dialect, x: Wildcard, block: Wildcard, paddings: Wildcard, crops: Wildcard) -> Pattern:
        """The three, with the same block."""
        parts = tfl.SPACE_TO_BATCH_ND(x, known(block), paddings, attributes=ANY, name="parts")
        convolution = tfl.any_of(*CONVOLUTIONS)(
            parts, rest("others"), attributes=ANY, name="convolution", padding="VALID"
        )
        return tfl.BATCH_TO_SPACE_ND(convolution, known(Wildcard("back")), crops, attributes=ANY)

    def check(self, match: Match) -> str | None:
        """The blocks are the same, there are no strides, and no more is cut off than was put around."""
        if not np.array_equal(match.array("block"), match.array("back")) or match.array("block").size != 2:
            return "the blocks are not the same, or not of two dimensions"
        return _why_not(match)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The convolution, dilated, padded as SAME does where that is what is left."""
        left = around(match.paddings, match.crops) or []
        return _dilated(match, edit, match.x, match.array("block").tolist(), left, match.root.output.type)


class DilationOfLines(Rule):
    """The same for lines, which are images of one row, or of one column, for the convolution alone."""

    def pattern(self, tfl: Dialect, x: Wildcard, block: Wildcard, paddings: Wildcard, crops: Wildcard) -> Pattern:
        """The three, and a reshape before and behind the convolution."""
        parts = tfl.SPACE_TO_BATCH_ND(x, known(block), paddings, attributes=ANY, name="parts")
        wide = tfl.any_of("RESHAPE", "EXPAND_DIMS")(parts, rest("widened"), attributes=ANY, name="wide")
        convolution = tfl.any_of(*CONVOLUTIONS)(
            wide, rest("others"), attributes=ANY, name="convolution", padding="VALID"
        )
        narrow = tfl.any_of("RESHAPE", "SQUEEZE")(convolution, rest("narrowed"), attributes=ANY, name="narrow")
        return tfl.BATCH_TO_SPACE_ND(narrow, known(Wildcard("back")), crops, attributes=ANY)

    def grow(self, match: Match) -> Match | str | None:
        """Which of the image's dimensions is the line, and that the other one is, and stays, one."""
        line, image, made = match.parts.output.shape.dims, match.wide.output.shape.dims, match.narrow.output.shape.dims
        result, kernel = match.convolution.output.shape.dims, match.others[0].shape.static
        if not (line and image and made and result and kernel) or (len(line), len(image), len(made)) != (3, 4, 3):
            return None
        for place in (1, 2):
            if image[3 - place] == 1 and result[3 - place] == 1 and kernel[3 - place] == 1 and image[place] == line[1]:
                return match.grown((), place=place)
        return "which dimension of the image is the line is not known"

    def check(self, match: Match) -> str | None:
        """The blocks are the same, there are no strides, and the shapes are known but for one dimension."""
        if not np.array_equal(match.array("block"), match.array("back")) or match.array("block").size != 1:
            return "the blocks are not the same, or not of one dimension"
        for value in (match.x, match.root.output):
            if value.shape.dims is None or sum(not isinstance(dim, int) for dim in value.shape.dims) > 1:
                return f"too little is known of the shape {value.shape}"
        return _why_not(match)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The dilated convolution of a line that has become an image, made a line again."""
        spread = [1, 1]
        spread[match.place - 1] = int(match.array("block")[0])
        left = [[0, 0], [0, 0]]
        left[match.place - 1] = (around(match.paddings, match.crops) or left)[0]
        name = match.root.name
        image = _reshaped(edit, match.x, _widened(match.x.shape, match.place), f"{name}/image")
        made = match.root.output.type
        type = made.with_shape(_widened(made.shape, match.place))
        dilated = _dilated(match, edit, image, spread, left, type, match.convolution.name)
        return _reshaped(edit, dilated, made.shape, name)


_OTHERS = [("stride_", "h", ""), ("stride_", "w", ""), ("dilation_", "h", "factor"), ("dilation_", "w", "factor")]


def _why_not(match: Match) -> str | None:
    attrs = match.convolution.attrs
    if any(attrs.get(f"{what}{letter}{end}", 1) != 1 for what, letter, end in _OTHERS):
        return f"'{match.convolution.name}' has strides or is dilated"
    if match.x.type.quantization != match.parts.output.type.quantization:
        return "the parts are scaled otherwise"
    if match.root.output.type.quantization != match.convolution.output.type.quantization:
        return "the parts are scaled otherwise"
    if around(match.paddings, match.crops) is None:
        return "more may be cut off the result than was put around the image"
    return None


def _same(width: int, dilation: int) -> list[int]:
    """Zeros that SAME puts around for a stride of one."""
    total = (width - 1) * dilation
    return [total // 2, total - total // 2]


def _dilated(
    match: Match, edit: Editor, x: Value, block: list[int], left: Pairs, type: TensorType, name: str | None = None
) -> Value:
    """The convolution of the whole image."""
    attrs: dict[str, Any] = {"dilation_hfactor": block[0], "dilation_wfactor": block[1]}
    kernel = match.others[0].shape.static
    if any(map(any, left)):
        if kernel is not None and left == [_same(kernel[axis], by) for axis, by in zip((1, 2), block, strict=True)]:
            attrs["padding"] = b"SAME"
        else:
            x = _padded(match, edit, x, left)
    inputs = [x, *match.others]
    return edit.node(match.convolution.op, inputs, attrs, like=match.convolution, types=[type], name=name).output


def _padded(match: Match, edit: Editor, x: Value, left: Pairs) -> Value:
    every = [[0, 0], *left, [0, 0]]
    held = edit.hold(np.array(every, np.int32), name=f"{match.root.name}/paddings")
    dims = x.shape.dims or (None,) * 4
    shape = Shape(dimensions.add(dim, sum(pair)) for dim, pair in zip(dims, every, strict=True))
    return edit.node("tfl.PAD", [x, held], name=f"{match.root.name}/padded", types=[x.type.with_shape(shape)]).output


def _widened(shape: Shape, place: int) -> Shape:
    """The shape of the image that a line is."""
    dims = shape.dims or ()
    return Shape((dims[0], dims[1], 1, dims[2]) if place == 1 else (dims[0], 1, dims[1], dims[2]))


def _reshaped(edit: Editor, value: Value, shape: Shape, name: str) -> Value:
    numbers = [dim if isinstance(dim, int) else -1 for dim in shape.dims or ()]
    held = edit.hold(np.array(numbers, np.int32), name=f"{name}/shape")
    return edit.node("tfl.RESHAPE", [value, held], name=name, types=[value.type.with_shape(shape)]).output


@dataclass(frozen=True)
class FuseDilation(RewritePass):
    """Write a convolution of interleaved parts of an image as one with dilated weights.

    *Given*

        %p = tfl.SPACE_TO_BATCH_ND(%x, %block, %paddings)
        %c = tfl.CONV_2D(%p, %weights, %bias) {padding = b"VALID"}
        %y = tfl.BATCH_TO_SPACE_ND(%c, %block, %crops)

    *Result*

        %y = tfl.CONV_2D(%x, %weights, %bias) {padding = b"SAME", dilation_hfactor = 2, dilation_wfactor = 2}

    Lines, which are images for the convolution alone, likewise. Paddings and crops may be computed, where both are
    sums of something known and of the same computed number, as for images of unknown size.

    Refuses blocks that are not constant, paddings and crops that are not known to belong together, and convolutions
    with strides.
    """

    rules: ClassVar[tuple[type[Rule], ...]] = (DilationOfParts, DilationOfLines)
