"""drop-reshapes: reshapes around ONNX's products, means and transposes that the operators can do without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphopt.ir.types import Shape
from graphopt.ir.value import Value
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, known
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule


def _constant(shape: Shape) -> list[int] | None:
    """The shape as a Reshape takes it, with one dimension left open at most; None where that cannot be said."""
    dims = shape.dims
    if dims is None or 0 in dims or sum(not isinstance(dim, int) for dim in dims) > 1:
        return None
    return [dim if isinstance(dim, int) else -1 for dim in dims]


def _reshaped(match: Match, edit: Editor, value: Any) -> Replacement:
    target = edit.hold(np.array(_constant(match.root.output.shape), np.int64), name=f"{match.root.name}/shape")
    return edit.node("onnx.Reshape", (value, target), {}, types=(match.root.output.type,)).output


class ProductOfRows(Rule):
    """A product of matrices between reshapes to rows and back is a product over the axes before."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, onnx: Dialect, x: Wildcard, weights: Wildcard) -> Pattern:
        """Rows of something, multiplied, in its shape again."""
        rows = onnx.Reshape(x, Wildcard("rows"), attributes=ANY)
        return onnx.Reshape(onnx.MatMul(rows, known(weights), name="product"), Wildcard("back"), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """The last axis is what is multiplied, and those before it come back as they were."""
        before, after = match.x.shape.dims, match.root.output.shape.dims
        held, rows = match.tensor("weights"), match.product.input(0).shape.dims
        if before is None or after is None or held is None or rows is None or len(held.shape) != 2 or len(rows) != 2:
            return "the shapes are not known, or no matrices are multiplied"
        if len(before) < 2 or before[-1] != held.shape[0] or after[-1] != held.shape[1]:
            return "its last axis is not what is multiplied"
        if len(before) != len(after) or any(a is None or a != b for a, b in zip(before[:-1], after[:-1], strict=True)):
            return f"the shape {match.x.shape} does not come back"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The product."""
        return edit.node("onnx.MatMul", (match.x, match.weights), {}, types=(match.root.output.type,)).output


class TransposeOfOnes(Rule):
    """A transpose that moves dimensions of one alone is a reshape."""

    def pattern(self, onnx: Dialect, x: Wildcard) -> Pattern:
        """Any transpose."""
        return onnx.Transpose(x, attributes=ANY)

    def check(self, match: Match) -> str | None:
        """All other dimensions keep their order."""
        dims, order = match.x.shape.dims, match.root.attrs.get("perm")
        if dims is None or order is None or _constant(match.root.output.shape) is None:
            return "its shape is not known well enough"
        kept = [axis for axis in order if dims[axis] != 1]
        return None if kept == sorted(kept) else "it moves more than dimensions of one"

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A reshape."""
        return _reshaped(match, edit, match.x)


class ReshapeOfReshape(Rule):
    """Of two reshapes the second does."""

    def pattern(self, onnx: Dialect, x: Wildcard) -> Pattern:
        """Reshapes, and what leaves dimensions out or puts them in."""
        inner = onnx.any_of("Reshape", "Squeeze", "Unsqueeze", "Flatten")(x, Wildcard("first"), attributes=ANY)
        return onnx.any_of("Reshape", "Squeeze", "Unsqueeze")(inner, Wildcard("second"), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """The shape that comes out can be written down."""
        return None if _constant(match.root.output.shape) is not None else "its shape is not known well enough"

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One reshape, or nothing where the shape is the first one again."""
        if (
            match.x.shape.static is not None
            and match.x.shape == match.root.output.shape
            and not match.root.output.is_output
        ):
            same: Value = match.x
            return same
        return _reshaped(match, edit, match.x)


class MeanKept(Rule):
    """A reduction whose axes are put in again as ones keeps them."""

    def pattern(self, onnx: Dialect, x: Wildcard, axes: Wildcard) -> Pattern:
        """A reduction without its axes, and a reshape."""
        reduced = onnx.any_of("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")(
            x, known(axes), attributes=ANY, name="reduction"
        )
        return onnx.any_of("Reshape", "Unsqueeze")(reduced, Wildcard("target"), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """The reshape does nothing else."""
        dims, made = match.x.shape.dims, match.root.output.shape.dims
        if match.reduction.attrs.get("keepdims", 1) or dims is None or made is None:
            return "the axes are kept already, or the shape is not known"
        axes = [int(axis) % len(dims) for axis in match.array("axes").reshape(-1)]
        kept = [1 if axis in axes else dim for axis, dim in enumerate(dims)]
        if not _same(kept, made):
            return f"the shape {match.root.output.shape} is not that of the kept axes"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The reduction, with its axes."""
        node, kind = match.reduction, match.root.output.type
        return edit.node(node.op, (match.x, match.axes), {"keepdims": 1}, like=node, types=(kind,)).output


def _same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    if len(first) != len(second):
        return False
    return all(a is not None and a == b for a, b in zip(first, second, strict=True))


@dataclass(frozen=True)
class DropReshapes(RewritePass):
    """Leave out reshapes around products, reductions, transposes of ones and other reshapes.

    *Given*

        %rows = onnx.Reshape(%x, %two)
        %p = onnx.MatMul(%rows, %weights)
        %y = onnx.Reshape(%p, %three)

    *Result*

        %y = onnx.MatMul(%x, %weights)

    Refuses shapes with more than one unknown dimension, and reshapes that something else reads.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (ProductOfRows, MeanKept, ReshapeOfReshape, TransposeOfOnes)
