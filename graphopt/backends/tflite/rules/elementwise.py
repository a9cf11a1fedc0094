"""Operators that compute each element by itself."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import NO_ACTIVATION
from graphopt.backends.tflite.table import RULES
from graphopt.ir.value import Value

UNARY = {
    "tf.Relu": "RELU", "tf.Relu6": "RELU6", "tf.Tanh": "TANH", "tf.Sigmoid": "LOGISTIC", "tf.Abs": "ABS",
    "tf.Neg": "NEG", "tf.Exp": "EXP", "tf.Log": "LOG", "tf.Sqrt": "SQRT", "tf.Rsqrt": "RSQRT", "tf.Square": "SQUARE",
}  # fmt: skip
ARITHMETIC = {"tf.Add": "ADD", "tf.AddV2": "ADD", "tf.Sub": "SUB", "tf.Mul": "MUL", "tf.RealDiv": "DIV"}


@RULES.legalize(*UNARY)
def unary(op: Lowering) -> Value:
    """Functions of one operand that TFLite has as they are."""
    return op.emit(UNARY[op.node.op], op.input(0))


@RULES.legalize(*ARITHMETIC)
def arithmetic(op: Lowering) -> Value:
    """Sum, difference, product and quotient, with broadcasting."""
    return op.emit(ARITHMETIC[op.node.op], op.input(0), op.input(1), fused_activation_function=NO_ACTIVATION)


@RULES.legalize("tf.BiasAdd")
def bias_add(op: Lowering) -> Value:
    """A bias along the last axis is a sum that broadcasts."""
    if op.text("data_format", "NHWC") == "NCHW":
        op.refuse("its channels come first", "let the layout be converted")
    return op.emit("ADD", op.input(0), op.input(1), fused_activation_function=NO_ACTIVATION)


@RULES.legalize("tf.Identity")
def identity(op: Lowering) -> Value:
    """An identity is what it passes on."""
    return op.input(0)
