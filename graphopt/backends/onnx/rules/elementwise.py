"""Operators that compute each element by itself."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import cast
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import BOOL
from graphopt.ir.value import Value

UNARY = {
    "tf.Abs": "Abs", "tf.Acos": "Acos", "tf.Acosh": "Acosh", "tf.Asin": "Asin", "tf.Asinh": "Asinh", "tf.Atan": "Atan",
    "tf.Atanh": "Atanh", "tf.Ceil": "Ceil", "tf.Cos": "Cos", "tf.Cosh": "Cosh", "tf.Erf": "Erf", "tf.Exp": "Exp",
    "tf.Floor": "Floor", "tf.Log": "Log", "tf.LogicalNot": "Not", "tf.Neg": "Neg", "tf.Reciprocal": "Reciprocal",
    "tf.Relu": "Relu", "tf.Rint": "Round", "tf.Round": "Round", "tf.Sigmoid": "Sigmoid", "tf.Sign": "Sign",
    "tf.Sin": "Sin", "tf.Sinh": "Sinh", "tf.Softplus": "Softplus", "tf.Softsign": "Softsign", "tf.Sqrt": "Sqrt",
    "tf.Tan": "Tan", "tf.Tanh": "Tanh", "tf.Selu": "Selu", "tf.Elu": "Elu", "tf.IsNan": "IsNaN", "tf.IsInf": "IsInf",
    "tf.Inv": "Reciprocal",
}  # fmt: skip
BINARY = {
    "tf.Add": "Add", "tf.AddV2": "Add", "tf.Sub": "Sub", "tf.Mul": "Mul", "tf.RealDiv": "Div", "tf.Maximum": "Max",
    "tf.Minimum": "Min", "tf.Pow": "Pow", "tf.Equal": "Equal", "tf.Greater": "Greater",
    "tf.GreaterEqual": "GreaterOrEqual", "tf.Less": "Less", "tf.LessEqual": "LessOrEqual", "tf.LogicalAnd": "And",
    "tf.LogicalOr": "Or", "tf.LogicalXor": "Xor",
}  # fmt: skip


@RULES.legalize(*UNARY)
def unary(op: Lowering) -> Value:
    """Functions of one operand that ONNX has as they are."""
    if op.node.op == "tf.Relu" and op.type.dtype.is_integer:
        return op.step("Maximum", op.input(0), op.scalar(0, op.input(0)))
    return op.emit(UNARY[op.node.op], op.input(0))


@RULES.legalize(*BINARY)
def binary(op: Lowering) -> Value:
    """Functions of two operands, with broadcasting."""
    return op.emit(BINARY[op.node.op], op.input(0), op.input(1))


@RULES.legalize("tf.NotEqual")
def not_equal(op: Lowering) -> Value:
    """Not equal; of truth values, one of two but not both."""
    if op.input(0).dtype is BOOL:
        return op.emit("Xor", op.input(0), op.input(1))
    return op.emit("Not", op.emit("Equal", op.input(0), op.input(1), name=f"{op.node.name}/equal"))


@RULES.legalize("tf.Square")
def square(op: Lowering) -> Value:
    """A number times itself."""
    return op.emit("Mul", op.input(0), op.input(0))


@RULES.legalize("tf.SquaredDifference")
def squared_difference(op: Lowering) -> Value:
    """The square of a difference."""
    difference = op.emit("Sub", op.input(0), op.input(1), name=f"{op.node.name}/difference")
    return op.emit("Mul", difference, difference)


@RULES.legalize("tf.Rsqrt")
def rsqrt(op: Lowering) -> Value:
    """One over a square root."""
    return op.emit("Reciprocal", op.emit("Sqrt", op.input(0), name=f"{op.node.name}/root"))


@RULES.legalize("tf.Relu6")
def relu6(op: Lowering) -> Value:
    """Rectified, and cut off at six."""
    return op.emit("Clip", op.input(0), op.scalar(0, op.input(0)), op.scalar(6, op.input(0)))


@RULES.legalize("tf.LeakyRelu")
def leaky_relu(op: Lowering) -> Value:
    """Rectified with a slope below zero."""
    return op.emit("LeakyRelu", op.input(0), alpha=float(op.attr("alpha")))


@RULES.legalize("tf.BiasAdd", "tf.BiasAddV1")
def bias_add(op: Lowering) -> Value:
    """A bias along the channels is a sum that broadcasts."""
    value, bias = op.input(0), op.input(1)
    if op.text("data_format", "NHWC").startswith("NC") and op.rank(value) > 2:
        held = op.known(1)
        ones = [1] * (op.rank(value) - 2)
        if held is None:
            bias = op.step("Reshape", bias, op.integers([-1, *ones], name=f"{op.node.name}/shape"))
        else:
            bias = op.constant(held.reshape(-1, *ones), name=bias.node.name)
    return op.emit("Add", value, bias)


@RULES.legalize("tf.Cast")
def cast_to(op: Lowering) -> Value:
    """Another element type."""
    return cast(op, op.input(0), op.type.dtype)


@RULES.legalize("tf.SelectV2", "tf.Select")
def select(op: Lowering) -> Value:
    """One of two operands, element by element."""
    condition = op.input(0)
    if op.node.op == "tf.Select" and op.rank(condition) == 1 and op.rank(op.input(1)) > 1:
        rows = op.integers([-1, *[1] * (op.rank(op.input(1)) - 1)], name=f"{op.node.name}/rows")
        condition = op.step("Reshape", condition, rows)
    return op.emit("Where", condition, op.input(1), op.input(2))
