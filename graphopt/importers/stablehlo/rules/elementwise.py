"""Arithmetic, comparisons, logic and conversions, element by element."""

from __future__ import annotations

import numpy as np

from graphopt.importers.stablehlo.operand import LARGEST, Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.types import BFLOAT16, BOOL, DTYPES, FLOAT16, FLOAT32, INT32, DType

UNARY = {
    "cosine": "Cos", "sine": "Sin", "tan": "Tan", "tanh": "Tanh", "exponential": "Exp", "logistic": "Sigmoid",
    "exponential_minus_one": "Expm1", "log": "Log", "log_plus_one": "Log1p", "sqrt": "Sqrt", "rsqrt": "Rsqrt",
    "ceil": "Ceil", "floor": "Floor", "round_nearest_even": "Round", "sign": "Sign", "negate": "Neg",
    "is_finite": "IsFinite", "real": "Real", "imag": "Imag",
}  # fmt: skip
CHLO_UNARY = {
    "acos": "Acos", "acosh": "Acosh", "asin": "Asin", "asinh": "Asinh", "atan": "Atan", "atanh": "Atanh",
    "cosh": "Cosh", "sinh": "Sinh", "tan": "Tan", "erf": "Erf", "erfc": "Erfc", "erf_inv": "Erfinv",
    "lgamma": "Lgamma", "digamma": "Digamma", "conj": "Conj", "is_inf": "IsInf", "square": "Square",
    "bessel_i1e": "BesselI1e",
}  # fmt: skip
BINARY = {
    "add": "AddV2", "subtract": "Sub", "multiply": "Mul", "maximum": "Maximum", "minimum": "Minimum", "power": "Pow",
    "atan2": "Atan2", "complex": "Complex", "remainder": "TruncateMod",
}  # fmt: skip
CHLO_BINARY = {"zeta": "Zeta", "polygamma": "Polygamma", "next_after": "NextAfter"}
LOGIC = {"add": "LogicalOr", "maximum": "LogicalOr", "or": "LogicalOr", "multiply": "LogicalAnd",
         "minimum": "LogicalAnd", "and": "LogicalAnd", "xor": "NotEqual", "subtract": "NotEqual"}  # fmt: skip
BITWISE = {"and": "BitwiseAnd", "or": "BitwiseOr", "xor": "BitwiseXor"}
COMPARISONS = {
    "EQ": "Equal", "NE": "NotEqual", "LT": "Less", "LE": "LessEqual", "GT": "Greater", "GE": "GreaterEqual",
}  # fmt: skip


@RULES.translate(*(f"stablehlo.{name}" for name in UNARY), *(f"chlo.{name}" for name in CHLO_UNARY))
def unary(op: Operation) -> Operand:
    """One operator of TensorFlow with one operand."""
    dialect, _, name = op.name.partition(".")
    return op.elementwise((UNARY if dialect == "stablehlo" else CHLO_UNARY)[name], op.input(0))


@RULES.translate("stablehlo.abs")
def absolute(op: Operation) -> Operand:
    """Absolute values; of complex numbers they are real."""
    return op.elementwise("ComplexAbs" if op.input(0).dtype.kind == "complex" else "Abs", op.input(0))


@RULES.translate("stablehlo.not")
def negation(op: Operation) -> Operand:
    """Logical, or bit by bit."""
    return op.elementwise("LogicalNot" if op.input(0).dtype is BOOL else "Invert", op.input(0))


@RULES.translate(*(f"stablehlo.{name}" for name in BINARY), *(f"chlo.{name}" for name in CHLO_BINARY))
def binary(op: Operation) -> Operand:
    """One operator of TensorFlow with two operands; of truth values, its logical counterpart."""
    dialect, _, name = op.name.partition(".")
    left, right = op.input(0), op.input(1)
    if left.dtype is BOOL:
        if name not in LOGIC:
            op.refuse("TensorFlow has no such operator for truth values")
        return op.elementwise(LOGIC[name], left, right)
    neutral = _neutral(op, name, left, right)
    if neutral is not None:
        return neutral
    if dialect == "stablehlo" and name in ("maximum", "minimum"):
        return _rectified(op, name, left, right)
    return op.elementwise((BINARY if dialect == "stablehlo" else CHLO_BINARY)[name], left, right)


