"""Segments, counts, and rows put in known places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

ROWS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
SORTED = "%i = tf.Const() {value = int32[6] [0, 0, 2, 2, 2, 3]}\n"


def test_segments_of_sorted_rows(agrees: Callable[..., Any]) -> None:
    """A segment without rows is zero, or one for products."""
    kinds = ("Sum", "Mean", "Max", "Min", "Prod")
    body = SORTED + "\n".join(f"%{kind} = tf.Segment{kind}(%x, %i)" for kind in kinds)
    agrees(body, "%x: float32[6, 3]", ", ".join(f"%{kind}" for kind in kinds), {"x": ROWS})


def test_segments_of_picked_rows(agrees: Callable[..., Any]) -> None:
    kinds = ("Sum", "Mean", "SqrtN")
    body = (
        SORTED
        + "%n = tf.Const() {value = int32[] 5}\n"
        + "\n".join(
            f"%{kind} = tf.SparseSegment{kind}(%x, %p, %i)\n"
            f"%n{kind} = tf.SparseSegment{kind}WithNumSegments(%x, %p, %j, %n)"
            for kind in kinds
        )
    )
    places = np.array([5, 0, 1, 1, 3, 2], np.int32)
    data = {"x": ROWS, "p": places, "j": np.array([0, 0, 2, 2, 2, 3], np.int32)}
    outputs = ", ".join(f"%{kind}, %n{kind}" for kind in kinds)
    agrees(body, "%x: float32[6, 3], %p: int32[6], %j: int32[6]", outputs, data)


def test_how_many_segments_must_be_known(refusal: Callable[..., Any]) -> None:
    finding = refusal("%y = tf.SegmentSum(%x, %i)", "%x: float32[6, 3], %i: int32[6]")
    assert "depends on data" in finding.reason
    assert "constants" in finding.remedy


def test_unsorted_segments_of_any_length(operations: Callable[..., dict[str, int]]) -> None:
    body = "%n = tf.Const() {value = int32[] 4}\n%y = tf.UnsortedSegmentSum(%x, %i, %n)"
    assert operations(body, "%x: float32[?, 3], %i: int32[?]")["scatter"] == 1


def test_counts(agrees: Callable[..., Any]) -> None:
    """Numbers beyond the end count nowhere; weights add up."""
    body = (
        "%n = tf.Const() {value = int32[] 5}\n%e = tf.Const() {value = float32[0] []}\n"
        "%a = tf.Bincount(%x, %n, %e)\n%b = tf.DenseBincount(%x, %n, %w)\n%c = tf.DenseBincount(%z, %n, %e)\n"
        "%d = tf.DenseBincount(%z, %n, %e) {binary_output = true}\n"
        "%r = tf.Const() {value = float32[2] [-1.0, 1.0]}\n%h = tf.HistogramFixedWidth(%v, %r, %n)"
    )
    data = {
        "x": np.array([0, 3, 3, 9, 1], np.int32), "w": np.array([0.5, 1, 2, 4, 8], np.float32),
        "z": np.array([[0, 1, 1], [4, 4, 7]], np.int32), "v": np.array([-3, -0.9, 0.1, 0.3, 5], np.float32),
    }  # fmt: skip
    inputs = "%x: int32[5], %w: float32[5], %z: int32[2, 3], %v: float32[5]"
    agrees(body, inputs, "%a, %b, %c, %d, %h", data)


def test_known_places(agrees: Callable[..., Any]) -> None:
    """Of equal places the last one counts."""
    body = (
        "%p = tf.Const() {value = int32[3] [4, 0, 1]}\n%q = tf.Const() {value = int32[2] [3, 1]}\n"
        "%r = tf.Const() {value = int32[] 2}\n%s = tf.DynamicStitch(%p, %q, %r, %x, %y, %z)\n"
        "%d = tf.Const() {value = int32[2] [3, 4]}\n%k = tf.Const() {value = int32[3, 2] [[0, 1], [1, 3], [2, 0]]}\n"
        "%o = tf.Const() {value = float32[] -1.0}\n%t = tf.SparseToDense(%k, %d, %v, %o)"
    )
    data = {"x": ROWS[:3], "y": ROWS[3:5], "z": ROWS[5], "v": ROWS[0]}
    agrees(body, "%x: float32[3, 3], %y: float32[2, 3], %z: float32[3], %v: float32[3]", "%s, %t", data)


def test_sparse_products(agrees: Callable[..., Any]) -> None:
    body = (
        "%k = tf.Const() {value = int64[3, 2] [[0, 1], [1, 3], [1, 0]]}\n%d = tf.Const() {value = int64[2] [2, 4]}\n"
        "%y = tf.SparseTensorDenseMatMul(%k, %v, %d, %x)"
    )
    agrees(body, "%v: float32[3], %x: float32[4, 3]", "%y", {"v": ROWS[0], "x": ROWS[:4]})
