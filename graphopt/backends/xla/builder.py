"""Building StableHLO: one method for each thing rules say, static where every dimension is a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from graphopt.backends.legalization import CannotLowerError
from graphopt.backends.xla.bindings import bindings, dense_attribute, element_type
from graphopt.backends.xla.operand import SPECIALISE, Operand, broadcast_dims, static_dims
from graphopt.backends.xla.sizes import Sizes
from graphopt.ir.dimensions import KnownDim
from graphopt.ir.types import BOOL, FLOAT32, INT8, INT32, DType

Number = int | float | bool | complex
Term = Operand | int | float
Axes = Sequence[int]


class Builder:
    """Makes operations at the current insertion point. All methods yield new operands; none checks what XLA would."""

    def __init__(self, narrow: DType | None = None) -> None:
        self.narrow = narrow  # element type of the operands of products, where they are float32 otherwise
        mlir = bindings()
        self.ir, self.hlo, self.chlo, self.func = mlir.ir, mlir.stablehlo, mlir.chlo, mlir.func
        self._types: dict[tuple[DType, tuple[KnownDim, ...]], Any] = {}
        self._dynamic = self.ir.ShapedType.get_dynamic_size()
        self.sizes = Sizes(self)

    # Types and constants --------------------------------------------------------------------------------------

    def type(self, dtype: DType, dims: Sequence[KnownDim]) -> Any:
        """The type of MLIR. Ends the rule for an element type that XLA has not."""
        key = (dtype, tuple(dims))
        found = self._types.get(key)
        if found is None:
            element = element_type(dtype)
            if element is None:
                raise CannotLowerError(f"XLA does not compute with {dtype.name}", "keep it outside the model")
            sizes = [dim if isinstance(dim, int) else self._dynamic for dim in dims]
            found = self._types[key] = self.ir.RankedTensorType.get(sizes, element)
        return found

    def made(self, value: Any, dtype: DType, dims: Sequence[KnownDim]) -> Operand:
        """An operand of a value that was just made."""
        return Operand(value, dtype, tuple(dims))

    def constant(self, array: Any, dtype: DType) -> Operand:
        """A constant of these values, converted to `dtype`."""
        values = np.asarray(array)
        if dtype.numpy is not None and values.dtype != dtype.numpy:
            values = values.astype(dtype.numpy)
        self.type(dtype, values.shape)
        return Operand(self.hlo.constant(dense_attribute(values, dtype)), dtype, values.shape)

    def integers(self, numbers: Sequence[int], dtype: DType = INT32) -> Operand:
        """A constant vector of integers."""
        return self.constant(np.asarray(numbers, dtype.numpy).reshape(-1), dtype)

    def full(self, number: Number, dtype: DType, dims: Sequence[KnownDim] = ()) -> Operand:
        """`number` everywhere."""
        return self.broadcast(self.constant(np.asarray(number), dtype), dims)

    def like(self, number: Number, x: Operand) -> Operand:
        """`number` everywhere, in the type of `x`."""
        return self.full(number, x.dtype, x.dims)

    def iota(self, dtype: DType, dims: Sequence[KnownDim], axis: int) -> Operand:
        """Counts from zero along `axis`."""
        kind = self.type(dtype, dims)
        if all(isinstance(dim, int) for dim in dims):
            return Operand(self.hlo.iota(kind, axis), dtype, tuple(dims))
        return Operand(self.hlo.dynamic_iota(kind, self.sizes.vector(dims), axis), dtype, tuple(dims))

    # Element by element ---------------------------------------------------------------------------------------

    def unary(self, name: str, x: Operand) -> Operand:
        """An operation of StableHLO on one operand, of the same type."""
        return Operand(getattr(self.hlo, name)(x.value), x.dtype, x.dims)

    def aligned(self, *terms: Term) -> list[Operand]:
        """All terms broadcast to one shape; numbers take the element type of the first operand."""
        first = next(term for term in terms if isinstance(term, Operand))
        dims = broadcast_dims(*(term.dims for term in terms if isinstance(term, Operand)))
        return [
            self.broadcast(term, dims) if isinstance(term, Operand) else self.full(term, first.dtype, dims)
            for term in terms
        ]

    def binary(self, name: str, x: Term, y: Term) -> Operand:
        """An operation of StableHLO on two operands of one element type, with broadcasting."""
        left, right = self.aligned(x, y)
        return Operand(getattr(self.hlo, name)(left.value, right.value), left.dtype, left.dims)

    def add(self, x: Term, y: Term) -> Operand:
        """`x + y`."""
        return self.binary("add", x, y)

    def sub(self, x: Term, y: Term) -> Operand:
        """`x - y`."""
        return self.binary("subtract", x, y)

    def mul(self, x: Term, y: Term) -> Operand:
        """`x * y`."""
        return self.binary("multiply", x, y)

    def div(self, x: Term, y: Term) -> Operand:
        """`x / y`, of integers cut off towards zero."""
        return self.binary("divide", x, y)

    def max(self, x: Term, y: Term) -> Operand:
        """The larger one; NaN where either is."""
        return self.binary("maximum", x, y)

    def min(self, x: Term, y: Term) -> Operand:
        """The smaller one; NaN where either is."""
        return self.binary("minimum", x, y)

    def compare(self, direction: str, x: Term, y: Term) -> Operand:
        """`EQ`, `NE`, `LT`, `LE`, `GT` or `GE`, with broadcasting."""
        left, right = self.aligned(x, y)
        which = self.hlo.ComparisonDirectionAttr.get(direction)
        return Operand(self.hlo.compare(left.value, right.value, which), BOOL, left.dims)

    def select(self, condition: Operand, x: Term, y: Term) -> Operand:
        """`x` where the condition holds, `y` elsewhere, all three broadcast."""
        left, right = self.aligned(x, y)
        dims = broadcast_dims(condition.dims, left.dims)
        chosen, left, right = (self.broadcast(operand, dims) for operand in (condition, left, right))
        return Operand(self.hlo.select(chosen.value, left.value, right.value), left.dtype, dims)

    def convert(self, x: Operand, dtype: DType) -> Operand:
        """The numbers as another element type."""
        if x.dtype is dtype:
            return x
        return Operand(self.hlo.convert(self.type(dtype, x.dims), x.value), dtype, x.dims)

    # Shapes ---------------------------------------------------------------------------------------------------

    def broadcast(self, x: Operand, dims: Sequence[KnownDim], axes: Sequence[int] | None = None) -> Operand:
        """`x` repeated to `dims`; `axes` says where its own dimensions go, at the end if not given."""
        dims = tuple(dims)
        if axes is None:
            axes = range(len(dims) - x.rank, len(dims))
        if x.dims == dims:
            return x
        kind, places = self.type(x.dtype, dims), list(axes)
        if x.is_static and all(isinstance(dim, int) for dim in dims):
            return Operand(self.hlo.broadcast_in_dim(kind, x.value, places), x.dtype, dims)
        value = self.hlo.dynamic_broadcast_in_dim(kind, x.value, self.sizes.vector(dims), places)
        return Operand(value, x.dtype, dims)

    def reshape(self, x: Operand, dims: Sequence[KnownDim]) -> Operand:
        """The same elements in another shape."""
        dims = tuple(dims)
        if x.dims == dims:
            return x
        kind = self.type(x.dtype, dims)
        if x.is_static and all(isinstance(dim, int) for dim in dims):
            return Operand(self.hlo.reshape(kind, x.value), x.dtype, dims)
        return Operand(self.hlo.dynamic_reshape(kind, x.value, self.sizes.vector(dims)), x.dtype, dims)

    def transpose(self, x: Operand, permutation: Sequence[int]) -> Operand:
        """The axes in another order."""
        order = list(permutation)
        if order == list(range(x.rank)):
            return x
        return Operand(self.hlo.transpose(x.value, order), x.dtype, tuple(x.dims[axis] for axis in order))

    def slice(
        self, x: Operand, starts: Sequence[KnownDim], limits: Sequence[KnownDim], strides: Sequence[int] | None = None
    ) -> Operand:
        """A part between bounds."""
        steps = list(strides) if strides is not None else [1] * x.rank
        whole = [start == 0 and limit == dim for start, limit, dim in zip(starts, limits, x.dims, strict=True)]
        if all(whole) and all(step == 1 for step in steps):
            return x
        dims = tuple(
            dim if all_of_it and step == 1 else -((start - limit) // step)
            for dim, all_of_it, start, limit, step in zip(x.dims, whole, starts, limits, steps, strict=True)
        )
        if x.is_static and all(isinstance(edge, int) for edge in (*starts, *limits)):
            return Operand(self.hlo.slice(x.value, list(starts), list(limits), steps), x.dtype, dims)
        value = self.hlo.real_dynamic_slice(
            self.type(x.dtype, dims),
            x.value,
            self.sizes.vector(starts),
            self.sizes.vector(limits),
            self.sizes.vector(steps),
        )
        return Operand(value, x.dtype, dims)

    def pad(
        self,
        x: Operand,
        low: Sequence[KnownDim],
        high: Sequence[KnownDim],
        number: Operand | float = 0,
        inside: Sequence[int] | None = None,
    ) -> Operand:
        """`x` with so many elements more at either end, negative to cut off, and between its elements."""
        between = list(inside) if inside is not None else [0] * x.rank
        if not any(low) and not any(high) and not any(between):
            return x
        filler = number if isinstance(number, Operand) else self.full(number, x.dtype)
        dims = []
        for dim, before, after, gap in zip(x.dims, low, high, between, strict=True):
            grown = dim + (dim - 1) * gap if gap else dim
            dims.append(grown + (before + after))
        kind = self.type(x.dtype, dims)
        if all(isinstance(edge, int) for edge in (*low, *high)):
            value = self.hlo.pad(x.value, filler.value, list(low), list(high), between, results=[kind])
        else:
            edges = [self.sizes.vector(numbers) for numbers in (low, high, between)]
            value = self.hlo.dynamic_pad(kind, x.value, filler.value, *edges)
        return Operand(value, x.dtype, tuple(dims))

    def concatenate(self, parts: Sequence[Operand], axis: int) -> Operand:
        """All parts, one after the other along `axis`."""
        if len(parts) == 1:
            return parts[0]
        total: KnownDim = 0
        for part in parts:
            total = total + part.dims[axis]
        dims = [
            next((part.dims[place] for part in parts if isinstance(part.dims[place], int)), parts[0].dims[place])
            for place in range(parts[0].rank)
        ]
        dims[axis] = total
        value = self.hlo.concatenate([part.value for part in parts], axis)
        return Operand(value, parts[0].dtype, tuple(dims))

    # Regions --------------------------------------------------------------------------------------------------

    def scalar_region(self, operation: Any, dtypes: Sequence[DType], body: Callable[..., Sequence[Operand]]) -> None:
        """Give `operation` a region whose arguments are scalars and which returns what `body` makes of them."""
        kinds = [self.type(dtype, ()) for dtype in dtypes]
        block = operation.regions[0].blocks.append(*kinds)
        with self.ir.InsertionPoint(block):
            arguments = [Operand(v, dtype, ()) for v, dtype in zip(block.arguments, dtypes, strict=True)]
            self.hlo.return_([operand.value for operand in body(*arguments)])

    def reduce(self, kind: str, x: Operand, axes: Sequence[int], keep: bool = False) -> Operand:
        """`add`, `multiply`, `maximum`, `minimum`, `and_` or `or_` of all elements along `axes`."""
        places = sorted(set(axes))
        dims = tuple(dim for axis, dim in enumerate(x.dims) if axis not in places)
        made = x
        if places:
            start = self.constant(neutral(kind, x.dtype), x.dtype)
            operation = self.hlo.ReduceOp([self.type(x.dtype, dims)], [x.value], [start.value], places)
            self.scalar_region(operation, (x.dtype, x.dtype), lambda a, b: [self.binary(kind, a, b)])
            made = Operand(operation.results[0], x.dtype, dims)
        if not keep:
            return made
        return self.reshape(made, tuple(1 if axis in places else dim for axis, dim in enumerate(x.dims)))

    def repeat(
        self, count: int, start: Sequence[Operand], body: Callable[[Operand, list[Operand]], Sequence[Operand]]
    ) -> list[Operand]:
        """What `count` rounds make of `start`: `body` gets the round's number, of int32, and what the last one made."""
        state = [self.constant(0, INT32), *start]
        kinds = [self.type(operand.dtype, operand.dims) for operand in state]
        operation = self.hlo.WhileOp(kinds, [operand.value for operand in state])
        for place, region in enumerate(operation.regions):
            block = region.blocks.append(*kinds)
            given = [self.made(v, x.dtype, x.dims) for v, x in zip(block.arguments, state, strict=True)]
            with self.ir.InsertionPoint(block):
                if place == 0:
                    self.hlo.return_([self.compare("LT", given[0], count).value])
                    continue
                made = [self.add(given[0], 1), *body(given[0], given[1:])]
                self.hlo.return_([operand.value for operand in made])
        results = list(operation.results)[1:]
        return [self.made(value, x.dtype, x.dims) for value, x in zip(results, start, strict=True)]

    def sort(self, direction: str, keys: Operand, others: Sequence[Operand], axis: int) -> list[Operand]:
        """`keys` ordered along `axis`, falling for `GT`, and `others` moved with them; equal ones stay in order."""
        parts = [keys, *others]
        operation = self.hlo.SortOp(
            [self.type(part.dtype, part.dims) for part in parts], [part.value for part in parts], dimension=axis,
            is_stable=True,
        )  # fmt: skip
        dtypes = [part.dtype for part in parts for _ in range(2)]
        self.scalar_region(operation, dtypes, lambda left, right, *_: [self.compare(direction, left, right)])
        return [self.made(v, part.dtype, part.dims) for v, part in zip(operation.results, parts, strict=True)]

    def first_largest(self, x: Operand, axis: int) -> tuple[Operand, Operand, Operand]:
        """The largest element along `axis` and its first place, both with that dimension kept, and where it is."""
        top = self.reduce("maximum", x, [axis], keep=True)
        places = self.iota(INT32, x.dims, axis)
        size = self.broadcast(self.sizes.scalar(x.dims[axis]), x.dims)
        place = self.reduce("minimum", self.select(self.compare("EQ", x, top), places, size), [axis], keep=True)
        return top, place, self.compare("EQ", places, place)

    def picked(self, hit: Operand, x: Operand, axis: int) -> Operand:
        """The one element along `axis` where `hit` is true, that dimension kept."""
        return self.reduce("add", self.select(hit, x, self.like(0, x)), [axis], keep=True)

    def dot_general(
        self, x: Operand, y: Operand, batch: tuple[Axes, Axes], sum_over: tuple[Axes, Axes], full: bool = False
    ) -> Operand:
        """Products summed over axes of both: batch axes first, then what is left of `x`, then of `y`.

        `full` keeps the operands' own precision, whatever products have otherwise.
        """
        left = [axis for axis in range(x.rank) if axis not in (*batch[0], *sum_over[0])]
        right = [axis for axis in range(y.rank) if axis not in (*batch[1], *sum_over[1])]
        dims = [*(x.dims[axis] for axis in (*batch[0], *left)), *(y.dims[axis] for axis in right)]
        x, y, dtype = (x, y, x.dtype) if full else self.operands_of_product(x, y)
        numbers = self.hlo.DotDimensionNumbers.get(list(batch[0]), list(batch[1]), list(sum_over[0]), list(sum_over[1]))
        value = self.hlo.dot_general(self.type(dtype, dims), x.value, y.value, numbers)
        return Operand(value, dtype, tuple(dims))

    def operands_of_product(self, x: Operand, y: Operand) -> tuple[Operand, Operand, DType]:
        """Two operands in the precision that products have, and the element type of their sums."""
        if x.dtype is INT8:
            return x, y, INT32
        if self.narrow is None or FLOAT32 not in (x.dtype, y.dtype):
            return x, y, x.dtype
        return self.convert(x, self.narrow), self.convert(y, self.narrow), FLOAT32

    def flat(self, x: Operand) -> Operand:
        """All elements in one dimension."""
        return self.reshape(x, (size_of(x.dims),))


