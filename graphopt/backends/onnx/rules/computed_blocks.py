"""Blocks of space moved into batches where sizes or margins are computed: shapes are made when the model runs."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import as_int64
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import INT64
from graphopt.ir.value import Value


@RULES.legalize("tf.SpaceToBatchND")
def space_to_batch(op: Lowering) -> Value:
    """Blocks of space as batches: padded, taken apart, reordered."""
    block = [int(n) for n in op.constant_input(1, "the block").reshape(-1)]
    rank, count = op.rank(op.input(0)), len(block)
    margins = [_numbers(op, np.zeros((1, 2))), as_int64(op, op.input(2))]
    if rank > count + 1:
        margins.append(_numbers(op, np.zeros((rank - count - 1, 2))))
    padded = op.step("Pad", op.input(0), op.step("ConcatV2", *margins, op.integers(0), N=len(margins)))
    shape = op.step("Shape", padded, out_type=INT64)
    parts = [_part(op, shape, 0, 1)]
    final = [_numbers(op, [-1])]
    for axis, size in enumerate(block, 1):
        inner = op.step("FloorDiv", _part(op, shape, axis, 1), _numbers(op, [size]))
        parts += [inner, _numbers(op, [size])]
        final.append(inner)
    rest = _part(op, shape, count + 1, -1)
    apart = _reshaped(op, padded, [*parts, rest])
    blocks = [2 + 2 * place for place in range(count)]
    order = [*blocks, 0, *(place - 1 for place in blocks), *range(1 + 2 * count, rank + count)]
    return _reshaped(op, op.step("Transpose", apart, op.integers(order)), [*final, rest])


@RULES.legalize("tf.BatchToSpaceND")
def batch_to_space(op: Lowering) -> Value:
    """Batches as blocks of space: taken apart, reordered, cropped."""
    block = [int(n) for n in op.constant_input(1, "the block").reshape(-1)]
    rank, count, value = op.rank(op.input(0)), len(block), op.input(0)
    shape = op.step("Shape", value, out_type=INT64)
    apart = _reshaped(op, value, [_numbers(op, [*block, -1]), _part(op, shape, 1, -1)])
    order = [count]
    for place in range(count):
        order += [count + 1 + place, place]
    moved = op.step("Transpose", apart, op.integers([*order, *range(2 * count + 1, count + rank)]))
    sizes = op.step("Mul", _part(op, shape, 1, count), _numbers(op, block))
    whole = _reshaped(op, moved, [_numbers(op, [-1]), sizes, _part(op, shape, count + 1, -1)])
    columns = op.edit.node("tf.Unpack", [as_int64(op, op.input(2))], {"num": 2, "axis": 1}).outputs
    ends = op.step("Sub", sizes, columns[1])
    axes = _numbers(op, list(range(1, 1 + count)))
    return op.emit("Slice", whole, columns[0], ends, axes)


def _numbers(op: Lowering, numbers: object) -> Value:
    return op.constant(np.asarray(numbers, np.int64), name=f"{op.node.name}/numbers")


def _part(op: Lowering, shape: Value, first: int, count: int) -> Value:
    return op.step("Slice", shape, op.integers([first]), op.integers([count]))


def _reshaped(op: Lowering, value: Value, parts: list[Value]) -> Value:
    made = op.step("ConcatV2", *parts, op.integers(0), N=len(parts))
    return op.step("Reshape", value, made)
