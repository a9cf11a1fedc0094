"""Quantization that training pretends: values rounded to as many steps as the bits can tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.decompositions.fake_quantization import bounds
from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.table import RULES
from graphopt.ir.ops.tf_quantization import round_trip
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


@RULES.legalize("tf.QuantizeAndDequantizeV2", "tf.QuantizeAndDequantizeV3", "tf.QuantizeAndDequantizeV4")
def round_trips(op: Lowering) -> Value:
    """Values clipped to a constant range, multiplied, rounded, and divided again."""
    if not op.attr("range_given") or op.type.dtype is not FLOAT32:
        op.refuse("its range is that of the values, or they are not float32", "give it a range")
    bits = op.whole(3, "the number of bits") if op.node.op.endswith("V3") else int(op.attr("num_bits"))
    axis, rank = int(op.attr("axis", -1)), op.rank(op.input(0))
    if not 2 <= bits <= 24:
        op.refuse(f"it has {bits} bits, and float32 tells no more than 2 ** 24 steps apart")
    low, high = (op.constant_input(place, "a bound").astype(np.float32) for place in (1, 2))
    if axis >= 0:
        low, high = (array.reshape([-1 if place == axis else 1 for place in range(rank)]) for array in (low, high))
    if not (np.isfinite(low) & np.isfinite(high) & ((low < 0) | (high > 0)) & (low <= high)).all():
        op.refuse("its bounds leave nothing between them")
    trip = round_trip(op.attrs, low, high, bits, np.float32)
    held = {
        name: op.constant(np.asarray(array, np.float32), f"{op.node.name}/{name}")
        for name, array in trip._asdict().items()
    }
    clipped = op.step("Maximum", op.step("Minimum", op.input(0), held["highest"]), held["lowest"])
    places = op.step("Mul", clipped, held["there"])
    if op.text("round_mode", "HALF_TO_EVEN") == "HALF_UP":
        rounded = op.step("Floor", op.step("AddV2", places, op.scalar(0.5, places)))
    else:
        rounded = op.step("Round", places)
    return op.step("Mul", rounded, held["back"])
