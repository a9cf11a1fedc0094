"""Sorting, and the largest elements."""

from __future__ import annotations

import itertools

import numpy as np

from graphopt.importers.stablehlo.bodies import tried
from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.table import RULES
from graphopt.ir.types import BOOL, FLOAT32, INT32
from graphopt.ir.value import Value


@RULES.translate("chlo.top_k", "custom_call.TopK")
def top_k(op: Operation) -> list[Operand]:
    """The largest elements along the last axis, and their places."""
    count = op.integer("k") if op.has("k") else op.dims(0)[-1]
    if not isinstance(count, int) or (op.has("largest") and not op.flag("largest")):
        op.refuse("it is not known how many are the largest")
    made = op.build.node("TopKV2", [op.full(0), op.build.integers(count)])
    return [op.build.operand(value, op.dims(place)) for place, value in enumerate(made.outputs)]


@RULES.translate("stablehlo.sort")
def sort(op: Operation) -> list[Operand]:
    """Tensors ordered along an axis by the first of them: places by `TopKV2`, of equal elements the first one first.

    Where a NaN goes is TensorFlow's choice.
    """
    axis, build = op.integer("dimension"), op.build
    key = op.input(0)
    if key.dtype.kind == "complex" or (key.dtype.kind == "uint" and key.dtype.bits > 16):
        op.refuse(f"it sorts {key.dtype.name}")
    is_ascending = _direction(op)
    size = key.dims[axis]
    count = build.integers(size) if isinstance(size, int) else build.size(key, axis)
    order = [place for place in range(key.rank) if place != axis] + [axis]
    back = [order.index(place) for place in range(key.rank)]
    keys = build.transposed(op.full(0), order)
    if keys.dtype is BOOL or keys.dtype.kind == "uint":
        keys = build.cast(keys, INT32)
    descending = _opposite(op, keys) if is_ascending else keys
    found = build.node("TopKV2", [descending, count])
    best, places = found.outputs
    results = []
    for index, operand in enumerate(op.operands):
        if operand.iota_axis == axis:
            value = build.cast(places, operand.dtype)
        elif index == 0:
            value = build.cast(_opposite(op, best) if is_ascending else best, operand.dtype)
        else:
            moved = build.transposed(op.full(index), order)
            value = build.value("GatherV2", moved, places, build.integers(key.rank - 1), batch_dims=key.rank - 1)
        results.append(build.operand(build.transposed(value, back), key.dims))
    return results


def _opposite(op: Operation, value: Value) -> Value:
    """Numbers in the opposite order: their negatives, of integers one less, which never overflows."""
    return op.build.value("Neg" if value.dtype.is_float else "Invert", value)


def _direction(op: Operation) -> bool:
    """Whether the first tensor ascends. Refuses a comparison of anything else."""
    is_float = op.input(0).dtype.is_float
    numbers = (-2.5, -1, 0, 1, 3) if is_float else (0, 1) if op.input(0).dtype is BOOL else (0, 1, 2, 5)
    pairs = list(itertools.product(numbers, numbers, (0, 1), (0, 1)))
    samples = [np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])]
    for _ in op.operands[1:]:  # of which the comparison must not take notice
        samples += [np.array([pair[2] for pair in pairs]), np.array([pair[3] for pair in pairs])]
    (found,) = tried(op, op.mlir.regions[0], samples)
    left, right = (sample.astype(FLOAT32.numpy) for sample in samples[:2])
    for is_ascending, wanted in ((True, left < right), (False, left > right)):
        if np.array_equal(found, wanted):
            return is_ascending
    op.refuse("it compares elements by a function of its own, or by several keys")
