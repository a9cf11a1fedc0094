"""Operators of TensorFlow: pooling and its gradients.

A pool over several dimensions is computed one dimension after the other: maxima and sums are separable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.dimensions import Dim, add
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import ShapeFunction, register
from graphopt.ir.ops.tf_windows import (
    Extent,
    explicit_padding,
    extent,
    layout,
    padded,
    positive,
    ranked,
    settled,
    widened,
    window_count,
)
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import Shape

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]
ATTRIBUTES = ("ksize", "strides", "padding", "explicit_paddings", "data_format")


class Pool(NamedTuple):
    """One window, stride and padding for every dimension, batch and channels included."""

    windows: tuple[int, ...]
    strides: tuple[int, ...]
    padding: bytes
    paddings: tuple[tuple[int, int], ...]

    def extents(self, sizes: Sequence[int]) -> list[Extent]:
        """Counts and paddings of every dimension."""
        return [
            extent(size, window, stride, 1, self.padding, *pads)
            for size, window, stride, pads in zip(sizes, self.windows, self.strides, self.paddings, strict=True)
        ]

    def counts(self, shape: Shape) -> list[Dim]:
        """The result's dimensions, as far as they are known."""
        return [
            size if window == stride == 1 else window_count(size, window, stride, 1, self.padding, *pads)
            for size, window, stride, pads in zip(
                shape.dims or (), self.windows, self.strides, self.paddings, strict=True
            )
        ]


def pool_of(attrs: Attrs, rank: int) -> Pool:
    """Read a pool's attributes. Raises `InferenceError` (a `ValueError`) where they make no sense."""
    where = layout(attrs, rank)
    windows, strides = positive(attrs, "ksize", rank), positive(attrs, "strides", rank)
    if windows[0] != 1 or strides[0] != 1:
        raise InferenceError("pooling over the batch is not supported")
    paddings = [(0, 0)] * rank
    for axis, pads in zip(where.spatial, explicit_padding(attrs, where), strict=True):
        paddings[axis] = pads
    return Pool(windows, strides, attrs["padding"], tuple(paddings))


# Shapes -------------------------------------------------------------------------------------------------------


def pool_shape(rank: int) -> ShapeFunction:
    """Every output has the pooled shape."""

    @settled(*ATTRIBUTES)
    def infer(context: InferenceContext) -> Sequence[Shape]:
        counts = pool_of(context.attrs, rank).counts(ranked(context.shape(0), rank, "the input"))
        return [Shape(counts)] * context.output_count

    return infer


def _with_inputs(attrs: Attrs, windows: Any, strides: Any) -> dict[str, Any]:
    """Attributes of the older form for the operators that take window and strides as inputs."""
    return {
        **attrs,
        "ksize": tuple(int(item) for item in windows),
        "strides": tuple(int(item) for item in strides),
    }


@settled("padding", "data_format")
def _max_pool_v2_shape(context: InferenceContext) -> Sequence[Shape]:
    windows, strides = context.constant_ints(1), context.constant_ints(2)
    images = ranked(context.shape(0), 4, "the input")
    if windows is None or strides is None:
        return [Shape((images[0], None, None, None))]
    return [Shape(pool_of(_with_inputs(context.attrs, windows, strides), 4).counts(images))]


@settled("pooling_ratio")
def _fractional_shape(context: InferenceContext) -> Sequence[Shape]:
    images = ranked(context.shape(0), 4, "the input")
    ratios = context.attrs.get("pooling_ratio")
    if not isinstance(ratios, tuple) or len(ratios) != 4 or min(ratios) < 1:
        raise InferenceError(f"pooling ratios {ratios!r} must be four numbers, none below 1")
    rows, columns = (
        int(size / ratio) if isinstance(size, int) else None
        for size, ratio in ((images[1], ratios[1]), (images[2], ratios[2]))
    )
    return [Shape((images[0], rows, columns, images[3])), Shape((add(rows, 1),)), Shape((add(columns, 1),))]


def _shaped_by_input(rank: int, index: int = 0) -> ShapeFunction:
    """A gradient shaped like the tensor at `index`."""

    def infer(context: InferenceContext) -> Sequence[Shape]:
        return [ranked(context.shape(index), rank, "the input")] * context.output_count

    return infer


