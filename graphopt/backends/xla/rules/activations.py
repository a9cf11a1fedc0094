"""Activations: rectified units and their kin."""

from __future__ import annotations

import math
from collections.abc import Callable

from graphopt.backends.xla.builder import Builder
from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES

SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def _relu(b: Builder, x: Operand) -> Operand:
    return b.max(x, 0)


def _relu6(b: Builder, x: Operand) -> Operand:
    return b.min(b.max(x, 0), 6)


def _elu(b: Builder, x: Operand) -> Operand:
    return b.select(b.compare("GT", x, 0), x, b.unary("exponential_minus_one", x))


def _selu(b: Builder, x: Operand) -> Operand:
    below = b.mul(b.unary("exponential_minus_one", x), SELU_SCALE * SELU_ALPHA)
    return b.select(b.compare("GT", x, 0), b.mul(x, SELU_SCALE), below)


def _softplus(b: Builder, x: Operand) -> Operand:
    """`log(exp(x) + 1)`, without overflow."""
    small = b.unary("log_plus_one", b.unary("exponential", b.unary("negate", b.unary("abs", x))))
    return b.add(b.max(x, 0), small)


def _softsign(b: Builder, x: Operand) -> Operand:
    return b.div(x, b.add(b.unary("abs", x), 1))


def _gelu(b: Builder, x: Operand) -> Operand:
    cube = b.mul(b.mul(x, x), x)
    inner = b.mul(b.add(x, b.mul(cube, 0.044715)), math.sqrt(2 / math.pi))
    return b.mul(b.mul(x, 0.5), b.add(b.unary("tanh", inner), 1))


def _sigmoid(b: Builder, x: Operand) -> Operand:
    return b.unary("logistic", x)


def _tanh(b: Builder, x: Operand) -> Operand:
    return b.unary("tanh", x)


PLAIN: dict[str, Callable[[Builder, Operand], Operand]] = {
    "tf.Relu": _relu, "tf.Relu6": _relu6, "tf.Elu": _elu, "tf.Selu": _selu, "tf.Softplus": _softplus,
    "tf.Softsign": _softsign, "tf.Gelu": _gelu, "tf.Sigmoid": _sigmoid, "tf.Tanh": _tanh,
}  # fmt: skip


@RULES.lower(*PLAIN)
def activation(op: Emission) -> Operand:
    """Rectified linear units, exponential ones, gates; Gelu in its form with a hyperbolic tangent."""
    return PLAIN[op.node.op](op.build, op.input(0))


@RULES.lower("tf.LeakyRelu")
def leaky_relu(op: Emission) -> Operand:
    """Rectified with a slope below zero."""
    return leaky(op.build, op.input(0), float(op.attr("alpha")))


def leaky(b: Builder, x: Operand, alpha: float) -> Operand:
    """`x` where it is positive, `alpha` times it elsewhere."""
    return b.select(b.compare("GT", x, 0), x, b.mul(x, alpha))
