"""Operators that compute each element by itself and that StableHLO has, or nearly has."""

from __future__ import annotations

import math

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand, broadcast_dims
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import BOOL, COMPLEX64, COMPLEX128, FLOAT32, FLOAT64, DType

UNARY = {
    "tf.Ceil": "ceil", "tf.Cos": "cosine", "tf.Exp": "exponential", "tf.Expm1": "exponential_minus_one",
    "tf.Floor": "floor", "tf.Log": "log", "tf.Log1p": "log_plus_one", "tf.LogicalNot": "not_", "tf.Neg": "negate",
    "tf.Rsqrt": "rsqrt", "tf.Sign": "sign", "tf.Sin": "sine", "tf.Sqrt": "sqrt",
    "tf.Invert": "not_", "tf.PopulationCount": "popcnt",
}  # fmt: skip
BINARY = {
    "tf.Add": "add", "tf.AddV2": "add", "tf.Sub": "subtract", "tf.Mul": "multiply", "tf.RealDiv": "divide",
    "tf.Maximum": "maximum", "tf.Minimum": "minimum", "tf.Pow": "power", "tf.LogicalAnd": "and_",
    "tf.LogicalOr": "or_", "tf.Atan2": "atan2", "tf.BitwiseAnd": "and_", "tf.BitwiseOr": "or_",
    "tf.BitwiseXor": "xor", "tf.TruncateDiv": "divide", "tf.TruncateMod": "remainder",
}  # fmt: skip
COMPARISONS = {
    "tf.Equal": "EQ", "tf.NotEqual": "NE", "tf.Greater": "GT", "tf.GreaterEqual": "GE", "tf.Less": "LT",
    "tf.LessEqual": "LE",
}  # fmt: skip
IDENTITIES = (
    "tf.Identity", "tf.StopGradient", "tf.PreventGradient", "tf.Snapshot", "tf.CheckNumerics",
    "tf.PlaceholderWithDefault", "tf.DebugGradientIdentity", "tf.GuaranteeConst", "tf.CheckNumericsV2", "tf.Copy",
    "tf.CopyHost", "tf.DeepCopy", "tf.DebugIdentity", "tf.DebugIdentityV2", "tf.DebugIdentityV3", "tf.Print",
    "tf.XlaSharding", "tf.XlaOptimizationBarrier", "tf.RefIdentity",
)  # fmt: skip


@RULES.lower(*UNARY)
def unary(op: Emission) -> Operand:
    """Functions of one operand that StableHLO has as they are."""
    return op.build.unary(UNARY[op.node.op], op.input(0))


@RULES.lower(*BINARY)
def binary(op: Emission) -> Operand:
    """Functions of two operands, with broadcasting."""
    return op.build.binary(BINARY[op.node.op], op.input(0), op.input(1))


@RULES.lower(*COMPARISONS)
def comparison(op: Emission) -> Operand:
    """Comparisons, with broadcasting."""
    return op.build.compare(COMPARISONS[op.node.op], op.input(0), op.input(1))


@RULES.lower("tf.LogicalXor")
def logical_xor(op: Emission) -> Operand:
    """One of two, not both."""
    return op.build.binary("xor", op.input(0), op.input(1))


@RULES.lower("tf.Abs", "tf.ComplexAbs")
def absolute(op: Emission) -> Operand:
    """Magnitudes; of a complex number a real one."""
    x = op.input(0)
    return op.build.made(op.build.hlo.abs(x.value), op.dtype, x.dims)


@RULES.lower(*IDENTITIES)
def identity(op: Emission) -> Operand:
    """An identity is what it passes on."""
    return op.input(0)


@RULES.lower("tf.IdentityN")
def identities(op: Emission) -> list[Operand | None]:
    """Several identities at once."""
    return list(op.inputs)


@RULES.lower("tf.EnsureShape")
def ensure_shape(op: Emission) -> Operand:
    """A shape that the types have told already."""
    return op.input(0)


@RULES.lower("tf.Tan")
def tangent(op: Emission) -> Operand:
    """Sine over cosine: StableHLO's own tangent came late."""
    x = op.input(0)
    return op.build.div(op.build.unary("sine", x), op.build.unary("cosine", x))


