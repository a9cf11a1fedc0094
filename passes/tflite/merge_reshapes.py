"""merge-reshapes: what only changes the shape is merged, dropped, or left to the operator beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.dimensions import Dim
from graphopt.ir.types import Shape
from graphopt.ir.value import Value
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, known, rest
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule

RESHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
REDUCTIONS = (
    "MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL",
)  # fmt: skip


# Of two operands, either of which may be broadcast.
BROADCASTS = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")
# Of one operand, element by element.
FUNCTIONS = (
    "ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "NEG", "RELU",
    "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIN", "SQRT", "SQUARE", "TANH",
)  # fmt: skip


def same_elements_same_shape(left: Shape, right: Shape) -> bool:
    """Two shapes of equally many elements are the same: they differ in what is known of one dimension at most."""
    if left.dims is None or right.dims is None or len(left.dims) != len(right.dims):
        return False
    open_places = 0
    for one, other in zip(left.dims, right.dims, strict=True):
        if one is None or other is None or one != other:
            if isinstance(one, int) and isinstance(other, int):
                return False
            open_places += 1
    return open_places == 0 or (open_places == 1 and 0 not in left.dims and 0 not in right.dims)


def _reshape(tfl: Dialect, inner: Pattern, name: str | None = None) -> Pattern:
    return tfl.any_of(*RESHAPES)(inner, rest(f"{name or 'root'}_others"), attributes=ANY, name=name)


def _rescales(source: Value, match: Match) -> str | None:
    if source.type.quantization != match.root.output.type.quantization:
        return f"it is scaled otherwise than '{source.name}'"
    return None


class ReshapeOnce(Rule):
    """A reshape of a reshape reads what that one read."""

    keeps_interior: ClassVar[bool] = True

    def pattern(self, tfl: Dialect, x: Wildcard, shape: Wildcard) -> Pattern:
        """A reshape to a constant shape of something reshaped."""
        return tfl.RESHAPE(_reshape(tfl, x, "inner"), known(shape), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """The constant says all there is to say."""
        return "a dimension of nothing may mean that it is copied" if 0 in match.array("shape") else None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The outer reshape of what the inner one read."""
        types = [match.root.output.type]
        return edit.node(match.root.op, [match.x, match.shape], like=match.root, types=types).output


class ReshapeToItself(Rule):
    """A reshape to the shape that is there does nothing."""

    def pattern(self, tfl: Dialect, x: Wildcard) -> Pattern:
        """A reshape."""
        return _reshape(tfl, x)

    def grow(self, match: Match) -> Match | str | None:
        """The shapes are the same, one unknown dimension aside."""
        if not same_elements_same_shape(match.x.shape, match.root.output.shape):
            return None
        if match.root.output.is_output:
            return "it is an output of the graph"
        return _rescales(match.x, match) or match

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """What it read."""
        value: Value = match.x
        return value


class ReshapeBehindFunction(Rule):
    """A function of each element between two reshapes is applied before both, which then meet."""

    def pattern(self, tfl: Dialect, x: Wildcard) -> Pattern:
        """A reshape of a function of a reshape."""
        function = tfl.any_of(*FUNCTIONS)(_reshape(tfl, x, "inner"), attributes=ANY, name="function")
        return _reshape(tfl, function)

    def check(self, match: Match) -> str | None:
        """Nothing is scaled otherwise."""
        inner, function = match.inner.output.type.quantization, match.function.output.type.quantization
        if match.x.type.quantization != inner or function != match.root.output.type.quantization:
            return "one of them rescales"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The outer reshape of the function of what the inner one read."""
        function = match.function
        type = function.output.type.with_shape(match.x.shape)
        made = edit.node(function.op, [match.x], like=function, types=[type], name=function.name)
        inputs = [made.output, *match.root_others]
        return edit.node(match.root.op, inputs, like=match.root, types=[match.root.output.type]).output


class ReshapeOfReduction(Rule):
    """A reduction that drops dimensions, which a reshape puts back, keeps them; and the reverse."""

    def pattern(self, tfl: Dialect, x: Wildcard, axes: Wildcard) -> Pattern:
        """A reshape of a reduction along constant axes."""
        return _reshape(tfl, tfl.any_of(*REDUCTIONS)(x, known(axes), attributes=ANY, name="reduction"))

    def grow(self, match: Match) -> Match | str | None:
        """The reshape makes the shape that the reduction would give with the dimensions, or without them."""
        dims = match.x.shape.dims
        if dims is None:
            return None
        reduced = {int(axis) % max(len(dims), 1) for axis in match.array("axes").reshape(-1)}
        keeps = bool(match.reduction.attrs.get("keep_dims"))
        if keeps:
            wanted: list[Dim] = [dim for place, dim in enumerate(dims) if place not in reduced]
        else:
            wanted = [1 if place in reduced else dim for place, dim in enumerate(dims)]
        if not same_elements_same_shape(Shape(wanted), match.root.output.shape):
            return None
        if match.root.output.type.quantization is not None:
            return "it is quantized, and kernels that keep dimensions round otherwise than those that do not"
        return _rescales(match.reduction.output, match) or match

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The reduction the other way."""
        node = match.reduction
        attrs = {"keep_dims": not node.attrs.get("keep_dims")}
        return edit.node(node.op, node.inputs, attrs, like=node, types=[match.root.output.type]).output


