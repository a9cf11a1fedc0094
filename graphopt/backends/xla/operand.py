"""What rules compute with: a value of MLIR, its element type, and its dimensions, some of which may be symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphopt.backends.legalization import CannotLowerError
from graphopt.ir.dimensions import Dim, KnownDim, SymbolicDim
from graphopt.ir.types import DType

SPECIALISE = "give the inputs numbers for it (--batch, --unknown, or set-shapes)"


class Operand:
    """A value, with the dimensions that MLIR cannot name."""

    __slots__ = ("dims", "dtype", "value")

    def __init__(self, value: Any, dtype: DType, dims: tuple[KnownDim, ...]):
        self.value, self.dtype, self.dims = value, dtype, dims

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.dims)

    @property
    def is_static(self) -> bool:
        """Every dimension is a number."""
        return all(isinstance(dim, int) for dim in self.dims)

    @property
    def static(self) -> tuple[int, ...]:
        """The dimensions, all of them numbers. Ends the rule where one is not."""
        return static_dims(self.dims)


class PendingList(Operand):
    """A list of which the number of elements is known and their shape not yet; `found` is what the first one had."""

    __slots__ = ("found",)

    def __init__(self, count: KnownDim, dtype: DType):
        super().__init__(None, dtype, (count,))
        self.found: tuple[KnownDim, ...] | None = None


def static_dims(dims: Sequence[Dim]) -> tuple[int, ...]:
    """`dims`, all of them numbers. Ends the rule where one is not."""
    numbers = tuple(dim for dim in dims if isinstance(dim, int))
    if len(numbers) != len(dims):
        shown = ", ".join("?" if dim is None else str(dim) for dim in dims)
        raise CannotLowerError(f"XLA needs numbers for the shape [{shown}]", SPECIALISE)
    return numbers


def joined(left: KnownDim, right: KnownDim) -> KnownDim:
    """The dimension that two broadcast to. Ends the rule where that cannot be told."""
    if left == right or right == 1:
        return left
    if left == 1:
        return right
    shown = f"{left} and {right}"
    if isinstance(left, SymbolicDim) or isinstance(right, SymbolicDim):
        raise CannotLowerError(f"whether dimensions {shown} broadcast is not known", SPECIALISE)
    raise CannotLowerError(f"dimensions {shown} do not broadcast")


def broadcast_dims(*shapes: Sequence[KnownDim]) -> tuple[KnownDim, ...]:
    """The dimensions that all `shapes` broadcast to, as NumPy has it."""
    result: list[KnownDim] = []
    for place in range(max(map(len, shapes))):
        dim: KnownDim = 1
        for dims in shapes:
            if place < len(dims):
                dim = joined(dim, dims[-1 - place])
        result.append(dim)
    return tuple(reversed(result))
