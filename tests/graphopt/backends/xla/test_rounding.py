"""Rounding, and numbers rounded as quantization would round them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def test_rounding(agrees: Callable[..., Any]) -> None:
    x = np.array([[-2.5, -0.5, 0.5], [1.5, 2.4, 99.0]], np.float32)
    body = (
        "%r = tf.Round(%x)\n%a = tf.FakeQuantWithMinMaxArgs(%x) {min = -2.0, max = 3.0}\n"
        "%l = tf.Const() {value = float32[] -1.0}\n%h = tf.Const() {value = float32[] 2.0}\n"
        "%b = tf.FakeQuantWithMinMaxVars(%x, %l, %h) {narrow_range = true}"
    )
    agrees(body, outputs="%r, %a, %b", data={"x": x})


def test_the_range_of_a_rounding_must_be_known(refusal: Callable[..., Any]) -> None:
    finding = refusal("%y = tf.FakeQuantWithMinMaxVars(%x, %l, %h)", "%x: float32[3], %l: float32[], %h: float32[]")
    assert "computed at run time" in finding.reason
    assert "constant" in finding.remedy
