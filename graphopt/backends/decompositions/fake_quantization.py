"""Quantization that training pretends: clipped, divided, rounded, multiplied."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.ir.value import Value

Array = np.ndarray[Any, Any]


def fake_quantization_by_steps(op: Lowering) -> Value:
    """The same for channels with bounds of their own, and without the lowest step: clipped, divided, rounded."""
    low, high = bounds(op)
    if not (low < high).all():
        op.refuse("its bounds leave nothing between them")
    lowest, highest, step = nudged(low, high, int(op.attr("num_bits")), bool(op.attr("narrow_range")))
    named = {"lowest": lowest, "highest": highest, "step": step, "steps": np.float32(1) / step, "half": 0.5}
    held = {name: op.constant(np.asarray(array, np.float32), f"{op.node.name}/{name}") for name, array in named.items()}
    clipped = op.source("tf.Minimum", op.source("tf.Maximum", op.input(0), held["lowest"]), held["highest"])
    places = op.source("tf.Mul", op.source("tf.Sub", clipped, held["lowest"]), held["steps"])
    rounded = op.source("tf.Floor", op.source("tf.AddV2", places, held["half"]))
    return op.source("tf.AddV2", op.source("tf.Mul", rounded, held["step"]), held["lowest"], name=op.node.name)


def bounds(op: Lowering) -> tuple[Array, Array]:
    """The least and the largest number that it lets through."""
    if not 2 <= int(op.attr("num_bits")) <= 16:
        op.refuse(f"it has {op.attr('num_bits')} bits, where 2 to 16 make sense")
    if op.node.op == "tf.FakeQuantWithMinMaxArgs":
        return np.asarray(op.attr("min"), np.float32), np.asarray(op.attr("max"), np.float32)
    low, high = (op.constant_input(place, "a bound") for place in (1, 2))
    return low.astype(np.float32), high.astype(np.float32)


def nudged(low: Array, high: Array, bits: int, narrow: bool) -> tuple[Array, Array, Array]:
    """Bounds moved so that zero is a step, and the size of a step."""
    least, most = np.float32(1 if narrow else 0), np.float32(2**bits - 1)
    step = (high - low) / (most - least)
    zero = least - low / step
    nudged = np.where(zero < least, least, np.where(zero > most, most, np.floor(zero + np.float32(0.5))))
    nudged = nudged.astype(np.float32)
    return (least - nudged) * step, (most - nudged) * step, step
