"""Legalisation of reductions, extrema, cumulative sums and products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=12)
@given(
    axes=st.sets(st.integers(-3, 2), max_size=3), keep=st.booleans(),
    op=st.sampled_from(["Mean", "Max", "Sum", "Prod", "Min", "EuclideanNorm"]),
)  # fmt: skip
def test_reductions(lowers: Any, constant: Any, axes: set[int], keep: bool, op: str) -> None:
    if len({axis % 3 for axis in axes}) < len(axes):
        axes = {axis % 3 for axis in axes}
    body = f"%axes = tf.Const() {{value = int32[{len(axes)}] {sorted(axes)}}}\n"
    lowers(body + f"%y = tf.{op}(%x, %axes) {{keep_dims = {str(keep).lower()}}}", inputs="%x: float32[?, 3, 4]")


@pytest.mark.parametrize("op", ["Any", "All"])
def test_truth_values(lowers: Any, constant: Any, op: str) -> None:
    feeds = {"x": np.array([[True, False], [True, True]])}
    lowers(constant("a", [1]) + f"%y = tf.{op}(%x, %a)", inputs="%x: bool[2, 2]", feeds=feeds)


@pytest.mark.parametrize("axes", [[0], [0, 2], [-1]])
def test_axes_may_be_computed(lowers: Any, axes: list[int]) -> None:
    inputs = f"%x: float32[2, 3, 4], %a: int32[{len(axes)}]"
    lowers("%y = tf.Sum(%x, %a)", ["Cast", "ReduceSum"], inputs=inputs, feeds={"a": np.array(axes, np.int32)})


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_the_first_of_equal_ones(lowers: Any, constant: Any, op: str, dtype: str) -> None:
    feeds = {"x": np.array([[1, 3, 3], [2, 2, 0]], np.float32)}
    lowers(constant("a", 1) + f"%y = tf.{op}(%x, %a) {{output_type = {dtype}}}", feeds=feeds)


@settings(max_examples=12)
@given(axis=st.integers(-2, 1), exclusive=st.booleans(), reverse=st.booleans(), product=st.booleans())
def test_cumulative(lowers: Any, constant: Any, axis: int, exclusive: bool, reverse: bool, product: bool) -> None:
    attrs = f"{{exclusive = {str(exclusive).lower()}, reverse = {str(reverse).lower()}}}"
    op = "Cumprod" if product else "Cumsum"
    lowers(constant("a", axis) + f"%y = tf.{op}(%x, %a) {attrs}")


def test_cross_entropies(lowers: Any) -> None:
    inputs = "%x: float32[2, 3], %l: int32[2]"
    feeds = {"l": np.array([2, 0], np.int32)}
    lowers("%y = tf.SparseSoftmaxCrossEntropyWithLogits(%x, %l)", inputs=inputs, outputs="%y, %y:1", feeds=feeds)


def test_an_axis_that_is_computed_is_refused(refuses: Any) -> None:
    refuses("%y = tf.ArgMax(%x, %a)", "which axis is computed at run time", "%x: float32[2, 3], %a: int32[]")
    refuses("%y = tf.Cumprod(%x, %a)", "computed at run time", "%x: float32[2, 3], %a: int32[]")
