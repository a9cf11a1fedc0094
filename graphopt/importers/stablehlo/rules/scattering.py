"""Elements and boxes written at indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.importers.stablehlo.bodies import monoid
from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.rules.indices import Places, expanded, is_within, limits_of, places_of
from graphopt.importers.stablehlo.rules.shaping import padded
from graphopt.importers.stablehlo.table import RULES
from graphopt.ir.dimensions import Dim
from graphopt.ir.types import BOOL, INT32
from graphopt.ir.value import Value

SCATTERS = {
    "update": "TensorScatterUpdate", "add": "TensorScatterAdd", "maximum": "TensorScatterMax",
    "minimum": "TensorScatterMin",
}  # fmt: skip


@RULES.translate("stablehlo.scatter")
def scatter(op: Operation) -> Operand:
    """Boxes replaced, or added to, or the larger or smaller kept; a box that would reach out is left out."""
    if len(op.operands) != 3:
        op.refuse("it writes several tensors at once")
    kind = monoid(op.mlir.regions[0])
    if kind not in SCATTERS:
        op.refuse(f"it combines elements by {kind or 'a function of its own'}")
    numbers = op.structure("scatter_dimension_numbers", "ScatterDimensionNumbers")
    operand, updates = op.input(0), op.input(2)
    batching = list(zip(numbers.input_batching_dims, numbers.scatter_indices_batching_dims, strict=True))
    places = places_of(op, 1, numbers.index_vector_dim, numbers.scattered_dims_to_operand_dims, batching)
    window = [
        axis
        for axis in range(operand.rank)
        if axis not in (*numbers.inserted_window_dims, *numbers.input_batching_dims)
    ]
    extents: list[Dim] = [1] * operand.rank
    for axis, place in zip(window, numbers.update_window_dims, strict=True):
        extents[axis] = updates.dims[place]
    others = [axis for axis in range(operand.rank) if axis not in places.axes]
    partial = [axis for axis in others if extents[axis] != operand.dims[axis]]
    if partial:  # they begin at zero
        places = places._replace(axes=(*places.axes, *partial), value=_with_zeros(op, places, len(partial)))
        others = [axis for axis in others if axis not in partial]
    boxes = [extent for extent in (extents[axis] for axis in places.axes) if isinstance(extent, int)]
    if len(boxes) != len(places.axes):
        op.refuse("the size of its boxes is not known")
    rows = _rows(op, updates, places, window, others, numbers.update_window_dims)
    return op.made(_written(op, kind, operand, places, boxes, rows, others), operand.dims)


def _with_zeros(op: Operation, places: Places, count: int) -> Value:
    """Indices with zeros for further axes."""
    amounts = [(0, 0)] * len(places.batch) + [(0, count)]
    return padded(op, places.value, amounts)


def _rows(
    op: Operation,
    updates: Operand,
    places: Places,
    window: Sequence[int],
    others: Sequence[int],
    window_places: Sequence[int],
) -> Value:
    """Updates as [*batch, *boxes, *others]."""
    build = op.build
    place_of = dict(zip(window, window_places, strict=True))
    batch = [place for place in range(updates.rank) if place not in window_places]
    boxes = [place_of[axis] for axis in places.axes if axis in place_of]
    order = [*batch, *boxes, *(place_of[axis] for axis in others)]
    moved = build.transposed(build.full(updates), order)
    dims = [*(updates.dims[place] for place in batch)]
    dims += [updates.dims[place_of[axis]] if axis in place_of else 1 for axis in places.axes]
    dims += [updates.dims[place_of[axis]] for axis in others]
    return build.reshaped(moved, dims)


def _written(
    op: Operation, kind: str, operand: Operand, places: Places, boxes: Sequence[int], rows: Value, others: Sequence[int]
) -> Value:
    build, order = op.build, [*places.axes, *others]
    back = [order.index(axis) for axis in range(operand.rank)]
    target = build.transposed(build.full(operand), order)
    is_plain = all(size == 1 for size in boxes)
    if is_plain:  # without axes of boxes, which have one element
        dims = list(rows.shape.dims or ())
        begin = len(places.batch)
        rows = build.reshaped(rows, [*dims[:begin], *dims[begin + len(boxes) :]])
    indices = expanded(op, places, boxes)
    is_guarded = not is_within(places, operand, boxes)
    if is_guarded:
        indices, target = _guarded(op, operand, places, boxes, indices, target)
    if operand.dtype is BOOL and kind != "update":
        op.refuse(f"it combines truth values by {kind}")
    if not places.batch and is_plain:
        indices, rows = _one_row(op, indices, rows)
    made = build.value(SCATTERS[kind], target, indices, rows)
    if is_guarded:
        made = padded(op, made, [(0, -1)] + [(0, 0)] * (operand.rank - 1))
    return build.transposed(made, back)


def _one_row(op: Operation, indices: Value, rows: Value) -> tuple[Value, Value]:
    """One place as a list of one, which is the form that every runtime takes."""
    build = op.build
    return (
        build.reshaped(indices, [1, *(indices.shape.dims or ())]),
        build.reshaped(rows, [1, *(rows.shape.dims or ())]),
    )


def _guarded(
    op: Operation, operand: Operand, places: Places, boxes: Sequence[int], indices: Value, target: Value
) -> tuple[Value, Value]:
    """Boxes that reach out go to a further row of the target, which is cut off again."""
    build = op.build
    starts = places.value
    is_low = build.value("Less", starts, build.integers(0))
    is_high = build.value("Greater", starts, limits_of(op, places, operand, boxes))
    axis = build.integers([len(places.batch)])
    is_out = build.value("Any", build.value("LogicalOr", is_low, is_high), axis, keep_dims=True)
    if indices is not starts:
        dims: list[Any] = [*places.batch, *[1] * len(boxes), 1]
        is_out = build.reshaped(is_out, dims)
    row = [build.size(operand, places.axes[0]), *[build.integers(0)] * (len(places.axes) - 1)]
    aside = build.value("SelectV2", is_out, build.cast(build.stacked(row), INT32), indices)
    filler = build.scalar(np.zeros(()), operand.dtype)
    return aside, padded(op, target, [(0, 1)] + [(0, 0)] * (operand.rank - 1), filler)
