"""Quantization that training pretends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.lowering import check
from graphopt.testing.lowering import assert_lowers, text_model

ARGS = "%y = tf.FakeQuantWithMinMaxArgs(%x) {{min = {low}, max = {high}, num_bits = {bits}, narrow_range = {narrow}}}"
VARS = """
%low = tf.Const() {{value = float32[] {low}, dtype = float32}}
%high = tf.Const() {{value = float32[] {high}, dtype = float32}}
%y = tf.FakeQuantWithMinMaxVars(%x, %low, %high) {{num_bits = {bits}, narrow_range = {narrow}}}
"""
CHANNELS = """
%low = tf.Const() {{value = float32[3] [-1.0, -0.5, 0.0], dtype = float32}}
%high = tf.Const() {{value = float32[3] [1.0, 0.25, 2.0], dtype = float32}}
%y = tf.FakeQuantWithMinMaxVarsPerChannel(%x, %low, %high) {{num_bits = {bits}, narrow_range = {narrow}}}
"""


def model(text: str, low: float = -1.0, high: float = 1.5, bits: int = 8, narrow: bool = False) -> Any:
    body = text.format(low=low, high=high, bits=bits, narrow=str(narrow).lower())
    return text_model(body, "%x: float32[?, 3]")


@pytest.mark.parametrize("text", [ARGS, VARS])
def test_one_range_is_one_operator(text: str) -> None:
    assert_lowers(model(text), ["FAKE_QUANT"], reference="reference")
    assert_lowers(model(text, bits=4), ["FAKE_QUANT"], reference="reference")


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("text", [ARGS, VARS, CHANNELS])
def test_channels_and_narrow_ranges_are_computed(text: str, narrow: bool) -> None:
    assert_lowers(model(text, narrow=narrow), reference="reference")


@given(
    st.floats(-8, 0.5, width=32), st.floats(0.0625, 8, width=32), st.integers(2, 12), st.booleans(), st.integers(0, 9)
)
def test_ranges_at_random(low: float, width: float, bits: int, narrow: bool, seed: int) -> None:
    """Values in the midst of steps are left out: which of two an error of rounding chooses says nothing."""
    made = model(VARS, float(np.float32(low)), float(np.float32(low + width)), bits, narrow)
    least = 1 if narrow else 0
    step = width / (2**bits - 1 - least)
    places = np.random.default_rng(seed).integers(-5, 2**bits + 5, (1, 4, 3)) + 0.25
    assert_lowers(made, data={"x": (places * step).astype(np.float32)}, reference="reference", rtol=1e-4)


def test_bounds_that_are_computed_are_left() -> None:
    text = "%y = tf.FakeQuantWithMinMaxVars(%x, %low, %low)"
    (finding,) = check(text_model(text, "%x: float32[3], %low: float32[]"), "tflite")
    assert "a bound is computed at run time" in finding.reason


def test_bits_that_make_no_sense_are_left() -> None:
    (finding,) = check(model(ARGS, bits=1), "tflite")
    assert "it has 1 bits" in finding.reason


TRIP = "%low = tf.Const() {{value = float32[{n}] {low}}}\n%high = tf.Const() {{value = float32[{n}] {high}}}\n"


@given(st.integers(0, 9), st.booleans(), st.booleans(), st.sampled_from(["HALF_UP", "HALF_TO_EVEN"]), st.integers(3, 9))
def test_round_trips(seed: int, signed: bool, narrow: bool, mode: str, bits: int) -> None:
    options = f"signed_input = {signed}, narrow_range = {narrow}".lower() + f', round_mode = b"{mode}"'
    body = TRIP.format(n="", low=-1.5, high=2.0) + "%y = tf.QuantizeAndDequantizeV2(%x, %low, %high) "
    made = text_model(body + f"{{range_given = true, num_bits = {bits}, {options}}}", "%x: float32[?, 3]")
    data = np.random.default_rng(seed).uniform(-3, 3, (1, 4, 3)).astype(np.float32)
    assert_lowers(made, data={"x": data}, reference="reference")


def test_round_trips_of_channels() -> None:
    held = TRIP.format(n="3", low="[-1.0, -2.0, -0.5]", high="[1.0, 1.0, 3.0]")
    body = held + "%y = tf.QuantizeAndDequantizeV4(%x, %low, %high) {range_given = true, axis = 1}"
    expected = {"MINIMUM": 1, "MAXIMUM": 1, "MUL": 2, "ROUND": 1}
    assert_lowers(text_model(body, "%x: float32[?, 3, 4]"), expected, reference="reference")
    bits = "%n = tf.Const() {value = int32[] 5}\n%y = tf.QuantizeAndDequantizeV3(%x, %low, %high, %n) {axis = 1}"
    assert_lowers(text_model(held + bits, "%x: float32[?, 3, 4]"), expected, reference="reference")


def test_round_trips_of_ranges_that_are_computed_are_left() -> None:
    body = TRIP.format(n="", low=-1.5, high=2.0) + "%y = tf.QuantizeAndDequantizeV2(%x, %low, %high) "
    (finding,) = check(text_model(body + "{range_given = false}", "%x: float32[?, 3]"), "tflite")
    assert "its range is that of the values" in finding.reason
