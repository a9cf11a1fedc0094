"""Sizes that are known only when the model runs: scalars computed once, at the start of the function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.backends.legalization import CannotLowerError
from graphopt.backends.xla.operand import SPECIALISE, Operand
from graphopt.ir.dimensions import KnownDim, SymbolicDim
from graphopt.ir.types import INT32

if TYPE_CHECKING:
    from graphopt.backends.xla.builder import Builder


class Sizes:
    """Symbols of the function's arguments, and expressions over them, as scalars of int32."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self._known: dict[str, Operand] = {}
        self._made: dict[SymbolicDim, Operand] = {}
        self.anchor: Any = None  # operation before which sizes and constants are computed, for all regions to read

    def begin(self, arguments: Sequence[Operand]) -> None:
        """Learn the symbols that `arguments` have as dimensions, at the start of a function."""
        self._known, self._made = {}, {}
        hlo = self.builder.hlo
        for argument in arguments:
            for axis, dim in enumerate(argument.dims):
                name = plain_name(dim)
                if name is not None and name not in self._known:
                    self._known[name] = Operand(hlo.get_dimension_size(argument.value, axis), INT32, ())
        self.anchor = self.builder.constant(np.zeros((), np.int32), INT32).value.owner

    def scalar(self, dim: KnownDim) -> Operand:
        """A dimension as a scalar of int32."""
        if isinstance(dim, int):
            return self.builder.constant(np.asarray(dim), INT32)
        found = self._made.get(dim)
        if found is None:
            with self.builder.ir.InsertionPoint(self.anchor):
                found = self._made[dim] = self._sum(dim)
        return found

    def vector(self, dims: Sequence[KnownDim]) -> Any:
        """A shape as a value of MLIR: a vector of int32."""
        if all(isinstance(dim, int) for dim in dims):
            return self.builder.integers([dim for dim in dims if isinstance(dim, int)]).value
        return self.stacked(dims).value

    def stacked(self, dims: Sequence[KnownDim]) -> Operand:
        """A shape as an operand: a vector of int32."""
        parts = [self.builder.reshape(self.scalar(dim), (1,)) for dim in dims]
        return self.builder.concatenate(parts, 0)

    def _sum(self, dim: SymbolicDim) -> Operand:
        total: Operand | None = None
        for monomial, factor in dim.terms:
            product: Operand | None = None if factor == 1 and monomial else self.scalar(factor)
            for atom in monomial:
                value = self._atom(atom)
                product = value if product is None else self.builder.mul(product, value)
            assert product is not None
            total = product if total is None else self.builder.add(total, product)
        assert total is not None
        return total

    def _atom(self, atom: tuple[Any, ...]) -> Operand:
        if atom[0] == "name":
            if atom[1] not in self._known:
                raise CannotLowerError(f"the dimension {atom[1]} is computed when the model runs", SPECIALISE)
            return self._known[atom[1]]
        left, right = self.scalar(atom[1]), self.scalar(atom[2])
        if atom[0] == "floordiv":
            return self._floor(left, right)
        if atom[0] in ("max", "min"):
            return self.builder.binary("maximum" if atom[0] == "max" else "minimum", left, right)
        raise CannotLowerError(f"a dimension is computed by {atom[0]}", SPECIALISE)

    def _floor(self, left: Operand, right: Operand) -> Operand:
        """A quotient of sizes rounded down, the numerator possibly negative."""
        b = self.builder
        quotient = b.div(left, right)
        below = b.compare("LT", left, b.mul(quotient, right))
        return b.sub(quotient, b.convert(below, INT32))


def plain_name(dim: KnownDim) -> str | None:
    """The name of a dimension that is a symbol alone."""
    if isinstance(dim, SymbolicDim) and len(dim.terms) == 1:
        monomial, factor = dim.terms[0]
        if factor == 1 and len(monomial) == 1 and monomial[0][0] == "name":
            return str(monomial[0][1])
    return None
