"""Parts of tensors, with bounds that are known and with bounds that are computed; parts replaced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.rules.shaping import known_sizes
from graphopt.importers.stablehlo.table import RULES
from graphopt.ir.dimensions import Dim
from graphopt.ir.types import INT32
from graphopt.ir.value import Value


@RULES.translate("stablehlo.slice")
def slice_(op: Operation) -> Operand:
    """A part with known bounds."""
    if op.input(0).is_scalar:
        return Operand(op.build.reshaped(op.input(0).value, ()), op.dims())
    starts, limits, strides = (op.ints(name) for name in ("start_indices", "limit_indices", "strides"))
    return op.made(strided(op, op.full(0), starts, limits, strides))


def strided(
    op: Operation, x: Value, starts: Sequence[int], limits: Sequence[int | None], strides: Sequence[int]
) -> Value:
    """A strided slice; a limit of None is the end of its axis."""
    dims = x.shape.dims or ()
    ends = [limit if limit != dim else None for limit, dim in zip(limits, dims, strict=True)]
    if all(start == 0 and end is None and step == 1 for start, end, step in zip(starts, ends, strides, strict=True)):
        return x
    mask = sum(1 << place for place, end in enumerate(ends) if end is None)
    return op.build.value(
        "StridedSlice", x, op.build.integers(list(starts)), op.build.integers([end or 0 for end in ends]),
        op.build.integers(list(strides)), end_mask=mask,
    )  # fmt: skip


@RULES.translate("stablehlo.real_dynamic_slice")
def computed_slice(op: Operation) -> Operand:
    """A part whose bounds are computed."""
    x, build = op.full(0), op.build
    rank = op.input(0).rank
    starts, begin = known_sizes(op, 1, [None] * rank)
    limits, end = known_sizes(op, 2, [None] * rank)
    steps, strides = known_sizes(op, 3, [None] * rank)
    known = [start for start in starts if isinstance(start, int)], [step for step in steps if isinstance(step, int)]
    reached = [None if limit == dim else limit for limit, dim in zip(limits, x.shape.dims or (), strict=True)]
    numbers = [limit for limit in reached if limit is None or isinstance(limit, int)]
    if limits.count(None) == 0 and all(len(part) == rank for part in (*known, numbers)):
        return op.made(strided(op, x, known[0], numbers, known[1]))
    mask = sum(1 << place for place, limit in enumerate(reached) if limit is None and limits[place] is not None)
    return op.made(build.value("StridedSlice", x, begin, end, strides, end_mask=mask))


def clamped(op: Operation, start: Value, size: int, operand: Operand, axis: int) -> Value:
    """A start of int32 moved to where `size` elements lie within the axis, as StableHLO demands."""
    build = op.build
    start, dim = build.cast(start, INT32), operand.dims[axis]
    if dim == size:
        return build.integers(0)
    most = (
        build.integers(dim - size)
        if isinstance(dim, int)
        else build.value("Sub", build.size(operand, axis), build.integers(size))
    )
    return build.value("Maximum", build.value("Minimum", start, most), build.integers(0))


@RULES.translate("stablehlo.dynamic_slice")
def dynamic_slice(op: Operation) -> Operand:
    """A part of known size from computed starts."""
    x, sizes = op.input(0), op.ints("slice_sizes")
    starts = [clamped(op, op.full(place + 1), size, x, place) for place, size in enumerate(sizes)]
    return op.made(part(op, op.full(0), starts, sizes))


def part(op: Operation, x: Value, starts: Sequence[Value], sizes: Sequence[Dim]) -> Value:
    """A slice of `sizes`; where the starts are constant, with constant bounds."""
    if list(x.shape.dims or ()) == list(sizes):
        return x
    numbers = [Operand(start, ()).number for start in starts]
    if all(number is not None for number in numbers):
        begin = [int(number) for number in numbers if number is not None]
        limits = [low + size if isinstance(size, int) else None for low, size in zip(begin, sizes, strict=True)]
        return strided(op, x, begin, limits, [1] * len(begin))
    wanted = [size if isinstance(size, int) else -1 for size in sizes]
    return op.build.value("Slice", x, op.build.stacked(starts), op.build.integers(wanted))


@RULES.translate("stablehlo.dynamic_update_slice")
def update_slice(op: Operation) -> Operand:
    """A box of elements replaced: written row by row along the axes that it does not fill."""
    x, update = op.input(0), op.input(1)
    axes = [axis for axis, (size, dim) in enumerate(zip(update.dims, x.dims, strict=True)) if size != dim]
    if not axes:
        return op.like(update.value, update, x)
    sizes = op.static(update, axes)
    starts = [clamped(op, op.full(axis + 2), size, x, axis) for axis, size in zip(axes, sizes, strict=True)]
    return op.made(boxed(op, x, update, axes, starts, sizes), x.dims)


def boxed(
    op: Operation, x: Operand, update: Operand, axes: list[int], starts: list[Value], sizes: Sequence[int]
) -> Value:
    """`x` with the box replaced that begins at `starts` along `axes`."""
    build, others = op.build, [axis for axis in range(x.rank) if axis not in axes]
    order = [*axes, *others]
    offsets = np.stack(np.meshgrid(*(np.arange(size) for size in sizes), indexing="ij"), -1).astype(np.int32)
    begin = build.stacked(starts)
    rows = int(np.prod(sizes))
    flat = offsets.reshape(rows, len(axes))
    places = build.reshaped(begin, [1, len(axes)]) if rows == 1 else build.value("AddV2", build.constant(flat), begin)
    dims: list[Dim] = [rows, *(x.dims[axis] for axis in others)]
    parts = build.reshaped(build.transposed(build.full(update), order), dims, _row_sizes(op, x, rows, others))
    made = build.value("TensorScatterUpdate", build.transposed(build.full(x), order), places, parts)
    return build.transposed(made, [order.index(axis) for axis in range(x.rank)])


def _row_sizes(op: Operation, x: Operand, rows: int, others: Sequence[int]) -> Value | None:
    if sum(not isinstance(x.dims[axis], int) for axis in others) < 2:
        return None
    return op.build.stacked([op.build.integers(rows), *(op.build.size(x, axis) for axis in others)])
