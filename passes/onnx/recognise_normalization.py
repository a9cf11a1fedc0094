"""recognise-normalization: layer norms and softmaxes that are written out become ONNX's operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, either, known
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule

BIGGEST_EPSILON = 0.1


def _axes(match: Match, name: str) -> list[int] | None:
    """Axes of a reduction, none of them negative; None where the rank is not known."""
    rank = match.x.shape.rank
    if rank is None:
        return None
    return sorted(int(axis) % rank for axis in match.array(name).reshape(-1))


class LayerNorm(Rule):
    """Numbers less their mean, over the root of their variance, scaled and shifted, are a layer norm."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, onnx: Dialect, x: Wildcard, epsilon: Wildcard, scale: Wildcard, offset: Wildcard) -> Pattern:
        """As Keras writes it, with the mean multiplied out, or as it is defined; scale and offset may be missing."""
        mean = onnx.ReduceMean(x, known(Wildcard("axes")), attributes=ANY, name="mean")
        less = onnx.Sub(x, mean)
        variance = onnx.ReduceMean(onnx.Mul(less, less), known(Wildcard("square_axes")), attributes=ANY, name="second")
        root = onnx.Sqrt(onnx.Add(variance, known(epsilon)))
        inverse = onnx.Reciprocal(root)
        scaled = onnx.Mul(inverse, known(scale))
        minus = onnx.Neg(mean)

        def outer(factor: Any) -> tuple[Pattern, ...]:
            shift = onnx.Mul(minus, factor)
            moved = onnx.Add(shift, known(offset))
            opposite = onnx.Sub(known(offset), onnx.Mul(mean, factor))
            product = onnx.Mul(x, factor)
            return onnx.Add(product, moved), onnx.Add(product, opposite), onnx.Add(product, shift)

        plain = either(onnx.Mul(less, inverse), onnx.Div(less, root))
        grown = either(onnx.Mul(plain, known(scale)), onnx.Mul(less, scaled))
        return either(*outer(scaled), *outer(inverse), onnx.Add(grown, known(offset)), *grown.alternatives)

    def check(self, match: Match) -> str | None:
        """The last axes, kept; scale and offset of their shape."""
        axes, squares, rank = _axes(match, "axes"), _axes(match, "square_axes"), match.x.shape.rank
        if axes is None or rank is None or axes != squares or axes != list(range(axes[0], rank)):
            return "it is not normalised over the last axes"
        if not all(node.attrs.get("keepdims", 1) for node in (match.mean, match.second)):
            return "its mean does not keep the axes"
        epsilon = match.array("epsilon")
        if epsilon.size != 1 or not 0 <= float(epsilon.reshape(())) <= BIGGEST_EPSILON:
            return "what is added to the variance is no small number"
        sizes = match.x.shape.dims[axes[0] :] if match.x.shape.dims else ()
        if not all(isinstance(size, int) for size in sizes):
            return "the sizes of the last axes are not known"
        if not match.root.output.dtype.is_float:
            return f"it computes with {match.root.output.dtype.name}"
        for name in ("scale", "offset"):
            if name in match and not _fits(match.array(name).shape, sizes):
                return f"its {name} of shape {list(match.array(name).shape)} is not of the last axes"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One operator."""
        axis = (_axes(match, "axes") or [-1])[0]
        sizes: list[Any] = list(match.x.shape.dims[axis:]) if match.x.shape.dims else []
        dtype = match.root.output.dtype.numpy
        held = [
            _vector(match, name, sizes, start, dtype) for name, start in (("scale", 1), ("offset", 0)) if
            name in match or name == "scale"
        ]  # fmt: skip
        names = [name for name in ("scale", "offset") if name in match or name == "scale"]
        inputs = [edit.hold(array, name=f"{match.root.name}/{name}") for name, array in zip(names, held, strict=True)]
        attrs = {"axis": axis, "epsilon": float(match.array("epsilon").reshape(()))}
        kind = match.root.output.type
        return edit.node("onnx.LayerNormalization", (match.x, *inputs), attrs, types=(kind,)).output


def _fits(shape: tuple[int, ...], sizes: Any) -> bool:
    """The shape is that of the last axes, or one, with ones before it."""
    count = len(sizes)
    padded = (1,) * (count - len(shape)) + tuple(shape)
    before, last = padded[: len(padded) - count], padded[len(padded) - count :]
    return all(size == 1 for size in before) and all(a in (1, b) for a, b in zip(last, sizes, strict=True))


def _vector(match: Match, name: str, sizes: list[Any], start: int, dtype: Any) -> np.ndarray[Any, Any]:
    if name not in match:
        return np.full(sizes, start, dtype)
    array = match.array(name)
    last = array.shape[max(len(array.shape) - len(sizes), 0) :]
    return np.ascontiguousarray(np.broadcast_to(array.reshape(last), sizes))


class OffsetIntoLayerNorm(Rule):
    """A constant of the last axes that is added to a layer norm without an offset is its offset."""

    def pattern(self, onnx: Dialect, x: Wildcard, scale: Wildcard, offset: Wildcard) -> Pattern:
        """A sum of a layer norm and a constant."""
        return onnx.Add(onnx.LayerNormalization(x, known(scale), attributes=ANY, name="norm"), known(offset))

    def check(self, match: Match) -> str | None:
        """The constant has the shape of the scale."""
        if not _fits(match.array("offset").shape, match.array("scale").shape):
            return f"the constant of shape {list(match.array('offset').shape)} is not of the last axes"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The layer norm with its offset."""
        sizes = list(match.array("scale").shape)
        offset = edit.hold(_vector(match, "offset", sizes, 0, None), name=f"{match.root.name}/offset")
        inputs, kind = (match.x, match.scale, offset), match.root.output.type
        return edit.node("onnx.LayerNormalization", inputs, like=match.norm, types=(kind,)).output


