"""Maxima and means of windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphopt.backends.xla.backend import XlaBackend
from graphopt.backends.xla.exporting import exported
from graphopt.backends.xla.program import programs_of
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


@pytest.mark.parametrize("size", ["1, 7, 6", "?, 7, 6"])
@pytest.mark.parametrize("convolutions", ["auto", "plain"])
@pytest.mark.parametrize(
    "attributes",
    [
        '{ksize = [1, 3, 2, 1], strides = [1, 2, 2, 1], padding = "SAME"}',
        '{ksize = [1, 3, 3, 1], strides = [1, 1, 1, 1], padding = "SAME"}',
        '{ksize = [1, 1, 1, 1], strides = [1, 2, 3, 1], padding = "VALID"}',
    ],
)
def test_small_windows_are_slices_on_cpus(size: str, convolutions: str, attributes: str) -> None:
    model = text_model(
        f"%y = tf.MaxPool(%x) {attributes}\n%z = tf.AvgPool(%x) {attributes}", f"%x: float32[{size}, 3]", "%y, %z"
    )
    assert_lowers(model, target="xla", reference="reference", random=1, fallback=False, convolutions=convolutions)
    lowered = XlaBackend().lower(model, fallback=False, convolutions=convolutions, batch=1).model
    text = str(exported(programs_of(lowered)[0]).mlir_module())
    assert ("reduce_window" in text) is (convolutions == "plain")
