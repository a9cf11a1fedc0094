"""recognise-upsampling: rows and columns of images that are repeated are the nearest pixels of a larger image."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from graphopt.ir.value import Value
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, known
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule

RESIZE = "tf.ResizeNearestNeighbor"


def _sizes(value: Value) -> list[int] | None:
    """Height and width of images, None where they are not known."""
    dims = value.shape.dims
    if dims is None or len(dims) != 4:
        return None
    sizes = [dim for dim in dims[1:3] if isinstance(dim, int)]
    return sizes if len(sizes) == 2 else None


def _resized(match: Match, edit: Editor) -> Replacement:
    size = edit.hold(np.array(_sizes(match.root.output), np.int32), name=f"{match.root.name}/size")
    return edit.value(RESIZE, match.x, size, name=match.root.name, align_corners=False, half_pixel_centers=False)


class Repeated(Rule):
    """A dimension put behind height or width, tiled, and joined with it, repeats rows or columns."""

    def pattern(self, tf: Dialect, x: Wildcard, axis: Wildcard, multiples: Wildcard) -> Pattern:
        """As Keras writes `repeat`."""
        tiled = tf.Tile(tf.ExpandDims(x, known(axis), attributes=ANY), known(multiples), attributes=ANY)
        return tf.Reshape(tiled, Wildcard("shape"), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """Images of floats of known size; one dimension grows, and it is the one before that which was put in."""
        before, after = _sizes(match.x), _sizes(match.root.output)
        if before is None or after is None or not match.x.dtype.is_float:
            return "it repeats no rows or columns of images of known size"
        axis, factors = int(match.array("axis").reshape(-1)[0]) % 5, match.array("multiples").reshape(-1).tolist()
        if axis not in (2, 3) or len(factors) != 5 or factors[axis] != int(np.prod(factors)):
            return "it repeats something else than rows or columns"
        wanted = [size * factors[axis] if place == axis - 2 else size for place, size in enumerate(before)]
        channels = [(value.shape.dims or (None,))[-1] for value in (match.x, match.root.output)]
        if after != wanted or channels[0] != channels[1] or not isinstance(channels[0], int):
            return f"the shape {match.root.output.shape} is not that of the repeated rows"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The nearest pixels."""
        return _resized(match, edit)


class NearestOfNearest(Rule):
    """Of two images whose pixels are whole copies, the second is made at once."""

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """One resize of another, pixels placed by their corners."""
        inner = tf.ResizeNearestNeighbor(x, known(Wildcard("first")), attributes=ANY, name="inner")
        return tf.ResizeNearestNeighbor(inner, known(Wildcard("second")), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """Both grow by whole numbers."""
        steps = [_sizes(value) for value in (match.x, match.inner.output, match.root.output)]
        for node in (match.inner, match.root):
            if node.attrs.get("align_corners") or node.attrs.get("half_pixel_centers"):
                return "pixels are placed otherwise"
        if any(sizes is None for sizes in steps):
            return "the sizes of the images are not known"
        for small, large in pairwise(steps):
            if any(not one or other % one for one, other in zip(small or (), large or (), strict=True)):
                return "it does not grow by whole numbers"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One resize."""
        return _resized(match, edit)


@dataclass(frozen=True)
class RecogniseUpsampling(RewritePass):
    """Make one operator of rows and columns that are repeated.

    *Given*

        %e = tf.ExpandDims(%x, %two)
        %t = tf.Tile(%e, %multiples)
        %y = tf.Reshape(%t, %shape)

    *Result*

        %y = tf.ResizeNearestNeighbor(%x, %size)

    Refuses images of unknown size, and other types than floats.
    """

    rules: ClassVar[tuple[type[Rule], ...]] = (Repeated, NearestOfNearest)
