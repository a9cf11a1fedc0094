"""Operators of TensorFlow that fill, count up, repeat and broadcast: Fill, Range, OneHot, Tile, BroadcastTo and kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.attributes import Attributes
from graphopt.ir.ops.inference import InferenceContext, InferenceError, normalized_axis, same_as
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.shapes import unknown_of_rank, vector_length
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]


def shape_operand(context: InferenceContext, index: int) -> Shape:
    """Input `index` read as a shape; at least its rank where only the operand's length is known.

    Raises `InferenceError` for negative sizes.
    """
    known = context.partial(index)
    if known is None:
        return unknown_of_rank(vector_length(context, index))
    if any(isinstance(dim, int) and dim < 0 for dim in known):
        raise InferenceError(f"sizes {list(known)} cannot be negative")
    return Shape(known)


def sizes_of(operand: Array) -> tuple[int, ...]:
    """A shape operand's numbers. Raises `ValueError` for a negative one."""
    sizes = tuple(int(size) for size in operand.reshape(-1))
    if any(size < 0 for size in sizes):
        raise ValueError(f"sizes {list(sizes)} cannot be negative")
    return sizes


def zero_of(dtype: np.dtype[Any]) -> Any:
    """What TensorFlow fills with by default: zero, false, the empty string."""
    return b"" if dtype.kind == "O" else dtype.type(0)


# Fill, ZerosLike, OnesLike, Empty -----------------------------------------------------------------------------


def _filled_shape(context: InferenceContext) -> Sequence[Shape]:
    return [shape_operand(context, 0)]


def _fill(attrs: Attributes, dims: Array, value: Array) -> Array:
    if value.size != 1 or value.ndim > 1:
        raise ValueError("the value to fill with must be a scalar")
    return np.broadcast_to(value.reshape(()), sizes_of(dims))


def _zeros_like(attrs: Attributes, value: Array) -> Array:
    return np.broadcast_to(np.array(zero_of(value.dtype), value.dtype), value.shape)


def _ones_like(attrs: Attributes, value: Array) -> Array:
    return np.broadcast_to(np.array(1, value.dtype), value.shape)


register("tf.Fill", shape=_filled_shape, evaluate=_fill)
register("tf.Empty", shape=_filled_shape)
register("tf.ZerosLike", traits=Trait.SHAPE_ONLY, shape=same_as(), evaluate=_zeros_like)
register("tf.OnesLike", traits=Trait.SHAPE_ONLY, shape=same_as(), evaluate=_ones_like)


# Range, LinSpace ----------------------------------------------------------------------------------------------


def _range_shape(context: InferenceContext) -> Sequence[Shape]:
    constants = [context.constant(index) for index in range(3)]
    if all(constant is not None and constant.size == 1 for constant in constants):
        start, limit, delta = (constant.reshape(()) for constant in constants if constant is not None)
        return [Shape((range_size(start, limit, delta),))]
    parts = [context.partial(index) for index in range(3)]
    start_dim, limit_dim, delta_dim = (part[0] if part is not None and len(part) == 1 else None for part in parts)
    if start_dim is None or limit_dim is None or not isinstance(delta_dim, int) or delta_dim == 0:
        return [Shape((None,))]
    distance = dimensions.subtract(limit_dim, start_dim)
    if delta_dim < 0:
        distance = dimensions.multiply(distance, -1)
    if isinstance(distance, int) and distance < 0:
        raise InferenceError(f"a range from {start_dim} to {limit_dim} cannot step by {delta_dim}")
    return [Shape((dimensions.ceil_divide(distance, abs(delta_dim)),))]