def shaped_by_list(rank: int) -> ShapeFunction:
    """A gradient shaped as input 0, a list of sizes, says."""

    def infer(context: InferenceContext) -> Sequence[Shape]:
        return [ranked(context.as_shape(0), rank, "the input")]

    return infer


# Evaluation ---------------------------------------------------------------------------------------------------


def _taken(axis: int, offset: int, stride: int, count: int) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, slice(offset, offset + max(0, (count - 1) * stride + 1), stride))


def _reduced(values: Array, axis: int, window: int, stride: int, count: int, combine: np.ufunc) -> Array:
    """`combine` over windows along one axis of padded `values`."""
    total = np.array(values[_taken(axis, 0, stride, count)])
    for offset in range(1, window):
        combine(total, values[_taken(axis, offset, stride, count)], out=total)
    return total


def lowest(dtype: np.dtype[Any]) -> Any:
    """The value every other is at least as large as."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).min
    return -np.inf


def max_pool(values: Array, pool: Pool) -> Array:
    """The largest element of each window."""
    extents = pool.extents(values.shape)
    result = padded(values, range(values.ndim), extents, lowest(values.dtype))
    for axis, (window, stride, item) in enumerate(zip(pool.windows, pool.strides, extents, strict=True)):
        if window > 1 or stride > 1:
            result = _reduced(result, axis, window, stride, item.places, np.maximum)
    return result if result is not values else values.copy()


def window_sizes(shape: Sequence[int], pool: Pool) -> Array:
    """How many elements each window covers, padding left out; shaped to broadcast against the result."""
    extents = pool.extents(shape)
    sizes = np.ones((1,) * len(shape), np.int64)
    for axis, (size, window, stride, item) in enumerate(zip(shape, pool.windows, pool.strides, extents, strict=True)):
        starts = np.arange(item.places) * stride - item.before
        covered = np.minimum(starts + window, size) - np.maximum(starts, 0)
        sizes = sizes * covered.reshape([-1 if place == axis else 1 for place in range(len(shape))])
    return sizes


def average_pool(values: Array, pool: Pool) -> Array:
    """The mean of each window, padding left out."""
    extents = pool.extents(values.shape)
    wide = widened(values)
    result = padded(wide, range(values.ndim), extents)
    for axis, (window, stride, item) in enumerate(zip(pool.windows, pool.strides, extents, strict=True)):
        if window > 1 or stride > 1:
            result = _reduced(result, axis, window, stride, item.places, np.add)
    return np.asarray(result / window_sizes(values.shape, pool).astype(wide.dtype)).astype(values.dtype)


def max_positions(values: Array, pool: Pool) -> tuple[Array, Array]:
    """The largest element of each window and the flat index of the first place that holds it."""
    extents = pool.extents(values.shape)
    axes = range(values.ndim)
    source = padded(values, axes, extents, lowest(values.dtype))
    places = padded(np.arange(values.size).reshape(values.shape), axes, extents, -1)
    shape = tuple(item.places for item in extents)
    best, positions = np.empty(shape, values.dtype), np.full(shape, -1)
    for offset in product(*(range(window) for window in pool.windows)):
        where = tuple(
            slice(start, start + max(0, (item.places - 1) * stride + 1), stride)
            for start, stride, item in zip(offset, pool.strides, extents, strict=True)
        )
        candidate, place = source[where], places[where]
        better = (place >= 0) & ((positions < 0) | (candidate > best))
        np.copyto(best, candidate, where=better)
        np.copyto(positions, place, where=better)
    return best, positions


def _evaluate_max(attrs: Attrs, values: Array) -> Array:
    return max_pool(values, pool_of(attrs, values.ndim))


def _evaluate_max_v2(attrs: Attrs, values: Array, windows: Array, strides: Array) -> Array:
    return _evaluate_max(_with_inputs(attrs, windows, strides), values)


def _evaluate_average(attrs: Attrs, values: Array) -> Array:
    pool = pool_of(attrs, values.ndim)
    if pool.windows[layout(attrs, values.ndim).channel] != 1:
        raise ValueError("averages over channels are not supported")
    return average_pool(values, pool)


def _evaluate_max_with_argmax(attrs: Attrs, values: Array) -> list[Array]:
    best, positions = max_positions(values, pool_of(attrs, 4))
    if not attrs["include_batch_in_index"] and values.size:
        positions %= values.size // values.shape[0]
    return [best, positions.astype(attrs["Targmax"].numpy)]


def _evaluate_max_gradient(attrs: Attrs, values: Array, pooled: Array, gradients: Array) -> Array:
    _, positions = max_positions(values, pool_of(attrs, values.ndim))
    if pooled.shape != positions.shape or gradients.shape != positions.shape:
        raise ValueError(f"a gradient of shape {list(gradients.shape)} does not fit {list(positions.shape)}")
    wide = widened(gradients)
    flat = np.zeros(values.size, wide.dtype)
    inside = positions >= 0  # explicit padding may leave a window without any element
    np.add.at(flat, positions[inside], wide[inside])
    return flat.reshape(values.shape).astype(gradients.dtype)


def _evaluate_max_gradient_v2(
    attrs: Attrs, values: Array, pooled: Array, gradients: Array, windows: Array, strides: Array
) -> Array:
    return _evaluate_max_gradient(_with_inputs(attrs, windows, strides), values, pooled, gradients)


def _evaluate_average_gradient(attrs: Attrs, sizes: Array, gradients: Array) -> Array:
    shape = tuple(int(size) for size in sizes)
    pool = pool_of(attrs, len(shape))
    extents = pool.extents(shape)
    if gradients.shape != tuple(item.places for item in extents):
        raise ValueError(f"a gradient of shape {list(gradients.shape)} does not fit an input of {list(shape)}")
    wide = widened(gradients)
    share = wide / window_sizes(shape, pool).astype(wide.dtype)
    frame = [size + item.before + item.after for size, item in zip(shape, extents, strict=True)]
    result = np.zeros(frame, wide.dtype)
    for offset in product(*(range(window) for window in pool.windows)):
        where = tuple(
            slice(start, start + max(0, (item.places - 1) * stride + 1), stride)
            for start, stride, item in zip(offset, pool.strides, extents, strict=True)
        )
        result[where] += share
    inner = tuple(slice(item.before, item.before + size) for item, size in zip(extents, shape, strict=True))
    return np.ascontiguousarray(result[inner]).astype(gradients.dtype)


register("tf.MaxPool", shape=pool_shape(4), evaluate=_evaluate_max)
register("tf.MaxPoolV2", shape=_max_pool_v2_shape, evaluate=_evaluate_max_v2)
register("tf.MaxPool3D", shape=pool_shape(5), evaluate=_evaluate_max)
register("tf.AvgPool", shape=pool_shape(4), evaluate=_evaluate_average)
register("tf.AvgPool3D", shape=pool_shape(5), evaluate=_evaluate_average)
register("tf.MaxPoolWithArgmax", shape=pool_shape(4), evaluate=_evaluate_max_with_argmax)
# Without a fixed seed the borders of fractional pools are drawn anew each time.
register(("tf.FractionalMaxPool", "tf.FractionalAvgPool"), traits=Trait.RANDOM, shape=_fractional_shape)

register("tf.MaxPoolGrad", traits=Trait.TRAINING, shape=_shaped_by_input(4), evaluate=_evaluate_max_gradient)
register("tf.MaxPoolGradV2", traits=Trait.TRAINING, shape=_shaped_by_input(4), evaluate=_evaluate_max_gradient_v2)
register("tf.MaxPool3DGrad", traits=Trait.TRAINING, shape=_shaped_by_input(5), evaluate=_evaluate_max_gradient)
register("tf.AvgPoolGrad", traits=Trait.TRAINING, shape=shaped_by_list(4), evaluate=_evaluate_average_gradient)
register("tf.AvgPool3DGrad", traits=Trait.TRAINING, shape=shaped_by_list(5), evaluate=_evaluate_average_gradient)
register(("tf.MaxPoolGradGrad", "tf.MaxPoolGradGradV2"), traits=Trait.TRAINING, shape=_shaped_by_input(4, 1))
register("tf.MaxPool3DGradGrad", traits=Trait.TRAINING, shape=_shaped_by_input(5, 1))
register("tf.MaxPoolGradGradWithArgmax", traits=Trait.TRAINING, shape=pool_shape(4))
register("tf.MaxPoolGradWithArgmax", traits=Trait.TRAINING, shape=_shaped_by_input(4))
register("tf.FractionalMaxPoolGrad", traits=Trait.TRAINING, shape=_shaped_by_input(4))
register("tf.FractionalAvgPoolGrad", traits=Trait.TRAINING, shape=shaped_by_list(4))
