"""Elementwise operators that TensorFlow has no single operator for."""

from __future__ import annotations

import numpy as np

from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.table import RULES
from graphopt.ir.types import DTYPES


@RULES.translate("stablehlo.cbrt")
def cube_root(op: Operation) -> Operand:
    """The sign times the third root of the magnitude."""
    x = op.input(0)
    root = op.elementwise("Pow", op.elementwise("Abs", x), op.constant(1.0 / 3.0, x))
    return op.elementwise("Mul", op.elementwise("Sign", x), root)


@RULES.translate("stablehlo.round_nearest_afz")
def round_away(op: Operation) -> Operand:
    """To the nearest integer, halves away from zero."""
    x = op.input(0)
    magnitude = op.elementwise("Abs", x)
    below = op.elementwise("Floor", magnitude)
    is_up = op.elementwise("GreaterEqual", op.elementwise("Sub", magnitude, below), op.constant(0.5, x))
    rounded = op.elementwise("AddV2", below, op.elementwise("Cast", is_up, DstT=x.dtype))
    return op.elementwise("Mul", op.elementwise("Sign", x), rounded)


@RULES.translate("stablehlo.popcnt")
def count_ones(op: Operation) -> Operand:
    """How many bits are set."""
    x = op.input(0)
    return op.elementwise("Cast", op.elementwise("PopulationCount", x), DstT=x.dtype)


@RULES.translate("stablehlo.count_leading_zeros")
def leading_zeros(op: Operation) -> Operand:
    """All bits less those at and below the highest one, which is smeared downwards and counted."""
    x = op.input(0)
    unsigned = DTYPES[f"uint{x.dtype.bits}"]
    bits = x if x.dtype is unsigned else op.elementwise("Bitcast", x, type=unsigned)
    step = 1
    while step < x.dtype.bits:
        bits = op.elementwise("BitwiseOr", bits, op.elementwise("RightShift", bits, op.constant(step, bits)))
        step *= 2
    count = op.elementwise("Cast", op.elementwise("PopulationCount", bits), DstT=x.dtype)
    return op.elementwise("Sub", op.constant(x.dtype.bits, x), count)


@RULES.translate("chlo.is_pos_inf", "chlo.is_neg_inf")
def infinite(op: Operation) -> Operand:
    """One of the infinities."""
    x = op.input(0)
    return op.elementwise("Equal", x, op.constant(np.inf if op.name.endswith("pos_inf") else -np.inf, x))


@RULES.translate("chlo.constant_like")
def constant_like(op: Operation) -> Operand:
    """A number in all places."""
    value = op.attribute("value")
    return op.constant(getattr(value, "value", value), op.input(0))


@RULES.translate("stablehlo.batch_norm_inference")
def batch_norm(op: Operation) -> Operand:
    """Numbers less their mean, over the root of their variance, scaled and shifted, along one axis."""
    x, axis = op.input(0), op.integer("feature_index")
    dims = [x.dims[axis] if place == axis else 1 for place in range(x.rank)]
    scale, offset, mean, variance = (
        Operand(op.build.reshaped(op.full(place), dims), x.dims, x.size_source) for place in range(1, 5)
    )
    steady = op.elementwise("AddV2", variance, op.constant(op.number("epsilon"), variance))
    factor = op.elementwise("Mul", op.elementwise("Rsqrt", steady), scale)
    return op.elementwise("AddV2", op.elementwise("Mul", op.elementwise("Sub", x, mean), factor), offset)
