"""Parts of tensors, with bounds that are known and with bounds that are computed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import SPECIALISE, Operand
from graphopt.backends.xla.table import RULES
from graphopt.ir.dimensions import KnownDim, maximum, minimum
from graphopt.ir.types import INT32


@RULES.lower("tf.Slice")
def slice_(op: Emission) -> Operand:
    """A part of a known size; where it begins may be computed."""
    b, x = op.build, op.input(0)
    begin, dims = op.known(1), op.dims()
    if begin is not None:
        starts = [int(number) for number in begin.reshape(-1)]
        limits = [
            whole if size == whole and start == 0 else start + size
            for start, size, whole in zip(starts, dims, x.dims, strict=True)
        ]
        return b.slice(x, starts, limits)
    starts_at = op.input(1)
    return dynamic_slice(op, x, [element(op, starts_at, axis) for axis in range(x.rank)], dims)


def element(op: Emission, vector: Operand, place: int) -> Operand:
    """One element of a vector as a scalar."""
    return op.build.reshape(op.build.slice(vector, [place], [place + 1]), ())


def dynamic_slice(op: Emission, x: Operand, starts: list[Operand], dims: tuple[KnownDim, ...]) -> Operand:
    """A part of numbers for sizes, from computed starts."""
    b = op.build
    if all(isinstance(dim, int) for dim in dims):
        value = b.hlo.dynamic_slice(
            x.value, [start.value for start in starts], list(dims), results=[b.type(x.dtype, dims)]
        )
        return b.made(value, x.dtype, dims)
    first = b.concatenate([b.reshape(b.convert(start, INT32), (1,)) for start in starts], 0)
    limits = b.add(first, b.sizes.stacked(dims))
    steps = b.integers([1] * x.rank)
    value = b.hlo.real_dynamic_slice(b.type(x.dtype, dims), x.value, first.value, limits.value, steps.value)
    return b.made(value, x.dtype, dims)


class _Axis(NamedTuple):
    """What a strided slice does to one axis of its input, or that it makes a new one (`source` None)."""

    source: int | None
    place: int  # in begin, end and strides; -1 for axes that an ellipsis covers
    is_dropped: bool


@RULES.lower("tf.StridedSlice")
def strided_slice(op: Emission) -> Operand:
    """NumPy's slices: masks, new axes, an ellipsis, negative steps."""
    b, x = op.build, op.input(0)
    strides = [int(step) for step in op.constant_input(3, "the strides").reshape(-1)]
    plan = _plan(op, x.rank, len(strides))
    begin, end = op.known(1), op.known(2)
    if begin is None or (end is None and not _ends_follow(op, plan, len(strides))):
        return _computed(op, x, plan, strides)
    starts: list[KnownDim] = [0] * x.rank
    limits, steps, turned = list(x.dims), [1] * x.rank, []
    for axis in plan:
        if axis.source is None or axis.place < 0:
            continue
        low, high, step = _bounds(op, axis, x.dims[axis.source], begin, end, strides[axis.place])
        if step < 0:
            turned.append(axis.source)
        starts[axis.source], limits[axis.source], steps[axis.source] = low, high, abs(step)
    made = b.slice(x, starts, limits, steps)
    if turned:
        made = b.made(b.hlo.reverse(made.value, turned), made.dtype, made.dims)
    return b.reshape(made, _final(plan, made.dims))


def _ends_follow(op: Emission, plan: list[_Axis], count: int) -> bool:
    """No end is looked at: they are masked, or of axes that are dropped."""
    mask = int(op.attr("end_mask", 0))
    looked = [axis.place for axis in plan if axis.place >= 0 and axis.source is not None and not axis.is_dropped]
    return all(mask >> place & 1 for place in looked)


def _plan(op: Emission, rank: int, count: int) -> list[_Axis]:
    new, dropped, ellipsis = (int(op.attr(name, 0)) for name in ("new_axis_mask", "shrink_axis_mask", "ellipsis_mask"))
    spent = sum(1 for place in range(count) if not new >> place & 1 and not ellipsis >> place & 1)
    plan: list[_Axis] = []
    source, seen = 0, False
    for place in range(count):
        if ellipsis >> place & 1 and not seen:
            seen = True
            for _ in range(rank - spent):
                plan.append(_Axis(source, -1, False))
                source += 1
        elif new >> place & 1:
            plan.append(_Axis(None, place, False))
        else:
            plan.append(_Axis(source, place, bool(dropped >> place & 1)))
            source += 1
    plan += [_Axis(axis, -1, False) for axis in range(source, rank)]
    return plan


def _bounds(
    op: Emission, axis: _Axis, size: KnownDim, begin: Any, end: Any, step: int
) -> tuple[KnownDim, KnownDim, int]:
    """Start, limit and step of an axis; a negative step is turned into the same elements forwards."""
    place = axis.place
    begin_masked = int(op.attr("begin_mask", 0)) >> place & 1 and not axis.is_dropped
    end_masked = int(op.attr("end_mask", 0)) >> place & 1 and not axis.is_dropped
    first = int(begin.reshape(-1)[place])
    if not isinstance(size, int):
        if axis.is_dropped:
            start = first if first >= 0 else size + first
            return start, start + 1, 1
        whole = (begin_masked or first == 0) and end_masked
        last = None if end is None or end_masked else int(end.reshape(-1)[place])
        if whole and step == 1:
            return 0, size, 1
        if end_masked and first >= 0 and step == 1:
            return first, size, 1
        if last is not None and last < 0 and step == 1 and (begin_masked or first >= 0):
            return 0 if begin_masked else first, size + last, 1
        if step > 0:
            return _symbolic_bounds(op, size, 0 if begin_masked else first, last, step)
        op.refuse(f"it cuts the dimension {size}, which is not known", SPECIALISE)
    if axis.is_dropped:
        first = first + size if first < 0 else first
        return first, first + 1, 1
    last = 0 if end_masked else int(end.reshape(-1)[place])
    chosen = range(size)[slice(None if begin_masked else first, None if end_masked else last, step)]
    if not len(chosen):
        return 0, 0, 1
    low, high = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1])
    return low, high + 1, step


