"""Maxima and means of windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphopt.testing.lowering import assert_lowers, text_model


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_pooling(padding: str) -> None:
    attributes = f'{{ksize = [1, 3, 2, 1], strides = [1, 2, 2, 1], padding = "{padding}"}}'
    model = text_model(
        f"%y = tf.MaxPool(%x) {attributes}\n%z = tf.AvgPool(%x) {attributes}", "%x: float32[2, 7, 6, 3]", "%y, %z"
    )
    assert_lowers(model, target="xla", reference="reference", random=1, fallback=False)


def test_maxima_and_their_places(agrees: Callable[..., Any]) -> None:
    attributes = 'ksize = [1, 2, 3, 1], strides = [1, 2, 1, 1], padding = "SAME"'
    body = (
        f"%a = tf.MaxPoolWithArgmax(%x) {{{attributes}}}\n"
        f"%b = tf.MaxPoolWithArgmax(%x) {{{attributes}, include_batch_in_index = true, Targmax = int32}}\n"
        '%w = tf.Const() {value = int32[4] [1, 2, 2, 1]}\n%c = tf.MaxPoolV2(%x, %w, %w) {padding = "VALID"}'
    )
    x = np.random.default_rng(0).integers(-3, 3, (2, 5, 4, 2)).astype(np.float32)  # with equal elements
    agrees(body, "%x: float32[2, 5, 4, 2]", "%a, %a:1, %b:1, %c", {"x": x})
