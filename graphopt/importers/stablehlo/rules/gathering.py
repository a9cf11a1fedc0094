"""Elements and boxes at indices."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.rules.indices import Places, expanded, is_within, limits_of, places_of
from graphopt.importers.stablehlo.rules.shaping import known_sizes
from graphopt.importers.stablehlo.rules.slicing import part, strided
from graphopt.importers.stablehlo.table import RULES
from graphopt.ir.dimensions import Dim, subtract
from graphopt.ir.known import known_array
from graphopt.ir.types import INT32
from graphopt.ir.value import Value


@RULES.translate("stablehlo.gather", "stablehlo.dynamic_gather")
def gather(op: Operation) -> Operand:
    """Boxes that begin where indices say; one that would reach out is moved inside."""
    numbers = op.structure("dimension_numbers", "GatherDimensionNumbers")
    operand, sizes = op.input(0), _slice_sizes(op)
    batching = list(zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True))
    places = places_of(op, 1, numbers.index_vector_dim, numbers.start_index_map, batching)
    boxes = [size for size in (sizes[axis] for axis in places.axes) if isinstance(size, int)]
    if len(boxes) != len(places.axes):
        if places.batch:
            op.refuse("the size of its boxes is not known")
        return op.made(_open_slice(op, operand, places, sizes, [*numbers.collapsed_slice_dims]))
    if not is_within(places, operand, boxes):
        value = op.build.value("Minimum", places.value, limits_of(op, places, operand, boxes))
        places = places._replace(value=op.build.value("Maximum", value, op.build.integers(0)))
    gone = [*numbers.collapsed_slice_dims, *numbers.operand_batching_dims]
    offsets = list(numbers.offset_dims)
    made = _sliced(op, operand, places, sizes, boxes, gone) if not places.batch else None
    if made is None:
        made = _strided(op, operand, places, sizes, gone, offsets)
    return op.made(_gathered(op, operand, places, sizes, boxes, gone, offsets) if made is None else made)


def _slice_sizes(op: Operation) -> list[Dim]:
    """The size of a box along each axis."""
    if op.name.endswith("dynamic_gather"):
        sizes, _ = known_sizes(op, 2, [None] * op.input(0).rank)
        return [dim if size is None else size for size, dim in zip(sizes, op.input(0).dims, strict=True)]
    return list(op.ints("slice_sizes"))


def _sliced(
    op: Operation, operand: Operand, places: Places, sizes: Sequence[Dim], boxes: Sequence[int], gone: Sequence[int]
) -> Value:
    """One box: a slice."""
    build = op.build
    starts = [build.integers(0)] * operand.rank
    for place, axis in enumerate(places.axes):
        starts[axis] = build.element(places.value, place)
    box = part(op, build.full(operand), starts, sizes)
    return build.reshaped(box, [size for axis, size in enumerate(sizes) if axis not in gone])


def _open_slice(op: Operation, operand: Operand, places: Places, sizes: Sequence[Dim], gone: Sequence[int]) -> Value:
    """One box whose size is computed: a slice."""
    build = op.build
    extents = build.cast(op.full(2), INT32)
    starts = [build.integers(0)] * operand.rank
    for place, axis in enumerate(places.axes):
        start, room = build.element(places.value, place), subtract(operand.dims[axis], sizes[axis])
        if isinstance(room, int):
            most = build.integers(room)
        else:
            most = build.value("Sub", build.size(operand, axis), build.element(extents, axis))
        starts[axis] = build.value("Maximum", build.value("Minimum", start, most), build.integers(0))
    box = build.value("Slice", build.full(operand), build.stacked(starts), extents)
    kept = [axis for axis in range(operand.rank) if axis not in gone]
    if not gone:
        return box
    return build.reshaped(
        box, [sizes[axis] for axis in kept], build.stacked([build.element(extents, axis) for axis in kept])
    )


def _strided(
    op: Operation, operand: Operand, places: Places, sizes: Sequence[Dim], gone: Sequence[int], offsets: Sequence[int]
) -> Value | None:
    """Every so many-th element along one axis, at constant indices: a strided slice."""
    known = known_array(places.value, 1 << 16)
    if known is None or len(places.axes) != 1 or len(places.batch) != 1 or list(gone) != list(places.axes):
        return None
    (axis,), line = places.axes, known.reshape(-1)
    step = int(line[1] - line[0]) if len(line) > 1 else 1
    whole = all(sizes[other] == operand.dims[other] for other in range(operand.rank) if other != axis)
    if step < 1 or len(line) < 2 or not whole or any(int(line[k]) != int(line[0]) + k * step for k in range(len(line))):
        return None
    if list(offsets) != [other for other in range(operand.rank) if other != axis]:
        return None
    starts, strides = [0] * operand.rank, [1] * operand.rank
    limits: list[int | None] = [None] * operand.rank
    starts[axis], limits[axis], strides[axis] = int(line[0]), int(line[-1]) + 1, step
    return strided(op, op.build.full(operand), starts, limits, strides)


def _gathered(
    op: Operation, operand: Operand, places: Places, sizes: Sequence[Dim], boxes: Sequence[int],
    gone: Sequence[int], offsets: Sequence[int],
) -> Value:  # fmt: skip
    """The general form: indexed axes first, `GatherNd`, and the axes of boxes to their places."""
    build = op.build
    value = build.full(operand)
    others = [axis for axis in range(operand.rank) if axis not in places.axes]
    if any(sizes[axis] != operand.dims[axis] for axis in others):
        limits = [size if axis in others and isinstance(size, int) else None for axis, size in enumerate(sizes)]
        value = strided(op, value, [0] * operand.rank, limits, [1] * operand.rank)
    batch = len(places.batch)
    if len(places.axes) == 1 and boxes[0] == 1:
        (axis,) = places.axes
        lines = build.reshaped(places.value, places.batch)
        made = build.value("GatherV2", value, lines, build.integers(axis), batch_dims=0)
        kept = [*range(axis), *range(axis + 1, operand.rank)]  # axes of boxes, around those of the batch
        layout = [*kept[:axis], *[None] * batch, *kept[axis:]]
    else:
        rows = build.transposed(value, [*places.axes, *others])
        made = build.value("GatherNd", rows, expanded(op, places, boxes))
        inner = [] if all(size == 1 for size in boxes) else list(places.axes)
        layout = [*[None] * batch, *inner, *others]
    return _arranged(op, made, layout, gone, offsets, batch, operand.rank)


def _arranged(
    op: Operation,
    made: Value,
    layout: Sequence[int | None],
    gone: Sequence[int],
    offsets: Sequence[int],
    batch: int,
    rank: int,
) -> Value:
    """Axes to where the result has them: `layout` says of each its axis of the operand, None for the batch's."""
    build = op.build
    dims = list(made.shape.dims or ())
    drop = [place for place, axis in enumerate(layout) if axis in gone and axis is not None]
    kept = [place for place in range(len(layout)) if place not in drop]
    if drop:
        made = build.reshaped(made, [dims[place] for place in kept])
        layout = [layout[place] for place in kept]
    window = [axis for axis in range(rank) if axis not in gone]
    missing = [axis for axis in window if axis not in layout]
    if missing:  # axes of one element
        dims = list(made.shape.dims or ())
        made, layout = build.reshaped(made, [*dims, *[1] * len(missing)]), [*layout, *missing]
    batch_places = [place for place, axis in enumerate(layout) if axis is None]
    order, waiting = [], iter(batch_places)
    position = dict(zip(offsets, window, strict=True))
    for place in range(len(layout)):
        order.append(layout.index(position[place]) if place in position else next(waiting))
    return build.transposed(made, order)
