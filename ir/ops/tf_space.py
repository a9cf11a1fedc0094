"""Operators of TensorFlow that move blocks between space, batch and depth, and cut images into patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.attributes import Attributes
from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.shapes import at_least_rank, of_rank, unknown_of_rank, vector_length
from graphopt.ir.ops.tf_fill import zero_of
from graphopt.ir.ops.tf_pad import pad_constant, padding_pairs
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]


def exact_quotient(dim: Dim, divisor: Dim, what: str) -> Dim:
    """`dim / divisor`. Raises `InferenceError` where numbers leave a remainder."""
    if isinstance(dim, int) and isinstance(divisor, int) and (divisor == 0 or dim % divisor):
        raise InferenceError(f"{what} of {dim} is not divisible by {divisor}")
    return dimensions.divide(dim, divisor)


def _block_sizes(context: InferenceContext) -> Sequence[Dim] | None:
    """What is known of the block's sizes: an attribute in the first version of an operator, an input later."""
    if "block_size" in context.attrs:
        return [context.attrs["block_size"]] * 2
    blocks = context.partial(1)
    if blocks is None:
        length = vector_length(context, 1)
        return None if length is None else [None] * length
    return blocks


def _edges(context: InferenceContext, index: int, rank: int) -> Sequence[Dim]:
    """Paddings or crops in a row, two for each of `rank` dimensions."""
    known = context.partial(index)
    if known is None:
        return [None] * (2 * rank)
    if len(known) != 2 * rank:
        raise InferenceError(f"{len(known)} paddings or crops do not fit {rank} block sizes")
    if any(isinstance(size, int) and size < 0 for size in known):
        raise InferenceError(f"paddings or crops {list(known)} cannot be negative")
    return known


def _block_operands(context: InferenceContext) -> tuple[list[Dim], Sequence[Dim], Sequence[Dim]] | Shape:
    """Dimensions of the input, block sizes and edges; or the shape of the output where the rest is unknown."""
    blocks = _block_sizes(context)
    if blocks is None:
        return unknown_of_rank(context.shape(0).rank)
    if any(isinstance(size, int) and size < 1 for size in blocks):
        raise InferenceError(f"block sizes {list(blocks)} must be positive")
    dims = at_least_rank(context, 0, len(blocks) + 1)
    if dims is None:
        return UNKNOWN_SHAPE
    return dims, blocks, _edges(context, context.input_count - 1, len(blocks))


# SpaceToBatch, BatchToSpace -----------------------------------------------------------------------------------


def _space_to_batch_shape(context: InferenceContext) -> Sequence[Shape]:
    operands = _block_operands(context)
    if isinstance(operands, Shape):
        return [operands]
    dims, blocks, edges = operands
    batch = dims[0]
    for place, block in enumerate(blocks):
        batch = dimensions.multiply(batch, block)
        padded = dimensions.add(dims[place + 1], dimensions.add(edges[2 * place], edges[2 * place + 1]))
        dims[place + 1] = exact_quotient(padded, block, "a padded dimension")
    return [Shape([batch, *dims[1:]])]


