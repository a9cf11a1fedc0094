"""Functions of elements that are written with other functions of elements."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.ir.types import BFLOAT16, BOOL, FLOAT16, FLOAT32
from graphopt.ir.value import Value

# Selu's constants, from "Self-Normalizing Neural Networks" (Klambauer et al., 2017).
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
# Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26: off by no more than 1.5e-7.
ERF_P = 0.3275911
ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
# Lanczos, "A Precision Approximation of the Gamma Function" (1964), with nine terms.
LANCZOS_G = 7
LANCZOS = (
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
)  # fmt: skip
HALF_LOG_OF_TWO_PI = 0.9189385332046727
SOFTPLUS_LIMIT = 80.0  # whose exponential float32 holds


class Terms:
    """Writes formulas: operators of TensorFlow on values and numbers."""

    __slots__ = ("op",)

    def __init__(self, op: Lowering):
        self.op = op

    def __call__(self, kind: str, *operands: Value | float) -> Value:
        like = next(operand for operand in operands if isinstance(operand, Value) and operand.dtype is not BOOL)
        values = (item if isinstance(item, Value) else self.op.scalar(item, like) for item in operands)
        return self.op.step(kind, *values)


def _softplus(f: Terms, x: Value) -> Value:
    """Far above zero, where the exponential overflows, it is the number itself."""
    tail = f("Log", f("AddV2", f("Exp", f("Minimum", x, SOFTPLUS_LIMIT)), 1))
    return f("Maximum", tail, x)


def _expm1(f: Terms, x: Value) -> Value:
    """ELU's kernel is exact near zero: below zero it is the function, above its mirror image is."""
    above = f("Relu", x)
    mirrored = f("Mul", f("Elu", f("Neg", above)), f("Exp", above))
    return f("Sub", f("Elu", f("Minimum", x, 0)), mirrored)


def _selu(f: Terms, x: Value) -> Value:
    below = f("Mul", f("Elu", f("Minimum", x, 0)), SELU_ALPHA * SELU_SCALE)
    return f("AddV2", f("Mul", f("Relu", x), SELU_SCALE), below)


def _erfc_of_positive(f: Terms, x: Value) -> Value:
    t = f("Reciprocal", f("AddV2", f("Mul", x, ERF_P), 1))
    total = f("Mul", t, ERF[0])
    for factor in ERF[1:]:
        total = f("Mul", f("AddV2", total, factor), t)
    return f("Mul", total, f("Exp", f("Neg", f("Square", x))))


def _erf(f: Terms, x: Value) -> Value:
    return f("Mul", f("Sub", 1, _erfc_of_positive(f, f("Abs", x))), f("Sign", x))


def _asinh(f: Terms, x: Value) -> Value:
    size = f("Abs", x)
    return f("Mul", f("Log", f("AddV2", size, f("Sqrt", f("AddV2", f("Square", size), 1)))), f("Sign", x))


def _lgamma(f: Terms, x: Value) -> Value:
    """Lanczos's approximation, and Euler's reflection for what is below one half."""
    is_small = f("Less", x, 0.5)
    z = f("SelectV2", is_small, f("Neg", x), f("Sub", x, 1))
    total = f("AddV2", f("RealDiv", LANCZOS[1], f("AddV2", z, 1)), LANCZOS[0])
    for place, factor in enumerate(LANCZOS[2:], 2):
        total = f("AddV2", total, f("RealDiv", factor, f("AddV2", z, place)))
    t = f("AddV2", z, LANCZOS_G + 0.5)
    power = f("Mul", f("AddV2", z, 0.5), f("Log", t))
    large = f("AddV2", f("Sub", power, t), f("AddV2", f("Log", total), HALF_LOG_OF_TWO_PI))
    size = f("Abs", x)
    part = f("Sub", size, f("Floor", size))
    sine = f("Sin", f("Mul", f("Minimum", part, f("Sub", 1, part)), np.pi))
    return f("SelectV2", is_small, f("Sub", f("Sub", float(np.log(np.pi)), f("Log", sine)), large), large)


