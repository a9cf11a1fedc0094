"""Splitting, slicing and reversing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import as_int64, longs
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Value

LIMIT = int(np.iinfo(np.int64).max)


@RULES.legalize("tf.Split")
def split(op: Lowering) -> list[Value | None]:
    """Equal parts along an axis."""
    axis = int(op.constant_input(0, "the axis"))
    node = op.emit_node("Split", (op.input(1),), attrs={"axis": axis, "num_outputs": len(op.node.outputs)})
    return list(node.outputs)


@RULES.legalize("tf.SplitV")
def split_sizes(op: Lowering) -> list[Value | None]:
    """Parts of given sizes along an axis; one size may be left open."""
    axis, sizes = int(op.constant_input(2, "the axis")), op.constant_input(1, "the sizes").astype(np.int64)
    if (sizes < 0).any():
        dims = op.input(0).shape.dims
        whole = dims[axis] if dims is not None else None
        if not isinstance(whole, int):
            op.refuse("the size of one part follows from a dimension that is not known")
        sizes = np.where(sizes < 0, whole - sizes[sizes >= 0].sum(), sizes)
    node = op.emit_node("Split", (op.input(0), longs(op, sizes.tolist(), "sizes")), attrs={"axis": axis})
    return list(node.outputs)


@RULES.legalize("tf.Unpack")
def unpack(op: Lowering) -> list[Value | None]:
    """Slices along an axis, which is left out of them."""
    axis, value = int(op.attr("axis")), op.input(0)
    rank, count = op.rank(value), len(op.node.outputs)
    dims = list(value.shape.dims or ())
    dims[axis % rank] = 1
    part = TensorType(value.dtype, Shape(dims))
    node = op.emit_node(
        "Split", (value,), [part] * count, f"{op.node.name}/parts", {"axis": axis, "num_outputs": count}
    )
    axes = longs(op, [axis], "axes")
    return [
        op.emit("Squeeze", made, axes, type=output.type, name=f"{op.node.name}/{place}")
        for place, (made, output) in enumerate(zip(node.outputs, op.node.outputs, strict=True))
    ]


@RULES.legalize("tf.Slice")
def sliced(op: Lowering) -> Value:
    """A part from a place on, of a size; a size of -1 reaches to the end."""
    sizes = op.known(2)
    begin = as_int64(op, op.input(1))
    if sizes is not None and op.known(1) is not None:
        first = op.constant_input(1, "the beginning").astype(np.int64)
        ends = np.where(sizes < 0, LIMIT, first + sizes)
        return op.emit("Slice", op.input(0), begin, longs(op, ends.tolist(), "ends"))
    if sizes is not None and (sizes < 0).any():
        op.refuse("it reaches to the end from a place that is computed")
    end = op.emit("Add", begin, as_int64(op, op.input(2)), type=begin.type, name=f"{op.node.name}/ends")
    return op.emit("Slice", op.input(0), begin, end)


@RULES.legalize("tf.StridedSlice")
def strided_slice(op: Lowering) -> Value:
    """A slice in all its masks: bounds that are constants or computed, an ellipsis, dimensions put in and left out."""
    value, rank = op.input(0), op.rank(op.input(0))
    steps = op.constant_input(3, "the steps").astype(np.int64)
    spec = _dense(op, rank, len(steps))
    axes, gone, added = [], [], []
    rows: list[tuple[int, int]] = []  # axis and place in the bounds
    axis = position = 0
    for kind, place in spec:
        if kind == "new":
            added.append(position)
            position += 1
        elif kind == "all":
            axis += 1
            position += 1
        else:
            axes.append(axis)
            rows.append((axis, place))
            if kind == "shrink":
                gone.append(axis)
            else:
                position += 1
            axis += 1
    if rows:
        value = _slice(op, value, rows, steps, gone, _before(op, gone, added) if gone or added else op.type)
    if gone:
        squeezed = _before(op, (), added) if added else op.type
        value = op.emit("Squeeze", value, longs(op, gone, "shrunk"), type=squeezed, name=f"{op.node.name}/shrunk")
    if added:
        value = op.emit("Unsqueeze", value, longs(op, added, "new"), name=f"{op.node.name}/new")
    return value if rows or added else op.emit("Identity", value)


def _before(op: Lowering, gone: Sequence[int], added: Sequence[int]) -> TensorType:
    """The result's type before dimensions are put in, and before others are left out."""
    dims = op.type.shape.dims
    if dims is None:
        return TensorType(op.type.dtype, Shape(None))
    kept = [dim for place, dim in enumerate(dims) if place not in added]
    for axis in gone:
        kept.insert(axis, 1)
    return TensorType(op.type.dtype, Shape(kept))