def size_of(dims: Sequence[KnownDim]) -> KnownDim:
    """How many elements a shape has."""
    total: KnownDim = 1
    for dim in dims:
        total = total * dim
    return total


def neutral(kind: str, dtype: DType) -> Any:
    """What changes nothing in a reduction of this kind."""
    if kind in ("add", "or_"):
        return np.zeros((), dtype.numpy)
    if kind == "multiply":
        return np.ones((), dtype.numpy)
    if kind == "and_":
        return np.asarray(True if dtype is BOOL else -1).astype(dtype.numpy)
    lowest = kind == "maximum"
    if dtype.is_float:
        return np.asarray(-math.inf if lowest else math.inf).astype(dtype.numpy)
    if dtype is BOOL:
        return np.asarray(not lowest)
    limits = ml_dtypes.iinfo(dtype.numpy)
    return np.asarray(limits.min if lowest else limits.max, dtype.numpy)


def numbers(dims: Sequence[KnownDim], axes: Sequence[int], what: str) -> list[int]:
    """The dimensions of `axes`, which must be numbers. Ends the rule, naming `what`, where one is not."""
    try:
        return list(static_dims([dims[axis] for axis in axes]))
    except CannotLowerError:
        raise CannotLowerError(f"{what} has a size that is not known", SPECIALISE) from None
