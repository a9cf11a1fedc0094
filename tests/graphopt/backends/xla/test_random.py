"""Random numbers: their distributions, and that equal seeds give equal ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def drawn(body: str, outputs: str, times: int = 1) -> list[list[Any]]:
    from graphopt.backends.xla.backend import XlaBackend
    from graphopt.runtimes.xla import XlaRuntime
    from graphopt.testing import text_model

    lowered = XlaBackend().lower(text_model(body, "%x: float32[16]", outputs), fallback=False).model
    runtime = XlaRuntime()
    feeds = {"x": np.arange(16, dtype=np.float32)}
    return [list(runtime.run(lowered, feeds).values()) for _ in range(times)]


def test_distributions() -> None:
    """Means, deviations and bounds of many numbers."""
    body = (
        "%s = tf.Const() {value = int32[1] [20000]}\n%u = tf.RandomUniform(%s) {dtype = float32}\n"
        "%n = tf.RandomStandardNormal(%s) {dtype = float32}\n%t = tf.TruncatedNormal(%s) {dtype = float32}\n"
        "%a = tf.Const() {value = int32[] -2}\n%b = tf.Const() {value = int32[] 5}\n"
        "%i = tf.RandomUniformInt(%s, %a, %b)\n%m = tf.RandomShuffle(%x)\n"
        "%l = tf.Const() {value = float32[1, 2] [[0.0, 1.0986123]]}\n%c = tf.Const() {value = int32[] 20000}\n"
        "%k = tf.Multinomial(%l, %c)"
    )
    ((uniform, normal, truncated, integers, shuffled, kinds),) = drawn(body, "%u, %n, %t, %i, %m, %k")
    assert 0 <= uniform.min() < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.02
    assert abs(normal.mean()) < 0.04
    assert abs(normal.std() - 1) < 0.04
    assert np.abs(truncated).max() <= 2.0001
    assert abs(truncated.std() - 0.88) < 0.03
    assert sorted(set(integers.tolist())) == list(range(-2, 5))
    assert sorted(shuffled.tolist()) == list(range(16))
    assert abs(kinds.mean() - 0.75) < 0.02


def test_seeds() -> None:
    """Equal seeds give equal numbers, others others."""
    body = (
        "%s = tf.Const() {value = int32[1] [64]}\n%a = tf.Const() {value = int32[2] [1, 2]}\n"
        "%b = tf.Const() {value = int32[2] [1, 3]}\n%u = tf.StatelessRandomUniform(%s, %a) {dtype = float32}\n"
        "%v = tf.StatelessRandomUniform(%s, %b) {dtype = float32}\n"
        "%k = tf.StatelessRandomGetKeyCounter(%a)\n%g = tf.StatelessRandomGetAlg()\n"
        "%n = tf.StatelessRandomNormalV2(%s, %k, %k:1, %g) {dtype = float32}"
    )
    first, second = drawn(body, "%u, %v, %n", times=2)
    for left, right in zip(first, second, strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(first[0], first[1])
    assert abs(first[2].mean()) < 0.5


def test_how_many_must_be_known(refusal: Callable[..., Any]) -> None:
    finding = refusal("%y = tf.RandomUniform(%s) {dtype = float32}", "%s: int32[2]")
    assert "depends on data" in finding.reason
    assert finding.remedy
