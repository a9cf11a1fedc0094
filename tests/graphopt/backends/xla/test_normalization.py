"""Batch norms, softmax, losses."""

from __future__ import annotations

import numpy as np

from graphopt.testing.lowering import assert_lowers, text_model


def test_normalisations() -> None:
    model = text_model(
        "%n = tf.FusedBatchNormV3(%x, %s, %o, %a, %b) {is_training = false}\n"
        "%y = tf.Softmax(%n)\n%z = tf.LogSoftmax(%n)\n%l = tf.L2Loss(%n)",
        "%x: float32[2, 3, 3, 4], %s: float32[4], %o: float32[4], %a: float32[4], %b: float32[4]",
        "%y, %z, %l",
    )
    data = {
        "x": np.random.default_rng(0).normal(size=(1, 2, 3, 3, 4)).astype(np.float32),
        **{name: np.linspace(0.5, 2, 4, dtype=np.float32)[None] for name in "soab"},
    }
    assert_lowers(model, target="xla", reference="reference", data=data, fallback=False)


def test_local_response_and_losses() -> None:
    body = (
        "%y = tf.LRN(%x) {depth_radius = 2, bias = 1.0, alpha = 0.5, beta = 0.75}\n"
        "%s = tf.Const() {value = int32[2] [8, 6]}\n%f = tf.Reshape(%x, %s)\n%p = tf.Softmax(%f)\n"
        "%l = tf.SoftmaxCrossEntropyWithLogits(%f, %p)"
    )
    model = text_model(body, "%x: float32[1, 2, 4, 6]", "%y, %l")
    assert_lowers(model, target="xla", reference="reference", random=1, fallback=False)
