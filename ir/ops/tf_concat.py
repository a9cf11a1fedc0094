"""Operators of TensorFlow that join and split: Concat, Pack, Unpack, Split, DynamicPartition, DynamicStitch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.attributes import Attributes
from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError, normalized_axis
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.shapes import known_axis, merged, merged_dim, unknown_of_rank
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]


def _scalar_int(value: Array, what: str) -> int:
    if value.size != 1 or value.ndim > 1:
        raise ValueError(f"{what} must be a scalar")
    return int(value.reshape(()))


# Concat -------------------------------------------------------------------------------------------------------


def concatenated_shape(shapes: Sequence[Shape], axis: int | None) -> Shape:
    """The shape of arrays put in a row along `axis`, which may be negative or unknown.

    Raises `InferenceError` where ranks or other dimensions differ.
    """
    known = [shape.dims for shape in shapes if shape.dims is not None]
    if not known:
        return UNKNOWN_SHAPE
    rank = len(known[0])
    if any(len(dims) != rank for dims in known) or rank == 0:
        raise InferenceError(f"arrays of shapes {', '.join(map(str, shapes))} cannot be concatenated")
    if axis is None:
        return unknown_of_rank(rank)
    place = normalized_axis(axis, rank)
    total: Dim = 0 if len(known) == len(shapes) else None
    result: list[Dim] = [None] * rank
    for dims in known:
        result = [
            merged_dim(left, right) if at != place else None
            for at, (left, right) in enumerate(zip(result, dims, strict=True))
        ]
        total = dimensions.add(total, dims[place])
    result[place] = total
    return Shape(result)


def _concat_shape(context: InferenceContext) -> Sequence[Shape]:
    return [concatenated_shape(context.shapes(1), context.constant_int(0))]


def _concat_v2_shape(context: InferenceContext) -> Sequence[Shape]:
    return [concatenated_shape(context.shapes(0, -1), context.constant_int(context.input_count - 1))]


def _concat(attrs: Attributes, axis: Array, *values: Array) -> Array:
    return np.concatenate(values, normalized_axis(_scalar_int(axis, "an axis"), values[0].ndim))


def _concat_v2(attrs: Attributes, *values: Array) -> Array:
    return _concat(attrs, values[-1], *values[:-1])


def _concat_offset_shape(context: InferenceContext) -> Sequence[Shape]:
    shape = merged([Shape((None,)), *context.shapes(1)])
    return [shape] * context.output_count


def _concat_offset(attrs: Attributes, axis: Array, *shapes: Array) -> list[Array]:
    place = normalized_axis(_scalar_int(axis, "an axis"), shapes[0].size)
    first = np.delete(shapes[0], place)
    offset, offsets = 0, []
    for shape in shapes:
        if shape.ndim != 1 or not np.array_equal(np.delete(shape, place), first):
            raise ValueError(f"shapes {shapes[0].tolist()} and {shape.tolist()} differ beyond axis {place}")
        start = np.zeros_like(shape)
        start[place] = offset
        offsets.append(start)
        offset += int(shape[place])
    return offsets


def _parallel_concat_shape(context: InferenceContext) -> Sequence[Shape]:
    declared = context.attrs.get("shape")
    return [declared if isinstance(declared, Shape) else UNKNOWN_SHAPE]


def _parallel_concat(attrs: Attributes, *values: Array) -> Array:
    if any(value.ndim == 0 or value.shape[0] != 1 for value in values):
        raise ValueError("every input must have a first dimension of 1")
    joined = np.concatenate(values, 0)
    if attrs["shape"].merged(Shape(joined.shape)) is None:
        raise ValueError(f"an array of shape {list(joined.shape)} is not {attrs['shape']}")
    return joined


register("tf.Concat", shape=_concat_shape, evaluate=_concat)
register("tf.ConcatV2", shape=_concat_v2_shape, evaluate=_concat_v2)
register("tf.ConcatOffset", shape=_concat_offset_shape, evaluate=_concat_offset)
register("tf.ParallelConcat", shape=_parallel_concat_shape, evaluate=_parallel_concat)


# Pack, Unpack -------------------------------------------------------------------------------------------------


def _pack_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = merged(context.shapes()).dims
    if dims is None:
        return [UNKNOWN_SHAPE]
    place = normalized_axis(context.attrs["axis"], len(dims) + 1)
    return [Shape((*dims[:place], context.input_count, *dims[place:]))]


def _pack(attrs: Attributes, *values: Array) -> Array:
    place = normalized_axis(attrs["axis"], values[0].ndim + 1)
    return np.stack(values, place)


def _unpack_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = context.shape(0).dims
    count = context.output_count
    if dims is None:
        return [UNKNOWN_SHAPE] * count
    place = normalized_axis(context.attrs["axis"], len(dims))
    if isinstance(dims[place], int) and dims[place] != count:
        raise InferenceError(f"dimension {place} of shape {context.shape(0)} does not give {count} outputs")
    return [Shape((*dims[:place], *dims[place + 1 :]))] * count


def _unpack(attrs: Attributes, value: Array) -> list[Array]:
    place = normalized_axis(attrs["axis"], value.ndim)
    if attrs.get("num", value.shape[place]) != value.shape[place]:
        raise ValueError(f"dimension {place} of shape {list(value.shape)} does not give {attrs['num']} outputs")
    return _pieces(value, place, [1] * value.shape[place], squeeze=True)


def _pieces(value: Array, axis: int, sizes: Sequence[int], squeeze: bool = False) -> list[Array]:
    moved = np.moveaxis(value, axis, 0)
    start, pieces = 0, []
    for size in sizes:
        part = moved[start : start + size]
        pieces.append(part.reshape(part.shape[1:]) if squeeze else np.moveaxis(part, 0, axis))
        start += size
    return pieces


register("tf.Pack", shape=_pack_shape, evaluate=_pack)
register("tf.Unpack", shape=_unpack_shape, evaluate=_unpack)


# Split, SplitV ------------------------------------------------------------------------------------------------


def _split_shape(context: InferenceContext) -> Sequence[Shape]:
    dims, count = context.shape(1).dims, context.output_count
    if dims is None:
        return [UNKNOWN_SHAPE] * count
    axis = known_axis(context, 0, len(dims))
    if axis is None:
        return [unknown_of_rank(len(dims))] * count
    size = dims[axis]
    if isinstance(size, int) and (count == 0 or size % count):
        raise InferenceError(f"dimension {axis} of shape {context.shape(1)} does not split evenly into {count}")
    return [Shape((*dims[:axis], dimensions.divide(size, count), *dims[axis + 1 :]))] * count


def _split(attrs: Attributes, axis: Array, value: Array) -> list[Array]:
    place = normalized_axis(_scalar_int(axis, "an axis"), value.ndim)
    count = attrs["num_split"]
    if count <= 0 or value.shape[place] % count:
        raise ValueError(f"dimension {place} of shape {list(value.shape)} does not split evenly into {count}")
    return _pieces(value, place, [value.shape[place] // count] * count)


def split_sizes(sizes: Sequence[Dim], dim: Dim) -> list[Dim]:
    """Sizes with the one that is -1 worked out. Raises `InferenceError` where they do not add up to `dim`."""
    total: Dim = 0
    for size in sizes:
        if isinstance(size, int) and size < -1:
            raise InferenceError(f"a split size of {size} is negative")
        total = dimensions.add(total, 0 if size == -1 else size)
    left_open = sum(1 for size in sizes if size == -1)
    if left_open > 1:
        raise InferenceError("only one split size may be -1")
    rest = dimensions.subtract(dim, total)
    if isinstance(rest, int) and (rest < 0 or (rest and not left_open)):
        raise InferenceError(f"split sizes {list(sizes)} do not add up to {dim}")
    return [rest if size == -1 else size for size in sizes]


def _split_v_shape(context: InferenceContext) -> Sequence[Shape]:
    dims, count = context.shape(0).dims, context.output_count
    if dims is None:
        return [UNKNOWN_SHAPE] * count
    axis = known_axis(context, 2, len(dims))
    if axis is None:
        return [unknown_of_rank(len(dims))] * count
    sizes = context.partial(1)
    if sizes is None:
        sizes = [None] * count
    if len(sizes) != count:
        raise InferenceError(f"{len(sizes)} split sizes do not fit {count} outputs")
    return [Shape((*dims[:axis], size, *dims[axis + 1 :])) for size in split_sizes(sizes, dims[axis])]


def _split_v(attrs: Attributes, value: Array, sizes: Array, axis: Array) -> list[Array]:
    place = normalized_axis(_scalar_int(axis, "an axis"), value.ndim)
    if sizes.ndim != 1 or sizes.size != attrs.get("num_split", sizes.size) or not sizes.size:
        raise ValueError("there must be one split size for each output")
    known = split_sizes(sizes.tolist(), value.shape[place])
    if sizes.size == 1 and sizes[0] == -1:
        raise ValueError("the size of an only output cannot be -1")
    return _pieces(value, place, [size for size in known if isinstance(size, int)])


register("tf.Split", shape=_split_shape, evaluate=_split)
register("tf.SplitV", shape=_split_v_shape, evaluate=_split_v)


# DynamicPartition, DynamicStitch ------------------------------------------------------------------------------


def _dynamic_partition_shape(context: InferenceContext) -> Sequence[Shape]:
    data, partitions = context.shape(0).dims, context.shape(1).dims
    count = context.output_count
    if partitions is None or data is None:
        return [UNKNOWN_SHAPE] * count
    if len(data) < len(partitions):
        raise InferenceError(f"partitions of rank {len(partitions)} do not fit data of rank {len(data)}")
    merged((Shape(data[: len(partitions)]), Shape(partitions)))
    constant = context.constant(1)
    rest = data[len(partitions) :]
    if constant is None:
        return [Shape((None, *rest))] * count
    return [Shape((int(np.count_nonzero(constant == place)), *rest)) for place in range(count)]


def _dynamic_partition(attrs: Attributes, data: Array, partitions: Array) -> list[Array]:
    count = attrs["num_partitions"]
    if data.shape[: partitions.ndim] != partitions.shape:
        raise ValueError(f"partitions of shape {list(partitions.shape)} do not fit data of shape {list(data.shape)}")
    if partitions.size and not (partitions.min() >= 0 and partitions.max() < count):
        raise ValueError(f"partitions must lie between 0 and {count - 1}")
    return [data[partitions == place] for place in range(count)]


def _dynamic_stitch_shape(context: InferenceContext) -> Sequence[Shape]:
    count = context.input_count // 2
    rest = UNKNOWN_SHAPE
    for indices, data in zip(context.shapes(0, count), context.shapes(count), strict=True):
        if indices.dims is None or data.dims is None:
            continue
        if len(data.dims) < len(indices.dims):
            raise InferenceError(f"indices of shape {indices} do not fit data of shape {data}")
        merged((indices, Shape(data.dims[: len(indices.dims)])))
        rest = merged((rest, Shape(data.dims[len(indices.dims) :])))
    if rest.dims is None:
        return [UNKNOWN_SHAPE]
    return [Shape((_stitched_size(context, count), *rest.dims))]


def _stitched_size(context: InferenceContext, count: int) -> int | None:
    size = 0
    for index in range(count):
        constant = context.constant(index)
        if constant is None:
            return None
        size = max(size, int(constant.max()) + 1) if constant.size else size
    return size


def _dynamic_stitch(attrs: Attributes, *operands: Array) -> Array:
    count = len(operands) // 2
    every = list(zip(operands[:count], operands[count:], strict=True))
    rest = every[0][1].shape[every[0][0].ndim :]
    size = max((int(indices.max()) + 1 for indices, _ in every if indices.size), default=0)
    if any(indices.size and indices.min() < 0 for indices, _ in every):
        raise ValueError("indices cannot be negative")
    if size > sum(indices.size for indices, _ in every):
        raise ValueError(f"some of the {size} elements have no index")
    result = np.empty((size, *rest), every[0][1].dtype)
    covered = np.zeros(size, np.bool_)
    for indices, data in every:
        if data.shape != (*indices.shape, *rest):
            raise ValueError(f"indices of shape {list(indices.shape)} do not fit data of shape {list(data.shape)}")
        result[indices.reshape(-1)] = data.reshape(indices.size, *rest)
        covered[indices.reshape(-1)] = True
    if not covered.all():
        raise ValueError(f"some of the {size} elements have no index, so their values are undefined")
    return result


register("tf.DynamicPartition", shape=_dynamic_partition_shape, evaluate=_dynamic_partition)
register(("tf.DynamicStitch", "tf.ParallelDynamicStitch"), shape=_dynamic_stitch_shape, evaluate=_dynamic_stitch)