def _symbolic_bounds(
    op: Emission, size: KnownDim, first: int, last: int | None, step: int
) -> tuple[KnownDim, KnownDim, int]:
    """Start, limit and step where the size is a symbol: both are kept within it."""
    low = minimum(first, size) if first >= 0 else maximum(size + first, 0)
    high = size if last is None else minimum(last, size) if last >= 0 else maximum(size + last, 0)
    limit = maximum(low, high)
    if low is None or limit is None:
        op.refuse(f"it cuts the dimension {size}, which is not known", SPECIALISE)
    return low, limit, step


def _final(plan: list[_Axis], dims: tuple[KnownDim, ...]) -> list[KnownDim]:
    return [1 if axis.source is None else dims[axis.source] for axis in plan if not axis.is_dropped]


def _computed(op: Emission, x: Operand, plan: list[_Axis], strides: list[int]) -> Operand:
    """Bounds are computed: single elements, or sizes that the output's shape tells."""
    b = op.build
    starts_at = op.input(1)
    outer = iter(op.dims())
    starts, dims = [], []
    for axis in plan:
        size = 1 if axis.is_dropped else next(outer)
        if axis.source is None:
            continue
        if axis.place >= 0 and strides[axis.place] != 1 and not axis.is_dropped:
            op.refuse("its bounds are computed at run time and its steps are not one", "specialise the model")
        masked = axis.place < 0 or (int(op.attr("begin_mask", 0)) >> axis.place & 1 and not axis.is_dropped)
        if masked:
            starts.append(b.full(0, starts_at.dtype))
        else:
            start = element(op, starts_at, axis.place)
            whole = b.convert(b.sizes.scalar(x.dims[axis.source]), start.dtype)
            starts.append(b.select(b.compare("LT", start, 0), b.add(start, whole), start))
        dims.append(size)
    made = dynamic_slice(op, x, starts, tuple(dims))
    return b.reshape(made, _final(plan, made.dims))


@RULES.lower("tf.Split", "tf.SplitV")
def split(op: Emission) -> list[Operand | None]:
    """Parts along an axis."""
    data = 1 if op.node.op == "tf.Split" else 0
    x = op.input(data)
    axis = op.axis(1 - data if op.node.op == "tf.Split" else 2, x.rank)
    count = len(op.node.outputs)
    whole = x.dims[axis]
    if not isinstance(whole, int):
        op.refuse(f"it splits the dimension {whole}, which is not known", SPECIALISE)
    if op.node.op == "tf.Split":
        sizes = [whole // count] * count
    else:
        sizes = [int(number) for number in op.constant_input(1, "the sizes").reshape(-1)]
        known = sum(number for number in sizes if number >= 0)
        sizes = [number if number >= 0 else whole - known for number in sizes]
    return _cut(op, x, axis, sizes)


def _cut(op: Emission, x: Operand, axis: int, sizes: list[int]) -> list[Operand | None]:
    made: list[Operand | None] = []
    place = 0
    for size in sizes:
        starts, limits = [0] * x.rank, list(x.dims)
        starts[axis], limits[axis] = place, place + size
        made.append(op.build.slice(x, starts, limits))
        place += size
    return made


@RULES.lower("tf.Unpack")
def unpack(op: Emission) -> list[Operand | None]:
    """The slices along an axis, without it."""
    x = op.input(0)
    axis = int(op.attr("axis", 0)) % x.rank
    dims = tuple(dim for place, dim in enumerate(x.dims) if place != axis)
    return [
        None if part is None else op.build.reshape(part, dims) for part in _cut(op, x, axis, [1] * len(op.node.outputs))
    ]


@RULES.lower("tf.Pad", "tf.PadV2")
def pad(op: Emission) -> Operand:
    """A border of one value."""
    x = op.input(0)
    edges = op.constant_input(1, "the border").reshape(-1, 2)
    filler: Operand | float = op.input(2) if op.node.op == "tf.PadV2" else 0
    return op.build.pad(x, [int(edge[0]) for edge in edges], [int(edge[1]) for edge in edges], filler)


@RULES.lower("tf.MirrorPad")
def mirror_pad(op: Emission) -> Operand:
    """A border that mirrors what it borders, with the edge (SYMMETRIC) or without it (REFLECT)."""
    b, made = op.build, op.input(0)
    edges = op.constant_input(1, "the border").reshape(-1, 2)
    skip = 1 if op.text("mode") == "REFLECT" else 0
    for axis, (before, after) in enumerate(np.asarray(edges).tolist()):
        if not before and not after:
            continue
        size = made.dims[axis]
        if not isinstance(size, int):
            op.refuse(f"it mirrors the dimension {size}, which is not known", SPECIALISE)
        parts = [made]
        if before:
            parts.insert(0, _mirrored(op, made, axis, skip, skip + before))
        if after:
            parts.append(_mirrored(op, made, axis, size - skip - after, size - skip))
        made = b.concatenate(parts, axis)
    return made


def _mirrored(op: Emission, x: Operand, axis: int, start: int, limit: int) -> Operand:
    starts, limits = [0] * x.rank, list(x.dims)
    starts[axis], limits[axis] = start, limit
    part = op.build.slice(x, starts, limits)
    return op.build.made(op.build.hlo.reverse(part.value, [axis]), part.dtype, part.dims)
