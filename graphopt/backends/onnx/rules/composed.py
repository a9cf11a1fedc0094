"""Functions that ONNX writes with several operators."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import BOOL, TensorType
from graphopt.ir.value import Value


def number(op: Lowering, value: float, name: str = "number") -> Value:
    """A scalar of the result's type."""
    return op.constant(np.array(value, op.type.dtype.numpy), name=f"{op.node.name}/{name}")


@RULES.legalize("tf.Erfc")
def erfc(op: Lowering) -> Value:
    """One minus the error function."""
    return op.emit("Sub", number(op, 1), op.emit("Erf", op.input(0), name=f"{op.node.name}/erf"))


@RULES.legalize("tf.Expm1")
def expm1(op: Lowering) -> Value:
    """An exponential minus one."""
    return op.emit("Sub", op.emit("Exp", op.input(0), name=f"{op.node.name}/exp"), number(op, 1))


@RULES.legalize("tf.Log1p")
def log1p(op: Lowering) -> Value:
    """The logarithm of one more."""
    return op.emit("Log", op.emit("Add", op.input(0), number(op, 1), name=f"{op.node.name}/sum"))


@RULES.legalize("tf.DivNoNan")
def div_no_nan(op: Lowering) -> Value:
    """A quotient that is zero where the divisor is."""
    quotient = op.emit("Div", op.input(0), op.input(1), name=f"{op.node.name}/quotient")
    is_zero = op.emit(
        "Equal", op.input(1), number(op, 0), type=TensorType(BOOL, op.input(1).shape), name=f"{op.node.name}/is_zero"
    )
    return op.emit("Where", is_zero, number(op, 0), quotient)


@RULES.legalize("tf.FloorMod", "tf.Mod", "tf.TruncateMod")
def modulo(op: Lowering) -> Value:
    """What a division leaves: of integers with the divisor's sign, as ONNX's; of floats made so."""
    if op.node.op == "tf.FloorMod" and op.type.dtype.is_integer:
        return op.emit("Mod", op.input(0), op.input(1), fmod=0)
    if op.node.op != "tf.FloorMod":
        return op.emit("Mod", op.input(0), op.input(1), fmod=1)
    quotient = op.emit("Div", op.input(0), op.input(1), name=f"{op.node.name}/quotient")
    whole = op.emit("Floor", quotient, name=f"{op.node.name}/floor")
    return op.emit("Sub", op.input(0), op.emit("Mul", whole, op.input(1), name=f"{op.node.name}/product"))


@RULES.legalize("tf.FloorDiv")
def floor_div(op: Lowering) -> Value:
    """The floor of a quotient: of integers, what is left over is taken off first, which leaves no rest to cut off."""
    if not op.type.dtype.is_integer:
        return op.emit("Floor", op.emit("Div", op.input(0), op.input(1), name=f"{op.node.name}/quotient"))
    left = op.emit("Mod", op.input(0), op.input(1), name=f"{op.node.name}/rest", fmod=0)
    return op.emit("Div", op.emit("Sub", op.input(0), left, name=f"{op.node.name}/whole"), op.input(1))


@RULES.legalize("tf.TruncateDiv", "tf.Div")
def truncate_div(op: Lowering) -> Value:
    """A quotient, of integers cut off."""
    return op.emit("Div", op.input(0), op.input(1))


@RULES.legalize("tf.AddN", "tf.AccumulateNV2")
def add_n(op: Lowering) -> Value:
    """The sum of several tensors."""
    return op.emit("Sum", *op.inputs)


@RULES.legalize("tf.ClipByValue")
def clip(op: Lowering) -> Value:
    """Cut off at both ends."""
    if op.rank(op.input(1)) or op.rank(op.input(2)):
        return op.emit("Min", op.emit("Max", op.input(0), op.input(1), name=f"{op.node.name}/low"), op.input(2))
    return op.emit("Clip", *op.inputs)


@RULES.legalize("tf.IsFinite")
def is_finite(op: Lowering) -> Value:
    """Neither NaN nor infinite."""
    kinds = [op.emit(name, op.input(0), name=f"{op.node.name}/{name}") for name in ("IsNaN", "IsInf")]
    return op.emit("Not", op.emit("Or", *kinds, name=f"{op.node.name}/or"))


@RULES.legalize("tf.Atan2")
def atan2(op: Lowering) -> Value:
    """The angle of a point, from the angle of the right half-plane and what the other half adds."""
    y, x = op.input(0), op.input(1)
    zero, pi = number(op, 0, "zero"), number(op, np.pi, "pi")
    truth = TensorType(BOOL, op.type.shape)

    def emit(kind: str, *inputs: Value, type: TensorType | None = None) -> Value:
        return op.emit(kind, *inputs, type=type, name=f"{op.node.name}/{kind}")

    angle = emit("Atan", emit("Div", y, x))
    left = emit("Less", x, zero, type=truth)
    below = emit("Less", y, zero, type=truth)
    turned = emit("Where", below, emit("Sub", angle, pi), emit("Add", angle, pi))
    whole = emit("Where", left, turned, angle)
    both = emit("And", emit("Equal", x, zero, type=truth), emit("Equal", y, zero, type=truth), type=truth)
    return op.emit("Where", both, zero, whole)


@RULES.legalize("tf.L2Loss")
def l2_loss(op: Lowering) -> Value:
    """Half the sum of squares."""
    squares = op.emit("Mul", op.input(0), op.input(0), type=op.input(0).type, name=f"{op.node.name}/squares")
    total = op.emit("ReduceSum", squares, name=f"{op.node.name}/sum", keepdims=0)
    return op.emit("Mul", total, number(op, 0.5))
