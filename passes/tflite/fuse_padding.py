"""fuse-padding: zeros around an image become the padding of the convolution that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.ops.tf_windows import extent
from graphopt.ir.value import Node
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, known, rest
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule

# The axes of the weights, of the strides and of the dilations that belong to the spatial dimensions.
WINDOWS = {
    "CONV_2D": ((1, 2), "hw"),
    "DEPTHWISE_CONV_2D": ((1, 2), "hw"),
    "CONV_3D": ((0, 1, 2), "dhw"),
}


class PaddingOfConvolution(Rule):
    """Zeros where a convolution would put the same zeros by itself are left to it."""

    keeps_interior: ClassVar[bool] = True  # each reader that needs the zeros no more is a gain

    def pattern(self, tfl: Dialect, x: Wildcard, paddings: Wildcard) -> Pattern:
        """A convolution without padding of an image with zeros around it."""
        padded = tfl.PAD(x, known(paddings), attributes=ANY, name="pad")
        return tfl.any_of(*WINDOWS)(padded, rest("others"), attributes=ANY, padding="VALID")

    def check(self, match: Match) -> str | None:
        """The zeros before, and the number of windows, are those of SAME."""
        if match.x.type.quantization != match.pad.output.type.quantization:
            return "the padding rescales"
        return _why_not(match)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The convolution with the padding SAME."""
        types = [match.root.output.type]
        return edit.node(
            match.root.op, [match.x, *match.others], {"padding": b"SAME"}, like=match.root, types=types
        ).output


def _why_not(match: Match) -> str | None:
    pairs, node = match.array("paddings").tolist(), match.root
    axes, letters = WINDOWS[node.op_type]
    weights = match.others[0]
    dims, kernel = match.x.shape.dims, None if weights is None else weights.shape.static
    if dims is None or kernel is None or len(dims) != len(pairs) or len(kernel) != len(pairs):
        return "the shape of the image, or of the weights, is not known"
    if any(pairs[0]) or any(pairs[-1]):
        return "the batch or the channels are padded, too"
    for place, letter in enumerate(letters):
        size, pair = dims[place + 1], pairs[place + 1]
        if not isinstance(size, int):
            return f"the size of the image is not known: {match.x.shape}"
        if not _is_same(node, letter, size, kernel[axes[place]], pair):
            return f"zeros {pair} around {size} elements are not those of SAME"
    return None


def _is_same(node: Node, letter: str, size: int, width: int, pair: list[int]) -> bool:
    stride, dilation = node.attrs.get(f"stride_{letter}", 1), node.attrs.get(f"dilation_{letter}factor", 1)
    if min(size, width, stride, dilation) < 1 or size + sum(pair) < (width - 1) * dilation + 1:
        return False
    own = extent(size, width, stride, dilation, b"SAME")
    given = extent(size, width, stride, dilation, b"VALID", *pair)
    return own.before == pair[0] and own.places == given.places


@dataclass(frozen=True)
class FusePadding(RewritePass):
    """Leave zeros around an image to the convolution that reads it, where it would put the same ones.

    *Given*

        %p = tfl.PAD(%x, %paddings)
        %y = tfl.CONV_2D(%p, %weights, %bias) {padding = b"VALID"}

    *Result*

        %y = tfl.CONV_2D(%x, %weights, %bias) {padding = b"SAME"}

    Refuses zeros that are not those of SAME, images of unknown size, and padding of batch or channels.
    """

    rules: ClassVar[tuple[type[Rule], ...]] = (PaddingOfConvolution,)
