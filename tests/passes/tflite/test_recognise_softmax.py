"""recognise-softmax: exponentials divided by their sum, and what is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.model import Model
from graphopt.passes.tflite.recognise_softmax import RecogniseSoftmax
from graphopt.testing import check_pass
from graphopt.testing.lowering import assert_lowers, text_model

PLAIN = "%e = tf.Exp(%x)\n%s = tf.Sum(%e, %axis) {keep_dims = true}\n%y = tf.RealDiv(%e, %s)"
STABLE = "%m = tf.Max(%x, %axis) {keep_dims = true}\n%d = tf.Sub(%x, %m)\n" + PLAIN.replace("Exp(%x)", "Exp(%d)")
LOGARITHM = (
    "%m = tf.Max(%x, %axis) {keep_dims = true}\n%d = tf.Sub(%x, %m)\n%e = tf.Exp(%d)\n"
    "%s = tf.Sum(%e, %axis) {keep_dims = true}\n%l = tf.Log(%s)\n%y = tf.Sub(%d, %l)"
)


def written_out(body: str, axis: int = -1, shape: str = "?, 7") -> Model:
    """A model of one softmax."""
    return text_model(f"%axis = tf.Const() {{value = int32[1] [{axis}]}}\n{body}", f"%x: float32[{shape}]")


@pytest.mark.parametrize("body", [PLAIN, STABLE])
def test_softmax(body: str) -> None:
    assert_lowers(written_out(body), ["SOFTMAX"], reference="reference")
    assert_lowers(written_out(body, axis=1), ["SOFTMAX"], reference="reference")


def test_logarithm() -> None:
    assert_lowers(written_out(LOGARITHM), ["LOG_SOFTMAX"], reference="reference")


def test_another_axis_is_left_alone() -> None:
    assert_lowers(written_out(PLAIN, axis=0, shape="3, 7"), ["EXP", "SUM", "DIV"], reference="reference")


TEXT = """
graph @main(%x: float32[3, 7]) -> (%y) {
  %axis = tfl.CONSTANT() {value = int32[1] [1]}
  %e = tfl.EXP(%x) : float32[3, 7]
  %s = tfl.SUM(%e, %axis) {keep_dims = true} : float32[3, 1]
  %y = tfl.DIV(%e, %s) {fused_activation_function = b"NONE"} : float32[3, 7]
}
"""
RESULT = """
graph @main(%x: float32[3, 7]) -> (%y) {
  %y = tfl.SOFTMAX(%x) {beta = 1.0} : float32[3, 7]
}
"""


def test_on_a_lowered_graph() -> None:
    check_pass(RecogniseSoftmax(), TEXT, RESULT, runtime=None)


def test_a_sum_that_something_else_reads_stays() -> None:
    _, report = check_pass(RecogniseSoftmax(), TEXT.replace("-> (%y)", "-> (%y, %s)"), runtime=None)
    assert report.refusals[0]["reason"] == "'s' is an input or output of the graph"


def test_an_activation_is_not_lost() -> None:
    check_pass(RecogniseSoftmax(), TEXT.replace("NONE", "RELU"), runtime=None)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.sampled_from([PLAIN, STABLE, LOGARITHM]), st.booleans())
def test_any_rank(rank: int, body: str, counted_from_behind: bool) -> None:
    shape = ", ".join(["2"] * (rank - 1) + ["5"])
    model = written_out(body, axis=-1 if counted_from_behind else rank - 1, shape=shape)
    assert_lowers(model, ["LOG_SOFTMAX" if body is LOGARITHM else "SOFTMAX"], reference="reference")
