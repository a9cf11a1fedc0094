"""Models that training prepared for integers, from TensorFlow's operators to LiteRT's."""

from __future__ import annotations

import numpy as np
import pytest

import graphopt
from graphopt.runtimes.litert import LiteRTRuntime
from graphopt.testing.lowering import text_model

WEIGHTS = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
BODY = f"""
%w = tf.Const() {{dtype = float32, value = float32[8, 4] {WEIGHTS.tolist()}}} : float32[8, 4]
%low = tf.Const() {{dtype = float32, value = float32[] -3.0}} : float32[]
%high = tf.Const() {{dtype = float32, value = float32[] 3.0}} : float32[]
%q = tf.FakeQuantWithMinMaxVars(%x, %low, %high) {{num_bits = 8, narrow_range = false}} : float32[2, 8]
%v = tf.FakeQuantWithMinMaxVars(%w, %low, %high) {{num_bits = 8, narrow_range = true}} : float32[8, 4]
%h = tf.MatMul(%q, %v) {{T = float32, transpose_a = false, transpose_b = false}} : float32[2, 4]
%r = tf.Relu(%h) {{T = float32}} : float32[2, 4]
%y = tf.FakeQuantWithMinMaxArgs(%r) {{min = 0.0, max = 9.0, num_bits = 8, narrow_range = false}} : float32[2, 4]
"""


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_ranges_of_training_are_enough(mode: str) -> None:
    model = text_model(BODY, "%x: float32[2, 8]")
    plain = graphopt.lower(model, "tflite").model
    quantized = graphopt.quantize(model, mode)
    assert [row["compute"] for row in quantized.plan.rows()] == [mode.partition("x")[0]]
    assert [node.op_type for node in quantized.model.graph if node.op_type not in ("INPUT", "CONSTANT")] == [
        "QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE",
    ]  # fmt: skip
    x = np.random.default_rng(1).uniform(-3, 3, (2, 8)).astype(np.float32)
    runtime = LiteRTRuntime()
    right, got = (runtime.run(item, {"x": x})["y"] for item in (plain, quantized.model))
    step = 9 / 255
    assert np.abs(right - got).max() <= 3 * step


def test_integers_at_both_ends_without_data() -> None:
    quantized = graphopt.quantize(
        text_model(BODY, "%x: float32[2, 8]"), "int8", input_type="uint8", output_type="uint8"
    )
    ends = quantized.model.graph.inputs[0].type, quantized.model.graph.outputs[0].type
    assert [kind.dtype.name for kind in ends] == ["uint8", "uint8"]
    assert ends[1].quantization is not None
    assert ends[1].quantization.zero_point == (0,)
    assert ends[1].quantization.scale[0] == pytest.approx(9 / 255)
