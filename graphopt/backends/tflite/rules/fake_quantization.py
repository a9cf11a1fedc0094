"""Quantization that training pretends: values rounded to as many steps as the bits can tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.table import RULES
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Value

Array = np.ndarray[Any, Any]


@RULES.legalize("tf.FakeQuantWithMinMaxArgs", "tf.FakeQuantWithMinMaxVars")
def fake_quantization(op: Lowering) -> Value:
    """Values rounded between two bounds; LiteRT's kernel uses all steps."""
    low, high = bounds(op)
    if op.attr("narrow_range"):
        op.refuse("LiteRT's kernel uses all steps")
    if not low.item() < high.item() or op.type.dtype is not FLOAT32:
        op.refuse("its bounds leave nothing between them")
    return op.emit(
        "FAKE_QUANT", op.input(0), min=low.item(), max=high.item(), num_bits=int(op.attr("num_bits")),
        narrow_range=False,
    )  # fmt: skip


@RULES.legalize("tf.FakeQuantWithMinMaxArgs", "tf.FakeQuantWithMinMaxVars", "tf.FakeQuantWithMinMaxVarsPerChannel")
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
