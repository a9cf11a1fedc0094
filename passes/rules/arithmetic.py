"""Neutral elements, and operations that undo or repeat themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from graphopt.ir.dimensions import Dim
from graphopt.ir.ops import Trait, declared_with, find
from graphopt.ir.ops.derive import derived_names
from graphopt.ir.tensors import RepeatedTensor, Tensor
from graphopt.ir.types import Shape
from graphopt.ir.value import Value
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Either, Operation, Pattern, Wildcard, known
from graphopt.passes.rule import Editor, Replacement, Rule

CHAIN_BYTES = 1 << 20  # bytes of constants beyond which a chain is left: the product would be no smaller


def is_every(number: float, *, signed: bool = False) -> Callable[[Tensor], bool]:
    """A predicate: every element is `number`; `signed` tells 0.0 and -0.0 apart."""

    def holds(held: Tensor) -> bool:
        if not held.dtype.is_numeric or held.stored_bytes > CHAIN_BYTES or held.size == 0:
            return False
        splat = held.splat()
        if splat is None and held.nbytes > CHAIN_BYTES:
            return False
        array = np.asarray(splat) if splat is not None else held.numpy()
        with np.errstate(invalid="ignore"):
            if not bool(np.all(array == np.asarray(number).astype(array.dtype))):
                return False
        return not signed or bool(np.all(np.signbit(array.real) == np.signbit(number)))

    return holds


def broadcasts_into(operand: Value, x: Value) -> bool:
    """`operand`, broadcast against `x`, leaves the shape of `x` as it is."""
    small, large = operand.shape.dims, x.shape.dims
    if small is None:
        return False
    if large is None:
        return len(small) == 0
    if len(small) > len(large):
        return False
    pairs = zip(reversed(small), reversed(large), strict=False)
    return all(left == 1 or (left is not None and left == right) for left, right in pairs)


class _Neutral(Rule):
    """A neutral operand is dropped."""

    def check(self, match: Match) -> str | None:
        """The operand must not change the shape."""
        if not broadcasts_into(match.neutral, match.x):
            return f"'{match.neutral.name}' may widen the shape {match.x.shape}"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The other operand."""
        value: Value = match.x
        return value


class MultiplyByOne(_Neutral):
    """`x * 1` is `x`."""

    def pattern(self, tf: Dialect, x: Wildcard, neutral: Wildcard) -> Pattern:
        """Either operand order."""
        return tf.Mul(x, known(neutral, is_every(1)))


class DivideByOne(_Neutral):
    """`x / 1` and `x ** 1` are `x`."""

    def pattern(self, tf: Dialect, x: Wildcard, neutral: Wildcard) -> Pattern:
        """The right operand."""
        return tf.any_of("RealDiv", "Div", "DivNoNan", "Pow")(x, known(neutral, is_every(1)))


class SubtractZero(_Neutral):
    """`x - 0` is `x`, the sign of zero included."""

    def pattern(self, tf: Dialect, x: Wildcard, neutral: Wildcard) -> Pattern:
        """The right operand, positive zero."""
        return tf.Sub(x, known(neutral, is_every(0.0, signed=True)))


class AddNegativeZero(_Neutral):
    """`x + -0.0` is `x`, the sign of zero included; integers have one zero."""

    def pattern(self, tf: Dialect, x: Wildcard, neutral: Wildcard) -> Pattern:
        """Either operand order."""
        zero = known(
            neutral, lambda held: is_every(-0.0, signed=True)(held) if held.dtype.is_float else is_every(0)(held)
        )
        return tf.any_of("Add", "AddV2")(x, zero)


class AddZero(_Neutral):
    """`x + 0` is `x`; where `x` is -0.0 the result was 0.0."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tf: Dialect, x: Wildcard, neutral: Wildcard) -> Pattern:
        """Either operand order."""
        return Either(
            (
                tf.any_of("Add", "AddV2")(x, known(neutral, is_every(0))),
                tf.BiasAdd(x, known(neutral, is_every(0)), attributes=ANY),
            )
        )

    def check(self, match: Match) -> str | None:
        """A bias never widens."""
        return None if match.root.op == "tf.BiasAdd" else super().check(match)


class LogicalNeutral(_Neutral):
    """`x and true`, `x or false` are `x`."""

    def pattern(self, tf: Dialect, x: Wildcard, neutral: Wildcard) -> Pattern:
        """Either operand order."""
        true = known(neutral, lambda held: held.size > 0 and held.nbytes <= CHAIN_BYTES and bool(held.numpy().all()))
        false = known(
            neutral, lambda held: held.size > 0 and held.nbytes <= CHAIN_BYTES and not bool(held.numpy().any())
        )
        return Either((tf.LogicalAnd(x, true), tf.LogicalOr(x, false)))


class LogicalWithItself(Rule):
    """`x and x`, `x or x` are `x`."""

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """The same value twice."""
        return tf.any_of("LogicalAnd", "LogicalOr")(x, x)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The operand."""
        value: Value = match.x
        return value


