"""Maxima and means of windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.backends.xla.builder import neutral
from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.windows import paddings, space, spatial, windows_over
from graphopt.backends.xla.table import RULES
from graphopt.ir.dimensions import KnownDim


@RULES.lower("tf.MaxPool", "tf.MaxPool3D", "tf.MaxPoolV2")
def max_pool(op: Emission) -> Operand:
    """The maximum of each window."""
    x = op.input(0)
    if op.node.op == "tf.MaxPoolV2":
        op.refuse("its window is an operand", "export the model with fixed windows")
    return _pooled(op, "maximum", x)[0]


@RULES.lower("tf.AvgPool", "tf.AvgPool3D")
def avg_pool(op: Emission) -> Operand:
    """The mean of each window, of what is no padding."""
    b, x = op.build, op.input(0)
    total, pads, window = _pooled(op, "add", x)
    if not any(low or high for low, high in pads):
        return b.div(total, float(np.prod(window)))
    axes = space(op, x.rank)
    dims: list[KnownDim] = [x.dims[axis] if axis in axes else 1 for axis in range(x.rank)]
    count, _, _ = _pooled(op, "add", b.full(1, x.dtype, dims))
    return b.div(total, b.broadcast(count, total.dims, range(x.rank)))


def _pooled(op: Emission, kind: str, x: Operand) -> tuple[Operand, list[tuple[int, int]], list[int]]:
    axes = space(op, x.rank)
    window, strides = spatial(op, "ksize", len(axes)), spatial(op, "strides", len(axes))
    pads = paddings(op, [x.dims[axis] for axis in axes], window, strides)
    return reduce_window(op, kind, x, axes, window, strides, pads), pads, window


def reduce_window(
    op: Emission,
    kind: str,
    x: Operand,
    axes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> Operand:
    """A reduction of windows along `axes`."""
    b = op.build
    sizes, steps, padding = [1] * x.rank, [1] * x.rank, [(0, 0)] * x.rank
    dims = list(x.dims)
    for axis, size, step, pad in zip(axes, window, strides, pads, strict=True):
        sizes[axis], steps[axis], padding[axis] = size, step, pad
        dims[axis] = windows_over(x.dims[axis], size, step, pad)
    start = b.constant(neutral(kind, x.dtype), x.dtype)
    operation = b.hlo.ReduceWindowOp(
        [b.type(x.dtype, dims)], [x.value], [start.value], sizes, window_strides=steps,
        padding=b.ir.DenseElementsAttr.get(np.asarray(padding, np.int64).reshape(x.rank, 2)),
    )  # fmt: skip
    b.scalar_region(operation, (x.dtype, x.dtype), lambda left, right: [b.binary(kind, left, right)])
    return b.made(operation.results[0], x.dtype, dims)
