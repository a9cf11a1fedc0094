"""recognise-softmax: exponentials divided by their sum become TFLite's operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, either, known
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.tflite.layers import ACTIVATION, is_plain_float

MOST_AXES = 4


def _shifted(tfl: Dialect, x: Wildcard) -> Pattern:
    """Numbers less the largest of them."""
    largest = tfl.REDUCE_MAX(x, known(Wildcard("largest_axes")), keep_dims=True, name="largest")
    return tfl.SUB(x, largest, attributes=ANY, **{ACTIVATION: "NONE"})


class _LastAxis(Rule):
    """Rules about what is normalised along the last axis."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def check(self, match: Match) -> str | None:
        """Float32, one axis, the last."""
        if not is_plain_float(match.x) or not is_plain_float(match.root.output):
            return f"its type is {match.root.output.dtype.name}, or quantized"
        rank = match.x.shape.rank
        if rank is None or rank > MOST_AXES:
            return f"LiteRT takes {MOST_AXES} axes, not {rank}"
        for name in ("axes", "largest_axes"):
            if name in match and _axes(match, name, rank) != [rank - 1]:
                return "it is not normalised along the last axis"
        return None


def _axes(match: Match, name: str, rank: int) -> list[int]:
    return [int(axis) % max(rank, 1) for axis in match.array(name).reshape(-1)]


class Softmax(_LastAxis):
    """Exponentials divided by their sum are a softmax."""

    def pattern(self, tfl: Dialect, x: Wildcard, axes: Wildcard) -> Pattern:
        """With or without the largest number taken away first."""

        def divided(exponentials: Any) -> Pattern:
            total = tfl.SUM(exponentials, known(axes), keep_dims=True)
            return tfl.DIV(exponentials, total, attributes=ANY, **{ACTIVATION: "NONE"})

        return either(divided(tfl.EXP(_shifted(tfl, x))), divided(tfl.EXP(x)))

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One operator."""
        return edit.node("tfl.SOFTMAX", [match.x], {"beta": 1.0}, types=[match.root.output.type]).output


class LogSoftmax(_LastAxis):
    """Numbers less the logarithm of the sum of their exponentials are the logarithm of a softmax."""

    def pattern(self, tfl: Dialect, x: Wildcard, axes: Wildcard) -> Pattern:
        """With the largest number taken away first, or the logarithm of a softmax itself."""
        shifted = _shifted(tfl, x)
        total = tfl.LOG(tfl.SUM(tfl.EXP(shifted), known(axes), keep_dims=True))
        return either(
            tfl.SUB(shifted, total, attributes=ANY, **{ACTIVATION: "NONE"}),
            tfl.LOG(tfl.SOFTMAX(x, attributes=ANY, beta=1.0)),
        )

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One operator."""
        return edit.node("tfl.LOG_SOFTMAX", [match.x], types=[match.root.output.type]).output


@dataclass(frozen=True)
class RecogniseSoftmax(RewritePass):
    """Give a softmax that is written out, or its logarithm, an operator of its own.

    *Given*

        %m = tfl.REDUCE_MAX(%x, %last) {keep_dims = true}
        %d = tfl.SUB(%x, %m)
        %e = tfl.EXP(%d)
        %s = tfl.SUM(%e, %last) {keep_dims = true}
        %y = tfl.DIV(%e, %s)

    *Result*

        %y = tfl.SOFTMAX(%x) {beta = 1.0}

    Refuses other axes than the last, quantized tensors, and parts that something else reads. Where the largest number
    was not taken away, exponentials that would have been infinite are no longer.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (Softmax, LogSoftmax)
