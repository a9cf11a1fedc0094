"""Constants, and operators that only move elements: broadcasts, reshapes, transposes, concatenation, padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.importers.stablehlo.attributes import constant_of
from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.table import RULES
from graphopt.ir.dimensions import Dim
from graphopt.ir.types import INT32, Shape
from graphopt.ir.value import Value


@RULES.translate("stablehlo.constant")
def constant(op: Operation) -> Operand:
    """A tensor; one element that is repeated stays one element."""
    return Operand(op.build.constant(constant_of(op.mlir)), op.dims())


@RULES.translate("stablehlo.iota", "stablehlo.dynamic_iota")
def iota(op: Operation) -> Operand:
    """Each element is its place along an axis."""
    axis, dims, dtype = op.integer("iota_dimension"), list(op.dims()), op.dtype()
    sizes = None
    if op.name.endswith("dynamic_iota"):
        dims, sizes = known_sizes(op, 0, dims)
    count = dims[axis]
    build = op.build
    if isinstance(count, int):
        places = np.arange(count, dtype=np.int64).astype(dtype.numpy)
        value = build.constant(places.reshape([-1] + [1] * (len(dims) - axis - 1)))
    else:
        assert sizes is not None
        limit = build.cast(build.element(sizes, axis), INT32)
        line = build.cast(build.value("Range", build.integers(0), limit, build.integers(1)), dtype)
        line.type = line.type.with_shape(Shape([count]))
        value = build.reshaped(line, [count] + [1] * (len(dims) - axis - 1))
    made = Operand(value, dims, None if sizes is None else build.cast(sizes, INT32))
    made.iota_axis = axis
    return made


def known_sizes(op: Operation, index: int, declared: Sequence[Dim]) -> tuple[list[Dim], Value]:
    """A shape from an operand that holds it: numbers and symbols where they are known, and the vector itself."""
    vector = op.build.cast(op.full(index), INT32)
    found = op.build.partial(vector)
    dims = list(found) if found is not None and len(found) == len(declared) else [None] * len(declared)
    return [mine if isinstance(mine, int) else theirs for mine, theirs in zip(declared, dims, strict=True)], vector


@RULES.translate("stablehlo.broadcast_in_dim", "stablehlo.dynamic_broadcast_in_dim")
def broadcast_in_dim(op: Operation) -> Operand:
    """Axes in between become axes of one element, which whoever needs them broadcasts."""
    x, places, dims = op.input(0), op.ints("broadcast_dimensions"), list(op.dims())
    sizes = None
    if op.name.endswith("dynamic_broadcast_in_dim"):
        dims, sizes = known_sizes(op, 1, dims)
    kept = _kept_axes(op, x, places, dims)
    if kept is not None:
        return Operand(kept, dims, sizes)
    held, value = list(x.padded_dims), x.value
    if places != sorted(places):
        order = sorted(range(len(places)), key=places.__getitem__)
        value = op.build.transposed(op.build.reshaped(value, held), order)
        held, places = [held[axis] for axis in order], sorted(places)
    compact: list[Dim] = [1] * len(dims)
    for place, dim in zip(places, held, strict=True):
        compact[place] = dim
    rank = value.shape.rank or 0
    while len(compact) > rank and compact[0] == 1:
        del compact[0]
    made = Operand(op.build.reshaped(value, compact), dims, sizes)
    if x.iota_axis is not None and x.iota_axis < len(places) and x.value.shape.size != 1:
        made.iota_axis = places[x.iota_axis]
    return made


def _kept_axes(op: Operation, x: Operand, places: Sequence[int], dims: Sequence[Dim]) -> Value | None:
    """A reduction whose axes come back as axes of one element is one that keeps its axes."""
    found = op.build.reductions.get(x.value)
    rank = None if found is None else found.source.shape.rank
    if found is None or found.keeps or rank != len(dims) or not x.is_full:
        return None
    if list(places) != [axis for axis in range(rank) if axis not in found.axes]:
        return None
    return op.build.reduced(found.kind, found.source, found.axes, keeps=True)


@RULES.translate("stablehlo.reshape", "stablehlo.dynamic_reshape")
def reshape(op: Operation) -> Operand:
    """The same elements in another shape."""
    x, dims = op.input(0), list(op.dims())
    sizes = None
    if op.name.endswith("dynamic_reshape"):
        dims, sizes = known_sizes(op, 1, dims)
    if x.is_scalar:
        return Operand(op.build.reshaped(x.value, ()), dims, sizes)
    return op.build.operand(op.build.reshaped(op.full(0), dims, sizes), dims)


@RULES.translate("stablehlo.transpose")
def transpose(op: Operation) -> Operand:
    """Axes in another order."""
    x, permutation = op.input(0), op.ints("permutation")
    dims = [x.dims[axis] for axis in permutation]
    if x.is_scalar or x.is_full:
        value = x.value if x.is_scalar else op.build.transposed(x.value, permutation)
        made = Operand(op.build.reshaped(value, ()) if x.is_scalar else value, dims)
    else:
        made = Operand(op.build.transposed(op.build.reshaped(x.value, x.padded_dims), permutation), dims)
    if not made.is_full and any(not isinstance(dim, int) for dim in dims):
        sizes = op.build.sizes(x)
        made.size_source = op.build.stacked([op.build.element(sizes, axis) for axis in permutation])
    if x.iota_axis is not None:
        made.iota_axis = permutation.index(x.iota_axis)
    return made


@RULES.translate("stablehlo.reverse")
def reverse(op: Operation) -> Operand:
    """Axes from their end."""
    axes = op.ints("dimensions")
    return (
        op.made(op.build.value("ReverseV2", op.full(0), op.build.integers(axes)), op.input(0).dims)
        if axes
        else op.input(0)
    )


@RULES.translate("stablehlo.concatenate")
def concatenate(op: Operation) -> Operand:
    """One after the other along an axis."""
    if len(op.operands) == 1:
        return op.input(0)
    if all(operand.dims == (1,) and operand.is_scalar for operand in op.operands):
        return op.made(op.build.stacked([op.build.reshaped(operand.value, ()) for operand in op.operands]))
    parts = [op.full(place) for place in range(len(op.operands))]
    axis = op.integer("dimension")
    return op.made(op.build.value("ConcatV2", *parts, op.build.integers(axis)))


@RULES.translate("stablehlo.pad", "stablehlo.dynamic_pad")
def pad(op: Operation) -> Operand:
    """Elements of one value around those there are and between them; negative numbers take some away."""
    if op.name.endswith("dynamic_pad"):
        low, high, interior = (
            [int(number) for number in op.constant_input(place, "the padding").reshape(-1)] for place in (2, 3, 4)
        )
    else:
        low, high, interior = (op.ints(name) for name in ("edge_padding_low", "edge_padding_high", "interior_padding"))
    value = spread(op, op.full(0), interior, op.full(1))
    return op.made(padded(op, value, list(zip(low, high, strict=True)), op.full(1)))


def spread(op: Operation, value: Value, interior: Sequence[int], filler: Value) -> Value:
    """`value` with that many elements `filler` between two neighbours along each axis."""
    build = op.build
    for axis, between in enumerate(interior):
        size = (value.shape.dims or ())[axis]
        if not between or size in (0, 1):
            continue
        dims = list(value.shape.dims or ())
        apart = build.reshaped(value, [*dims[: axis + 1], 1, *dims[axis + 1 :]])
        gaps = [(0, 0)] * (len(dims) + 1)
        gaps[axis + 1] = (0, between)
        wide = padded(op, apart, gaps, filler)
        longer = None if size is None else size * (between + 1)
        joined = build.reshaped(wide, [*dims[:axis], longer, *dims[axis + 1 :]])
        value = padded(op, joined, [(0, -between if place == axis else 0) for place in range(len(dims))], filler)
    return value


def padded(op: Operation, value: Value, amounts: Sequence[tuple[int, int]], filler: Value | None = None) -> Value:
    """`value` with so many elements `filler`, or zeros, before and after; fewer where an amount is negative."""
    build = op.build
    if any(amount < 0 for pair in amounts for amount in pair):
        begin = [max(0, -low) for low, _ in amounts]
        end = [min(0, high) for _, high in amounts]
        mask = sum(1 << place for place, number in enumerate(end) if number == 0)
        value = build.value(
            "StridedSlice", value, build.integers(begin), build.integers(end), build.integers([1] * len(end)),
            end_mask=mask,
        )  # fmt: skip
        amounts = [(max(0, low), max(0, high)) for low, high in amounts]
    if not any(amount for pair in amounts for amount in pair):
        return value
    table = build.constant(np.asarray(amounts, np.int32).reshape(-1, 2))
    number = None if filler is None else Operand(filler, ()).number
    if filler is None or (number is not None and number == 0 and not np.signbit(np.real(number))):
        return build.value("Pad", value, table)
    return build.value("PadV2", value, table, build.reshaped(filler, ()))


@RULES.translate("stablehlo.get_dimension_size")
def dimension_size(op: Operation) -> Operand:
    """The size of one axis."""
    return Operand(op.build.size(op.input(0), op.integer("dimension")), ())
