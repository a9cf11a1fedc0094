"""Models that training prepared for integers, from TensorFlow's operators to LiteRT's."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphopt
from graphopt.compat import Optimize, TFLiteConverter
from graphopt.passes.quantize.arithmetic import fake_quantize
from graphopt.passes.quantize.parameters import weight_parameters
from graphopt.passes.quantize.schemes import INT8_WEIGHT
from graphopt.passes.quantize.trained import trained_magnitudes
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


def test_weights_are_the_steps_that_training_saw() -> None:
    """Their range is wider than what they take on: with a scale of their own they would fall between the steps."""
    model = text_model(BODY, "%x: float32[2, 8]")
    quantized = graphopt.quantize(model, "int8").model
    layer = next(node for node in quantized.graph if node.op == "tfl.FULLY_CONNECTED")
    held, kind = layer.input(1).node.attrs["value"].numpy(), layer.input(1).type.quantization
    assert kind is not None
    step = np.float32(6) / 254
    wanted = np.rint(np.clip(WEIGHTS, -3, 3) / step) * step
    assert np.abs(held * np.array(kind.scale)[:, None] - wanted.T).max() < step / 1000


@given(
    rows=st.lists(st.lists(st.integers(-127, 127), min_size=1, max_size=9), min_size=1, max_size=4),
    step=st.floats(1e-6, 1e3), axis=st.sampled_from([None, 0, 1]),
)  # fmt: skip
def test_multiples_of_a_step_are_kept_exactly(rows: list[list[int]], step: float, axis: int | None) -> None:
    width = min(map(len, rows))
    weights = (np.array([row[:width] for row in rows]) * step).astype(np.float32)
    limits = trained_magnitudes(weights, axis, 127)
    parameters = weight_parameters(weights, INT8_WEIGHT, axis=axis, magnitude=limits)
    again = fake_quantize(weights, parameters)
    assert np.abs(again - weights).max() <= 1e-3 * np.abs(weights).max(initial=0)
    assert (limits >= np.abs(weights).max(axis=None if axis is None else 1 - axis) * (1 - 1e-6)).all()


def test_weights_of_no_steps_keep_their_largest_as_limit() -> None:
    weights = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    assert np.allclose(trained_magnitudes(weights, 0, 127), np.abs(weights).max(axis=1))
    assert trained_magnitudes(np.zeros((2, 3), np.float32), None, 127).tolist() == [0.0]


def test_the_converter_takes_ranges_of_training_without_data(tmp_path: pathlib.Path) -> None:
    graphopt.save(text_model(BODY, "%x: float32[2, 8]"), tmp_path / "trained.pb")
    converter = TFLiteConverter.from_frozen_graph(str(tmp_path / "trained.pb"), ["x"], ["y"])
    converter.optimizations = [Optimize.DEFAULT]
    converter.inference_input_type = np.uint8
    model = graphopt.load(converter.convert())
    assert model.graph.inputs[0].dtype.name == "uint8"
    assert not any(node.op == "tfl.FAKE_QUANT" for node in model.graph)
