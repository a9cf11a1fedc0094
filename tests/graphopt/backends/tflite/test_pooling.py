"""Legalisation of pools."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model

SHAPES = ("[1, 8, 9, 4]", "[?, 8, 9, 4]", "[?, ?, ?, 4]")
POOLS = {"MaxPool": "MAX_POOL_2D", "AvgPool": "AVERAGE_POOL_2D"}


def pool(op: str, window: str, strides: str, padding: str, more: str = "") -> str:
    return f'%y = tf.{op}(%x) {{ksize = [{window}], strides = [{strides}], padding = b"{padding}"{more}}}'


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", POOLS)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_windows(shape: str, op: str, padding: str) -> None:
    text = pool(op, "1, 3, 2, 1", "1, 2, 1, 1", padding)
    assert_lowers(text_model(text, f"%x: float32{shape}"), [POOLS[op]], reference="reference")


def test_explicit_padding() -> None:
    text = pool("MaxPool", "1, 3, 2, 1", "1, 2, 1, 1", "EXPLICIT", ", explicit_paddings = [0, 0, 1, 1, 0, 1, 0, 0]")
    for shape in SHAPES:
        assert_lowers(text_model(text, f"%x: float32{shape}"), ["PADV2", "MAX_POOL_2D"], reference="reference")


def test_groups_of_channels() -> None:
    text = pool("MaxPool", "1, 1, 1, 2", "1, 1, 1, 2", "VALID")
    assert_lowers(text_model(text, "%x: float32[?, 8, 9, 4]"), ["RESHAPE", "REDUCE_MAX"], reference="reference")


def test_windows_that_are_inputs() -> None:
    held = "%k = tf.Const() {value = int32[4] [1, 2, 2, 1]}\n"
    text = held + '%y = tf.MaxPoolV2(%x, %k, %k) {padding = b"SAME"}'
    assert_lowers(text_model(text, "%x: float32[1, 8, 9, 4]"), ["MAX_POOL_2D"], reference="reference")


@pytest.mark.parametrize("shape", ["[2, 6, 8, 9, 4]", "[?, 6, 8, 9, 4]"])
@pytest.mark.parametrize("op", POOLS)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_three_dimensions(shape: str, op: str, padding: str) -> None:
    text = pool(f"{op}3D", "1, 2, 3, 2, 1", "1, 2, 2, 1, 1", padding)
    expected = {"RESHAPE": 3, POOLS[op]: 2}
    assert_lowers(text_model(text, f"%x: float32{shape}"), expected, reference="reference")


def test_sixteen_bits_and_channels_first() -> None:
    text = pool("MaxPool", "1, 2, 2, 1", "1, 2, 2, 1", "SAME")
    assert_lowers(text_model(text, "%x: float16[1, 8, 9, 4]"), ["CAST", "MAX_POOL_2D", "CAST"], reference="reference")
    first = pool("AvgPool", "1, 1, 2, 2", "1, 1, 2, 2", "SAME", ', data_format = b"NCHW"')
    assert_lowers(text_model(first, "%x: float32[1, 4, 8, 9]"), ["TRANSPOSE", "AVERAGE_POOL_2D", "TRANSPOSE"],
                  reference="reference")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shape", "reason"),
    [
        (pool("MaxPool", "1, 2, 2, 2", "1, 2, 2, 2", "VALID"), "[1, 8, 8, 4]", "over other dimensions as well"),
        (pool("MaxPool", "1, 1, 1, 2", "1, 1, 1, 2", "VALID"), "[?, ?, 8, 4]", "too little is known"),
        (pool("AvgPool", "1, 1, 1, 2", "1, 1, 1, 2", "VALID"), "[1, 8, 8, 4]", "averages over channels"),
        (pool("MaxPool", "2, 1, 1, 1", "2, 1, 1, 1", "VALID"), "[2, 8, 8, 4]", "over the batch"),
        (pool("MaxPool3D", "1, 2, 2, 2, 2", "1, 2, 2, 2, 2", "SAME"), "[1, 4, 8, 8, 4]", "the batch or the channels"),
        (pool("AvgPool3D", "1, 2, 2, 2, 1", "1, 2, 2, 2, 1", "SAME"), "[1, ?, 8, 8, 4]", "not known but for the batch"),
    ],
)
def test_refusals(text: str, shape: str, reason: str) -> None:
    with pytest.raises(UnloweredError, match=reason):
        graphopt.lower(text_model(text, f"%x: float32{shape}"), "tflite")


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_pools_of_every_shape(data: st.DataObject) -> None:
    """Windows and strides of random sizes in two and three dimensions."""
    spatial = data.draw(st.sampled_from([2, 3]))
    op = data.draw(st.sampled_from(sorted(POOLS))) + ("3D" if spatial == 3 else "")
    window, strides = (", ".join(str(data.draw(st.integers(1, 3))) for _ in range(spatial)) for _ in range(2))
    sizes = ", ".join(str(data.draw(st.integers(3, 6))) for _ in range(spatial))
    batch = data.draw(st.sampled_from(["?", "2"]))
    text = pool(op, f"1, {window}, 1", f"1, {strides}, 1", data.draw(st.sampled_from(["SAME", "VALID"])))
    assert_lowers(text_model(text, f"%x: float32[{batch}, {sizes}, 3]"), reference="reference")
