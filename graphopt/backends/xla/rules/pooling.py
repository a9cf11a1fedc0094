"""Maxima and means of windows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from graphopt.backends.xla.builder import neutral
from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand, static_dims
from graphopt.backends.xla.rules.windows import (
    Pair,
    fixed_pads,
    geometry,
    is_channels_first,
    space,
    spatial,
    windows_over,
)
from graphopt.backends.xla.table import RULES
from graphopt.ir.dimensions import KnownDim
from graphopt.ir.types import INT32

SLICES = 25  # places in a window, up to which it is expressed by slices on CPUs


@RULES.lower("tf.MaxPool", "tf.MaxPool3D", "tf.MaxPoolV2")
def max_pool(op: Emission) -> Operand:
    """The maximum of each window."""
    return _pooled(op, "maximum", op.input(0))[0]


@RULES.lower("tf.MaxPoolWithArgmax")
def max_pool_with_places(op: Emission) -> list[Operand | None]:
    """The maximum of each window, and the first place that has it."""
    b, x = op.build, op.input(0)
    batch, *_, channels = x.static
    window, strides = spatial(op, "ksize", 2), spatial(op, "strides", 2)
    given, counts = geometry(op, x.dims[1:3], window, strides)
    x, pads = fixed_pads(op, x, (1, 2), given, 0)
    shape = x.dims if op.attr("include_batch_in_index") else (1, *x.dims[1:])
    size = int(np.prod(static_dims(shape)))
    places = b.broadcast(b.reshape(b.iota(INT32, (size,), 0), shape), x.dims)
    dims = [batch, *counts, channels]
    padding = b.ir.DenseElementsAttr.get(np.asarray([(0, 0), *pads, (0, 0)], np.int64))
    starts = [b.constant(neutral("maximum", x.dtype), x.dtype), b.constant(size, INT32)]
    operation = b.hlo.ReduceWindowOp(
        [b.type(x.dtype, dims), b.type(INT32, dims)], [x.value, places.value], [start.value for start in starts],
        [1, *window, 1], window_strides=[1, *strides, 1], padding=padding,
    )  # fmt: skip

    def larger(value: Operand, place: Operand, other: Operand, where: Operand) -> list[Operand]:
        ties = b.binary("and_", b.compare("EQ", value, other), b.compare("LT", place, where))
        first = b.binary("or_", b.compare("GT", value, other), ties)
        return [b.select(first, value, other), b.select(first, place, where)]

    b.scalar_region(operation, (x.dtype, INT32, x.dtype, INT32), larger)
    values, found = (b.made(v, dtype, dims) for v, dtype in zip(operation.results, (x.dtype, INT32), strict=True))
    return [values, b.convert(found, op.node.outputs[1].dtype)]


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


def _pooled(op: Emission, kind: str, x: Operand) -> tuple[Operand, list[Pair], list[int]]:
    axes = space(op, x.rank)
    window, strides = _window(op, len(axes))
    pads, counts = geometry(op, [x.dims[axis] for axis in axes], window, strides)
    empty = op.build.constant(neutral(kind, x.dtype), x.dtype)
    x, fixed = fixed_pads(op, x, axes, pads, empty)
    made = reduce_window(op, kind, x, axes, window, strides, fixed)
    dims = list(made.dims)
    for axis, count in zip(axes, counts, strict=True):
        dims[axis] = count
    return op.build.made(made.value, made.dtype, dims), pads, window


def _window(op: Emission, count: int) -> tuple[list[int], list[int]]:
    """Sizes and strides of the window, attributes or, in the second version, operands."""
    if op.node.op != "tf.MaxPoolV2":
        return spatial(op, "ksize", count), spatial(op, "strides", count)
    first = 2 if is_channels_first(op) else 1
    given = (op.constant_input(place, "its window").reshape(-1).tolist() for place in (1, 2))
    sizes, strides = (numbers[first : first + count] for numbers in given)
    return sizes, strides


def reduce_window(
    op: Emission,
    kind: str,
    x: Operand,
    axes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    body: Callable[[Operand, Operand], Operand] | None = None,
) -> Operand:
    """A reduction of windows along `axes`; `body` puts two elements together in another way than `kind`."""
    b = op.build
    sizes, steps, padding = [1] * x.rank, [1] * x.rank, [(0, 0)] * x.rank
    dims = list(x.dims)
    for axis, size, step, pad in zip(axes, window, strides, pads, strict=True):
        sizes[axis], steps[axis], padding[axis] = size, step, pad
        dims[axis] = windows_over(x.dims[axis], size, step, pad)
    if body is None and _suits_slices(op, x, axes, window, dims):
        return _of_slices(op, kind, x, sizes, steps, padding, dims)
    start = b.constant(neutral(kind, x.dtype), x.dtype)
    operation = b.hlo.ReduceWindowOp(
        [b.type(x.dtype, dims)], [x.value], [start.value], sizes, window_strides=steps,
        padding=b.ir.DenseElementsAttr.get(np.asarray(padding, np.int64).reshape(x.rank, 2)),
    )  # fmt: skip
    join = body if body is not None else lambda left, right: b.binary(kind, left, right)
    b.scalar_region(operation, (x.dtype, x.dtype), lambda left, right: [join(left, right)])
    return b.made(operation.results[0], x.dtype, dims)


def _suits_slices(
    op: Emission, x: Operand, axes: Sequence[int], window: Sequence[int], dims: Sequence[KnownDim]
) -> bool:
    """XLA's code for CPUs is several times faster at sums and maxima of a few slices than at small windows."""
    is_known = all(isinstance(dims[axis], int) and isinstance(x.dims[axis], int) for axis in axes)
    return op.options.for_cpus_alone and is_known and x.rank - 1 not in axes and int(np.prod(window)) <= SLICES


def _of_slices(
    op: Emission,
    kind: str,
    x: Operand,
    window: Sequence[int],
    steps: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dims: Sequence[KnownDim],
) -> Operand:
    """The same by slices of the whole image, one for each place in the window."""
    b = op.build
    low, high = zip(*padding, strict=True)
    image = b.pad(x, low, high, b.constant(neutral(kind, x.dtype), x.dtype))
    total: Operand | None = None
    for starts in itertools.product(*map(range, window)):
        limits = [
            start + (dim - 1) * step + 1 if size > 1 or step > 1 else whole
            for start, dim, step, size, whole in zip(starts, dims, steps, window, image.dims, strict=True)
        ]
        part = b.slice(image, starts, limits, steps)
        total = part if total is None else b.binary(kind, total, part)
    assert total is not None
    return total
