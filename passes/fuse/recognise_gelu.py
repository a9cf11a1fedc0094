"""recognise-gelu: Gaussian error linear units that are written out get the target's operator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import FLOAT32
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import Dialect, Pattern, Wildcard, either, known
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule

TARGETS = ("tflite", "onnx")
TOLERANCE = 1e-4  # of the constants, relative: some models write fewer digits
ROOT = math.sqrt(2.0)
SLOPE = math.sqrt(2.0 / math.pi)
CUBE = 0.044715


def number(value: float) -> Wildcard:
    """A constant of one float32 element that is `value`, give or take the last digits."""

    def accepts(tensor: Tensor) -> bool:
        if tensor.size != 1 or tensor.dtype is not FLOAT32:
            return False
        return abs(float(tensor.numpy().reshape(-1)[0]) - value) <= TOLERANCE * abs(value)

    return known(Wildcard(), accepts)


def product(tf: Dialect, first: Any, second: Any, third: Any) -> tuple[Pattern, ...]:
    """The product of three factors, grouped in any way."""
    return (
        tf.Mul(tf.Mul(first, second), third),
        tf.Mul(tf.Mul(first, third), second),
        tf.Mul(tf.Mul(second, third), first),
    )


def _sum(tf: Dialect, left: Any, right: Any) -> Pattern:
    return tf.any_of("Add", "AddV2")(left, right)


class _Gelu(Rule):
    """`x` times the share of a normal distribution below it."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    approximate: ClassVar[bool] = False

    def __init__(self, target: str = TARGETS[0]):
        self.target = target

    def check(self, match: Match) -> str | None:
        """Float32, and no constant widens the shape."""
        made = match.root.output
        if made.dtype is not FLOAT32 or match.x.dtype is not FLOAT32:
            return f"it computes with {made.dtype.name}"
        if match.x.shape.rank is None or match.x.shape.rank != made.shape.rank:
            return f"the shapes {match.x.shape} and {made.shape} are not known to be the same"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One operator."""
        kinds = [match.root.output.type]
        if self.target == "onnx":
            return edit.node(
                "onnx.Gelu", [match.x], {"approximate": b"tanh" if self.approximate else b"none"}, types=kinds
            ).output
        return edit.node("tfl.GELU", [match.x], {"approximate": self.approximate}, types=kinds).output


class ErrorFunctionGelu(_Gelu):
    """`0.5 * x * (1 + erf(x / sqrt(2)))` is a Gaussian error linear unit."""

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """Products in any order."""
        scaled = either(tf.Mul(x, number(1 / ROOT)), tf.RealDiv(x, number(ROOT)))
        below = _sum(tf, tf.Erf(scaled), number(1.0))
        share = _sum(tf, tf.Mul(tf.Erf(scaled), number(0.5)), number(0.5))
        return either(*product(tf, x, number(0.5), below), tf.Mul(x, share))


class ComplementGelu(_Gelu):
    """`0.5 * x * erfc(-x / sqrt(2))` is a Gaussian error linear unit."""

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """Products in any order, the sign wherever it is."""
        minus = tf.Neg(x)
        scaled = either(
            tf.Mul(minus, number(1 / ROOT)),
            tf.Mul(x, number(-1 / ROOT)),
            tf.RealDiv(minus, number(ROOT)),
            tf.RealDiv(x, number(-ROOT)),
            tf.Neg(either(tf.Mul(x, number(1 / ROOT)), tf.RealDiv(x, number(ROOT)))),
        )
        return either(*product(tf, x, number(0.5), tf.Erfc(scaled)))


class TanhGelu(_Gelu):
    """`0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))` is its approximation."""

    approximate: ClassVar[bool] = True

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """Products in any order; the cube as a power or as products."""
        square = either(tf.Square(x), tf.Mul(x, x), tf.Pow(x, number(2.0)))
        cube = either(tf.Pow(x, number(3.0)), tf.Mul(x, square))
        bent = _sum(tf, x, either(tf.Mul(cube, number(CUBE)), *product(tf, x, number(CUBE), square)))
        grown = _sum(tf, tf.Mul(square, number(CUBE)), number(1.0))
        spread = _sum(tf, tf.Mul(square, number(CUBE * SLOPE)), number(SLOPE))
        inner = either(tf.Mul(bent, number(SLOPE)), *product(tf, x, number(SLOPE), grown), tf.Mul(x, spread))
        return either(*product(tf, x, number(0.5), _sum(tf, tf.Tanh(inner), number(1.0))))


GELUS: tuple[type[_Gelu], ...] = (ErrorFunctionGelu, ComplementGelu, TanhGelu)


@dataclass(frozen=True)
class RecogniseGelu(RewritePass):
    """Give Gaussian error linear units that are written out one operator, before their parts are lowered.

    *Given*

        %h = tf.Mul(%x, %half)
        %n = tf.Neg(%x)
        %s = tf.Mul(%n, %inverse_root_of_two)
        %c = tf.Erfc(%s)
        %y = tf.Mul(%h, %c)

    *Result*

        %y = tfl.GELU(%x) {approximate = false}

    `target` says whose operator it becomes: TFLite's, or ONNX's (`onnx`).

    By the error function, its complement, or the approximation by a hyperbolic tangent; products in any order.

    Refuses types other than float32, constants that widen the shape, and parts that something else reads.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = GELUS
    target: str = TARGETS[0]

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise UsageError(f"there is no target '{printable(self.target)}'; there are {', '.join(TARGETS)}")

    def make_rules(self) -> Sequence[Rule]:
        """The three ways to write it."""
        return [rule(self.target) for rule in GELUS]