FORMULAS: dict[str, Callable[[Terms, Value], Value]] = {
    "tf.Softplus": _softplus,
    "tf.Softsign": lambda f, x: f("RealDiv", x, f("AddV2", f("Abs", x), 1)),
    "tf.Selu": _selu,
    "tf.Expm1": _expm1,
    "tf.Log1p": lambda f, x: f("Log", f("AddV2", x, 1)),
    "tf.Reciprocal": lambda f, x: f("RealDiv", 1, x),
    "tf.Inv": lambda f, x: f("RealDiv", 1, x),
    "tf.Erf": _erf,
    "tf.Erfc": lambda f, x: f("Sub", 1, _erf(f, x)),
    "tf.Lgamma": _lgamma,
    "tf.Tan": lambda f, x: f("RealDiv", f("Sin", x), f("Cos", x)),
    "tf.Asin": lambda f, x: f("Atan2", x, f("Sqrt", f("Sub", 1, f("Square", x)))),
    "tf.Acos": lambda f, x: f("Atan2", f("Sqrt", f("Sub", 1, f("Square", x))), x),
    "tf.Atan": lambda f, x: f("Atan2", x, f("AddV2", f("ZerosLike", x), 1)),
    "tf.Sinh": lambda f, x: f("Mul", f("Sub", f("Exp", x), f("Exp", f("Neg", x))), 0.5),
    "tf.Cosh": lambda f, x: f("Mul", f("AddV2", f("Exp", x), f("Exp", f("Neg", x))), 0.5),
    "tf.Asinh": _asinh,
    "tf.Acosh": lambda f, x: f("Log", f("AddV2", x, f("Sqrt", f("Sub", f("Square", x), 1)))),
    "tf.Atanh": lambda f, x: f("Mul", f("Log", f("RealDiv", f("AddV2", x, 1), f("Sub", 1, x))), 0.5),
    "tf.IsNan": lambda f, x: f("NotEqual", x, x),
    "tf.IsInf": lambda f, x: f("Equal", f("Abs", x), np.inf),
    "tf.IsFinite": lambda f, x: f("Less", f("Abs", x), np.inf),
    "tf.Angle": lambda f, x: f("Atan2", f("Imag", x), f("Real", x)),
}
# Where the first operand is zero, so is the product or quotient, whatever the second.
SHIELDED = {"tf.Xdivy": ("RealDiv", None), "tf.Xlogy": ("Mul", "Log"), "tf.Xlog1py": ("Mul", "Log1p")}
FORMULAS_OF_TWO: dict[str, Callable[[Terms, Value, Value], Value]] = {
    "tf.Mod": lambda f, x, y: f("TruncateMod", x, y),
    "tf.SigmoidGrad": lambda f, y, dy: f("Mul", dy, f("Mul", y, f("Sub", 1, y))),
    "tf.TanhGrad": lambda f, y, dy: f("Mul", dy, f("Sub", 1, f("Square", y))),
}


def formula(op: Lowering) -> Value:
    """Functions that are written with others, stable where the plain formula overflows or cancels; of 16-bit floats in
    float32."""
    return _in_float32(op) or FORMULAS[op.node.op](Terms(op), op.input(0))


def formula_of_two(op: Lowering) -> Value:
    """Functions of two operands that are written with others; of 16-bit floats in float32."""
    return _in_float32(op) or FORMULAS_OF_TWO[op.node.op](Terms(op), op.input(0), op.input(1))


def _in_float32(op: Lowering) -> Value | None:
    """The whole of it in float32, where a formula of 16-bit floats would be rounded step by step."""
    narrow = op.type.dtype
    if narrow not in (FLOAT16, BFLOAT16):
        return None
    operands = [op.step("Cast", value, SrcT=narrow, DstT=FLOAT32) for value in op.inputs]
    return op.step("Cast", op.step(op.node.op_type, *operands), SrcT=FLOAT32, DstT=narrow)


def zero_for_zero(op: Lowering) -> Value:
    """A quotient or product that is zero wherever the second operand is."""
    if (made := _in_float32(op)) is not None:
        return made
    f, (x, y) = Terms(op), op.inputs
    made = f("RealDiv" if op.node.op == "tf.DivNoNan" else "Mul", x, y)
    return f("SelectV2", f("Equal", y, 0), op.scalar(0, y), made)


def shielded(op: Lowering) -> Value:
    """A product or quotient that is zero wherever the first operand is."""
    if (made := _in_float32(op)) is not None:
        return made
    f, (x, y) = Terms(op), op.inputs
    kind, function = SHIELDED[op.node.op]
    made = f(kind, x, f(function, y) if function else y)
    return f("SelectV2", f("Equal", x, 0), op.scalar(0, x), made)


def approximately_equal(op: Lowering) -> Value:
    """The distance is below the tolerance."""
    f = Terms(op)
    return f("Less", f("Abs", f("Sub", op.input(0), op.input(1))), float(op.attr("tolerance")))


def rectified_gradient(op: Lowering) -> Value:
    """The gradient where the feature is not cut off, zero elsewhere."""
    f, (gradient, feature) = Terms(op), op.inputs
    passed = f("Greater", feature, 0)
    if op.node.op == "tf.Relu6Grad":
        passed = op.step("LogicalAnd", passed, f("Less", feature, 6))
    return f("SelectV2", passed, gradient, op.scalar(0, gradient))


def half_of_squares(op: Lowering) -> Value:
    """Half the sum of all squares."""
    f, value = Terms(op), op.input(0)
    axes = op.integers(list(range(op.rank(value))), name=f"{op.node.name}/axes")
    return f("Mul", op.step("Sum", f("Square", value), axes, keep_dims=False), 0.5)


def cross_product(op: Lowering) -> Value:
    """Cross products of vectors along the last axis: of their elements, moved on by one and by two places."""
    axis = op.rank(op.input(0)) - 1
    a, b = (op.edit.node("tf.Unpack", [value], {"num": 3, "axis": axis}).outputs for value in op.inputs)
    f = Terms(op)
    made = [f("Sub", f("Mul", a[i - 2], b[i - 1]), f("Mul", a[i - 1], b[i - 2])) for i in range(3)]
    return op.edit.node("tf.Pack", made, {"axis": axis, "N": 3}).output
