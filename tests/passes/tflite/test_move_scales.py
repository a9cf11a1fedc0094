"""move-scales: the scale of attention goes into the weights of its queries."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.model import Model
from graphopt.passes import run_pass
from graphopt.passes.tflite.move_scales import MoveScales
from graphopt.testing.lowering import assert_lowers, text_model

WEIGHTS = np.linspace(-1, 1, 32).round(3).reshape(4, 8).tolist()


def attention(scale: str = "0.5", extra: str = "", outputs: str = "%y", bias: bool = False) -> Model:
    """Scores of two heads, scaled."""
    biased = "%q = tf.BiasAdd(%m, %bias)" if bias else "%q = tf.Identity(%m)"
    return text_model(
        f"""
        %w = tf.Const() {{value = float32[4, 8] {WEIGHTS}}}
        %bias = tf.Const() {{value = float32[8] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]}}
        %scale = tf.Const() {{value = float32[] {scale}}}
        %heads = tf.Const() {{value = int32[4] [-1, 3, 2, 4]}}
        %order = tf.Const() {{value = int32[4] [0, 2, 1, 3]}}
        %m = tf.BatchMatMulV2(%x, %w)
        {biased}
        %r = tf.Reshape(%q, %heads)
        %t = tf.Transpose(%r, %order)
        %p = tf.BatchMatMulV2(%t, %k)
        {extra}
        %y = tf.Mul(%p, %scale)
        """,
        "%x: float32[2, 3, 4], %k: float32[2, 2, 4, 5]",
        outputs,
    )


def test_the_scale_of_attention() -> None:
    assert_lowers(attention(), ["FULLY_CONNECTED", "RESHAPE", "TRANSPOSE", "BATCH_MATMUL"], reference="reference")
    lowered = assert_lowers(
        attention(bias=True), ["FULLY_CONNECTED", "RESHAPE", "TRANSPOSE", "BATCH_MATMUL"], reference="reference"
    )
    assert run_pass(lowered.model, MoveScales()).rewrites == 0


def test_scores_that_something_else_reads_stay() -> None:
    model = attention(extra="%z = tf.Neg(%p)", outputs="%y, %z")
    expected = ["FULLY_CONNECTED", "RESHAPE", "TRANSPOSE", "BATCH_MATMUL", "NEG", "MUL"]
    assert_lowers(model, expected, reference="reference")


def test_weights_that_would_not_be_finite_stay() -> None:
    lowered = assert_lowers(attention("3.0e38", bias=True), reference=None)
    assert "tfl.MUL" in {node.op for node in lowered.model.graph}
    report = run_pass(lowered.model, MoveScales())
    assert "would not be finite" in report.refusals[0]["reason"]


def cell(constant: str, inner: str = "tf.AddV2(%m, %h)") -> Model:
    return text_model(
        f"%w = tf.Const() {{value = float32[4, 8] {WEIGHTS}}}\n%bias = tf.Const() {{value = {constant}}}\n"
        f"%m = tf.MatMul(%x, %w)\n%s = {inner}\n%y = tf.AddV2(%s, %bias)",
        "%x: float32[2, 4], %h: float32[2, 8]",
    )


def test_the_bias_of_a_recurrent_cell() -> None:
    model = cell("float32[8] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]")
    assert_lowers(model, ["FULLY_CONNECTED", "ADD"], reference="reference")
    assert_lowers(cell("float32[] 2.0", "tf.AddV2(%h, %m)"), ["FULLY_CONNECTED", "ADD"], reference="reference")


def test_what_is_no_bias_stays() -> None:
    model = cell("float32[2, 1] [[1.0], [2.0]]")
    assert_lowers(model, ["FULLY_CONNECTED", "ADD", "ADD"], reference="reference")
    model = cell("float32[] 2.0", "tf.Mul(%m, %h)")
    assert_lowers(model, ["FULLY_CONNECTED", "MUL", "ADD"], reference="reference")


@settings(max_examples=8, deadline=None)
@given(st.floats(-2.0, 2.0, width=16).filter(lambda x: abs(x) > 0.01), st.booleans())
def test_any_scale(scale: float, bias: bool) -> None:
    assert_lowers(attention(repr(scale), bias=bias), reference="reference")
