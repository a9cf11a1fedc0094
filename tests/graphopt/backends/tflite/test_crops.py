"""Legalisation of boxes that are cut out of images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, operators, text_model

BOXES = np.float32([[0, 0, 0.5, 0.5], [0.2, 0.1, 1, 0.9], [1, 1, 0, 0], [-0.2, 0, 1.2, 1], [0, 0, 1, 1]])


def crop(size: str, method: str = "bilinear") -> str:
    held = f"%s = tf.Const() {{value = int32[2] [{size}]}}\n"
    return held + f'%y = tf.CropAndResize(%x, %b, %i, %s) {{method = b"{method}", extrapolation_value = 0.5}}'


@pytest.mark.tensorflow
@settings(max_examples=10)
@given(st.data())
def test_crops(data: st.DataObject) -> None:
    """Boxes that are upside down or reach beyond the image, images and boxes of unknown number."""
    size = f"{data.draw(st.integers(1, 6))}, {data.draw(st.integers(1, 8))}"
    text = crop(size, data.draw(st.sampled_from(["bilinear", "nearest"])))
    dtype = data.draw(st.sampled_from(["float32", "uint8"]))
    batch, many = data.draw(st.sampled_from([("2", "5"), ("?", "?")]))
    inputs = f"%x: {dtype}[{batch}, 6, 7, 3], %b: float32[{many}, 4], %i: int32[{many}]"
    x = np.random.RandomState(0).uniform(0, 99, (2, 6, 7, 3)).astype(dtype)
    lowered = assert_lowers(text_model(text, inputs), data=[{"x": x, "b": BOXES, "i": np.int32([0, 1, 1, 0, 1])}])
    assert operators(lowered.model)["GATHER"] == (4 if "bilinear" in text else 1)


@pytest.mark.parametrize(
    ("text", "inputs", "reason"),
    [
        (crop("2, 2"), "%x: float32[1, ?, 7, 3], %b: float32[1, 4], %i: int32[1]", "the size of the images"),
        (
            "%y = tf.CropAndResize(%x, %b, %i, %s) {}",
            "%x: float32[1, 6, 7, 3], %b: float32[1, 4], %i: int32[1], %s: int32[2]",
            "computed at run time",
        ),
    ],
)
def test_refusals(text: str, inputs: str, reason: str) -> None:
    with pytest.raises(UnloweredError, match=reason):
        graphopt.lower(text_model(text, inputs), "tflite")
