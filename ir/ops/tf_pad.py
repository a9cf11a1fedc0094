"""Operators of TensorFlow that pad, reverse and roll."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.attributes import Attributes
from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError, normalized_axis
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.shapes import merged, merged_dim, unknown_of_rank
from graphopt.ir.ops.tf_fill import zero_of
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]


# Pad, PadV2, MirrorPad ----------------------------------------------------------------------------------------


def _pad_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = context.shape(0).dims
    operand = context.shape(1)
    rank = operand[0] if operand.rank == 2 and isinstance(operand[0], int) else None
    if dims is None:
        dims = None if rank is None else (None,) * rank
    if dims is None:
        return [UNKNOWN_SHAPE]
    merged((operand, Shape((len(dims), 2))))
    paddings = context.partial(1)
    if paddings is None or len(paddings) != 2 * len(dims):
        return [unknown_of_rank(len(dims))]
    if any(isinstance(size, int) and size < 0 for size in paddings):
        raise InferenceError(f"paddings {list(paddings)} cannot be negative")
    return [Shape(_padded(dim, *paddings[2 * place : 2 * place + 2]) for place, dim in enumerate(dims))]


def _padded(dim: Dim, before: Dim, after: Dim) -> Dim:
    return dimensions.add(dim, dimensions.add(before, after))


def padding_pairs(paddings: Array, rank: int) -> list[tuple[int, int]]:
    """Rows of a paddings operand. Raises `ValueError` unless there are `rank` of them, none negative."""
    if paddings.shape != (rank, 2) and not (rank == 0 and paddings.size == 0):
        raise ValueError(f"paddings of shape {list(paddings.shape)} do not fit rank {rank}")
    pairs = [(int(before), int(after)) for before, after in paddings.reshape(-1, 2)]
    if any(before < 0 or after < 0 for before, after in pairs):
        raise ValueError(f"paddings {pairs} cannot be negative")
    return pairs


def pad_constant(value: Array, pairs: Sequence[tuple[int, int]], fill: Any) -> Array:
    """`value` with `fill` around it, for every element type."""
    if not any(before or after for before, after in pairs):
        return value
    shape = [before + size + after for size, (before, after) in zip(value.shape, pairs, strict=True)]
    result = np.full(shape, fill, value.dtype)
    inner = tuple(slice(before, before + size) for size, (before, _) in zip(value.shape, pairs, strict=True))
    result[inner] = value
    return result


def _pad(attrs: Attributes, value: Array, paddings: Array) -> Array:
    return pad_constant(value, padding_pairs(paddings, value.ndim), zero_of(value.dtype))


def _pad_v2(attrs: Attributes, value: Array, paddings: Array, fill: Array) -> Array:
    if fill.ndim:
        raise ValueError("the value to pad with must be a scalar")
    return pad_constant(value, padding_pairs(paddings, value.ndim), fill[()])


def _mirror_pad_shape(context: InferenceContext) -> Sequence[Shape]:
    dims, paddings = context.shape(0).dims, context.partial(1)
    if dims is not None and paddings is not None and len(paddings) == 2 * len(dims):
        offset = _mirror_offset(context.attrs)
        for place, dim in enumerate(dims):
            widest = [pad for pad in paddings[2 * place : 2 * place + 2] if isinstance(pad, int)]
            if isinstance(dim, int) and widest:
                _check_mirror(max(widest), dim, offset)
    return _pad_shape(context)


def _mirror_offset(attrs: Attributes) -> int:
    """1 where the border is not repeated."""
    mode = attrs["mode"]
    if mode not in (b"REFLECT", b"SYMMETRIC"):
        raise InferenceError(f"there is no padding mode {mode!r}")
    return 1 if mode == b"REFLECT" else 0


def _check_mirror(pad: int, dim: int, offset: int) -> None:
    if pad > dim - offset:
        raise InferenceError(f"a padding of {pad} is too large to mirror a dimension of {dim}")


def _mirror_pad(attrs: Attributes, value: Array, paddings: Array) -> Array:
    offset = _mirror_offset(attrs)
    for axis, (before, after) in enumerate(padding_pairs(paddings, value.ndim)):
        size = value.shape[axis]
        _check_mirror(max(before, after), size, offset)
        if before or after:
            front = np.arange(before - 1 + offset, offset - 1, -1)
            back = np.arange(size - 1 - offset, size - 1 - offset - after, -1)
            value = np.take(value, np.concatenate([front, np.arange(size), back]), axis)
    return value


register("tf.Pad", shape=_pad_shape, evaluate=_pad)
register("tf.PadV2", shape=_pad_shape, evaluate=_pad_v2)
register("tf.MirrorPad", shape=_mirror_pad_shape, evaluate=_mirror_pad)


# Reverse, ReverseV2, ReverseSequence, Roll --------------------------------------------------------------------


def _reverse_v2_shape(context: InferenceContext) -> Sequence[Shape]:
    source, axes = context.shape(0), context.constant_ints(1)
    if source.dims is not None and axes is not None:
        _distinct_axes(axes, len(source.dims))
    return [source]


def _distinct_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    places = [normalized_axis(axis, rank) for axis in axes]
    if len(dict.fromkeys(places)) != len(places):
        raise InferenceError(f"an axis is named twice in {list(axes)}")
    return tuple(places)


def _reverse_v2(attrs: Attributes, value: Array, axes: Array) -> Array:
    if axes.ndim != 1:
        raise ValueError("axes must be a vector")
    return np.flip(value, _distinct_axes(axes.tolist(), value.ndim))


def _reverse_shape(context: InferenceContext) -> Sequence[Shape]:
    source, flags = context.shape(0), context.shape(1)
    if flags.rank == 1 and isinstance(flags[0], int):
        return [merged((source, unknown_of_rank(flags[0])))]
    return [source]


def _reverse(attrs: Attributes, value: Array, flags: Array) -> Array:
    if flags.shape != (value.ndim,):
        raise ValueError(f"{flags.size} flags do not fit rank {value.ndim}")
    return np.flip(value, tuple(np.nonzero(flags)[0].tolist()))


def _reverse_sequence_shape(context: InferenceContext) -> Sequence[Shape]:
    source = context.shape(0)
    if source.dims is None:
        return [source]
    batch, _ = _sequence_axes(context.attrs, len(source.dims))
    lengths = merged((context.shape(1), Shape((None,))))
    dims = list(source.dims)
    dims[batch] = merged_dim(dims[batch], lengths[0])
    return [Shape(dims)]


def _sequence_axes(attrs: Attributes, rank: int) -> tuple[int, int]:
    batch, sequence = attrs["batch_dim"], attrs["seq_dim"]
    if not 0 <= batch < rank or not 0 <= sequence < rank or batch == sequence:
        raise InferenceError(f"batch axis {batch} and sequence axis {sequence} do not fit rank {rank}")
    return batch, sequence


def _reverse_sequence(attrs: Attributes, value: Array, lengths: Array) -> Array:
    batch, sequence = _sequence_axes(attrs, value.ndim)
    if lengths.shape != (value.shape[batch],):
        raise ValueError(f"{lengths.size} lengths do not fit a batch of {value.shape[batch]}")
    if lengths.size and (lengths.min() < 0 or lengths.max() > value.shape[sequence]):
        raise ValueError(f"lengths must lie between 0 and {value.shape[sequence]}")
    steps = np.arange(value.shape[sequence])
    order = np.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    moved = np.moveaxis(value, (batch, sequence), (0, 1))
    result = moved[np.arange(len(lengths))[:, None], order]
    return np.moveaxis(result, (0, 1), (batch, sequence))


def _roll_shape(context: InferenceContext) -> Sequence[Shape]:
    source, axes = context.shape(0), context.constant_ints(2)
    if source.dims is not None:
        if not source.dims:
            raise InferenceError("a scalar cannot be rolled")
        for axis in axes or ():
            normalized_axis(axis, len(source.dims))
    return [source]


def _roll(attrs: Attributes, value: Array, shift: Array, axis: Array) -> Array:
    if value.ndim < 1 or shift.shape != axis.shape or shift.ndim > 1:
        raise ValueError("there must be one shift for each axis")
    axes = [normalized_axis(place, value.ndim) for place in axis.reshape(-1).tolist()]
    return np.roll(value, tuple(shift.reshape(-1).tolist()), tuple(axes)) if axes else value


register("tf.ReverseV2", shape=_reverse_v2_shape, evaluate=_reverse_v2)
register("tf.Reverse", shape=_reverse_shape, evaluate=_reverse)
register("tf.ReverseSequence", shape=_reverse_sequence_shape, evaluate=_reverse_sequence)
register("tf.Roll", shape=_roll_shape, evaluate=_roll)
