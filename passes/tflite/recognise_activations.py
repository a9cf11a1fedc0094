"""recognise-activations: activations that are written out get operators of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphopt.ir.known import known_tensor
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Value
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, either, known
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.tflite.layers import ACTIVATION, is_plain_float


def _number(value: float, tolerance: float = 0.0) -> Any:
    """A predicate: a float32 constant of one element, within `tolerance` of `value`."""

    def accepts(tensor: Tensor) -> bool:
        if tensor.size != 1 or tensor.dtype is not FLOAT32:
            return False
        return abs(float(tensor.numpy().reshape(-1)[0]) - value) <= tolerance

    return accepts


def _constant(value: float, tolerance: float = 0.0) -> Wildcard:
    return known(Wildcard(), _number(value, tolerance))


def _plain(tfl: Dialect, op: str, *operands: Any) -> Pattern:
    """A sum, difference, product or quotient without an activation."""
    return tfl.any_of(op)(*operands, attributes=ANY, **{ACTIVATION: "NONE"})


class _Activation(Rule):
    """An operator in place of what is written out for `match.x`, which has the shape of the result."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def check(self, match: Match) -> str | None:
        """Only numbers that are not quantized; nothing widens the shape."""
        if not is_plain_float(match.x) or not is_plain_float(match.root.output):
            return f"its type is {match.root.output.dtype.name}, or quantized"
        rank, made = match.x.shape.rank, match.root.output.shape.rank
        if rank is None or rank != made:
            return f"the shapes {match.x.shape} and {match.root.output.shape} are not known to be the same"
        return None


def _emitted(match: Match, edit: Editor, op: str, *others: Value, **attrs: Any) -> Value:
    return edit.node(op, [match.x, *others], attrs, types=[match.root.output.type]).output


class HardSwish(_Activation):
    """`x * relu6(x + 3) / 6`, in whatever order, is a hard swish."""

    def pattern(self, tfl: Dialect, x: Wildcard) -> Pattern:
        """The ways of writing it."""
        three, six, sixth = _constant(3.0), _constant(6.0), _constant(1.0 / 6.0, 1e-6)
        gate = either(
            tfl.RELU6(_plain(tfl, "ADD", x, three)),
            tfl.ADD(x, three, attributes=ANY, **{ACTIVATION: "RELU6"}),
        )

        def divided(value: Any) -> Pattern:
            return either(_plain(tfl, "MUL", value, sixth), _plain(tfl, "DIV", value, six))

        return either(
            _plain(tfl, "MUL", x, divided(gate)),
            _plain(tfl, "MUL", divided(x), gate),
            *divided(_plain(tfl, "MUL", x, gate)).alternatives,  # type: ignore[union-attr]
        )

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A hard swish."""
        return _emitted(match, edit, "tfl.HARD_SWISH")


class ParametricRectifier(_Activation):
    """`relu(x) - alpha * relu(-x)` is a rectifier with a slope."""

    def pattern(self, tfl: Dialect, x: Wildcard, alpha: Wildcard) -> Pattern:
        """With the slope negated, or subtracted, or as `relu(x) + alpha * (x - abs(x)) / 2`."""
        below = tfl.RELU(tfl.NEG(x))
        half = _plain(tfl, "MUL", known(alpha), _plain(tfl, "SUB", x, tfl.ABS(x)))
        return either(
            _plain(tfl, "ADD", tfl.RELU(x), _plain(tfl, "MUL", known(Wildcard("negated")), below)),
            _plain(tfl, "SUB", tfl.RELU(x), _plain(tfl, "MUL", known(alpha), below)),
            _plain(tfl, "ADD", tfl.RELU(x), _plain(tfl, "MUL", half, _constant(0.5))),
        )

    def check(self, match: Match) -> str | None:
        """The slope is float32, and widens nothing."""
        reason = super().check(match)
        held = known_tensor(_slope(match))
        if reason is None and (held is None or held.dtype is not FLOAT32 or not _fits(held, match.x)):
            return f"a slope of shape {list(held.shape) if held is not None else None} widens {match.x.shape}"
        return reason

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A leaky rectifier for one slope, a parametric one for several."""
        held = known_tensor(_slope(match))
        slope = np.zeros((), np.float32) if held is None else held.numpy()
        slope = -slope if "negated" in match else slope
        if slope.size == 1:
            return _emitted(match, edit, "tfl.LEAKY_RELU", alpha=float(slope.reshape(-1)[0]))
        rank = match.x.shape.rank or 1
        shape = (1,) * (rank - 1 - slope.ndim) + slope.shape
        alpha = edit.hold(slope.reshape(shape), name=f"{match.root.name}/alpha")
        return _emitted(match, edit, "tfl.PRELU", alpha)