def range_size(start: Array, limit: Array, delta: Array) -> int:
    """Number of elements of a range, counted in the type it has. Raises `InferenceError` where it never ends."""
    if delta == 0 or (delta > 0 and start > limit) or (delta < 0 and start < limit):
        raise InferenceError(f"a range from {start} to {limit} cannot step by {delta}")
    if delta.dtype.kind in "iu":
        return -(-abs(int(limit) - int(start)) // abs(int(delta)))
    with np.errstate(all="ignore"):
        size = np.ceil(np.abs((limit - start) / delta))
    if not np.isfinite(size):
        raise InferenceError(f"a range from {start} to {limit} by {delta} has no size")
    return int(size)


def _range(attrs: Attributes, start: Array, limit: Array, delta: Array) -> Array:
    if any(part.size != 1 or part.ndim > 1 for part in (start, limit, delta)):
        raise ValueError("start, limit and delta must be scalars")
    first, step = start.reshape(()), delta.reshape(())
    size = range_size(first, limit.reshape(()), step)
    with np.errstate(all="ignore"):
        counted: Array = np.arange(size).astype(start.dtype)
        result: Array = (counted * step + first).astype(start.dtype, copy=False)
    return result


def _lin_space_shape(context: InferenceContext) -> Sequence[Shape]:
    counts = context.partial(2)
    count = counts[0] if counts is not None and len(counts) == 1 else None
    if isinstance(count, int) and count <= 0:
        raise InferenceError(f"a number of {count} points is not positive")
    return [Shape((count,))]


def _lin_space(attrs: Attributes, start: Array, stop: Array, num: Array) -> Array:
    if start.ndim or stop.ndim or num.ndim:
        raise ValueError("start, stop and num must be scalars")
    count = int(num)
    if count <= 0:
        raise ValueError(f"a number of {count} points is not positive")
    dtype = start.dtype
    with np.errstate(all="ignore"):
        step = (stop - start) / dtype.type(max(count - 1, 1))
        points: Array = (np.arange(count).astype(dtype) * step + start).astype(dtype, copy=False)
    points[0] = start
    if count > 1:
        points[-1] = stop
    return points


register("tf.Range", shape=_range_shape, evaluate=_range)
register("tf.LinSpace", shape=_lin_space_shape, evaluate=_lin_space)


# OneHot -------------------------------------------------------------------------------------------------------


def _one_hot_shape(context: InferenceContext) -> Sequence[Shape]:
    depths = context.partial(1)
    depth = depths[0] if depths is not None and len(depths) == 1 else None
    if isinstance(depth, int) and depth < 0:
        raise InferenceError(f"a depth of {depth} is negative")
    dims = context.shape(0).dims
    if dims is None:
        return [UNKNOWN_SHAPE]
    axis = _one_hot_axis(context.attrs, len(dims))
    return [Shape((*dims[:axis], depth, *dims[axis:]))]


def _one_hot_axis(attrs: Attributes, rank: int) -> int:
    axis = int(attrs["axis"])
    if axis < -1:
        raise InferenceError(f"axis {axis} is below -1")
    return normalized_axis(axis, rank + 1)


def _one_hot(attrs: Attributes, indices: Array, depth: Array, on: Array, off: Array) -> Array:
    if depth.ndim or on.ndim or off.ndim:
        raise ValueError("depth, on_value and off_value must be scalars")
    if int(depth) < 0:
        raise ValueError(f"a depth of {int(depth)} is negative")
    axis = _one_hot_axis(attrs, indices.ndim)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = int(depth)
    hot = np.expand_dims(indices, axis) == np.arange(int(depth)).reshape(shape)
    result = np.empty(hot.shape, on.dtype)
    result[...] = off
    result[hot] = on
    return result


register("tf.OneHot", shape=_one_hot_shape, evaluate=_one_hot)


# Tile, BroadcastTo --------------------------------------------------------------------------------------------


def _tile_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = context.shape(0).dims
    counts = context.partial(1)
    if counts is None:
        length = vector_length(context, 1)
        return [unknown_of_rank(length if dims is None else len(dims))]
    if any(isinstance(count, int) and count < 0 for count in counts):
        raise InferenceError(f"multiples {list(counts)} cannot be negative")
    if dims is None:
        return [Shape(0 if count == 0 else None for count in counts)]
    if len(counts) != len(dims):
        raise InferenceError(f"{len(counts)} multiples do not fit rank {len(dims)}")
    return [Shape(dimensions.multiply(dim, count) for dim, count in zip(dims, counts, strict=True))]


def _tile(attrs: Attributes, value: Array, multiples: Array) -> Array:
    counts = sizes_of(multiples)
    if len(counts) != value.ndim:
        raise ValueError(f"{len(counts)} multiples do not fit rank {value.ndim}")
    if 0 in counts:
        return np.empty([size * count for size, count in zip(value.shape, counts, strict=True)], value.dtype)
    spread = value.reshape([part for size in value.shape for part in (1, size)])
    wide = [part for size, count in zip(value.shape, counts, strict=True) for part in (count, size)]
    return np.broadcast_to(spread, wide).reshape([size * n for size, n in zip(value.shape, counts, strict=True)])


def _broadcast_to_shape(context: InferenceContext) -> Sequence[Shape]:
    wanted = shape_operand(context, 1)
    source = context.shape(0)
    if wanted.dims is None or source.dims is None:
        return [wanted]
    if len(source.dims) > len(wanted.dims):
        raise InferenceError(f"shape {source} does not broadcast to {wanted}")
    result = list(wanted.dims)
    for place in range(-len(source.dims), 0):
        dim, size = source.dims[place], result[place]
        if isinstance(dim, int) and dim != 1:
            if isinstance(size, int) and size != dim:
                raise InferenceError(f"shape {source} does not broadcast to {wanted}")
            result[place] = dim
    return [Shape(result)]


def _broadcast_to(attrs: Attributes, value: Array, shape: Array) -> Array:
    if shape.ndim != 1:
        raise ValueError("a shape must be a vector")
    return np.broadcast_to(value, sizes_of(shape))


register("tf.Tile", shape=_tile_shape, evaluate=_tile)
register("tf.BroadcastTo", shape=_broadcast_to_shape, evaluate=_broadcast_to)


# Broadcasting of shapes ---------------------------------------------------------------------------------------


def _broadcast_args_shape(context: InferenceContext) -> Sequence[Shape]:
    lengths = [vector_length(context, index) for index in range(2)]
    known = [length for length in lengths if length is not None]
    return [Shape((max(known) if len(known) == 2 else None,))]


def _broadcast_args(attrs: Attributes, left: Array, right: Array) -> Array:
    if left.ndim != 1 or right.ndim != 1:
        raise ValueError("shapes must be vectors")
    first, second = _aligned(left, right)
    _check_broadcast(first, second)
    return np.array([b if a == 1 else a for a, b in zip(first, second, strict=True)], left.dtype)


def _aligned(left: Array, right: Array) -> tuple[list[int], list[int]]:
    rank = max(left.size, right.size)
    return [1] * (rank - left.size) + left.tolist(), [1] * (rank - right.size) + right.tolist()


def _check_broadcast(first: Sequence[int], second: Sequence[int]) -> None:
    if any(a not in (b, 1) and b != 1 for a, b in zip(first, second, strict=True)):
        raise ValueError(f"shapes {first} and {second} do not broadcast")


def _broadcast_gradient_args(attrs: Attributes, left: Array, right: Array) -> list[Array]:
    """The axes over which the gradient of each operand is summed; nothing where the shapes are the same."""
    if left.ndim != 1 or right.ndim != 1:
        raise ValueError("shapes must be vectors")
    if np.array_equal(left, right):
        return [np.empty(0, left.dtype), np.empty(0, left.dtype)]
    first, second = _aligned(left, right)
    _check_broadcast(first, second)
    axes = range(len(first))
    padding = len(first) - left.size, len(first) - right.size
    return [
        np.array([axis for axis in axes if axis < padding[0] or first[axis] == 1], left.dtype),
        np.array([axis for axis in axes if axis < padding[1] or second[axis] == 1], left.dtype),
    ]


def _two_vectors(context: InferenceContext) -> Sequence[Shape]:
    known = [context.constant_ints(index) for index in range(2)]
    if known[0] is None or known[1] is None:
        return [Shape((None,)), Shape((None,))]
    dtype = np.int64
    results = _broadcast_gradient_args({}, np.array(known[0], dtype), np.array(known[1], dtype))
    return [Shape(result.shape) for result in results]


register("tf.BroadcastArgs", shape=_broadcast_args_shape, evaluate=_broadcast_args)
register("tf.BroadcastGradientArgs", shape=_two_vectors, evaluate=_broadcast_gradient_args)
