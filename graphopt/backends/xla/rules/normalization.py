"""Batch norms, softmax and other normalisations."""

from __future__ import annotations

from graphopt.backends.xla.builder import size_of
from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.pooling import reduce_window
from graphopt.backends.xla.rules.windows import is_channels_first
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import FLOAT32


@RULES.lower("tf.FusedBatchNorm", "tf.FusedBatchNormV2", "tf.FusedBatchNormV3")
def batch_norm(op: Emission) -> list[Operand | None]:
    """A batch norm, with the statistics it was trained to or with the batch's own."""
    b, x = op.build, op.input(0)
    channel = 1 if is_channels_first(op) else x.rank - 1
    wide = b.convert(x, FLOAT32) if x.dtype.bits < 32 else x
    scale, offset = op.input(1), op.input(2)
    outputs: list[Operand | None] = [None] * len(op.node.outputs)
    if op.attr("is_training", True):
        axes = [axis for axis in range(x.rank) if axis != channel]
        count = b.convert(b.sizes.scalar(size_of([x.dims[axis] for axis in axes])), wide.dtype)
        mean = b.div(b.reduce("add", wide, axes), count)
        centred = b.sub(wide, b.broadcast(mean, x.dims, (channel,)))
        variance = b.div(b.reduce("add", b.mul(centred, centred), axes), count)
        unbiased = b.mul(variance, b.div(count, b.max(b.sub(count, 1), 1)))
        outputs[1:3] = [mean, unbiased]
    else:
        mean, variance = op.input(3), op.input(4)
        outputs[1:3] = [mean, variance]
    outputs[0] = normalized(op, x, scale, offset, mean, variance)
    return outputs


def normalized(op: Emission, x: Operand, scale: Operand, offset: Operand, mean: Operand, variance: Operand) -> Operand:
    """`x` brought to mean and variance of each channel, in float32 at least, then scaled and moved."""
    b = op.build
    channel = 1 if is_channels_first(op) else x.rank - 1
    wide = b.convert(x, FLOAT32) if x.dtype.bits < 32 else x
    scale, offset, mean, variance = (b.convert(part, wide.dtype) for part in (scale, offset, mean, variance))
    factor = b.mul(scale, b.unary("rsqrt", b.add(variance, float(op.attr("epsilon")))))
    shift = b.sub(offset, b.mul(mean, factor))
    made = b.add(b.mul(wide, b.broadcast(factor, x.dims, (channel,))), b.broadcast(shift, x.dims, (channel,)))
    return b.convert(made, x.dtype)


@RULES.lower("tf.Softmax", "tf.LogSoftmax")
def softmax(op: Emission) -> Operand:
    """Exponentials, less the maximum, over their sum."""
    b, x = op.build, op.input(0)
    axis = [x.rank - 1]
    shifted = b.sub(x, b.reduce("maximum", x, axis, keep=True))
    powers = b.unary("exponential", shifted)
    total = b.reduce("add", powers, axis, keep=True)
    if op.node.op == "tf.LogSoftmax":
        return b.sub(shifted, b.unary("log", total))
    return b.div(powers, total)


@RULES.lower("tf.L2Loss")
def l2_loss(op: Emission) -> Operand:
    """Half the sum of squares."""
    b, x = op.build, op.input(0)
    return b.mul(b.reduce("add", b.mul(x, x), range(x.rank)), 0.5)


@RULES.lower("tf.LRN")
def local_response(op: Emission) -> Operand:
    """Each element over a power of the sum of squares around it along the channels."""
    b, x = op.build, op.input(0)
    radius = int(op.attr("depth_radius"))
    squares = reduce_window(op, "add", b.mul(x, x), [3], [2 * radius + 1], [1], [(radius, radius)])
    base = b.add(b.mul(squares, float(op.attr("alpha"))), float(op.attr("bias")))
    return b.div(x, b.binary("power", base, float(op.attr("beta"))))


@RULES.lower("tf.SoftmaxCrossEntropyWithLogits", "tf.SparseSoftmaxCrossEntropyWithLogits")
def cross_entropy(op: Emission) -> list[Operand | None]:
    """The loss of each row, and its gradient."""
    b, logits, labels = op.build, op.input(0), op.input(1)
    if op.node.op.startswith("tf.Sparse"):
        hit = b.compare("EQ", b.broadcast(labels, logits.dims, (0,)), b.iota(labels.dtype, logits.dims, 1))
        labels = b.convert(hit, logits.dtype)
    shifted = b.sub(logits, b.reduce("maximum", logits, [1], keep=True))
    powers = b.unary("exponential", shifted)
    total = b.reduce("add", powers, [1], keep=True)
    loss = b.reduce("add", b.mul(labels, b.sub(b.unary("log", total), shifted)), [1])
    return [loss, b.sub(b.div(powers, total), labels)]
