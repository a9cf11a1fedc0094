"""Legalisation of scattering and of reductions over segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("op", ["Update", "Add", "Sub", "Max", "Min"])
def test_scattered_into_a_tensor(lowers: Any, op: str) -> None:
    feeds = {"i": np.array([[2], [0]], np.int32)}
    inputs = "%x: float32[4, 2], %i: int32[2, 1], %u: float32[2, 2]"
    lowers(f"%y = tf.TensorScatter{op}(%x, %i, %u)", inputs=inputs, feeds=feeds)


def test_scattered_into_zeros_twice_is_a_sum(lowers: Any, constant: Any) -> None:
    feeds = {"i": np.array([[1], [1]], np.int32)}
    inputs = "%i: int32[2, 1], %u: float32[2, 2]"
    lowers(constant("s", [3, 2]) + "%y = tf.ScatterNd(%i, %u, %s)", inputs=inputs, feeds=feeds)


def test_sparse_to_dense(lowers: Any, constant: Any) -> None:
    body = constant("s", [2, 3]) + constant("d", -1.0) + "%y = tf.SparseToDense(%i, %s, %v, %d)"
    feeds = {"i": np.array([[0, 1], [1, 2]], np.int32)}
    lowers(body, inputs="%i: int32[2, 2], %v: float32[2]", feeds=feeds)


@settings(max_examples=12)
@given(
    op=st.sampled_from(["Sum", "Prod", "Max", "Min"]), numbers=st.lists(st.integers(-1, 3), min_size=4, max_size=4),
    dtype=st.sampled_from(["float32", "int32"]),
)  # fmt: skip
def test_segments_in_any_order(lowers: Any, constant: Any, op: str, numbers: list[int], dtype: str) -> None:
    body = constant("n", 4) + f"%y = tf.UnsortedSegment{op}(%x, %i, %n)"
    feeds = {"i": np.array(numbers, np.int32)}
    lowers(body, inputs=f"%x: {dtype}[4, 2], %i: int32[4]", feeds=feeds)


@pytest.mark.parametrize("op", ["Sum", "Prod", "Max", "Min", "Mean"])
def test_segments_in_order(lowers: Any, op: str) -> None:
    feeds = {"i": np.array([0, 0, 2, 3], np.int32)}
    lowers(f"%y = tf.Segment{op}(%x, %i)", inputs="%x: float32[4, 2], %i: int32[4]", feeds=feeds)


def test_an_unknown_rank_is_refused(refuses: Any) -> None:
    inputs = "%i: int32[?, ?], %v: float32[?], %s: int32[?], %d: float32[]"
    refuses("%y = tf.SparseToDense(%i, %s, %v, %d)", "rank of its result", inputs)
