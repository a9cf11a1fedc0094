"""Ranges that training chose, conversions that cancel, and what is quantized already."""

from __future__ import annotations

import numpy as np
import pytest
from tflite_layers import DENSE, FC, NONE, build, operators, quantization, run

from graphopt.ir.text import print_model
from graphopt.ir.types import FLOAT16, FLOAT32
from graphopt.passes.quantize.recipe import Recipe, Rule
from graphopt.passes.quantize.trained import merge_requantizations
from graphopt.passes.removal import remove_dead
from graphopt.runtimes.litert import LiteRTRuntime

FAKE = "num_bits = 8, narrow_range = false"
TYPE = "int8[2, 4] quantized(scale = [0.5], zero_point = [3])"
WEIGHTS = "float32[3, 4] [[1.0, 0.5, 0.0, 0.0], [0.0, 0.9, 0.0, 0.0], [0.3, 0.0, 0.0, 0.0]]"
TRAINED = f"""
%w = tfl.CONSTANT() {{value = {WEIGHTS}}} : float32[3, 4]
%b = tfl.CONSTANT() {{value = float32[3] [1.0, -1.0, 0.0]}} : float32[3]
%i = tfl.FAKE_QUANT(%x) {{min = -2.0, max = 2.0, {FAKE}}} : float32[2, 4]
%v = tfl.FAKE_QUANT(%w) {{min = -1.0, max = 1.0, {FAKE}}} : float32[3, 4]
%d = tfl.FULLY_CONNECTED(%i, %v, %b) {{{FC}}} : float32[2, 3]
%y = tfl.FAKE_QUANT(%d) {{min = -3.0, max = 5.0, {FAKE}}} : float32[2, 3]
"""


def test_ranges_of_training_need_no_statistics() -> None:
    model = build(TRAINED)
    plan = run(model)
    assert operators(model) == {"QUANTIZE": 1, "FULLY_CONNECTED": 1, "DEQUANTIZE": 1}
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert quantization(model, "x/int8").scale[0] == pytest.approx(4 / 255)
    assert quantization(model, "y/int8").scale[0] == pytest.approx(8 / 255)
    assert [row["compute"] for row in plan.rows()] == ["int8"]


def test_ranges_of_training_come_before_those_of_statistics() -> None:
    model = build(TRAINED)
    run(model, ranges={"x": (-1, 1), "d": (-1, 1)})
    assert quantization(model, "x/int8").scale[0] == pytest.approx(4 / 255)


def test_litert_computes_nearly_what_training_pretended() -> None:
    model, original = build(TRAINED), build(TRAINED)
    run(model)
    x = np.random.default_rng(0).uniform(-2, 2, (2, 4)).astype(np.float32)
    runtime = LiteRTRuntime()
    right, got = (runtime.run(item, {"x": x})["y"] for item in (original, model))
    assert np.abs(right - got).max() <= 8 / 255 * 1.01


def test_modes_without_integer_activations_keep_what_training_pretended() -> None:
    model = build(TRAINED)
    run(model, Recipe((Rule(mode="dynamic"),)))
    assert operators(model) == {"FAKE_QUANT": 2, "FULLY_CONNECTED": 1}
    assert model.graph.node("d").input(1).dtype.name == "int8"


def test_floats_that_are_quantized_at_once_say_their_range() -> None:
    body = f"%q = tfl.QUANTIZE(%x) : {TYPE}\n%f = tfl.DEQUANTIZE(%q) : float32[2, 4]"
    model = build(f"{body}\n%y = tfl.ADD(%f, %f) {{{NONE}}} : float32[2, 4]")
    plan = run(model, ranges={"y": (-4, 4)})
    assert [row["compute"] for row in plan.rows()] == ["int8"]
    assert quantization(model, "x/int8").scale[0] == pytest.approx(0.5)
    assert quantization(model, "x/int8").zero_point == (3,)
    assert operators(model) == {"QUANTIZE": 1, "ADD": 1, "DEQUANTIZE": 1}


def test_a_model_without_ranges_still_needs_statistics() -> None:
    model = build(DENSE)
    with pytest.raises(Exception, match="calibrate first"):
        run(model)


def test_a_quantized_model_is_left_as_it_is() -> None:
    model = build(DENSE)
    run(model, ranges={"x": (-1, 1), "y": (-4, 4)})
    text = print_model(model)
    for mode in ("int8", "int16x8", "dynamic", "weight-only", "float16"):
        again = model.clone()
        run(again, Recipe((Rule(mode=mode),)), ranges={"x": (-9, 9), "y": (-9, 9)})  # type: ignore[arg-type]
        assert print_model(again) == text


def test_integer_weights_beside_floats_are_left_as_they_are() -> None:
    model = build(DENSE)
    run(model, Recipe((Rule(mode="dynamic"),)))
    text = print_model(model)
    plan = run(model, ranges={"x": (-1, 1), "y": (-4, 4)})
    assert [row["reason"] for row in plan.rows()] == ["its weights 'w/int8' are quantized already"]
    assert print_model(model) == text
    plan = run(model, Recipe((Rule(mode="float16"),)))
    assert [row["reason"] for row in plan.rows()] == ["it is quantized already"]
    assert print_model(model) == text


@pytest.mark.parametrize("is_same", [True, False])
def test_conversions_to_floats_and_back_go(is_same: bool) -> None:
    other = TYPE if is_same else TYPE.replace("0.5", "0.25")
    body = f"%q = tfl.QUANTIZE(%x) : {TYPE}\n%f = tfl.DEQUANTIZE(%q) : float32[2, 4]\n%r = tfl.QUANTIZE(%f) : {other}"
    model = build(f"{body}\n%y = tfl.ABS(%r) : {TYPE}")
    merge_requantizations(model.graph)
    remove_dead(model.graph, [node for node in model.graph if not node.has_uses])
    assert operators(model) == {"QUANTIZE": 1 if is_same else 2, "ABS": 1}


def test_half_precision_that_is_dequantized_is_no_weight_to_quantize_again() -> None:
    model = build(DENSE)
    run(model, Recipe((Rule(mode="float16"),)))
    text = print_model(model)
    run(model, Recipe((Rule(mode="float16"),)))
    assert print_model(model) == text
    assert {value.dtype for node in model.graph for value in node.outputs} == {FLOAT16, FLOAT32}