def _slope(match: Match) -> Value:
    found: Value = match.negated if "negated" in match else match.alpha
    return found


def _fits(held: Tensor, x: Value) -> bool:
    """The constant has one rank less than `x`, leading ones aside, and broadcasts to its shape."""
    dims = x.shape.dims
    shape = held.shape
    while shape and shape[0] == 1:
        shape = shape[1:]
    if dims is None or len(shape) >= max(len(dims), 1):
        return held.size == 1
    return all(size in (1, dim) for size, dim in zip(reversed(shape), reversed(dims), strict=False))


class LeakyRectifier(_Activation):
    """`max(x, alpha * x)` is a leaky rectifier for a slope from 0 to 1."""

    def pattern(self, tfl: Dialect, x: Wildcard, alpha: Wildcard) -> Pattern:
        """The larger of both."""
        return tfl.MAXIMUM(x, _plain(tfl, "MUL", x, known(alpha, _is_share)), attributes=ANY)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A leaky rectifier."""
        return _emitted(match, edit, "tfl.LEAKY_RELU", alpha=float(match.scalar("alpha")))


def _is_share(tensor: Tensor) -> bool:
    return tensor.size == 1 and tensor.dtype is FLOAT32 and 0.0 <= float(tensor.numpy().reshape(-1)[0]) <= 1.0


# The lower and the upper limit -> the operator that keeps numbers between them.
CLIPS = ((0.0, 6.0, "RELU6"), (-1.0, 1.0, "RELU_N1_TO_1"), (0.0, 1.0, "RELU_0_TO_1"))


class Clip(_Activation):
    """Numbers kept between limits are rectified."""

    def pattern(self, tfl: Dialect, x: Wildcard) -> Pattern:
        """Limits from below and above, in both orders, or a rectifier and a limit from above."""
        ways: list[Pattern] = []
        for low, high, _ in CLIPS:
            bottom, top = (known(Wildcard("low"), _number(low)), known(Wildcard("high"), _number(high)))
            ways.append(tfl.MINIMUM(tfl.MAXIMUM(x, bottom), top))
            ways.append(tfl.MAXIMUM(tfl.MINIMUM(x, top), bottom))
            if low == 0.0:
                ways.append(tfl.MINIMUM(tfl.RELU(x), top))
        return either(*ways)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The rectifier with these limits."""
        low = match.scalar("low") if "low" in match else 0.0
        name = next(op for bottom, top, op in CLIPS if (bottom, top) == (low, match.scalar("high")))
        return _emitted(match, edit, f"tfl.{name}")


class Rectifier(_Activation):
    """What is above zero, or zero, is rectified."""

    def pattern(self, tfl: Dialect, x: Wildcard) -> Pattern:
        """The larger of a value and zero."""
        return tfl.MAXIMUM(x, _constant(0.0))

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A rectifier."""
        return _emitted(match, edit, "tfl.RELU")


@dataclass(frozen=True)
class RecogniseActivations(RewritePass):
    """Give activations that are written out operators of their own.

    *Given*

        %a = tfl.ADD(%x, %three)
        %r = tfl.RELU6(%a)
        %m = tfl.MUL(%x, %r)
        %y = tfl.MUL(%m, %sixth)

    *Result*

        %y = tfl.HARD_SWISH(%x)

    Hard swish in every order of its products and quotients; rectifiers with one slope or several (`relu(x) - alpha *
    relu(-x)`, `max(x, alpha * x)`); limits that a rectifier has.

    Refuses quantized tensors, types other than float32, and constants that widen the shape.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (HardSwish, ParametricRectifier, LeakyRectifier, Clip, Rectifier)
