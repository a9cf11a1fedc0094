"""Operators that TensorFlow's own optimiser makes: a product or norm with what follows it."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.activations import PLAIN, leaky
from graphopt.backends.xla.rules.convolution import convolution, depthwise
from graphopt.backends.xla.rules.elementwise import add_channels
from graphopt.backends.xla.rules.matmul import matmul
from graphopt.backends.xla.rules.normalization import batch_norm, normalized
from graphopt.backends.xla.table import RULES

PRODUCTS: dict[str, Callable[[Emission], Operand]] = {
    "tf._FusedConv2D": convolution, "tf._FusedConv3D": convolution, "tf._FusedDepthwiseConv2dNative": depthwise,
    "tf._FusedMatMul": matmul,
}  # fmt: skip


@RULES.lower(*PRODUCTS)
def fused_product(op: Emission) -> Operand:
    """A product, then a bias, a batch norm, a sum or an activation."""
    made = PRODUCTS[op.node.op](op)
    rest = op.inputs[2:]
    for encoded in op.attr("fused_ops", ()):
        name = encoded.decode(errors="replace")
        if name == "BiasAdd":
            made = add_channels(op, made, rest.pop(0))
        elif name == "Add":
            made = op.build.add(made, rest.pop(0))
        elif name == "FusedBatchNorm":
            parts, rest = rest[:4], rest[4:]
            made = normalized(op, made, *parts)
        else:
            made = _activated(op, name, made)
    return made


def _activated(op: Emission, name: str, x: Operand) -> Operand:
    if name == "LeakyRelu":
        return leaky(op.build, x, float(op.attr("leakyrelu_alpha", 0.2)))
    function = PLAIN.get("tf.Gelu" if name == "GeluApproximate" else f"tf.{name}")
    if function is None:
        op.refuse(f"it is fused with {name}", "let TensorFlow's optimiser leave the graph as it is")
    return function(op.build, x)


@RULES.lower("tf._FusedBatchNormEx")
def fused_batch_norm(op: Emission) -> list[Operand | None]:
    """A batch norm, then a sum and an activation."""
    made = batch_norm(op)
    first = made[0]
    assert first is not None
    for side in op.inputs[5:]:
        first = op.build.add(first, side)
    mode = op.text("activation_mode", "Identity")
    made[0] = first if mode == "Identity" else _activated(op, mode, first)
    return made