class MultiplyByZero(Rule):
    """`x * 0` is 0 with fast math; NaN and Inf are lost."""

    fast_math: ClassVar[bool] = True

    def pattern(self, tf: Dialect, x: Wildcard, zero: Wildcard) -> Pattern:
        """Either operand order."""
        return tf.Mul(x, known(zero, is_every(0)))

    def check(self, match: Match) -> str | None:
        """The result must have a shape to write down."""
        if match.root.output.shape.static is None:
            return f"its shape {match.root.output.shape} is not static"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A constant of zeros."""
        return _zeros(match, edit)


class SubtractItself(Rule):
    """`x - x` is 0 with fast math; NaN and Inf are lost."""

    fast_math: ClassVar[bool] = True

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """The same value twice."""
        return tf.Sub(x, x)

    def check(self, match: Match) -> str | None:
        """The result must have a shape to write down."""
        if match.root.output.shape.static is None:
            return f"its shape {match.root.output.shape} is not static"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A constant of zeros."""
        return _zeros(match, edit)


def _zeros(match: Match, edit: Editor) -> Value:
    output = match.root.output
    shape = output.shape.static
    assert shape is not None
    return edit.hold(RepeatedTensor(np.zeros(1, output.dtype.numpy), output.dtype, shape))


def _operators_with(trait: Trait) -> tuple[str, ...]:
    """TensorFlow's operators of one operand that have `trait` and no attributes but the element type."""
    return tuple(name.partition(".")[2] for name in declared_with(trait) if _has_one_operand(name))


def _has_one_operand(name: str) -> bool:
    operator = find(name)
    if operator is None or operator.interface is None or operator.has(Trait.PASS_THROUGH):
        return False
    if len(operator.interface.inputs) != 1:
        return False
    return derived_names(operator.interface).issuperset(operator.interface.attr_kinds)


class UndoTwice(Rule):
    """`-(-x)`, `not not x` and the like are `x`."""

    keeps_interior: ClassVar[bool] = True

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """Any operator that is its own inverse."""
        return Either(tuple(_twice(tf, op, x) for op in _operators_with(Trait.INVOLUTION)))

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The value before both."""
        value: Value = match.x
        return value


class RepeatOnce(Rule):
    """`relu(relu(x))`, `abs(abs(x))` and the like are computed once."""

    keeps_interior: ClassVar[bool] = True

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """Any operator that changes nothing when applied again."""
        return Either(tuple(_twice(tf, op, x) for op in _operators_with(Trait.IDEMPOTENT)))

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The value after the first."""
        value: Value = match.root.input(0)
        return value


def _twice(tf: Dialect, op: str, x: Wildcard) -> Operation:
    return tf.any_of(op)(tf.any_of(op)(x))


class ClampOnce(Rule):
    """`relu6(relu(x))` is `relu6(x)` and `relu(relu6(x))` too."""

    keeps_interior: ClassVar[bool] = True

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """Either order."""
        return Either((tf.Relu6(tf.Relu(x)), tf.Relu(tf.Relu6(x))))

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One clamp on both sides."""
        return edit.value("tf.Relu6", match.x)


class AddNegated(Rule):
    """`x + -y` is `x - y`."""

    def pattern(self, tf: Dialect, x: Wildcard, y: Wildcard) -> Pattern:
        """Either operand order."""
        return tf.any_of("Add", "AddV2")(x, tf.Neg(y))

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A subtraction."""
        return edit.value("tf.Sub", match.x, match.y)


class SubtractNegated(Rule):
    """`x - -y` is `x + y`."""

    def pattern(self, tf: Dialect, x: Wildcard, y: Wildcard) -> Pattern:
        """The right operand."""
        return tf.Sub(x, tf.Neg(y))

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """An addition."""
        return edit.value("tf.AddV2", match.x, match.y)


def same_shape(left: Shape, right: Shape) -> bool:
    """Both are known to be equal: numbers or symbols, none unknown."""
    dims: tuple[Dim, ...] | None = left.dims
    return dims is not None and None not in dims and left == right


ARITHMETIC_RULES: tuple[type[Rule], ...] = (
    MultiplyByOne,
    DivideByOne,
    SubtractZero,
    AddNegativeZero,
    AddZero,
    LogicalNeutral,
    LogicalWithItself,
    UndoTwice,
    RepeatOnce,
    ClampOnce,
    AddNegated,
    SubtractNegated,
    MultiplyByZero,
    SubtractItself,
)
