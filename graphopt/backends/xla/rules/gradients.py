"""Gradients that graphs made for inference hold too: those of activations and biases."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.backends.xla.builder import Builder
from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.windows import is_channels_first
from graphopt.backends.xla.table import RULES

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.7580993408473766
# (builder, gradient, what the function took or gave) -> gradient
FUNCTIONS: dict[str, Callable[[Builder, Operand, Operand], Operand]] = {
    "tf.ReluGrad": lambda b, dy, x: b.select(b.compare("GT", x, 0), dy, b.like(0, dy)),
    "tf.Relu6Grad": lambda b, dy, x: b.select(
        b.binary("and_", b.compare("GT", x, 0), b.compare("LT", x, 6)), dy, b.like(0, dy)
    ),
    "tf.EluGrad": lambda b, dy, y: b.select(b.compare("LT", y, 0), b.mul(b.add(y, 1), dy), dy),
    "tf.SeluGrad": lambda b, dy, y: b.select(
        b.compare("LT", y, 0), b.mul(b.add(y, SELU_ALPHA), dy), b.mul(dy, SELU_SCALE)
    ),
    "tf.SoftplusGrad": lambda b, dy, x: b.mul(dy, b.unary("logistic", x)),
    "tf.SoftsignGrad": lambda b, dy, x: b.div(dy, _squared(b, b.add(b.unary("abs", x), 1))),
}
# The operand that the function gave comes first.
OF_RESULTS: dict[str, Callable[[Builder, Operand, Operand], Operand]] = {
    "tf.SigmoidGrad": lambda b, dy, y: b.mul(b.mul(dy, y), b.sub(b.like(1, y), y)),
    "tf.TanhGrad": lambda b, dy, y: b.mul(dy, b.sub(b.like(1, y), _squared(b, y))),
    "tf.SqrtGrad": lambda b, dy, y: b.div(b.mul(dy, 0.5), y),
    "tf.RsqrtGrad": lambda b, dy, y: b.mul(b.mul(dy, -0.5), b.mul(y, _squared(b, y))),
    "tf.InvGrad": lambda b, dy, y: b.unary("negate", b.mul(dy, _squared(b, y))),
    "tf.ReciprocalGrad": lambda b, dy, y: b.unary("negate", b.mul(dy, _squared(b, y))),
}


def _squared(b: Builder, x: Operand) -> Operand:
    return b.mul(x, x)


@RULES.lower(*FUNCTIONS)
def of_operands(op: Emission) -> Operand:
    """Gradients by what the function took, or for some gave."""
    return FUNCTIONS[op.node.op](op.build, op.input(0), op.input(1))


@RULES.lower(*OF_RESULTS)
def of_results(op: Emission) -> Operand:
    """Gradients by what the function gave."""
    return OF_RESULTS[op.node.op](op.build, op.input(1), op.input(0))


@RULES.lower("tf.LeakyReluGrad")
def leaky_relu(op: Emission) -> Operand:
    """The gradient, less of it below zero."""
    b, dy = op.build, op.input(0)
    return b.select(b.compare("GT", op.input(1), 0), dy, b.mul(dy, float(op.attr("alpha", 0.2))))


@RULES.lower("tf.BiasAddGrad")
def bias(op: Emission) -> Operand:
    """The sum of everything but the channels."""
    x = op.input(0)
    channel = 1 if is_channels_first(op) and x.rank > 2 else x.rank - 1
    return op.build.reduce("add", x, [axis for axis in range(x.rank) if axis != channel])