def _dense(op: Lowering, rank: int, count: int) -> list[tuple[str, int]]:
    """What each entry of the bounds is, the ellipsis spelled out."""
    masks = {name: int(op.attr(f"{name}_mask") or 0) for name in ("ellipsis", "new_axis", "shrink_axis")}
    taken = sum(1 for place in range(count) if not (masks["ellipsis"] | masks["new_axis"]) & 1 << place)
    spec: list[tuple[str, int]] = []
    for place in range(count):
        bit = 1 << place
        if masks["ellipsis"] & bit:
            spec += [("all", place)] * (rank - taken)
        elif masks["new_axis"] & bit:
            spec.append(("new", place))
        else:
            spec.append(("shrink" if masks["shrink_axis"] & bit else "slice", place))
    return spec


def _slice(
    op: Lowering, value: Value, rows: list[tuple[int, int]], steps: Any, gone: list[int], kind: TensorType
) -> Value:
    starts, ends = op.known(1), op.known(2)
    chosen = [1 if axis in gone else int(steps[place]) for axis, place in rows]
    if starts is not None and ends is not None:
        lows, highs = [], []
        for (axis, place), step in zip(rows, chosen, strict=True):
            low, high = int(starts[place]), int(ends[place])
            if axis in gone:
                high = low + 1 if low != -1 else LIMIT
            else:
                low = (0 if step > 0 else LIMIT) if int(op.attr("begin_mask") or 0) & 1 << place else low
                high = (LIMIT if step > 0 else -LIMIT) if int(op.attr("end_mask") or 0) & 1 << place else high
            lows.append(low)
            highs.append(high)
        first, last = longs(op, lows, "starts"), longs(op, highs, "ends")
    else:
        first, last = _computed(op, rows, gone, chosen)
    axes = longs(op, [axis for axis, _ in rows], "axes")
    return op.emit(
        "Slice", value, first, last, axes, longs(op, chosen, "steps"), type=kind, name=f"{op.node.name}/slice"
    )


def _computed(op: Lowering, rows: list[tuple[int, int]], gone: list[int], steps: list[int]) -> tuple[Value, Value]:
    """Bounds that are computed: open ones are as far as can be, those of a dimension that is left out end behind where
    they begin, be that the last place or another."""
    places, count = [place for _, place in rows], (op.input(1).shape.dims or (None,))[0]
    first, last = (as_int64(op, op.input(index)) for index in (1, 2))
    if places != list(range(count if isinstance(count, int) else -1)):
        chosen = longs(op, places, "places")
        kind = TensorType(first.dtype, Shape((len(places),)))
        first, last = (
            op.emit("Gather", bound, chosen, type=kind, name=f"{op.node.name}/bound", axis=0) for bound in (first, last)
        )
    masks = [int(op.attr(name) or 0) for name in ("begin_mask", "end_mask")]
    is_gone = [axis in gone for axis, _ in rows]
    opens = [
        [bool(mask & 1 << place) and not one for place, one in zip(places, is_gone, strict=True)] for mask in masks
    ]
    first = _chosen(op, opens[0], [0 if step > 0 else LIMIT for step in steps], first)
    last = _chosen(op, opens[1], [LIMIT if step > 0 else -LIMIT for step in steps], last)
    if any(is_gone):
        behind = op.step("AddV2", first, longs(op, [1], "one"))
        zero, limit = longs(op, [0], "zero"), longs(op, [LIMIT], "limit")
        behind = op.step("SelectV2", op.step("Equal", behind, zero), limit, behind)
        last = op.step("SelectV2", op.constant(np.array(is_gone), name=f"{op.node.name}/gone"), behind, last)
    return first, last


def _chosen(op: Lowering, condition: list[bool], numbers: list[int], value: Value) -> Value:
    if not any(condition):
        return value
    held = op.constant(np.array(condition), name=f"{op.node.name}/open")
    return op.step("SelectV2", held, longs(op, numbers, "limits"), value)