def _neutral(op: Operation, name: str, left: Operand, right: Operand) -> Operand | None:
    """The operand itself where the other is an infinity that no number exceeds, as around JAX's softmax."""
    limit = {"maximum": -np.inf, "minimum": np.inf}.get(name)
    if limit is None or not left.dtype.is_float:
        return None
    for one, other in ((left, right), (right, left)):
        if other.number is not None and float(other.number) == limit:
            return op.like(one.value, one, other)
    return None


def _rectified(op: Operation, name: str, left: Operand, right: Operand) -> Operand:
    """The larger of a value and zero is `Relu`, and the smaller of that and six `Relu6`."""
    for one, other in ((left, right), (right, left)):
        if not one.dtype.is_float or other.number is None:
            continue
        if name == "maximum" and float(other.number) == 0.0:
            return op.elementwise("Relu", one)
        if name == "minimum" and float(other.number) == 6.0 and one.value.node.op == "tf.Relu":
            return op.like(op.build.value("Relu6", one.value.node.input(0)), one, other)
    return op.elementwise(BINARY[name], left, right)


@RULES.translate("stablehlo.divide")
def divide(op: Operation) -> Operand:
    """Quotients, of integers rounded towards zero; a sum over axes divided by their size is a mean."""
    left, right = op.input(0), op.input(1)
    if left.dtype.is_integer:
        return op.elementwise("TruncateDiv", left, right)
    found = _mean(op, left, right) or _sigmoid(op, left, right)
    return op.elementwise("RealDiv", left, right) if found is None else found


def _sigmoid(op: Operation, left: Operand, right: Operand) -> Operand | None:
    """One over one and an exponential, as JAX writes the logistic function out."""
    total = right.value.node
    if left.number is None or float(left.number.real) != 1.0 or total.op != "tf.AddV2" or not left.dtype.is_float:
        return None
    for one, other in ((0, 1), (1, 0)):
        known, power = known_array(total.input(one), LARGEST), total.input(other).node
        if known is None or known.size != 1 or known.reshape(-1)[0] != 1 or power.op != "tf.Exp":
            continue
        if power.input(0).node.op == "tf.Neg":
            return op.like(op.build.value("Sigmoid", power.input(0).node.input(0)), right, left)
    return None


def _mean(op: Operation, left: Operand, right: Operand) -> Operand | None:
    """The mean, or average pooling, that a sum becomes."""
    from graphopt.importers.stablehlo.rules.windows import average

    if left.window is not None:
        return average(op, left, right)
    sum_of = op.build.reductions.get(left.value)
    if sum_of is None or sum_of.kind != "Sum" or not left.dtype.is_float or right.number is None:
        return None
    sizes = [sum_of.source.shape[axis] for axis in sum_of.axes]
    count = int(np.prod([size for size in sizes if isinstance(size, int)]))
    if any(not isinstance(size, int) for size in sizes) or float(right.number) != count:
        return None
    return op.like(op.build.reduced("Mean", sum_of.source, sum_of.axes, sum_of.keeps), left, right)


@RULES.translate("stablehlo.and", "stablehlo.or", "stablehlo.xor")
def bitwise(op: Operation) -> Operand:
    """Logical, or bit by bit."""
    name = op.name.partition(".")[2]
    table = LOGIC if op.input(0).dtype is BOOL else BITWISE
    return op.elementwise(table[name], op.input(0), op.input(1))


@RULES.translate("stablehlo.shift_left", "stablehlo.shift_right_arithmetic", "stablehlo.shift_right_logical")
def shift(op: Operation) -> Operand:
    """Shifts of bits; those by as many bits as there are, or more, leave zeros or the sign."""
    x, by = op.input(0), op.input(1)
    is_left, is_logical = op.name.endswith("left"), op.name.endswith("logical")
    wanted = DTYPES[f"uint{x.dtype.bits}" if is_logical else f"int{x.dtype.bits}"]
    if is_left:
        wanted = x.dtype
    made = op.elementwise("LeftShift" if is_left else "RightShift", _as(op, x, wanted), _as(op, by, wanted))
    made = _as(op, made, x.dtype)
    bits, number = x.dtype.bits, by.number
    if number is not None and 0 <= int(number) < bits:
        return made
    if not is_left and not is_logical:  # TensorFlow shifts by one bit less than there are at most, which is the same
        return made
    within = op.elementwise("Less", _as(op, by, DTYPES[f"uint{bits}"]), _unsigned(op, bits, by))
    return op.elementwise("SelectV2", within, made, op.constant(0, x))


