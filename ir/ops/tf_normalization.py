"""Operators of TensorFlow: normalization over the batch and over neighbouring channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_windows import layout, merge_dims, ranked, settled, widened
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]


# Shapes -------------------------------------------------------------------------------------------------------


def _per_channel(context: InferenceContext, images: Shape, channel: int | None, inputs: Sequence[int]) -> Dim:
    """The number of channels, as the images and the vectors at `inputs` agree on it."""
    depth = images[channel] if channel is not None else None
    for index in inputs:
        vector = ranked(context.shape(index), 1, f"input {index}")
        if vector[0] == 0 and index >= 3:
            continue  # in training the moving mean and variance may be left empty
        depth = merge_dims(depth, vector[0], "the number of channels")
    return depth


def _checked_images(context: InferenceContext, index: int) -> tuple[Shape, int | None]:
    """The images' shape and where their channels are; the rank must be 4 or 5."""
    images = context.shape(index)
    if images.dims is None:
        return images, None
    if len(images.dims) not in (4, 5):
        raise InferenceError(f"a batch norm takes images of rank 4 or 5, not shape {images}")
    return images, layout(context.attrs, len(images.dims)).channel


def _with_dim(shape: Shape, axis: int | None, dim: Dim) -> Shape:
    if shape.dims is None or axis is None:
        return shape
    return Shape(dim if place == axis else old for place, old in enumerate(shape.dims))


@settled("data_format")
def fused_batch_norm_shape(context: InferenceContext) -> Sequence[Shape]:
    """The result like input 0, four vectors of one number a channel, and what else there is unknown."""
    images, channel = _checked_images(context, 0)
    depth = _per_channel(context, images, channel, (1, 2, 3, 4))
    vectors = [Shape((depth,))] * 4
    rest = [UNKNOWN_SHAPE] * (context.output_count - 5)
    return [_with_dim(images, channel, depth), *vectors, *rest]


@settled("data_format")
def fused_batch_norm_v3_shape(context: InferenceContext) -> Sequence[Shape]:
    """`fused_batch_norm_shape`; the third reserve space is an unused scalar on a CPU, a workspace elsewhere."""
    return fused_batch_norm_shape(context)


@settled("data_format")
def fused_gradient_shape(context: InferenceContext) -> Sequence[Shape]:
    """The gradient like input 1, then those of scale and offset, then unused ones."""
    images, channel = _checked_images(context, 1)
    gradients, _ = _checked_images(context, 0)
    merged = images.merged(gradients)
    if merged is None:
        raise InferenceError(f"a gradient of shape {gradients} does not fit images of shape {images}")
    depth = _per_channel(context, merged, channel, (2,))
    rest = [UNKNOWN_SHAPE] * (context.output_count - 3)
    return [merged, Shape((depth,)), Shape((depth,)), *rest]


def _global_shape(context: InferenceContext) -> Sequence[Shape]:
    images = ranked(context.shape(0), 4, "the input")
    depth = _per_channel(context, images, 3, (1, 2, 3, 4))
    return [_with_dim(images, 3, depth)]


def _global_gradient_shape(context: InferenceContext) -> Sequence[Shape]:
    images = ranked(context.shape(0), 4, "the input")
    return [images, *[Shape((_per_channel(context, images, 3, (1, 2, 3)),))] * 4]


def _rank_four(context: InferenceContext) -> Sequence[Shape]:
    return [ranked(context.shape(0), 4, "the input")]


# Evaluation ---------------------------------------------------------------------------------------------------


def batch_norm(attrs: Attrs, images: Array, scale: Array, offset: Array, mean: Array, variance: Array) -> list[Array]:
    """`FusedBatchNorm` without the third reserve space: result, batch mean and variance, and both saved."""
    if images.ndim not in (4, 5):
        raise ValueError(f"a batch norm takes images of rank 4 or 5, not shape {list(images.shape)}")
    channel = layout(attrs, images.ndim).channel
    depth = images.shape[channel]
    training = attrs["is_training"]
    for vector in (scale, offset, mean, variance):
        if vector.shape != (depth,) and not (training and vector.size == 0 and vector is not scale):
            raise ValueError(f"a vector of shape {list(vector.shape)} does not fit {depth} channels")
    across = tuple(-1 if axis == channel else 1 for axis in range(images.ndim))
    if training:
        outputs = _moments(attrs, images, channel, mean, variance)
        mean_used, variance_used = outputs[2], outputs[3]
    else:
        outputs = [mean, variance, mean, variance]
        mean_used, variance_used = mean, variance
    with np.errstate(all="ignore"):
        wide = widened(images)
        factor = scale / np.sqrt(variance_used + scale.dtype.type(attrs["epsilon"]))
        result = (wide - mean_used.reshape(across)) * factor.reshape(across)
        result += offset.reshape(across)
    return [result.astype(images.dtype, copy=False), *(np.array(item) for item in outputs)]


