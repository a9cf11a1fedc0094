"""Sorting, the largest elements, places in sorted tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def test_the_largest_are_sorted_out(operations: Callable[..., dict[str, int]]) -> None:
    assert operations("%k = tf.Const() {value = int32[] 2}\n%y = tf.TopKV2(%x, %k)")["sort"] == 1


def test_ordered_tables(agrees: Callable[..., Any]) -> None:
    body = (
        "%l = tf.LowerBound(%r, %v)\n%u = tf.UpperBound(%r, %v)\n%b = tf.Bucketize(%v) {boundaries = [0.5, 2.0]}\n"
        "%p = tf.InvertPermutation(%i)\n%t = tf.InTopK(%r, %k) {k = 2}"
    )
    data = {
        "r": np.array([[0, 1, 1, 2], [0, 2, 4, 6]], np.float32), "v": np.array([[1, 3], [0.5, 7]], np.float32),
        "i": np.array([2, 0, 3, 1], np.int32), "k": np.array([1, 3], np.int32),
    }  # fmt: skip
    agrees(body, "%r: float32[2, 4], %v: float32[2, 2], %i: int32[4], %k: int32[2]", "%l, %u, %b, %p, %t", data)
