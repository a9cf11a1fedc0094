"""Bits of integers."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import UINT32, UINT64, DType
from graphopt.ir.value import Value

BITWISE = {
    "tf.BitwiseAnd": "BitwiseAnd", "tf.BitwiseOr": "BitwiseOr", "tf.BitwiseXor": "BitwiseXor",
    "tf.Invert": "BitwiseNot",
}  # fmt: skip


@RULES.legalize(*BITWISE)
def bitwise(op: Lowering) -> Value:
    """Bits combined."""
    return op.emit(BITWISE[op.node.op], *op.inputs)


@RULES.legalize("tf.RightShift", "tf.LeftShift")
def shift(op: Lowering) -> Value:
    """Bits moved. ONNX moves those of unsigned integers: signed ones become such, of which numbers below zero are
    turned over before they go to the right and afterwards."""
    value, places = op.input(0), op.input(1)
    if op.type.dtype.kind == "uint":
        direction = b"RIGHT" if op.node.op == "tf.RightShift" else b"LEFT"
        return op.emit("BitShift", value, places, direction=direction)
    unsigned = UINT64 if op.type.dtype.bits == 64 else UINT32
    if op.node.op == "tf.LeftShift":
        return _shifted(op, value, places, unsigned)
    is_below = op.step("Less", value, op.scalar(0, value))
    magnitude = op.step("SelectV2", is_below, op.step("Invert", value), value)
    moved = _shifted(op, magnitude, places, unsigned)
    return op.step("SelectV2", is_below, op.step("Invert", moved), moved)


def _shifted(op: Lowering, value: Value, places: Value, unsigned: DType) -> Value:
    kind = op.node.op_type
    operands = (op.step("Cast", item, SrcT=item.dtype, DstT=unsigned) for item in (value, places))
    return op.step("Cast", op.step(kind, *operands), SrcT=unsigned, DstT=value.dtype)
