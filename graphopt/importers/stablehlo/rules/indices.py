"""What gathers and scatters share: indices in a plain form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.ir.dimensions import Dim
from graphopt.ir.known import known_array
from graphopt.ir.types import INT32
from graphopt.ir.value import Value


class Places(NamedTuple):
    """Indices of int32 with the axes they are about: `value` is shaped [*batch, len(axes)]."""

    value: Value
    batch: tuple[Dim, ...]
    axes: tuple[int, ...]


def places_of(
    op: Operation, index: int, vector_axis: int, axes: Sequence[int], batching: Sequence[tuple[int, int]]
) -> Places:
    """The operand `index` as places: vectors last, and beside them the batch's own for axes that run along with it.

    `batching` has pairs, an axis of the operand and the axis of the indices that it runs along with.
    """
    build, operand = op.build, op.input(index)
    value, dims = build.cast(op.full(index), INT32), list(operand.dims)
    if vector_axis == len(dims):
        value, dims = build.reshaped(value, [*dims, 1]), [*dims, 1]
    elif vector_axis != len(dims) - 1:
        order = [axis for axis in range(len(dims)) if axis != vector_axis] + [vector_axis]
        value, dims = build.transposed(value, order), [dims[axis] for axis in order]
    batch = tuple(dims[:-1])
    if not batching:
        return Places(value, batch, tuple(axes))
    lines = [_along(op, batch, axis - (axis > vector_axis), operand) for _, axis in batching]
    joined = build.value("ConcatV2", *lines, value, build.integers(len(batch)))
    return Places(joined, batch, (*(own for own, _ in batching), *axes))


def _along(op: Operation, batch: Sequence[Dim], axis: int, operand: Operand) -> Value:
    """Each element's own place along one axis of the batch, shaped [*batch, 1]."""
    build = op.build
    numbers = tuple(dim for dim in batch if isinstance(dim, int))
    if len(numbers) != len(batch):
        op.refuse("it runs along an axis whose size is not known", "export the function for sizes that are numbers")
    line = np.arange(numbers[axis], dtype=np.int32).reshape(
        [-1 if place == axis else 1 for place in range(len(batch) + 1)]
    )
    return build.constant(np.ascontiguousarray(np.broadcast_to(line, (*numbers, 1))))


def is_within(places: Places, operand: Operand, sizes: Sequence[int]) -> bool:
    """All indices are constant, and leave room for `sizes` along their axes."""
    known = known_array(places.value, 1 << 16)
    limits = [operand.dims[axis] for axis in places.axes]
    numbers = [dim - size for dim, size in zip(limits, sizes, strict=True) if isinstance(dim, int)]
    if known is None or len(numbers) != len(limits):
        return False
    return bool((known >= 0).all() and (known <= np.asarray(numbers)).all())


def limits_of(op: Operation, places: Places, operand: Operand, sizes: Sequence[int]) -> Value:
    """The greatest start along each axis, as a vector of int32."""
    build = op.build
    limits = [operand.dims[axis] for axis in places.axes]
    if all(isinstance(dim, int) for dim in limits):
        return build.integers([dim - size for dim, size in zip(limits, sizes, strict=True) if isinstance(dim, int)])
    scalars = [
        build.value("Sub", build.size(operand, axis), build.integers(size))
        for axis, size in zip(places.axes, sizes, strict=True)
    ]
    return build.stacked(scalars)


def expanded(op: Operation, places: Places, sizes: Sequence[int]) -> Value:
    """Indices of every element of boxes of `sizes` that begin at places: [*batch, *sizes, len(axes)]."""
    build = op.build
    if all(size == 1 for size in sizes):
        return places.value
    offsets = np.stack(np.meshgrid(*(np.arange(size) for size in sizes), indexing="ij"), -1).astype(np.int32)
    dims = [*places.batch, *[1] * len(sizes), len(places.axes)]
    return build.value("AddV2", build.reshaped(places.value, dims), build.constant(offsets))
