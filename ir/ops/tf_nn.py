"""Operators of TensorFlow: nn: biases, softmax, cross entropies, dilation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from graphopt.ir.ops.inference import InferenceContext, InferenceError, broadcast_shapes
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_windows import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    check_size,
    extent,
    merge_dims,
    positive,
    ranked,
    settled,
    widened,
    window_count,
)
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]


# Biases -------------------------------------------------------------------------------------------------------


def _channel_axis(attrs: Attrs, rank: int) -> int:
    """Where a bias belongs: last, or second for the formats with channels first."""
    name = attrs.get("data_format", b"NHWC")
    if name in CHANNELS_LAST:
        return rank - 1
    if name in CHANNELS_FIRST:
        return 1
    raise InferenceError(f"data format {name!r} is not supported")


@settled("data_format")
def _bias_shape(context: InferenceContext) -> Sequence[Shape]:
    bias = ranked(context.shape(1), 1, "the bias")
    shape = context.shape(0)
    if shape.dims is None:
        return [shape]
    if len(shape.dims) < 2:
        raise InferenceError(f"the input must have rank 2 at least, not shape {shape}")
    axis = _channel_axis(context.attrs, len(shape.dims))
    depth = merge_dims(shape[axis], bias[0], "the number of channels")
    return [Shape(depth if place == axis else dim for place, dim in enumerate(shape.dims))]


@settled("data_format")
def _bias_gradient_shape(context: InferenceContext) -> Sequence[Shape]:
    shape = context.shape(0)
    if shape.dims is None:
        return [Shape((None,))]
    if len(shape.dims) < 2:
        raise InferenceError(f"the input must have rank 2 at least, not shape {shape}")
    return [Shape((shape[_channel_axis(context.attrs, len(shape.dims))],))]


def add_bias(attrs: Attrs, values: Array, bias: Array) -> Array:
    """`BiasAdd`: one number a channel added. Raises `ValueError` where they do not fit."""
    if values.ndim < 2 or bias.ndim != 1:
        raise ValueError(f"a bias of shape {list(bias.shape)} cannot be added to shape {list(values.shape)}")
    axis = _channel_axis(attrs, values.ndim)
    if values.shape[axis] != len(bias):
        raise ValueError(f"{len(bias)} biases do not fit {values.shape[axis]} channels")
    across = [-1 if place == axis else 1 for place in range(values.ndim)]
    with np.errstate(all="ignore"):
        return np.asarray(values + bias.reshape(across))


def _bias_gradient(attrs: Attrs, gradients: Array) -> Array:
    if gradients.ndim < 2:
        raise ValueError(f"a gradient must have rank 2 at least, not shape {list(gradients.shape)}")
    axis = _channel_axis(attrs, gradients.ndim)
    wide = widened(gradients)
    axes = tuple(place for place in range(gradients.ndim) if place != axis)
    return np.asarray(wide.sum(axes, dtype=wide.dtype)).astype(gradients.dtype, copy=False)


# Softmax and losses -------------------------------------------------------------------------------------------


def _vector_at_least(context: InferenceContext) -> Sequence[Shape]:
    shape = context.shape(0)
    if shape.rank == 0:
        raise InferenceError("a softmax takes vectors, not a scalar")
    return [shape]


def _centred(logits: Array) -> Array:
    """`logits` less the largest of each row, in at least 32 bits."""
    if logits.ndim < 1:
        raise ValueError("a softmax takes vectors, not a scalar")
    wide = widened(logits)
    return wide - wide.max(-1, keepdims=True, initial=-np.inf) if wide.size else wide


def softmax(attrs: Attrs, logits: Array) -> Array:
    """Exponentials along the last axis, divided by their sum."""
    with np.errstate(all="ignore"):
        powers = np.exp(_centred(logits))
        return np.asarray(powers / powers.sum(-1, keepdims=True)).astype(logits.dtype, copy=False)


def log_softmax(attrs: Attrs, logits: Array) -> Array:
    """The logarithm of `softmax`, without forming it."""
    with np.errstate(all="ignore"):
        centred = _centred(logits)
        return np.asarray(centred - np.log(np.exp(centred).sum(-1, keepdims=True))).astype(logits.dtype)


def _cross_entropy_shape(context: InferenceContext) -> Sequence[Shape]:
    both = broadcast_shapes([context.shape(0), context.shape(1)])
    both = ranked(both, 2, "logits and labels together")
    return [Shape((both[0],)), both]


def _sparse_cross_entropy_shape(context: InferenceContext) -> Sequence[Shape]:
    logits, labels = ranked(context.shape(0), 2, "logits"), ranked(context.shape(1), 1, "labels")
    batch = merge_dims(logits[0], labels[0], "the batch")
    return [Shape((batch,)), Shape((batch, logits[1]))]


def _cross_entropy(attrs: Attrs, logits: Array, labels: Array) -> list[Array]:
    both = np.broadcast_shapes(logits.shape, labels.shape)
    if len(both) != 2:
        raise ValueError(f"logits and labels together must have rank 2, not shape {list(both)}")
    check_size(both)
    with np.errstate(all="ignore"):
        centred = _centred(np.broadcast_to(logits, both))
        target = widened(np.broadcast_to(labels, both))
        powers = np.exp(centred)
        total = powers.sum(-1, keepdims=True)
        loss = (target * (np.log(total) - centred)).sum(-1)
        back = powers / total - target
    return [loss.astype(logits.dtype), back.astype(logits.dtype)]


def _sparse_cross_entropy(attrs: Attrs, logits: Array, labels: Array) -> list[Array]:
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"labels of shape {list(labels.shape)} do not fit logits of shape {list(logits.shape)}")
    if labels.size and not 0 <= labels.min() <= labels.max() < logits.shape[1]:
        raise ValueError(f"labels must lie in [0, {logits.shape[1]})")
    rows = np.arange(len(labels))
    with np.errstate(all="ignore"):
        centred = _centred(logits)
        powers = np.exp(centred)
        total = powers.sum(-1, keepdims=True)
        loss = np.log(total[:, 0]) - centred[rows, labels]
        back = powers / total
        back[rows, labels] -= 1
    return [loss.astype(logits.dtype), back.astype(logits.dtype)]


def _in_top_k_shape(context: InferenceContext) -> Sequence[Shape]:
    predictions, targets = ranked(context.shape(0), 2, "predictions"), ranked(context.shape(1), 1, "targets")
    return [Shape((merge_dims(predictions[0], targets[0], "the batch"),))]


def _in_top_k(attrs: Attrs, predictions: Array, targets: Array, k: Array | None = None) -> Array:
    if predictions.ndim != 2 or targets.shape != predictions.shape[:1]:
        raise ValueError(f"targets of shape {list(targets.shape)} do not fit predictions {list(predictions.shape)}")
    limit = int(attrs["k"]) if k is None else int(k)
    classes = predictions.shape[1]
    known = (targets >= 0) & (targets < classes)
    if not classes:
        return np.zeros(len(targets), np.bool_)
    chosen = predictions[np.arange(len(targets)), np.where(known, targets, 0)]
    larger = (predictions > chosen[:, None]).sum(1)
    return np.asarray(known & np.isfinite(predictions).all(1) & (larger < limit))


# Grey-scale dilation ------------------------------------------------------------------------------------------


@settled("strides", "rates", "padding")
def _dilation_shape(context: InferenceContext) -> Sequence[Shape]:
    images, filters = ranked(context.shape(0), 4, "the input"), ranked(context.shape(1), 3, "the filter")
    strides, rates = positive(context.attrs, "strides", 4), positive(context.attrs, "rates", 4)
    sizes = [
        window_count(images[axis], filters[axis - 1], strides[axis], rates[axis], context.attrs["padding"])
        for axis in (1, 2)
    ]
    return [Shape((images[0], *sizes, merge_dims(images[3], filters[2], "the number of channels")))]


def _dilate(attrs: Attrs, images: Array, filters: Array) -> Array:
    """The largest sum of an element and the filter's, over each window; padding never is the largest."""
    if images.ndim != 4 or filters.ndim != 3 or images.shape[3] != filters.shape[2]:
        raise ValueError(f"a filter of shape {list(filters.shape)} does not fit images of {list(images.shape)}")
    strides, rates = positive(attrs, "strides", 4)[1:3], positive(attrs, "rates", 4)[1:3]
    extents = [
        extent(size, window, stride, rate, attrs["padding"])
        for size, window, stride, rate in zip(images.shape[1:3], filters.shape[:2], strides, rates, strict=True)
    ]
    wide = widened(images) if images.dtype.kind not in "iu" else images.astype(np.int64)
    lowest = -np.inf if wide.dtype.kind == "f" else np.iinfo(images.dtype).min
    shape = (images.shape[0], *(item.places for item in extents), images.shape[3])
    check_size(shape)
    result = np.full(shape, lowest, wide.dtype)
    with np.errstate(all="ignore"):
        for offset in product(*(range(size) for size in filters.shape[:2])):
            taken, put = _overlap(offset, images.shape[1:3], strides, rates, extents)
            target = result[:, put[0], put[1]]
            np.maximum(target, wide[:, taken[0], taken[1]] + filters[offset].astype(wide.dtype), out=target)
    if wide.dtype.kind == "f":
        np.maximum(result, -np.finfo(np.float64 if images.dtype.itemsize == 8 else np.float32).max, out=result)
    return result.astype(images.dtype)