def _space_to_batch_nd(attrs: Attributes, value: Array, block_shape: Array, paddings: Array) -> Array:
    blocks = _checked_blocks(value, block_shape)
    spatial = len(blocks)
    pairs = padding_pairs(paddings, spatial)
    padded = pad_constant(value, [(0, 0), *pairs, *[(0, 0)] * (value.ndim - 1 - spatial)], zero_of(value.dtype))
    batch, rest = padded.shape[0], padded.shape[1 + spatial :]
    split: list[int] = [batch]
    for size, block in zip(padded.shape[1:], blocks, strict=False):
        if size % block:
            raise ValueError(f"a padded dimension of {size} is not divisible by {block}")
        split += [size // block, block]
    order = [
        *range(2, 2 * spatial + 1, 2),
        0,
        *range(1, 2 * spatial, 2),
        *range(2 * spatial + 1, len(split) + len(rest)),
    ]
    moved = padded.reshape([*split, *rest]).transpose(order)
    return moved.reshape([batch * int(np.prod(blocks, dtype=np.int64)), *split[1::2], *rest])


def _batch_to_space_shape(context: InferenceContext) -> Sequence[Shape]:
    operands = _block_operands(context)
    if isinstance(operands, Shape):
        return [operands]
    dims, blocks, edges = operands
    batch = exact_quotient(dims[0], dimensions.product(blocks), "a batch")
    for place, block in enumerate(blocks):
        cropped = dimensions.add(edges[2 * place], edges[2 * place + 1])
        dims[place + 1] = dimensions.subtract(dimensions.multiply(dims[place + 1], block), cropped)
        if isinstance(dims[place + 1], int) and dims[place + 1] < 0:  # type: ignore[operator]
            raise InferenceError(f"crops take more than dimension {place + 1} has")
    return [Shape([batch, *dims[1:]])]


def _batch_to_space_nd(attrs: Attributes, value: Array, block_shape: Array, crops: Array) -> Array:
    blocks = _checked_blocks(value, block_shape)
    spatial = len(blocks)
    pairs = padding_pairs(crops, spatial)
    total = int(np.prod(blocks, dtype=np.int64))
    if value.shape[0] % total:
        raise ValueError(f"a batch of {value.shape[0]} is not divisible by {total}")
    batch, sizes, rest = value.shape[0] // total, value.shape[1 : spatial + 1], value.shape[spatial + 1 :]
    order = [spatial]
    for place in range(spatial):
        order += [spatial + 1 + place, place]
    order += range(2 * spatial + 1, 2 * spatial + 1 + len(rest))
    moved = value.reshape([*blocks, batch, *sizes, *rest]).transpose(order)
    whole = moved.reshape([batch, *(size * block for size, block in zip(sizes, blocks, strict=True)), *rest])
    kept = [slice(None)]
    for size, (before, after) in zip(whole.shape[1:], pairs, strict=False):
        if before + after > size:
            raise ValueError(f"crops {before} and {after} take more than {size}")
        kept.append(slice(before, size - after))
    return whole[tuple(kept)]


def _checked_blocks(value: Array, block_shape: Array) -> list[int]:
    blocks = [int(size) for size in block_shape.reshape(-1)]
    if block_shape.ndim != 1 or any(size < 1 for size in blocks):
        raise ValueError(f"block sizes {blocks} must be a vector of positive numbers")
    if value.ndim < len(blocks) + 1:
        raise ValueError(f"{len(blocks)} block sizes do not fit rank {value.ndim}")
    return blocks


def _of_attribute(attrs: Attributes, value: Array) -> Array:
    if value.ndim != 4 or attrs["block_size"] < 2:
        raise ValueError("the input must have rank 4 and the block size be 2 at least")
    return np.array([attrs["block_size"]] * 2)


def _space_to_batch(attrs: Attributes, value: Array, paddings: Array) -> Array:
    return _space_to_batch_nd(attrs, value, _of_attribute(attrs, value), paddings)


def _batch_to_space(attrs: Attributes, value: Array, crops: Array) -> Array:
    return _batch_to_space_nd(attrs, value, _of_attribute(attrs, value), crops)


register("tf.SpaceToBatch", shape=_space_to_batch_shape, evaluate=_space_to_batch)
register("tf.SpaceToBatchND", shape=_space_to_batch_shape, evaluate=_space_to_batch_nd)
register("tf.BatchToSpace", shape=_batch_to_space_shape, evaluate=_batch_to_space)
register("tf.BatchToSpaceND", shape=_batch_to_space_shape, evaluate=_batch_to_space_nd)


# SpaceToDepth, DepthToSpace -----------------------------------------------------------------------------------

_DEPTH_AXES = {b"NHWC": (1, 2, 3), b"NCHW": (2, 3, 1), b"NCHW_VECT_C": (2, 3, 1)}  # height, width, channels


def _depth_layout(attrs: Attributes) -> tuple[tuple[int, int, int], int, int]:
    """Axes of height, width and channels, the rank, and the block size."""
    layout, block = attrs["data_format"], attrs["block_size"]
    if layout not in _DEPTH_AXES or block < 2:
        raise InferenceError(f"data format {layout!r} or block size {block} is not possible")
    return _DEPTH_AXES[layout], 5 if layout == b"NCHW_VECT_C" else 4, block


def _space_to_depth_shape(context: InferenceContext) -> Sequence[Shape]:
    (height, width, channels), rank, block = _depth_layout(context.attrs)
    dims = of_rank(context, 0, rank)
    dims[height] = exact_quotient(dims[height], block, "a height")
    dims[width] = exact_quotient(dims[width], block, "a width")
    dims[channels] = dimensions.multiply(dims[channels], block * block)
    return [Shape(dims)]


def _depth_to_space_shape(context: InferenceContext) -> Sequence[Shape]:
    (height, width, channels), rank, block = _depth_layout(context.attrs)
    dims = of_rank(context, 0, rank)
    dims[height] = dimensions.multiply(dims[height], block)
    dims[width] = dimensions.multiply(dims[width], block)
    dims[channels] = exact_quotient(dims[channels], block * block, "a depth")
    return [Shape(dims)]


def _channels_last(attrs: Attributes, value: Array) -> tuple[Array, int]:
    _, rank, block = _depth_layout(attrs)
    if rank != 4 or value.ndim != 4:
        raise ValueError("only arrays of rank 4 in NHWC or NCHW order are evaluated")
    return (value.transpose(0, 2, 3, 1) if attrs["data_format"] == b"NCHW" else value), block


def _restored(attrs: Attributes, value: Array) -> Array:
    return value.transpose(0, 3, 1, 2) if attrs["data_format"] == b"NCHW" else value


def _space_to_depth(attrs: Attributes, value: Array) -> Array:
    image, block = _channels_last(attrs, value)
    batch, height, width, depth = image.shape
    if height % block or width % block:
        raise ValueError(f"an image of {height} by {width} is not divisible by {block}")
    blocks = image.reshape(batch, height // block, block, width // block, block, depth).transpose(0, 1, 3, 2, 4, 5)
    return _restored(attrs, blocks.reshape(batch, height // block, width // block, block * block * depth))


def _depth_to_space(attrs: Attributes, value: Array) -> Array:
    image, block = _channels_last(attrs, value)
    batch, height, width, depth = image.shape
    if depth % (block * block):
        raise ValueError(f"a depth of {depth} is not divisible by {block * block}")
    rest = depth // (block * block)
    blocks = image.reshape(batch, height, width, block, block, rest).transpose(0, 1, 3, 2, 4, 5)
    return _restored(attrs, blocks.reshape(batch, height * block, width * block, rest))


register("tf.SpaceToDepth", shape=_space_to_depth_shape, evaluate=_space_to_depth)
register("tf.DepthToSpace", shape=_depth_to_space_shape, evaluate=_depth_to_space)


# ExtractImagePatches, ExtractVolumePatches --------------------------------------------------------------------


def _patch_windows(attrs: Attributes, spatial: int) -> list[tuple[int, int, int]]:
    """Size, stride and rate of the window in each spatial dimension."""
    sizes, strides = attrs["ksizes"], attrs["strides"]
    rates = attrs.get("rates") or (1,) * (spatial + 2)
    for values in (sizes, strides, rates):
        if len(values) != spatial + 2 or values[0] != 1 or values[-1] != 1 or min(values) < 1:
            raise InferenceError(
                f"window {list(values)} is not possible: {spatial + 2} positive numbers, 1 outside space"
            )
    if attrs["padding"] not in (b"SAME", b"VALID"):
        raise InferenceError(f"there is no padding {attrs['padding']!r}")
    return list(zip(sizes[1:-1], strides[1:-1], rates[1:-1], strict=True))


def _patch_count(dim: Dim, size: int, stride: int, rate: int, padding: bytes) -> Dim:
    if padding == b"SAME":
        return dimensions.ceil_divide(dim, stride)
    reach = (size - 1) * rate + 1
    count = dimensions.divide(dimensions.add(dim, stride - reach), stride)
    if isinstance(count, int) and count < 0:
        raise InferenceError(f"a window reaching over {reach} does not fit a dimension of {dim}")
    return count


def _patches_shape(context: InferenceContext, spatial: int) -> Sequence[Shape]:
    attrs = context.attrs
    windows = _patch_windows(attrs, spatial)
    dims = of_rank(context, 0, spatial + 2)
    depth = dims[-1]
    for place, (size, stride, rate) in enumerate(windows):
        dims[place + 1] = _patch_count(dims[place + 1], size, stride, rate, attrs["padding"])
        depth = dimensions.multiply(depth, size)
    return [Shape([*dims[:-1], depth])]


def _patches(attrs: Attributes, value: Array, spatial: int) -> Array:
    windows = _patch_windows(attrs, spatial)
    if value.ndim != spatial + 2:
        raise ValueError(f"the input must have rank {spatial + 2}")
    counts: list[int] = []
    pairs: list[tuple[int, int]] = []
    skipped: list[int] = []
    for dim, (size, stride, rate) in zip(value.shape[1:], windows, strict=False):
        count = _patch_count(dim, size, stride, rate, attrs["padding"])
        assert isinstance(count, int)
        missing = (count - 1) * stride + (size - 1) * rate + 1 - dim if attrs["padding"] == b"SAME" else 0
        # Where strides leave elements over, volumes skip half of them at the front; images start with the first.
        skipped.append(-missing // 2 if missing < 0 and spatial == 3 else 0)
        missing = max(0, missing)
        counts.append(count)
        pairs.append((missing // 2, missing - missing // 2))
    padded = pad_constant(value, [(0, 0), *pairs, (0, 0)], zero_of(value.dtype))
    sizes = [window[0] for window in windows]
    result = np.empty((value.shape[0], *counts, *sizes, value.shape[-1]), value.dtype)
    for offset in np.ndindex(*sizes):
        taken = tuple(
            slice(at * rate + skip, at * rate + skip + (count - 1) * stride + 1, stride) if count else slice(0, 0)
            for at, skip, count, (_, stride, rate) in zip(offset, skipped, counts, windows, strict=True)
        )
        result[(slice(None), *[slice(None)] * spatial, *offset)] = padded[(slice(None), *taken)]
    return result.reshape((value.shape[0], *counts, int(np.prod(sizes)) * value.shape[-1]))


register(
    "tf.ExtractImagePatches",
    shape=lambda context: _patches_shape(context, 2),
    evaluate=lambda attrs, value: _patches(attrs, value, 2),
)
register(
    "tf.ExtractVolumePatches",
    shape=lambda context: _patches_shape(context, 3),
    evaluate=lambda attrs, value: _patches(attrs, value, 3),
)
