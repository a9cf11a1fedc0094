"""Operators that compute each element by itself, of one or two operands, as LiteRT has them."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.broadcasting import stretched
from graphopt.backends.tflite.rules.common import NO_ACTIVATION, reshape
from graphopt.backends.tflite.rules.kernels import compute, narrowed
from graphopt.backends.tflite.table import RULES
from graphopt.ir.types import INT64, STRING, TensorType
from graphopt.ir.value import Value

UNARY = {
    "tf.Abs": "ABS", "tf.Ceil": "CEIL", "tf.Cos": "COS", "tf.Elu": "ELU", "tf.Exp": "EXP", "tf.Floor": "FLOOR",
    "tf.Log": "LOG", "tf.LogicalNot": "LOGICAL_NOT", "tf.Neg": "NEG", "tf.Relu": "RELU", "tf.Relu6": "RELU6",
    "tf.Rsqrt": "RSQRT", "tf.Sigmoid": "LOGISTIC", "tf.Sign": "SIGN", "tf.Sin": "SIN",
    "tf.Sqrt": "SQRT", "tf.Square": "SQUARE", "tf.Tanh": "TANH", "tf.ZerosLike": "ZEROS_LIKE",
    "tf.ComplexAbs": "COMPLEX_ABS", "tf.Real": "REAL", "tf.Imag": "IMAG",
}  # fmt: skip
# With an activation that may be fused into them.
ARITHMETIC = {
    "tf.Add": "ADD", "tf.AddV2": "ADD", "tf.Sub": "SUB", "tf.Mul": "MUL", "tf.RealDiv": "DIV", "tf.Div": "DIV",
    "tf.TruncateDiv": "DIV",
}  # fmt: skip
BINARY = {
    "tf.Maximum": "MAXIMUM", "tf.Minimum": "MINIMUM", "tf.Pow": "POW", "tf.FloorDiv": "FLOOR_DIV",
    "tf.FloorMod": "FLOOR_MOD", "tf.SquaredDifference": "SQUARED_DIFFERENCE", "tf.BitwiseXor": "BITWISE_XOR",
    "tf.RightShift": "RIGHT_SHIFT", "tf.Equal": "EQUAL", "tf.NotEqual": "NOT_EQUAL", "tf.Less": "LESS",
    "tf.LessEqual": "LESS_EQUAL", "tf.Greater": "GREATER", "tf.GreaterEqual": "GREATER_EQUAL",
    "tf.LogicalAnd": "LOGICAL_AND", "tf.LogicalOr": "LOGICAL_OR",
}  # fmt: skip
DIVISIONS = ("tf.Div", "tf.TruncateDiv", "tf.FloorDiv")


@RULES.legalize(*UNARY)
def unary(op: Lowering) -> Value:
    """Functions of one operand that TFLite has; half precision and small integers are computed in wider types."""
    return compute(op, UNARY[op.node.op], op.input(0))


@RULES.legalize("tf.Rint", "tf.Round")
def rounded(op: Lowering) -> Value:
    """The nearest whole number, the even one of two; a whole number stays what it is."""
    if op.input(0).dtype.is_integer:
        return op.input(0)
    return compute(op, "ROUND", op.input(0))


@RULES.legalize("tf.LeakyRelu")
def leaky_relu(op: Lowering) -> Value:
    """A rectified linear unit with a slope below zero."""
    return compute(op, "LEAKY_RELU", op.input(0), alpha=float(op.attr("alpha")))


@RULES.legalize(*DIVISIONS)
def division_of_sizes(op: Lowering) -> Value | None:
    """A quotient of int64 numbers that are sizes is computed in int32: LiteRT divides no int64."""
    if op.type.dtype is not INT64:
        return None
    a, b = narrowed(op, op.input(0)), narrowed(op, op.input(1))
    return op.step("Cast", op.step(op.node.op_type, a, b), SrcT=a.dtype, DstT=INT64, Truncate=False)


@RULES.legalize(*ARITHMETIC)
def arithmetic(op: Lowering) -> Value:
    """Sum, difference, product and quotient, with broadcasting; a quotient of integers, or one asked to be, is cut
    off."""
    if op.type.dtype is STRING:
        op.refuse("LiteRT does not join strings")
    kernel = ARITHMETIC[op.node.op]
    if op.node.op == "tf.TruncateDiv" and op.type.dtype.is_float:
        quotient = op.step("RealDiv", op.input(0), op.input(1))
        return op.step("Mul", op.step("Floor", op.step("Abs", quotient)), op.step("Sign", quotient))
    return stretched(op, kernel, op.input(0), op.input(1), fused_activation_function=NO_ACTIVATION)


@RULES.legalize(*BINARY)
def binary(op: Lowering) -> Value:
    """Extrema, powers, divisions that round down, comparisons and logic, with broadcasting."""
    return stretched(op, BINARY[op.node.op], op.input(0), op.input(1))


@RULES.legalize("tf.Atan2")
def atan2(op: Lowering) -> Value:
    """An angle; LiteRT's kernel does not broadcast, so operands of different shapes are stretched first."""
    y, x = op.input(0), op.input(1)
    if y.shape != x.shape or y.shape.dims is None or any(dim is None for dim in y.shape.dims):
        target = op.type.shape.static
        if target is not None:
            shape = op.integers(target, name=f"{op.node.name}/shape")
            y, x = (v if v.shape.static == target else op.step("BroadcastTo", v, shape) for v in (y, x))
        else:
            y, x = op.step("Mul", y, op.step("OnesLike", x)), op.step("Mul", x, op.step("OnesLike", y))
            y, x = _stretched(op, y), _stretched(op, x)
    return compute(op, "ATAN2", y, x)


def _stretched(op: Lowering, value: Value) -> Value:
    value.type = TensorType(value.dtype, op.type.shape)
    return value


@RULES.legalize("tf.BiasAdd", "tf.BiasAddV1")
def bias_add(op: Lowering) -> Value:
    """A bias along the channels is a sum that broadcasts; one of channels that come first is reshaped for that."""
    value, bias = op.input(0), op.input(1)
    if op.text("data_format", "NHWC").startswith("NC"):
        spatial = op.rank(value) - 2
        dims = (op.static(bias)[0], *(1,) * spatial)
        held = op.known(1)
        bias = reshape(op, bias, dims) if held is None else op.constant(held.reshape(dims), name=bias.node.name)
    return compute(op, "ADD", value, bias, fused_activation_function=NO_ACTIVATION)


@RULES.legalize("tf.AddN", "tf.AccumulateNV2")
def add_n(op: Lowering) -> Value:
    """A sum of several tensors: ADD_N, or additions where it lacks the type; two are an addition."""
    first, *others = op.inputs
    dtype = op.type.dtype.name
    if len(others) > 1 and dtype in ("float32", "int32"):
        return compute(op, "ADD_N", *op.inputs)
    for other in others:
        first = op.step("AddV2", first, other)
    return first


@RULES.legalize("tf.Cast")
def cast_elements(op: Lowering) -> Value:
    """A conversion of element types; reals are cut off towards zero."""
    value, dtype = op.input(0), op.attr("DstT")
    if value.dtype is dtype:
        return value
    return compute(op, "CAST", value, wider={}, in_data_type=value.dtype, out_data_type=dtype)


@RULES.legalize("tf.Bitcast")
def bitcast(op: Lowering) -> Value:
    """The same bits as another element type."""
    return op.input(0) if op.input(0).dtype is op.type.dtype else compute(op, "BITCAST", op.input(0), wider={})