@RULES.lower("tf.Square")
def square(op: Emission) -> Operand:
    """A number times itself."""
    x = op.input(0)
    return op.build.mul(x, x)


@RULES.lower("tf.SquaredDifference")
def squared_difference(op: Emission) -> Operand:
    """The square of a difference."""
    difference = op.build.sub(op.input(0), op.input(1))
    return op.build.mul(difference, difference)


@RULES.lower("tf.Reciprocal", "tf.Inv")
def reciprocal(op: Emission) -> Operand:
    """One over a number."""
    x = op.input(0)
    return op.build.div(op.build.like(1, x), x)


@RULES.lower("tf.Mod", "tf.FloorMod")
def floor_mod(op: Emission) -> Operand:
    """What a division rounded down leaves: it has the sign of the divisor."""
    b = op.build
    x, y = b.aligned(op.input(0), op.input(1))
    rest = b.binary("remainder", x, y)
    if x.dtype.kind == "uint":
        return rest
    differs = b.compare("NE", b.compare("LT", rest, 0), b.compare("LT", y, 0))
    wrong = b.binary("and_", differs, b.compare("NE", rest, 0))
    return b.select(wrong, b.add(rest, y), rest)


@RULES.lower("tf.FloorDiv")
def floor_div(op: Emission) -> Operand:
    """A quotient rounded down."""
    b = op.build
    x, y = b.aligned(op.input(0), op.input(1))
    quotient = b.div(x, y)
    if x.dtype.is_float:
        return b.unary("floor", quotient)
    if x.dtype.kind == "uint":
        return quotient
    inexact = b.compare("NE", b.mul(quotient, y), x)
    differs = b.compare("NE", b.compare("LT", x, 0), b.compare("LT", y, 0))
    return b.select(b.binary("and_", inexact, differs), b.sub(quotient, 1), quotient)


@RULES.lower("tf.Div")
def div(op: Emission) -> Operand:
    """A quotient, of integers cut off."""
    return op.build.div(op.input(0), op.input(1))


@RULES.lower("tf.DivNoNan", "tf.MulNoNan", "tf.Xdivy", "tf.Xlogy", "tf.Xlog1py")
def without_nan(op: Emission) -> Operand:
    """Zero where one operand is zero, whatever the other is."""
    b = op.build
    x, y = b.aligned(op.input(0), op.input(1))
    kind = op.node.op
    guard = y if kind in ("tf.DivNoNan", "tf.MulNoNan") else x
    if kind in ("tf.DivNoNan", "tf.Xdivy"):
        made = b.div(x, y)
    elif kind == "tf.MulNoNan":
        made = b.mul(x, y)
    else:
        made = b.mul(x, b.unary("log" if kind == "tf.Xlogy" else "log_plus_one", y))
    return b.select(b.compare("EQ", guard, 0), b.like(0, made), made)


@RULES.lower("tf.AddN", "tf.AccumulateNV2")
def add_n(op: Emission) -> Operand:
    """The sum of all inputs."""
    total, *others = op.inputs
    for other in others:
        total = op.build.add(total, other)
    return total


@RULES.lower("tf.BiasAdd", "tf.BiasAddV1")
def bias_add(op: Emission) -> Operand:
    """A bias along the channels."""
    return add_channels(op, op.input(0), op.input(1))


def add_channels(op: Emission, x: Operand, bias: Operand) -> Operand:
    """`x` with a number for each channel added."""
    channel = 1 if op.text("data_format", "NHWC").startswith("NC") and x.rank > 2 else x.rank - 1
    return op.build.add(x, op.build.broadcast(bias, x.dims, (channel,)))


@RULES.lower("tf.Cast")
def cast(op: Emission) -> Operand:
    """Another element type: floats are cut off, saturating is not asked for."""
    x, dtype = op.input(0), op.dtype
    if dtype is BOOL:
        return op.build.compare("NE", x, op.build.like(0, x))
    if x.dtype in (COMPLEX64, COMPLEX128) and dtype not in (COMPLEX64, COMPLEX128):
        part: DType = FLOAT32 if x.dtype is COMPLEX64 else FLOAT64
        x = op.build.made(op.build.hlo.real(x.value), part, x.dims)
    return op.build.convert(x, dtype)


