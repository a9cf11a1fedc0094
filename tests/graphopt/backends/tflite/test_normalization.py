"""Legalisation of batch and local response normalisation."""

from __future__ import annotations

import pytest

import graphopt
from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model

SHAPES = ("[2, 3, 4, 2]", "[?, ?, ?, 2]")
HELD = "\n".join(
    f"%{name} = tf.Const() {{value = float32[2] {values}}}"
    for name, values in {"s": "[1.5, 0.5]", "o": "[0.1, -0.2]", "m": "[0.3, 0.0]", "v": "[2.0, 0.25]"}.items()
)
ABSOLUTE = HELD + "\n%a = tf.Abs(%x)\n"  # so that no other pass folds what follows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", ["FusedBatchNorm", "FusedBatchNormV3"])
def test_a_norm_is_a_product_and_a_sum(shape: str, op: str) -> None:
    text = ABSOLUTE + f"%y = tf.{op}(%a, %s, %o, %m, %v) {{is_training = false, epsilon = 0.001}}"
    assert_lowers(text_model(text, f"%x: float32{shape}"), ["ABS", "MUL", "ADD"], reference="reference")


def test_statistics_that_are_computed() -> None:
    text = HELD + "\n%y = tf.FusedBatchNormV3(%x, %s, %o, %p, %q) {is_training = false}"
    inputs = "%x: float32[2, 3, 4, 2], %p: float32[2], %q: float32[2]"
    import numpy as np

    rng = np.random.default_rng(0)
    data = [{"x": rng.normal(size=(2, 3, 4, 2)), "p": rng.normal(size=2), "q": rng.uniform(1, 2, 2)} for _ in range(2)]
    data = [{name: array.astype(np.float32) for name, array in sample.items()} for sample in data]
    assert_lowers(text_model(text, inputs), {"MUL": 3, "ADD": 2, "RSQRT": 1, "SUB": 1}, data=data,
                  reference="reference")  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_statistics_of_the_batch_itself(shape: str) -> None:
    empty = "%e = tf.Const() {value = float32[0] []}\n"
    text = HELD + "\n" + empty + "%y = tf.FusedBatchNormV3(%x, %s, %o, %e, %e) {is_training = true}"
    lowered = assert_lowers(text_model(text, f"%x: float32{shape}"), reference="reference")
    assert sum(node.op == "tfl.MEAN" for node in lowered.model.graph) == 2


@pytest.mark.parametrize("training", ["true", "false"])
def test_statistics_that_are_read(training: str) -> None:
    """As they were given, or those of the batch, its variance as an estimate for more than it."""
    empty = "%e = tf.Const() {value = float32[0] []}\n"
    given = "%e, %e" if training == "true" else "%m, %v"
    text = ABSOLUTE + empty + f"%y = tf.FusedBatchNormV3(%a, %s, %o, {given}) {{is_training = {training}}}"
    assert_lowers(text_model(text, "%x: float32[2, 3, 4, 2]", "%y, %y:1, %y:2"), reference="reference")


@pytest.mark.parametrize("shape", ["[1, 3, 4, 8]", "[?, ?, ?, 8]"])
def test_local_response(shape: str) -> None:
    text = "%y = tf.LRN(%x) {depth_radius = 2, bias = 1.5, alpha = 0.2, beta = 0.75}"
    assert_lowers(text_model(text, f"%x: float32{shape}"), ["LOCAL_RESPONSE_NORMALIZATION"], reference="reference")


def test_refusals() -> None:
    text = HELD + "\n%y = tf.FusedBatchNormV3(%x, %s, %o, %m, %v) {is_training = true}"
    with pytest.raises(UnloweredError, match="leaves for gradients"):
        graphopt.lower(text_model(text, "%x: float32[2, 3, 4, 2]", "%y, %y:3"), "tflite")
    with pytest.raises(UnloweredError, match="not wholly known"):
        graphopt.lower(text_model(text, "%x: float32[?, 3, 4, 2]", "%y, %y:2"), "tflite")
    averaged = text.replace("true}", "true, exponential_avg_factor = 0.5}")
    with pytest.raises(UnloweredError, match="several batches"):
        graphopt.lower(text_model(averaged, "%x: float32[2, 3, 4, 2]"), "tflite")
    with pytest.raises(UnloweredError, match="not for float16"):
        graphopt.lower(text_model("%y = tf.LRN(%x) {}", "%x: float16[1, 3, 4, 8]"), "tflite")
