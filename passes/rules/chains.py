"""Constants that meet in a chain of sums or of products become one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from graphopt.ir.known import known_tensor
from graphopt.ir.tensors import ArrayTensor, RepeatedTensor, Tensor
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import Dialect, Pattern, Wildcard, known
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.rules.arithmetic import CHAIN_BYTES


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


class MultiplyNegated(Rule):
    """`-x * c` is `x * -c`."""

    keeps_interior: ClassVar[bool] = True

    def pattern(self, tf: Dialect, x: Wildcard, constant: Wildcard) -> Pattern:
        """A known operand with a sign."""
        return tf.Mul(tf.Neg(x), known(constant, lambda held: held.dtype.is_float and held.nbytes <= CHAIN_BYTES))

    def check(self, match: Match) -> str | None:
        """Constants are folded elsewhere."""
        return "both operands are constant" if known_tensor(match.x) is not None else None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A product with the negated constant."""
        negated = elementwise(np.negative, match.tensor("constant"))
        return edit.value("tf.Mul", match.x, edit.hold(negated, f"{match.root.name}/negated"))


CHAIN_RULES: tuple[type[Rule], ...] = (
    MultiplyNegated,
    SubtractConstant,
    DivideByConstant,
    MultiplyConstants,
    AddConstants,
)