class Softmax(Rule):
    """Exponentials divided by their sum are a softmax."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, onnx: Dialect, x: Wildcard) -> Pattern:
        """With or without the largest number taken away first."""
        largest = onnx.ReduceMax(x, known(Wildcard("largest_axes")), attributes=ANY, name="largest")

        def divided(exponentials: Any) -> Pattern:
            total = onnx.ReduceSum(exponentials, known(Wildcard("axes")), attributes=ANY, name="total")
            return onnx.Div(exponentials, total)

        return either(divided(onnx.Exp(onnx.Sub(x, largest))), divided(onnx.Exp(x)))

    def check(self, match: Match) -> str | None:
        """One axis, kept."""
        axes = _axes(match, "axes")
        if axes is None or len(axes) != 1:
            return "it is not normalised along one axis"
        if "largest_axes" in match and _axes(match, "largest_axes") != axes:
            return "the largest number is one along another axis"
        nodes = [match.total, *([match.largest] if "largest" in match else [])]
        if not all(node.attrs.get("keepdims", 1) for node in nodes):
            return "its sum does not keep the axis"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One operator."""
        attrs = {"axis": (_axes(match, "axes") or [-1])[0]}
        return edit.node("onnx.Softmax", (match.x,), attrs, types=(match.root.output.type,)).output


@dataclass(frozen=True)
class RecogniseNormalization(RewritePass):
    """Give layer norms and softmaxes that are written out operators of their own.

    *Given*

        %m = onnx.ReduceMean(%x, %last)
        %d = onnx.Sub(%x, %m)
        %s = onnx.Mul(%d, %d)
        %v = onnx.ReduceMean(%s, %last)
        %e = onnx.Add(%v, %epsilon)
        %r = onnx.Sqrt(%e)
        %n = onnx.Div(%d, %r)
        %p = onnx.Mul(%n, %scale)
        %y = onnx.Add(%p, %offset)

    *Result*

        %y = onnx.LayerNormalization(%x, %scale, %offset) {axis = 1, epsilon = 0.001}

    Refuses other axes than the last ones, scales and offsets of another shape, and parts that something else reads.
    Where a softmax did not take the largest number away, exponentials that would have been infinite are no longer.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (LayerNorm, OffsetIntoLayerNorm, Softmax)
