"""Neutral elements, operations that undo or repeat themselves, and constants that meet in a chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from graphopt.ir.dimensions import Dim
from graphopt.ir.known import known_tensor
from graphopt.ir.ops import Trait, declared_with, find
from graphopt.ir.ops.derive import derived_names
from graphopt.ir.tensors import ArrayTensor, RepeatedTensor, Tensor
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


def elementwise(function: Callable[[Any], Any], held: Tensor | None) -> Tensor:
    """The tensor of `function` of each element; one value for all elements stays one value."""
    assert held is not None
    splat = held.splat()
    array = held.numpy() if splat is None else np.asarray(splat).reshape(1)
    result = np.asarray(function(array)).astype(array.dtype)
    return ArrayTensor(result, held.dtype) if splat is None else RepeatedTensor(result, held.dtype, held.shape)


class SubtractConstant(Rule):
    """`x - c` is `x + -c`, so that constants in a chain meet."""

    def pattern(self, tf: Dialect, x: Wildcard, constant: Wildcard) -> Pattern:
        """A known right operand with a sign."""
        return tf.Sub(x, known(constant, lambda held: held.dtype.is_float and held.nbytes <= CHAIN_BYTES))

    def check(self, match: Match) -> str | None:
        """Constants are folded elsewhere."""
        return "both operands are constant" if known_tensor(match.x) is not None else None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """An addition of the negated constant."""
        negated = elementwise(np.negative, match.tensor("constant"))
        return edit.value("tf.AddV2", match.x, edit.hold(negated, f"{match.root.name}/negated"))


class DivideByConstant(Rule):
    """`x / c` is `x * (1 / c)`."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tf: Dialect, x: Wildcard, constant: Wildcard) -> Pattern:
        """A known right operand, nowhere zero, whose inverse is a normal number."""
        return tf.RealDiv(x, known(constant, _is_invertible))

    def check(self, match: Match) -> str | None:
        """Constants are folded elsewhere."""
        return "both operands are constant" if known_tensor(match.x) is not None else None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A product with the inverse."""
        inverse = elementwise(lambda array: np.asarray(1, array.dtype) / array, match.tensor("constant"))
        return edit.value("tf.Mul", match.x, edit.hold(inverse, f"{match.root.name}/inverse"))


def _is_invertible(held: Tensor) -> bool:
    if not held.dtype.is_float or held.nbytes > CHAIN_BYTES or held.size == 0 or held.dtype.bits < 32:
        return False
    array = held.numpy()
    with np.errstate(all="ignore"):
        inverse = 1 / array
    smallest = np.finfo(array.dtype).tiny
    return bool(np.all(np.isfinite(inverse) & (np.abs(inverse) >= smallest) & np.isfinite(array)))


class _ConstantChain(Rule):
    """Two constants that follow one another in a chain become one."""

    combine: ClassVar[np.ufunc]
    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def check(self, match: Match) -> str | None:
        """The combined constant is no larger than the larger of both, and nothing is widened twice."""
        first, second = match.tensor("first"), match.tensor("second")
        assert first is not None
        assert second is not None
        if first.dtype is not match.x.dtype or second.dtype is not match.x.dtype:
            return f"the constants are {first.dtype.name} and {second.dtype.name}, the operand {match.x.dtype.name}"
        if first.nbytes > CHAIN_BYTES or second.nbytes > CHAIN_BYTES:
            return f"the constants take more than {CHAIN_BYTES} bytes"
        if known_tensor(match.x) is not None:
            return "all operands are constant"
        shape = np.broadcast_shapes(first.shape, second.shape) if _broadcastable(first, second) else None
        if shape is None or (np.prod(shape) > max(first.size, second.size)):
            return "combined, the constants would be larger than either"
        return None if self._stays_in_range(match) else "combined, the constants leave the range of their type"

    def _combined(self, match: Match) -> np.ndarray[Any, Any]:
        with np.errstate(all="ignore"):
            return np.asarray(self.combine(match.array("first"), match.array("second")))

    def _stays_in_range(self, match: Match) -> bool:
        """Neither overflows nor underflows where the two by themselves did not."""
        first, second, combined = match.array("first"), match.array("second"), self._combined(match)
        if not match.x.dtype.is_float:
            return True
        usable = np.isfinite(combined) & ((np.abs(combined) >= smallest_normal(combined.dtype)) | (combined == 0))
        vanished = (combined == 0) & (first != 0) & (second != 0) & (self.combine is np.multiply)
        return bool(np.all(usable & ~vanished))

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One operation with the combined constant."""
        first, second = match.tensor("first"), match.tensor("second")
        splat = first is not None and second is not None and first.splat() is not None and second.splat() is not None
        combined = self._combined(match)
        held = edit.hold(
            RepeatedTensor(combined.reshape(-1)[:1], match.x.dtype, combined.shape)
            if splat and combined.size > 1
            else ArrayTensor(combined, match.x.dtype),
            f"{match.root.name}/combined",
        )
        return edit.value(match.root.op, match.x, held)


def _broadcastable(left: Tensor, right: Tensor) -> bool:
    pairs = zip(reversed(left.shape), reversed(right.shape), strict=False)
    return all(a == b or a == 1 or b == 1 for a, b in pairs)


class MultiplyConstants(_ConstantChain):
    """`(x * c) * d` is `x * (c * d)`."""

    combine: ClassVar[np.ufunc] = np.multiply

    def pattern(self, tf: Dialect, x: Wildcard, first: Wildcard, second: Wildcard) -> Pattern:
        """Any operand order."""
        return tf.Mul(tf.Mul(x, known(first, _is_chained)), known(second, _is_chained))


class AddConstants(_ConstantChain):
    """`(x + c) + d` is `x + (c + d)`."""

    combine: ClassVar[np.ufunc] = np.add

    def pattern(self, tf: Dialect, x: Wildcard, first: Wildcard, second: Wildcard) -> Pattern:
        """Any operand order."""
        add = tf.any_of("Add", "AddV2")
        return add(add(x, known(first, _is_chained)), known(second, _is_chained))


def smallest_normal(dtype: np.dtype[Any]) -> float:
    """The smallest positive number that a float type holds with all its digits."""
    limits: Any = ml_dtypes.finfo
    return float(limits(dtype).tiny)


def _is_chained(held: Tensor) -> bool:
    return held.dtype.is_numeric and held.dtype.bits >= 8 and held.dtype.kind != "complex"


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
    UndoTwice,
    RepeatOnce,
    ClampOnce,
    AddNegated,
    SubtractNegated,
    SubtractConstant,
    DivideByConstant,
    MultiplyConstants,
    AddConstants,
    MultiplyByZero,
    SubtractItself,
)