def _overlap(
    offset: Sequence[int], sizes: Sequence[int], strides: Sequence[int], rates: Sequence[int], extents: Sequence[Any]
) -> tuple[list[slice], list[slice]]:
    """Which windows have their element `offset` inside the image, and where it lies there."""
    taken, put = [], []
    for place, size, stride, rate, item in zip(offset, sizes, strides, rates, extents, strict=True):
        start = place * rate - item.before
        first = max(0, -(start // stride)) if start < 0 else 0
        last = min(item.places, -(-(size - start) // stride))
        put.append(slice(first, max(first, last)))
        taken.append(slice(start + first * stride, max(0, start + (max(first, last) - 1) * stride + 1), stride))
        if last <= first:
            taken[-1] = slice(0, 0)
    return taken, put


def _like(index: int) -> Any:
    def infer(context: InferenceContext) -> Sequence[Shape]:
        return [context.shape(index)] * context.output_count

    return infer


# Connectionist temporal classification ------------------------------------------------------------------------


def _ctc_loss_shape(context: InferenceContext) -> Sequence[Shape]:
    inputs = ranked(context.shape(0), 3, "the input")
    lengths = ranked(context.shape(3), 1, "the lengths")
    batch = merge_dims(inputs[1], lengths[0], "the batch")
    return [Shape((batch,)), Shape((inputs[0], batch, inputs[2]))]


def _ctc_greedy_shape(context: InferenceContext) -> Sequence[Shape]:
    inputs = ranked(context.shape(0), 3, "the input")
    batch = merge_dims(inputs[1], ranked(context.shape(1), 1, "the lengths")[0], "the batch")
    return [Shape((None, 2)), Shape((None,)), Shape((2,)), Shape((batch, 1))]


@settled("top_paths")
def _ctc_beam_shape(context: InferenceContext) -> Sequence[Shape]:
    inputs = ranked(context.shape(0), 3, "the input")
    batch = merge_dims(inputs[1], ranked(context.shape(1), 1, "the lengths")[0], "the batch")
    paths = context.attrs.get("top_paths")
    if type(paths) is not int or context.output_count != 3 * paths + 1:
        return [UNKNOWN_SHAPE] * context.output_count
    found = [Shape((None, 2))] * paths + [Shape((None,))] * paths + [Shape((2,))] * paths
    return [*found, Shape((batch, paths))]


register("tf.BiasAdd", shape=_bias_shape, evaluate=add_bias)
register("tf.BiasAddV1", shape=_bias_shape, evaluate=add_bias)
register("tf.BiasAddGrad", traits=Trait.TRAINING, shape=_bias_gradient_shape, evaluate=_bias_gradient)
register("tf.Softmax", shape=_vector_at_least, evaluate=softmax)
register("tf.LogSoftmax", shape=_vector_at_least, evaluate=log_softmax)
register("tf.SoftmaxCrossEntropyWithLogits", shape=_cross_entropy_shape, evaluate=_cross_entropy)
register("tf.SparseSoftmaxCrossEntropyWithLogits", shape=_sparse_cross_entropy_shape, evaluate=_sparse_cross_entropy)
register(("tf.InTopK", "tf.InTopKV2"), shape=_in_top_k_shape, evaluate=_in_top_k)
register("tf.Dilation2D", shape=_dilation_shape, evaluate=_dilate)
register("tf.Dilation2DBackpropInput", traits=Trait.TRAINING, shape=_like(0))
register("tf.Dilation2DBackpropFilter", traits=Trait.TRAINING, shape=_like(1))
register(("tf.CTCLoss", "tf.CTCLossV2"), traits=Trait.TRAINING, shape=_ctc_loss_shape)
register("tf.CTCGreedyDecoder", shape=_ctc_greedy_shape)
register("tf.CTCBeamSearchDecoder", shape=_ctc_beam_shape)
