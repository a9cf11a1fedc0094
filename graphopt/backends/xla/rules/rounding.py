"""Rounding, and numbers rounded as quantization would round them."""

from __future__ import annotations

import numpy as np

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import BOOL


@RULES.lower("tf.Round", "tf.Rint")
def round_even(op: Emission) -> Operand:
    """To the nearest integer, halves to the even one."""
    x = op.input(0)
    return x if x.dtype.is_integer else op.build.unary("round_nearest_even", x)


@RULES.lower("tf.FakeQuantWithMinMaxVars", "tf.FakeQuantWithMinMaxArgs", "tf.FakeQuantWithMinMaxVarsPerChannel")
def fake_quant(op: Emission) -> Operand:
    """Numbers rounded to the grid of a quantization whose range is constant."""
    b, x = op.build, op.input(0)
    if op.node.op == "tf.FakeQuantWithMinMaxArgs":
        low, high = (np.asarray(op.attr(name), np.float32) for name in ("min", "max"))
    else:
        low, high = (op.constant_input(place, "the range").astype(np.float32) for place in (1, 2))
    first = 1.0 if op.attr("narrow_range") else 0.0
    last = float(2 ** int(op.attr("num_bits", 8)) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.asarray((high - low) / np.float32(last - first), np.float32)
        zero = np.asarray(first - low / scale, np.float32)
    nudged = np.where(zero < first, first, np.where(zero > last, last, np.floor(zero + np.float32(0.5))))
    bounds = [((edge - nudged) * scale).astype(np.float32) for edge in (first, last)]
    bottom, top, step = (b.constant(np.asarray(array, np.float32), x.dtype) for array in (*bounds, scale))
    inside = b.sub(b.min(b.max(x, bottom), top), bottom)
    rounded = b.unary("floor", b.add(b.div(inside, step), 0.5))
    made = b.add(b.mul(rounded, step), bottom)
    empty = (low == 0) & (high == 0)
    return b.select(b.broadcast(b.constant(empty, BOOL), x.dims), b.like(0, x), made) if np.any(empty) else made
