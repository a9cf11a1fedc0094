"""Rounding, and numbers rounded as quantization would round them."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from graphopt.backends.xla.emission import Emission, reference
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import BOOL, FLOAT32


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


@RULES.lower("tf.Dequantize")
def dequantize(op: Emission) -> Operand:
    """Weights that are stored as integers stay so, and become floats in the program."""
    value, kind = op.value(0), op.value(0).dtype.numpy
    if not op.emitter.is_constant(value) or kind is None or int(op.attr("axis", -1)) != -1:
        op.refuse("its integers are computed, or have a range for each slice", "export the model without quantization")
    b, ends = op.build, np.iinfo(kind)
    low, high = (op.constant_input(place, "the range") for place in (1, 2))
    least, greatest = reference(op)(np.array([ends.min, ends.max]).astype(kind), low, high).astype(np.float64)
    slope = (greatest - least) / (int(ends.max) - int(ends.min))
    codes = b.convert(op.emitter.derived(value, "codes", lambda array: array), FLOAT32)
    return b.convert(b.add(b.mul(codes, float(slope)), float(least - slope * int(ends.min))), op.dtype)


@RULES.lower("tf.QuantizeAndDequantizeV2", "tf.QuantizeAndDequantizeV3", "tf.QuantizeAndDequantizeV4")
def round_trip(op: Emission) -> Operand:
    """Numbers rounded to a grid of so many bits, of a range that is given or that of the numbers themselves."""
    b, x = op.build, op.input(0)
    is_third = op.node.op.endswith("V3")
    bits = int(op.constant_input(3, "the number of bits").reshape(-1)[0]) if is_third else int(op.attr("num_bits", 8))
    axis = int(op.attr("axis", -1))
    is_given = bool(op.attr("range_given", False))
    if is_given:
        low, high = (b.broadcast(op.input(place), x.dims, (axis,) if axis >= 0 else ()) for place in (1, 2))
    else:
        others = [place for place in range(x.rank) if place != axis]
        low, high = (b.broadcast(b.reduce(kind, x, others, keep=True), x.dims) for kind in ("minimum", "maximum"))
    is_signed = bool(op.attr("signed_input", True))
    least = float(-(1 << (bits - 1)) + bool(op.attr("narrow_range", False))) if is_signed else 0.0
    most = float((1 << (bits - 1)) - 1 if is_signed else (1 << bits) - 1)
    greatest = float(ml_dtypes.finfo(x.dtype.numpy).max)
    factors = []
    for bound, edge in ((least, low), (most, high)):
        fits = b.compare("GT", b.mul(edge, bound), 0)
        factors.append(b.select(fits, b.div(b.like(bound, x), b.select(fits, edge, b.like(1, x))), b.like(greatest, x)))
    by_low = b.compare("LT", factors[0], factors[1])
    inverse = b.select(by_low, b.div(low, least) if least else b.like(0, x), b.div(high, most))
    if is_given:
        x = b.min(x, b.select(by_low, b.mul(inverse, most), high))
        x = b.max(x, b.select(by_low, low, b.mul(inverse, least)))
    scaled = b.mul(x, b.min(factors[0], factors[1]))
    half_up = op.text("round_mode", "HALF_TO_EVEN") == "HALF_UP"
    steps = b.unary("floor", b.add(scaled, 0.5)) if half_up else b.unary("round_nearest_even", scaled)
    return b.mul(steps, inverse)
