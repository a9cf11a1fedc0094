"""Kernels that graphs spell out: numbers between constants, leaky and parametric rectified units, squared differences.

These come before the rules for the operators that they are made of. Producers have been lowered when their readers'
turn comes, so that these are looked for in TFLite's dialect.
"""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.kernels import compute
from graphopt.backends.tflite.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Value

BOUNDED = {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): "RELU_0_TO_1"}
LIMIT = 1 << 16  # bytes of a constant that is looked into


@RULES.legalize("tf.Maximum")
def rectified(op: Lowering) -> Value | None:
    """The larger of a value and zero is a rectified linear unit, that of a value and a part of it a leaky one."""
    if op.type.dtype is not FLOAT32:
        return None
    found = _with_number(op)
    if found is None:
        return _leaky(op)
    value, least = found
    inner = _bound(value, "tfl.MINIMUM")
    if inner is not None and (least, inner[1]) in BOUNDED:
        return compute(op, BOUNDED[least, inner[1]], inner[0])
    return compute(op, "RELU", value) if least == 0 else None


@RULES.legalize("tf.Minimum")
def bounded(op: Lowering) -> Value | None:
    """A value kept between two constants is RELU6, RELU_N1_TO_1 or RELU_0_TO_1."""
    found = _with_number(op) if op.type.dtype is FLOAT32 else None
    if found is not None:
        value, most = found
        inner = (value.node.input(0), 0.0) if value.node.op == "tfl.RELU" else _bound(value, "tfl.MAXIMUM")
        if inner is not None and (inner[1], most) in BOUNDED:
            return compute(op, BOUNDED[inner[1], most], inner[0])
    return None


@RULES.legalize("tf.ClipByValue")
def clipped(op: Lowering) -> Value:
    """A value kept between two others."""
    lower = op.source("tf.Minimum", op.input(0), op.input(2), name=f"{op.node.name}/Minimum")
    return op.source("tf.Maximum", lower, op.input(1), name=f"{op.node.name}/Maximum")


@RULES.legalize("tf.Square", "tf.Mul")
def squared_difference(op: Lowering) -> Value | None:
    """The square of a difference that nobody else reads."""
    difference = op.input(0)
    if difference.node.op != "tfl.SUB" or difference.is_output or any(value is not difference for value in op.inputs):
        return None
    if op.type.dtype is not FLOAT32 or any(user is not op.node for user in difference.users):
        return None
    return compute(op, "SQUARED_DIFFERENCE", *difference.node.inputs)


@RULES.legalize("tf.AddV2", "tf.Add", "tf.Sub")
def parametric(op: Lowering) -> Value | None:
    """`relu(x) + a * relu(-x)` with a constant `a` is a parametric rectified linear unit of slope `-a`."""
    if op.type.dtype is not FLOAT32:
        return None
    first, second = op.input(0), op.input(1)
    pairs = [(first, second)] if op.node.op == "tf.Sub" else [(first, second), (second, first)]
    for positive, negative in pairs:
        if positive.node.op != "tfl.RELU" or negative.node.op != "tfl.MUL":
            continue
        value = positive.node.input(0)
        for slope, part in (negative.node.inputs, reversed(negative.node.inputs)):
            if part is None or part.node.op != "tfl.RELU" or not _is_negated(part.node.input(0), value):
                continue
            held = known_array(slope)
            if held is not None and 0 < held.ndim < op.rank(value):
                alpha = held if op.node.op == "tf.Sub" else -held
                return compute(op, "PRELU", value, op.constant(alpha, name=f"{op.node.name}/alpha"))
    return None


def _number(value: Value) -> float | None:
    """What all elements of a constant are."""
    held = known_array(value, limit=LIMIT)
    if held is None or not held.size:
        return None
    first = held.reshape(-1)[0]
    return float(first) if bool((held == first).all()) else None


def _with_number(op: Lowering) -> tuple[Value, float] | None:
    """The operand that is not constant, and the number that the other one is everywhere, if that widens no shape."""
    for value, other in ((op.input(0), op.input(1)), (op.input(1), op.input(0))):
        number = _number(other)
        if number is not None and _is_within(other, value):
            return value, number
    return None


def _bound(value: Value, kernel: str) -> tuple[Value, float] | None:
    """What `kernel` with a constant bounds, and that bound."""
    if value.node.op != kernel:
        return None
    first, second = value.node.input(0), value.node.input(1)
    for inner, other in ((first, second), (second, first)):
        number = _number(other)
        if number is not None and _is_within(other, inner):
            return inner, number
    return None


def _is_within(small: Value, large: Value) -> bool:
    """`small`, a constant, does not widen the shape of `large`."""
    if small.shape.dims == ():
        return True
    if small.shape.dims is None or large.shape.dims is None or len(small.shape.dims) > len(large.shape.dims):
        return False
    return all(a in (1, b) for a, b in zip(reversed(small.shape.dims), reversed(large.shape.dims), strict=False))


def _leaky(op: Lowering) -> Value | None:
    for value, part in ((op.input(0), op.input(1)), (op.input(1), op.input(0))):
        if part.node.op != "tfl.MUL":
            continue
        operands = part.node.input(0), part.node.input(1)
        for factor, multiplied in (operands, operands[::-1]):
            slope = _number(factor)
            if multiplied is value and slope is not None and 0 < slope < 1 and _is_within(factor, value):
                return compute(op, "LEAKY_RELU", value, alpha=slope)
    return None


def _is_negated(value: Value, original: Value) -> bool:
    if value.node.op == "tfl.NEG":
        return value.node.input(0) is original
    if value.node.op == "tfl.MUL":
        first, second = value.node.input(0), value.node.input(1)
        return any(a is original and known_is(b, -1) for a, b in ((first, second), (second, first)))
    return False


def known_is(value: Value, number: float) -> bool:
    """`value` is a constant, everywhere `number`."""
    held = known_array(value, limit=LIMIT)
    return held is not None and bool(held.size) and bool(np.all(held == number))
