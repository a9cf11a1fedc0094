"""Legalisation of what changes colours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model

ADJUSTED = ("AdjustContrastv2", "AdjustHue", "AdjustSaturation")


def pixels(*shape: int) -> np.ndarray:
    """Colours, some of them grey, black and pure."""
    found = np.random.RandomState(0).uniform(0, 1, (*shape, 3)).astype(np.float32)
    found[..., 0, 0, :], found[..., 0, 1, :], found[..., 1, 0, 1:] = 0, 0.5, 0
    return found


@pytest.mark.tensorflow
@pytest.mark.parametrize("shape", ["[2, 4, 5, 3]", "[?, 4, 5, 3]", "[?, ?, ?, 3]"])
@pytest.mark.parametrize("op", ["RGBToHSV", "HSVToRGB"])
def test_hues(op: str, shape: str) -> None:
    model = text_model(f"%y = tf.{op}(%x)", f"%x: float32{shape}")
    assert_lowers(model, data=[{"x": pixels(2, 4, 5)}])


@pytest.mark.tensorflow
@settings(max_examples=10)
@given(st.data())
def test_adjustments(data: st.DataObject) -> None:
    op, by = data.draw(st.sampled_from(ADJUSTED)), np.float32(data.draw(st.floats(-0.875, 0.875, width=32)))
    shape = data.draw(st.sampled_from(["[2, 4, 5, 3]", "[?, 4, 5, 3]", "[?, ?, ?, 3]"]))
    model = text_model(f"%y = tf.{op}(%x, %by)", f"%x: float32{shape}, %by: float32[]")
    assert_lowers(model, data=[{"x": pixels(2, 4, 5), "by": by}], rtol=1e-4)


def test_other_types_are_refused() -> None:
    with pytest.raises(UnloweredError, match="only lowered for float32"):
        graphopt.lower(text_model("%y = tf.RGBToHSV(%x)", "%x: float64[4, 3]"), "tflite")
