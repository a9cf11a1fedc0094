"""Legalisation of gathering, choosing, stitching, one-hot rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=12)
@given(st.data())
def test_gathered(lowers: Any, constant: Any, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    axis = data.draw(st.integers(0, len(shape) - 1))
    batch = data.draw(st.integers(0, min(axis, 2)))
    inner = data.draw(st.lists(st.integers(1, 3), max_size=2))
    index = data.draw(st.sampled_from(("int32", "int64")))
    indices = [*shape[:batch], *inner]
    feeds = {"i": np.random.default_rng(0).integers(0, shape[axis], indices).astype(index)}
    body = constant("a", axis - len(shape)) + f"%y = tf.GatherV2(%x, %i, %a) {{batch_dims = {batch}}}"
    lowers(body, inputs=f"%x: float32{shape}, %i: {index}{indices}", feeds=feeds)


@settings(max_examples=12)
@given(shape=st.lists(st.integers(1, 3), max_size=2), axis=st.integers(-1, 2), plain=st.booleans())
def test_one_hot_of_what_is_out_of_bounds_has_none(
    lowers: Any, constant: Any, shape: list[int], axis: int, plain: bool
) -> None:
    axis = min(axis, len(shape))
    on, off = (1.0, 0.0) if plain else (2.0, -1.0)
    body = constant("d", 3) + constant("on", on) + constant("off", off)
    feeds = {"x": np.random.default_rng(1).integers(-2, 5, shape).astype(np.int32)}
    inputs = f"%x: int32[{', '.join(map(str, shape))}]"
    lowers(body + f"%y = tf.OneHot(%x, %d, %on, %off) {{axis = {axis}}}", inputs=inputs, feeds=feeds)


def test_ones_in_rows_are_three_operators(lowers: Any, constant: Any) -> None:
    body = constant("d", 3) + constant("on", 1.0) + constant("off", 0.0) + "%y = tf.OneHot(%x, %d, %on, %off)"
    lowers(body, ["Unsqueeze", "Equal", "Cast"], inputs="%x: int32[4]")


def test_elements_by_several_indices(lowers: Any) -> None:
    lowers("%y = tf.GatherNd(%x, %i)", inputs="%x: float32[5, 5, 2], %i: int32[3, 2]")


def test_places_of_what_is_not_zero(lowers: Any) -> None:
    feeds = {"x": np.array([[0, 1], [2, 0]], np.float32)}
    lowers("%y = tf.Where(%x)", ["NonZero", "Transpose"], inputs="%x: float32[2, 2]", feeds=feeds)


def test_partitions(lowers: Any) -> None:
    inputs, feeds = "%x: float32[4, 2], %p: int32[4]", {"p": np.array([0, 1, 0, 1], np.int32)}
    body = "%y, %y:1 = tf.DynamicPartition(%x, %p) {num_partitions = 2}".replace("%y, %y:1", "%y")
    lowers(body, {"Equal": 2, "Compress": 2}, inputs=inputs, outputs="%y, %y:1", feeds=feeds)


def test_stitched_rows(lowers: Any) -> None:
    inputs = "%i: int32[2], %j: int32[3], %x: float32[2, 2], %z: float32[3, 2]"
    feeds = {"i": np.array([4, 0], np.int32), "j": np.array([1, 3, 2], np.int32)}
    lowers("%y = tf.DynamicStitch(%i, %j, %x, %z) {N = 2}", inputs=inputs, feeds=feeds)


def test_the_inverse_of_a_permutation(lowers: Any) -> None:
    lowers("%y = tf.InvertPermutation(%x)", inputs="%x: int32[4]", feeds={"x": np.array([2, 0, 3, 1], np.int32)})


@pytest.mark.parametrize("count", [2, 3])
def test_the_largest(lowers: Any, constant: Any, count: int) -> None:
    lowers(constant("k", count) + "%y = tf.TopKV2(%x, %k)", outputs="%y, %y:1")
    inputs = "%x: float32[?, 3], %k: int32[]"
    lowers("%y = tf.TopKV2(%x, %k)", inputs=inputs, outputs="%y:1", feeds={"k": np.array(count, np.int32)})


def test_distinct_elements(lowers: Any) -> None:
    feeds = {"x": np.array([3, 1, 3, 2, 1], np.int32)}
    lowers("%y = tf.UniqueWithCounts(%x)", inputs="%x: int32[5]", outputs="%y, %y:1, %y:2", feeds=feeds)


def test_among_the_largest_and_buckets(lowers: Any) -> None:
    inputs, feeds = "%x: float32[2, 3], %t: int32[2]", {"t": np.array([1, 0], np.int32)}
    lowers("%y = tf.InTopK(%x, %t) {k = 1}", inputs=inputs, feeds=feeds)
    lowers("%y = tf.Bucketize(%x) {boundaries = [-0.5, 0.0, 0.7]}")


def test_counted_numbers(lowers: Any) -> None:
    body = "%s = tf.Const() {value = int32[] 4}\n%w = tf.Const() {value = float32[0] []}\n%y = tf.Bincount(%x, %s, %w)"
    lowers(body, inputs="%x: int32[6]", feeds={"x": np.array([0, 1, 1, 3, 9, 2], np.int32)})


def test_an_axis_that_is_computed_is_refused(refuses: Any) -> None:
    refuses("%y = tf.GatherV2(%x, %i, %a)", "axis is computed", "%x: float32[2, 3], %i: int32[2], %a: int32[]")
    body = "%a = tf.Const() {value = int64[1] [0]}\n%y = tf.UniqueV2(%x, %a)"
    refuses(body, "slices along an axis", "%x: float32[2, 3]")
