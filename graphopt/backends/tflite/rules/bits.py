"""Bits of integers, with the arithmetic that LiteRT has: numbers are those of two's complement."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.value import Value


@RULES.legalize("tf.LeftShift")
def left_shift(op: Lowering) -> Value:
    """A shift by a known number of places is a product with a power of two."""
    places = op.constant_input(1, "the number of places")
    if places.size and (places.min() < 0 or places.max() >= op.type.dtype.bits):
        op.refuse("it shifts by more places than there are")
    factors = np.left_shift(np.ones_like(places), places)
    return op.step("Mul", op.input(0), op.constant(factors, name=f"{op.node.name}/factor"))


@RULES.legalize("tf.Invert")
def inverted(op: Lowering) -> Value:
    """All bits the other way round: the distance from the number that has all of them."""
    dtype = op.type.dtype
    ones = -1 if dtype.kind == "int" else (1 << dtype.bits) - 1
    return op.step("Sub", op.scalar(ones, op.input(0)), op.input(0))


@RULES.legalize("tf.BitwiseAnd")
def masked(op: Lowering) -> Value:
    """The bits of a known mask: for each run of ones in it, what two remainders differ by."""
    value, mask = _with_mask(op)
    return _masked(op, value, mask)


@RULES.legalize("tf.BitwiseOr")
def united(op: Lowering) -> Value:
    """The bits of a known mask set: those that are missing are added."""
    value, mask = _with_mask(op)
    if not mask:
        return value
    bits = op.type.dtype.bits
    signed = mask - (1 << bits) if op.type.dtype.kind == "int" and mask >> (bits - 1) else mask
    return op.step("AddV2", op.step("Sub", value, _masked(op, value, mask)), op.scalar(signed, value))


def _with_mask(op: Lowering) -> tuple[Value, int]:
    """The operand that is not constant, and the other one's bits as a number that is not negative."""
    bits = op.type.dtype.bits
    for value, other in ((op.input(0), op.input(1)), (op.input(1), op.input(0))):
        held = known_array(other)
        if held is not None and held.size == 1 and held.ndim <= op.rank(value):
            return value, int(held.reshape(())) & ((1 << bits) - 1)
    op.refuse("LiteRT has no bitwise operators but XOR and shifts, and neither operand is a constant number")


def _masked(op: Lowering, value: Value, mask: int) -> Value:
    total: Value | None = None
    start = 0
    while mask >> start:
        while not mask >> start & 1:
            start += 1
        end = start
        while mask >> end & 1:
            end += 1
        part = _below(op, value, end)
        if start:
            part = op.step("Sub", part, _below(op, value, start))
        total = part if total is None else op.step("AddV2", total, part)
        start = end
    return op.step("ZerosLike", value) if total is None else total


def _below(op: Lowering, value: Value, places: int) -> Value:
    """The number that the lowest bits make."""
    bits = op.type.dtype.bits
    if places >= bits:
        return value
    if places == bits - 1 and op.type.dtype.kind == "int":  # two to that power is one more than the type holds
        lifted = op.step("Sub", value, op.scalar(-(1 << places), value))
        return op.step("SelectV2", op.step("Less", value, op.scalar(0, value)), lifted, value)
    return op.step("FloorMod", value, op.scalar(1 << places, value))
