"""Legalisation of windows that LiteRT has no kernel for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, operators, text_model

pytestmark = pytest.mark.tensorflow
POOL = (
    "%y = tf.MaxPoolWithArgmax(%x) {{ksize = [1, {k}, 1], strides = [1, {s}, 1], "
    'padding = b"{p}", include_batch_in_index = {b}, Targmax = {t}}}'
)
DILATION = '%y = tf.Dilation2D(%x, %w) {{strides = [1, {s}, 1], rates = [1, {r}, 1], padding = b"{p}"}}'


@settings(max_examples=8)
@given(st.data())
def test_places_of_maxima(data: st.DataObject) -> None:
    k, s = (f"{data.draw(st.integers(1, 3))}, {data.draw(st.integers(1, 3))}" for _ in range(2))
    padding, batched = data.draw(st.sampled_from(["SAME", "VALID"])), data.draw(st.sampled_from(["true", "false"]))
    text = POOL.format(k=k, s=s, p=padding, b=batched, t=data.draw(st.sampled_from(["int32", "int64"])))
    shape = data.draw(st.sampled_from(["[2, 7, 6, 3]", "[?, 7, 6, 3]"]))
    found = [{"x": np.random.RandomState(0).randint(0, 9, (2, 7, 6, 3)).astype(np.float32)}]  # with equal ones
    assert_lowers(text_model(text, f"%x: float32{shape}", "%y, %y:1"), data=found)


def test_places_that_nobody_asks_for() -> None:
    text = POOL.format(k="2, 2", s="2, 2", p="SAME", b="false", t="int64")
    assert_lowers(text_model(text, "%x: float32[1, 8, 9, 4]"), ["MAX_POOL_2D"])


@settings(max_examples=8)
@given(st.data())
def test_dilations(data: st.DataObject) -> None:
    s, r = (f"{data.draw(st.integers(1, 3))}, {data.draw(st.integers(1, 3))}" for _ in range(2))
    text = DILATION.format(s=s, r=r, p=data.draw(st.sampled_from(["SAME", "VALID"])))
    batch = data.draw(st.sampled_from(["?", "2"]))
    lowered = assert_lowers(text_model(text, f"%x: float32[{batch}, 8, 9, 3], %w: float32[3, 2, 3]"), random=1)
    assert operators(lowered.model)["MAXIMUM"] == 5


@pytest.mark.parametrize(
    ("text", "inputs", "reason"),
    [
        (POOL.format(k="9, 9", s="1, 1", p="SAME", b="false", t="int64"), "%x: float32[1, 9, 9, 2]", "81 places"),
        (POOL.format(k="2, 2", s="1, 1", p="SAME", b="false", t="int64"), "%x: float32[1, ?, 9, 2]", "is not known"),
        (DILATION.format(s="1, 1", r="1, 1", p="SAME"), "%x: int32[1, 9, 9, 2], %w: int32[2, 2, 2]", "floats"),
    ],
)
def test_refusals(text: str, inputs: str, reason: str) -> None:
    with pytest.raises(UnloweredError, match=reason):
        graphopt.lower(text_model(text, inputs, "%y, %y:1" if "Pool" in text else "%y"), "tflite")
