"""factor-sums: normalisations by moments, and sums that only look like one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.passes.tflite.factor_sums import FactorSums
from graphopt.testing import check_pass
from graphopt.testing.lowering import assert_lowers, text_model

NORMALISED = """
%axes = tf.Const() {value = int32[1] [-1]}
%small = tf.Const() {value = float32[] 0.001}
%mean = tf.Mean(%x, %axes) {keep_dims = true}
%squares = tf.SquaredDifference(%x, %mean)
%variance = tf.Mean(%squares, %axes) {keep_dims = true}
%shifted = tf.AddV2(%variance, %small)
%root = tf.Rsqrt(%shifted)
%gamma = tf.Const() {value = float32[4] [1.0, 0.5, 2.0, -1.0]}
%beta = tf.Const() {value = float32[4] [0.1, 0.2, 0.3, 0.4]}
%factor = tf.Mul(%root, %gamma)
%a = tf.Mul(%x, %factor)
"""
PARTS = ["MEAN", "SQUARED_DIFFERENCE", "MEAN", "ADD", "RSQRT", "MUL", "SUB", "MUL"]
WAYS = {
    "keras": "%n = tf.Neg(%mean)\n%b = tf.Mul(%n, %factor)\n%y = tf.AddV2(%a, %b)",
    "difference": "%b = tf.Mul(%mean, %factor)\n%y = tf.Sub(%a, %b)",
    "batch": "%b = tf.Mul(%mean, %factor)\n%c = tf.Sub(%beta, %b)\n%y = tf.AddV2(%a, %c)",
    "with offset": "%n = tf.Neg(%mean)\n%b = tf.Mul(%n, %factor)\n%c = tf.AddV2(%b, %beta)\n%y = tf.AddV2(%a, %c)",
}


@pytest.mark.parametrize("way", WAYS)
def test_layer_normalisation(way: str) -> None:
    model = text_model(NORMALISED + WAYS[way], "%x: float32[?, 3, 4]")
    expected = [*PARTS, "ADD"] if "beta" in WAYS[way] else PARTS
    data = {"x": np.random.default_rng(0).normal(size=(2, 5, 3, 4)).astype(np.float32)}
    assert_lowers(model, expected, reference="reference", data=data)


def test_moments_of_batches_stay() -> None:
    text = WAYS["batch"].replace("%mean", "%m")
    model = text_model(f"{NORMALISED}{text}".replace("%factor = tf.Mul(%root, %gamma)", "%factor = tf.Exp(%m)"),
                       "%x: float32[3, 4], %m: float32[4]")  # fmt: skip
    assert_lowers(model, ["EXP", "MUL", "MUL", "SUB", "ADD"], reference="reference")


def graph(activation: str = "NONE", mean: str = "2, 1", outputs: str = "%y", inner: str = "NONE") -> str:
    return f"""
    graph @main(%x: float32[2, 4], %mean: float32[{mean}], %factor: float32[2, 4]) -> ({outputs}) {{
      %a = tfl.MUL(%x, %factor) {{fused_activation_function = b"{inner}"}} : float32[2, 4]
      %n = tfl.NEG(%mean) : float32[{mean}]
      %b = tfl.MUL(%n, %factor) {{fused_activation_function = b"NONE"}} : float32[2, 4]
      %y = tfl.ADD(%a, %b) {{fused_activation_function = b"{activation}"}} : float32[2, 4]
    }}"""


def test_the_activation_stays() -> None:
    after = """
    graph @main(%x: float32[2, 4], %mean: float32[2, 1], %factor: float32[2, 4]) -> (%y) {
      %"y/centred" = tfl.SUB(%x, %mean) {fused_activation_function = b"NONE"} : float32[2, 4]
      %y = tfl.MUL(%"y/centred", %factor) {fused_activation_function = b"RELU"} : float32[2, 4]
    }"""
    check_pass(FactorSums(), graph("RELU"), after, runtime=None)


def test_refusals() -> None:
    _, report = check_pass(
        FactorSums(), graph(mean="2, 4").replace("%x: float32[2, 4]", "%x: float32[1, 4]"), runtime=None
    )
    assert report.refusals[0]["reason"] == "what is taken away, of shape [2, 4], may widen [1, 4]"
    _, report = check_pass(FactorSums(), graph(outputs="%y, %b"), runtime=None)
    assert report.refusals[0]["reason"] == "'b' is an input or output of the graph"
    check_pass(FactorSums(), graph(inner="RELU"), runtime=None)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(sorted(WAYS)), st.integers(1, 3), st.integers(0, 50))
def test_any_shape(way: str, rank: int, seed: int) -> None:
    shape = [*[2] * (rank - 1), 4]
    model = text_model(NORMALISED + WAYS[way], f"%x: float32[{', '.join(map(str, shape))}]")
    data = {"x": np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32) * 3}
    assert_lowers(model, reference="reference", data=data)