def _unsigned(op: Operation, number: int, like: Operand) -> Operand:
    return Operand(op.build.scalar(number, DTYPES[f"uint{like.dtype.bits}"]), like.dims, like.size_source)


def _as(op: Operation, x: Operand, dtype: DType) -> Operand:
    """The same bits as another integer type of the same width."""
    return x if x.dtype is dtype else op.like(op.build.value("Bitcast", x.value, type=dtype), x)


@RULES.translate("stablehlo.compare")
def compare(op: Operation) -> Operand:
    """One of six comparisons."""
    direction = op.keyword("comparison_direction", "ComparisonDirectionAttr")
    left, right = op.input(0), op.input(1)
    if left.dtype is BOOL and direction not in ("EQ", "NE"):
        left, right = (op.like(op.build.cast(x.value, INT32), x) for x in (left, right))
    return op.elementwise(COMPARISONS[direction], left, right)


@RULES.translate("stablehlo.select")
def select(op: Operation) -> Operand:
    """One of two by a condition; the one itself where the condition is constant and the same everywhere."""
    condition, then, otherwise = op.operands
    known = known_array(condition.value, LARGEST)
    if known is not None and known.size and known.all() == known.any():
        chosen = then if known.all() else otherwise
        return op.like(chosen.value, chosen, then, otherwise)
    if condition.rank < then.rank:
        condition = Operand(condition.value, then.dims)
    return op.elementwise("SelectV2", condition, then, otherwise, dims=op.like(then.value, then, otherwise).dims)


@RULES.translate("stablehlo.clamp")
def clamp(op: Operation) -> Operand:
    """No less than one bound and no more than another."""
    low, x, high = op.operands
    if x.dtype.is_float and (low.number, high.number) == (0, 6):
        return op.elementwise("Relu6", x)
    low, high = (Operand(bound.value, x.dims, x.size_source) for bound in (low, high))
    return op.elementwise("Minimum", op.elementwise("Maximum", x, low), high)


@RULES.translate("stablehlo.convert")
def convert(op: Operation) -> Operand:
    """Another element type; of truth values, whether a number is not zero."""
    x, dtype = op.input(0), op.dtype()
    if x.dtype is dtype:
        return x
    if dtype is BOOL:
        return op.elementwise("NotEqual", x, op.constant(0, x))
    return op.elementwise("Cast", x, DstT=dtype)


@RULES.translate("stablehlo.bitcast_convert")
def bitcast(op: Operation) -> Operand:
    """The same bits as another type; the last axis appears or goes where widths differ."""
    x, dtype = op.input(0), op.dtype()
    if x.dtype.bits == dtype.bits:
        return op.elementwise("Bitcast", x, type=dtype)
    return op.made(op.build.value("Bitcast", op.full(0), type=dtype))


@RULES.translate("stablehlo.reduce_precision")
def reduce_precision(op: Operation) -> Operand:
    """The rounding of a type with fewer bits."""
    x = op.input(0)
    bits = op.integer("exponent_bits"), op.integer("mantissa_bits")
    narrow = {(8, 7): BFLOAT16, (5, 10): FLOAT16, (8, 23): FLOAT32}.get(bits)
    if narrow is None or x.dtype.bits > 32:
        op.refuse(f"there is no type with an exponent of {bits[0]} bits and {bits[1]} bits more")
    if narrow.bits >= x.dtype.bits:
        return x
    return op.elementwise("Cast", op.elementwise("Cast", x, DstT=narrow), DstT=x.dtype)


@RULES.translate("stablehlo.optimization_barrier")
def barrier(op: Operation) -> list[Operand]:
    """Its operands: it only tells a compiler what not to move."""
    return list(op.operands)