@RULES.lower("tf.SelectV2")
def select_v2(op: Emission) -> Operand:
    """One of two operands, element by element, with broadcasting."""
    return op.build.select(op.input(0), op.input(1), op.input(2))


@RULES.lower("tf.Select")
def select(op: Emission) -> Operand:
    """One of two operands; a vector of conditions chooses whole rows."""
    condition, x = op.input(0), op.input(1)
    if condition.rank == 1 and x.rank > 1:
        condition = op.build.broadcast(condition, x.dims, (0,))
    elif condition.rank == 0:
        condition = op.build.broadcast(condition, x.dims)
    return op.build.select(condition, x, op.input(2))


@RULES.lower("tf.ClipByValue")
def clip(op: Emission) -> Operand:
    """Between two bounds."""
    return op.build.min(op.build.max(op.input(0), op.input(1)), op.input(2))


@RULES.lower("tf.ZerosLike", "tf.OnesLike")
def filled_like(op: Emission) -> Operand:
    """Zeros or ones in the shape of the input."""
    x = op.input(0)
    return op.build.like(1 if op.node.op == "tf.OnesLike" else 0, x)


@RULES.lower("tf.IsNan")
def is_nan(op: Emission) -> Operand:
    """Only NaN differs from itself."""
    x = op.input(0)
    return op.build.compare("NE", x, x)


@RULES.lower("tf.IsInf")
def is_inf(op: Emission) -> Operand:
    """Infinite, of either sign."""
    return op.build.compare("EQ", op.build.unary("abs", op.input(0)), math.inf)


@RULES.lower("tf.IsFinite")
def is_finite(op: Emission) -> Operand:
    """Neither infinite nor NaN."""
    x = op.input(0)
    return op.build.made(op.build.hlo.is_finite(x.value), BOOL, x.dims)


@RULES.lower("tf.ApproximateEqual")
def approximate_equal(op: Emission) -> Operand:
    """Closer than a tolerance."""
    b = op.build
    return b.compare("LT", b.unary("abs", b.sub(op.input(0), op.input(1))), float(op.attr("tolerance", 1e-5)))


@RULES.lower("tf.LeftShift", "tf.RightShift")
def shift(op: Emission) -> Operand:
    """Bits moved; to the right, the sign is kept."""
    x = op.input(0)
    right = "shift_right_logical" if x.dtype.kind == "uint" else "shift_right_arithmetic"
    return op.build.binary("shift_left" if op.node.op == "tf.LeftShift" else right, x, op.input(1))


@RULES.lower("tf.Real", "tf.Imag", "tf.Conj", "tf.Complex", "tf.Angle")
def complex_parts(op: Emission) -> Operand:
    """Complex numbers and their parts."""
    b, kind = op.build, op.node.op
    if kind == "tf.Complex":
        x, y = b.aligned(op.input(0), op.input(1))
        return b.made(b.hlo.complex(x.value, y.value), op.dtype, x.dims)
    x = op.input(0)
    part = FLOAT32 if x.dtype is COMPLEX64 else FLOAT64
    real, imaginary = b.made(b.hlo.real(x.value), part, x.dims), b.made(b.hlo.imag(x.value), part, x.dims)
    if kind == "tf.Conj":
        return b.made(b.hlo.complex(real.value, b.unary("negate", imaginary).value), x.dtype, x.dims)
    if kind == "tf.Angle":
        return b.binary("atan2", imaginary, real)
    return real if kind == "tf.Real" else imaginary


@RULES.lower("tf.BroadcastArgs")
def broadcast_args(op: Emission) -> Operand:
    """The shape that two shapes broadcast to."""
    dims = broadcast_dims(op.sizes(0, "a shape"), op.sizes(1, "a shape"))
    return op.build.convert(op.build.sizes.stacked(dims), op.dtype)
