"""Functions of single elements that LiteRT has no kernel for, computed by those that it has."""

from __future__ import annotations

from graphopt.backends.decompositions.formulas import Terms
from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.table import RULES
from graphopt.ir.value import Value


@RULES.legalize("tf.Relu", "tf.Relu6")
def rectified_integers(op: Lowering) -> Value:
    """Rectified integers: the larger of a number and zero, and the smaller of that and six."""
    f = Terms(op)
    value = f("Maximum", op.input(0), 0)
    return value if op.node.op == "tf.Relu" else f("Minimum", value, 6)


@RULES.legalize("tf.Abs")
def absolute_integers(op: Lowering) -> Value:
    """The larger of a number and its opposite, for integers that LiteRT's kernel does not take."""
    if op.type.dtype.kind == "uint":
        return op.input(0)
    if op.type.dtype.kind != "int":
        op.refuse(f"LiteRT takes no absolute values of {op.type.dtype.name}", "build it in float32")
    f = Terms(op)
    return f("Maximum", op.input(0), f("Neg", op.input(0)))


@RULES.legalize("tf.Square", "tf.SquaredDifference")
def integer_square(op: Lowering) -> Value:
    """A product with itself, where LiteRT has no kernel for squares."""
    if not op.type.dtype.is_integer and op.type.dtype.kind != "complex":
        op.refuse(f"LiteRT takes no squares of {op.type.dtype.name}", "build it in float32")
    f = Terms(op)
    value = op.input(0) if op.node.op == "tf.Square" else f("Sub", op.input(0), op.input(1))
    return f("Mul", value, value)


@RULES.legalize("tf.Sign")
def integer_sign(op: Lowering) -> Value:
    """One for what is above zero, less one for what is below."""
    if not op.type.dtype.is_integer:
        op.refuse(f"LiteRT takes no signs of {op.type.dtype.name}", "build it in float32")
    f, value = Terms(op), op.input(0)
    above, below = (_as(f, f(kind, value, 0), value) for kind in ("Greater", "Less"))
    return f("Sub", above, below)


@RULES.legalize("tf.TruncateMod")
def truncated_remainder(op: Lowering) -> Value:
    """The remainder of a division that cuts off: it has the sign of the dividend."""
    f, (x, y) = Terms(op), op.inputs
    if op.type.dtype.is_float:
        return f("Mul", f("FloorMod", f("Abs", x), f("Abs", y)), f("Sign", x))
    return f("Sub", x, f("Mul", f("TruncateDiv", x, y), y))


@RULES.legalize("tf.FloorDiv")
def floor_of_quotient(op: Lowering) -> Value:
    """A quotient rounded down, for reals that LiteRT's kernel does not take."""
    if not op.type.dtype.is_float:
        op.refuse(f"LiteRT has no quotients of {op.type.dtype.name} rounded down", "let it be int32")
    f = Terms(op)
    return f("Floor", f("RealDiv", op.input(0), op.input(1)))


def _as(f: Terms, value: Value, like: Value) -> Value:
    return f.op.step("Cast", value, SrcT=value.dtype, DstT=like.dtype, Truncate=False)
