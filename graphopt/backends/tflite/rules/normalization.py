"""Normalisation over a batch and over neighbouring channels."""

from __future__ import annotations

import math

import numpy as np

from graphopt.backends.legalization import Array, Lowering
from graphopt.backends.tflite.rules.windows import as_before, as_float32, channels_last
from graphopt.backends.tflite.table import RULES
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Value


@RULES.legalize("tf.FusedBatchNorm", "tf.FusedBatchNormV2", "tf.FusedBatchNormV3")
def batch_norm(op: Lowering) -> list[Value | None]:
    """A batch normalisation that no convolution took in: a product and a sum by channel. In training mode mean and
    variance are those of the batch, as which they are given, too; what is left for gradients must not be read."""
    channels_last(op)
    if any(value.use_count or value.is_output for value in op.node.outputs[3:]):
        op.refuse("what it leaves for gradients is read", "leave training out of the model (freeze)")
    x = as_float32(op, op.input(0))
    unread = [None] * (len(op.node.outputs) - 3)
    if op.attr("is_training"):
        if op.attr("exponential_avg_factor", 1.0) != 1.0:
            op.refuse("it averages statistics over several batches", "leave training out of the model (freeze)")
        mean, variance = _statistics(op, x)
        return [as_before(op, _computed(op, x, mean, variance)), mean, _unbiased(op, x, variance), *unread]
    arrays = [array for array in map(op.known, range(1, 5)) if array is not None]
    if len(arrays) < 4:
        made = _computed(op, x, op.input(3), op.input(4))
    else:
        scale, offset = _affine(arrays, float(op.attr("epsilon")))
        product = op.source("tf.Mul", x, op.constant(scale, name=op.input(1).node.name), name=f"{op.node.name}/scaled")
        made = op.source("tf.AddV2", product, op.constant(offset, name=op.input(2).node.name))
    return [as_before(op, made), op.input(3), op.input(4), *unread]


def _affine(arrays: list[Array], epsilon: float) -> tuple[Array, Array]:
    scale, offset, mean, variance = arrays
    with np.errstate(all="ignore"):
        factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        return factor.astype(np.float32), (offset - mean * factor).astype(np.float32)


def _computed(op: Lowering, x: Value, mean: Value, variance: Value) -> Value:
    """The normalisation with statistics that are values."""
    name, epsilon = op.node.name, op.constant(np.array(op.attr("epsilon"), np.float32), name=f"{op.node.name}/epsilon")
    spread = op.source("tf.AddV2", variance, epsilon, name=f"{name}/spread")
    inverse = op.source("tf.Rsqrt", spread, name=f"{name}/inverse")
    factor = op.source("tf.Mul", op.input(1), inverse, name=f"{name}/factor")
    shift = op.source("tf.Mul", mean, factor, name=f"{name}/shift")
    offset = op.source("tf.Sub", op.input(2), shift, name=f"{name}/offset")
    product = op.source("tf.Mul", x, factor, name=f"{name}/scaled")
    return op.source("tf.AddV2", product, offset)


def _statistics(op: Lowering, x: Value) -> tuple[Value, Value]:
    """Mean and variance of the batch itself."""
    axes = op.integers(list(range(op.rank(x) - 1)), name=f"{op.node.name}/axes")
    mean = op.source("tf.Mean", x, axes, name=f"{op.node.name}/mean", keep_dims=False)
    distance = op.source("tf.SquaredDifference", x, mean, name=f"{op.node.name}/distance")
    return mean, op.source("tf.Mean", distance, axes, name=f"{op.node.name}/variance", keep_dims=False)


def _unbiased(op: Lowering, x: Value, variance: Value) -> Value | None:
    """The variance as an estimate for more than the batch."""
    wanted = op.node.outputs[2]
    if not wanted.use_count and not wanted.is_output:
        return None
    *others, _ = op.static(x)
    count = math.prod(others)
    return op.step("Mul", variance, op.scalar(count / max(count - 1, 1), variance))


@RULES.legalize("tf.LRN")
def local_response_normalization(op: Lowering) -> Value:
    """Each element divided by a power of the sum of squares of its neighbours along the channels."""
    if op.type.dtype is not FLOAT32:
        op.refuse(f"TFLite computes it for float32, not for {op.type.dtype.name}", "cast the model to float32")
    return op.emit(
        "LOCAL_RESPONSE_NORMALIZATION", op.input(0), radius=op.attr("depth_radius"), bias=op.attr("bias"),
        alpha=op.attr("alpha"), beta=op.attr("beta"),
    )  # fmt: skip
