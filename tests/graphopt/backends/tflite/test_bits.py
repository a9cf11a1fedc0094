"""Legalisation of operators on bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model

PAIR = "%a: int32[2, 3], %b: int32[2, 3]"


def constant(dtype: str, number: int) -> str:
    return f"%m = tf.Const() {{value = {dtype}[] {number}}}\n"


def test_what_has_a_kernel() -> None:
    assert_lowers(text_model("%y = tf.BitwiseXor(%a, %b)", PAIR), ["BITWISE_XOR"], reference="reference")
    shift = [{"a": np.array([[8, -9, 100]] * 2, np.int32), "b": np.array([[1, 2, 3]] * 2, np.int32)}]
    assert_lowers(text_model("%y = tf.RightShift(%a, %b)", PAIR), ["RIGHT_SHIFT"], data=shift, reference="reference")


@pytest.mark.parametrize(("dtype", "expected"), [("int32", ["SUB"]), ("uint8", ["CAST", "SUB", "CAST"])])
def test_inverted(dtype: str, expected: list[str]) -> None:
    assert_lowers(text_model("%y = tf.Invert(%x)", f"%x: {dtype}[2, 3]"), expected, reference="reference")


def test_shifted_to_the_left() -> None:
    model = text_model(constant("int32", 3) + "%y = tf.LeftShift(%x, %m)", "%x: int32[2, 3]")
    assert_lowers(model, ["MUL"], reference="reference")


@given(st.data())
def test_masks(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(("int32", "uint8", "int8", "int16")))
    limits = np.iinfo(dtype)
    mask = data.draw(st.integers(int(limits.min), int(limits.max)) | st.sampled_from((int(limits.min), 15, 0)))
    numbers = data.draw(st.lists(st.integers(int(limits.min), int(limits.max)), min_size=4, max_size=4))
    op = data.draw(st.sampled_from(("BitwiseAnd", "BitwiseOr")))
    model = text_model(constant(dtype, mask) + f"%y = tf.{op}(%x, %m)", f"%x: {dtype}[4]")
    assert_lowers(model, None, data=[{"x": np.array(numbers, dtype)}], reference="reference")


@pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr"])
def test_unknown_masks_are_refused(op: str) -> None:
    with pytest.raises(UnloweredError, match="no bitwise operators"):
        assert_lowers(text_model(f"%y = tf.{op}(%a, %b)", PAIR))
