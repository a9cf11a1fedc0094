"""Quantization that training pretends: Q and DQ, where ONNX has the type."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.decompositions.fake_quantization import bounds, nudged
from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import INT8, UINT8, TensorType
from graphopt.ir.value import Value

BITS, LOWEST = 8, -128
FAKES = ("tf.FakeQuantWithMinMaxArgs", "tf.FakeQuantWithMinMaxVars", "tf.FakeQuantWithMinMaxVarsPerChannel")


@RULES.legalize(*FAKES)
def fake_quantization(op: Lowering) -> Value:
    """Eight bits between two bounds, by tensor or by channel: Q and DQ, of int8 where zero is in the middle;
    constants are rounded here and now."""
    low, high = bounds(op)
    if int(op.attr("num_bits")) != BITS or not (low < high).all():
        op.refuse(f"it has {op.attr('num_bits')} bits, or its bounds leave nothing between them")
    narrow = bool(op.attr("narrow_range"))
    lowest, highest, step = nudged(low, high, BITS, narrow)
    held = op.known(0)
    if held is not None:
        places = np.floor((np.clip(held, lowest, highest) - lowest) * (np.float32(1) / step) + np.float32(0.5))
        return op.constant(places * step + lowest, name=op.node.name)
    zero = np.round(int(narrow) - lowest / step)
    dtype = UINT8 if (zero + LOWEST).any() else INT8
    value = op.input(0)
    if narrow:
        least, most = (op.constant(np.asarray(bound, np.float32)) for bound in (lowest, highest))
        value = op.step("Minimum", op.step("Maximum", value, least), most)
    scale = op.constant(np.asarray(step, np.float32), name=f"{op.node.name}/scale")
    point = op.constant((zero + LOWEST * (dtype is INT8)).astype(dtype.numpy), name=f"{op.node.name}/zero_point")
    axis: dict[str, Any] = {"axis": op.rank(value) - 1} if step.ndim else {}
    kind = TensorType(dtype, op.type.shape)
    made = op.emit("QuantizeLinear", value, scale, point, type=kind, name=f"{op.node.name}/quantized", **axis)
    return op.emit("DequantizeLinear", made, scale, point, **axis)