class ReshapeBeforeFullyConnected(Rule):
    """A fully connected layer takes rows from wherever they are: no need to make a matrix of them first."""

    keeps_interior: ClassVar[bool] = True

    def pattern(self, tfl: Dialect, x: Wildcard) -> Pattern:
        """A layer that reads a reshape."""
        return tfl.FULLY_CONNECTED(_reshape(tfl, x, "inner"), rest("others"), attributes=ANY)

    def grow(self, match: Match) -> Match | str | None:
        """The reshape gives a matrix of rows, and so does the layer."""
        weights, dims = match.others[0], match.inner.output.shape.dims
        if match.root.attrs.get("keep_num_dims") or weights is None or weights.shape.rank != 2:
            return None
        if dims is None or len(dims) != 2 or dims[1] is None or dims[1] != weights.shape[1] or not match.x.shape.rank:
            return None
        if match.x.type.quantization != match.inner.output.type.quantization:
            return f"it is scaled otherwise than '{match.x.name}'"
        return match

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The layer of what the reshape read."""
        node = match.root
        return edit.node(node.op, [match.x, *match.others], like=node, types=[node.output.type]).output


class ReshapeOfFullyConnected(Rule):
    """A fully connected layer whose rows are put back in place keeps the leading dimensions itself."""

    def pattern(self, tfl: Dialect, x: Wildcard) -> Pattern:
        """A reshape of a layer."""
        return _reshape(tfl, tfl.FULLY_CONNECTED(x, rest("others"), attributes=ANY, name="layer"))

    def grow(self, match: Match) -> Match | str | None:
        """The result has the leading dimensions of what the layer reads."""
        weights, dims = match.others[0], match.x.shape.dims
        if match.layer.attrs.get("keep_num_dims") or weights is None or weights.shape.static is None or not dims:
            return None
        if len(weights.shape.static) != 2 or dims[-1] != weights.shape[1]:
            return None
        if not same_elements_same_shape(Shape([*dims[:-1], weights.shape[0]]), match.root.output.shape):
            return None
        return _rescales(match.layer.output, match) or match

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The layer, which keeps the dimensions."""
        node = match.layer
        types = [match.root.output.type]
        return edit.node(node.op, node.inputs, {"keep_num_dims": True}, like=node, types=types).output


class ReshapeToBroadcast(Rule):
    """Leading dimensions of one need not be written before an operand that is broadcast."""

    def pattern(self, tfl: Dialect) -> Pattern:
        """An operator that broadcasts."""
        return tfl.any_of(*BROADCASTS)(rest("operands"), attributes=ANY)

    def grow(self, match: Match) -> Match | str | None:
        """An operand that a reshape gives leading ones, and another one with as many dimensions."""
        left, right = match.operands
        for place, value, other in ((0, left, right), (1, right, left)):
            node = value.node
            if node.op_type not in RESHAPES or value.is_input:
                continue
            before, dims = node.input(0).shape.dims, value.shape.dims
            if before is None or dims is None or other.shape.rank != len(dims) or len(before) >= len(dims):
                continue
            if not same_elements_same_shape(Shape([*(1,) * (len(dims) - len(before)), *before]), value.shape):
                continue
            if node.input(0).type.quantization == value.type.quantization:
                return match.grown((), place=place, source=node.input(0))
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The operator with what the reshape reads."""
        node, inputs = match.root, list(match.operands)
        inputs[match.place] = match.source
        return edit.node(node.op, inputs, like=node, types=[node.output.type]).output


@dataclass(frozen=True)
class MergeReshapes(RewritePass):
    """Merge operators that only change the shape, drop those that do not even do that, and leave the rest to others.

    *Given*

        %m = tfl.MEAN(%x, %axes) {keep_dims = false}
        %r = tfl.RESHAPE(%m, %wide)
        %s = tfl.RESHAPE(%r, %flat)
        %y = tfl.FULLY_CONNECTED(%s, %weights, %bias)

    *Result*

        %m = tfl.MEAN(%x, %axes) {keep_dims = false}
        %y = tfl.FULLY_CONNECTED(%m, %weights, %bias)

    A reduction keeps the dimensions that a reshape puts back, and drops those that one takes away; a fully connected
    layer takes rows of any shape, and keeps the leading dimensions; a function of each element goes before reshapes;
    what is broadcast needs no leading ones.

    Refuses shapes that are not known to be the same, a reshape that rescales, and to keep or drop dimensions of a
    reduction that is quantized, which would be rounded otherwise.
    """

    rules: ClassVar[tuple[type[Rule], ...]] = (
        ReshapeOnce,
        ReshapeToItself,
        ReshapeBehindFunction,
        ReshapeOfReduction,
        ReshapeBeforeFullyConnected,
        ReshapeOfFullyConnected,
        ReshapeToBroadcast,
    )