def _moments(attrs: Attrs, images: Array, channel: int, mean: Array, variance: Array) -> list[Array]:
    """Moving mean and variance, then mean and biased variance of this batch."""
    wide = widened(images)
    axes = tuple(axis for axis in range(images.ndim) if axis != channel)
    count = images.size // max(1, images.shape[channel])
    across = tuple(-1 if axis == channel else 1 for axis in range(images.ndim))
    if count == 0:
        empty = np.full(images.shape[channel], np.nan, wide.dtype)
        return [empty, empty, empty, empty]
    with np.errstate(all="ignore"):
        batch_mean = wide.mean(axes, dtype=wide.dtype)
        batch_variance = np.square(wide - batch_mean.reshape(across)).mean(axes, dtype=wide.dtype)
        unbiased = batch_variance * wide.dtype.type(count / max(1, count - 1))
        share = wide.dtype.type(attrs["exponential_avg_factor"])
        if share == 1:
            return [batch_mean, unbiased, batch_mean, batch_variance]
        if mean.size == 0 or variance.size == 0:
            raise ValueError("a moving average needs the mean and the variance that it continues")
        kept = 1 - share
        return [kept * mean + share * batch_mean, kept * variance + share * unbiased, batch_mean, batch_variance]


def _evaluate_v3(attrs: Attrs, images: Array, scale: Array, offset: Array, mean: Array, variance: Array) -> list[Array]:
    outputs = batch_norm(attrs, images, scale, offset, mean, variance)
    return [*outputs, np.zeros((), scale.dtype)]


def _evaluate_global(attrs: Attrs, images: Array, mean: Array, variance: Array, offset: Array, scale: Array) -> Array:
    if images.ndim != 4 or any(item.shape != images.shape[3:] for item in (mean, variance, offset, scale)):
        raise ValueError("the input must have rank 4, the rest one number a channel")
    with np.errstate(all="ignore"):
        factor = 1 / np.sqrt(widened(variance) + np.float32(attrs["variance_epsilon"]))
        if attrs["scale_after_normalization"]:
            factor = factor * widened(scale)
        result = (widened(images) - widened(mean)) * factor + widened(offset)
    return np.asarray(result).astype(images.dtype, copy=False)


def _evaluate_local_response(attrs: Attrs, images: Array) -> Array:
    """Each element divided by a power of the squares' sum over its neighbours among the channels."""
    if images.ndim != 4:
        raise ValueError(f"the input must have rank 4, not shape {list(images.shape)}")
    wide = widened(images)
    radius = min(int(attrs["depth_radius"]), images.shape[3])
    if radius < 0:
        raise ValueError("the radius must not be negative")
    with np.errstate(all="ignore"):
        squares = np.zeros((*images.shape[:3], images.shape[3] + 2 * radius), wide.dtype)
        np.square(wide, out=squares[..., radius : radius + images.shape[3]])
        total = np.zeros_like(wide)
        for shift in range(2 * radius + 1):
            total += squares[..., shift : shift + images.shape[3]]
        norm = np.float32(attrs["bias"]) + np.float32(attrs["alpha"]) * total
        return np.asarray(wide * norm ** np.float32(-attrs["beta"])).astype(images.dtype)


register("tf.FusedBatchNorm", shape=fused_batch_norm_shape, evaluate=batch_norm)
register("tf.FusedBatchNormV2", shape=fused_batch_norm_shape, evaluate=batch_norm)
register("tf.FusedBatchNormV3", shape=fused_batch_norm_v3_shape, evaluate=_evaluate_v3)
register("tf.BatchNormWithGlobalNormalization", shape=_global_shape, evaluate=_evaluate_global)
register("tf.LRN", shape=_rank_four, evaluate=_evaluate_local_response)

register(
    ("tf.FusedBatchNormGrad", "tf.FusedBatchNormGradV2", "tf.FusedBatchNormGradV3"),
    traits=Trait.TRAINING,
    shape=fused_gradient_shape,
)
register("tf.BatchNormWithGlobalNormalizationGrad", traits=Trait.TRAINING, shape=_global_gradient_shape)
register("tf.LRNGrad", traits=Trait.TRAINING, shape=_rank_four)
