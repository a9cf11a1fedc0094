"""Legalisation of order, segments and random numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model


def scalar(name: str, value: int) -> str:
    return f"%{name} = tf.Const() {{value = int32[] {value}}}\n"


@given(st.data())
def test_places_of_extrema(data: st.DataObject) -> None:
    op, kernel = data.draw(st.sampled_from((("ArgMax", "ARG_MAX"), ("ArgMin", "ARG_MIN"))))
    dtype = data.draw(st.sampled_from(("float32", "int32", "int16", "float16", "uint8")))
    output = data.draw(st.sampled_from(("int32", "int64")))
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    body = scalar("a", axis) + f"%y = tf.{op}(%x, %a) {{output_type = {output}}}"
    lowered = assert_lowers(text_model(body, f"%x: {dtype}{shape}"), None, reference="reference")
    assert kernel in {node.op_type for node in lowered.model.graph}


def test_numbers_that_may_not_fit_are_refused() -> None:
    with pytest.raises(UnloweredError, match="int64"):
        assert_lowers(text_model(scalar("a", 0) + "%y = tf.ArgMax(%x, %a)", "%x: int64[3]"))


@pytest.mark.parametrize("index", ["int32", "int64"])
def test_largest(index: str) -> None:
    body = scalar("k", 2) + f"%y = tf.TopKV2(%x, %k) {{index_type = {index}}}"
    model = text_model(body, "%x: float32[?, 5]", "%y, %y:1")
    casts = ["CAST"] if index == "int64" else []
    assert_lowers(model, ["TOPK_V2", *casts], reference="reference")


@pytest.mark.tensorflow
@pytest.mark.parametrize("reverse", ["true", "false"])
def test_nth_element(reverse: str) -> None:
    body = scalar("n", 2) + f"%y = tf.NthElement(%x, %n) {{reverse = {reverse}}}"
    negated = ["NEG", "NEG"] if reverse == "false" else []
    assert_lowers(text_model(body, "%x: float32[3, 5]"), ["TOPK_V2", "GATHER", *negated])


@pytest.mark.tensorflow
def test_distinct_elements() -> None:
    data = [{"x": np.float32([3, 1, 3, 2, 1, 3])}]
    assert_lowers(text_model("%y = tf.Unique(%x)", "%x: float32[?]", "%y, %y:1"), ["UNIQUE"], data=data)
    body = "%y = tf.UniqueWithCounts(%x)"
    assert_lowers(text_model(body, "%x: float32[?]", "%y, %y:1, %y:2"), None, data=data)


@pytest.mark.tensorflow
def test_among_the_largest() -> None:
    data = [{"x": np.float32([[1, 2, 3], [3, 2, 1], [1, 1, 1]]), "t": np.int32([1, 2, 0])}]
    inputs = "%x: float32[3, 3], %t: int32[3]"
    assert_lowers(text_model(scalar("k", 2) + "%y = tf.InTopKV2(%x, %t, %k)", inputs), None, data=data)
    assert_lowers(text_model("%y = tf.InTopK(%x, %t) {k = 1}", inputs), None, data=data)


def test_buckets() -> None:
    model = text_model("%y = tf.Bucketize(%x) {boundaries = [-0.5, 0.0, 1.0]}", "%x: float32[?, 9]")
    assert_lowers(model, ["BUCKETIZE"], reference="reference")


@pytest.mark.tensorflow
@pytest.mark.parametrize("op", ["LowerBound", "UpperBound"])
def test_places_in_sorted_rows(op: str) -> None:
    data = [{"x": np.float32([[1, 2, 2, 5], [0, 1, 2, 3]]), "v": np.float32([[2, 9, 0], [-1, 3, 1]])}]
    model = text_model(f"%y = tf.{op}(%x, %v)", "%x: float32[?, 4], %v: float32[?, 3]")
    kernel = "LESS" if op == "LowerBound" else "LESS_EQUAL"
    assert_lowers(model, ["RESHAPE", "RESHAPE", kernel, "CAST", "SUM"], data=data)


@pytest.mark.tensorflow
@pytest.mark.parametrize("op", ["Sum", "Prod", "Max", "Min"])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_segments_in_any_order(op: str, dtype: str) -> None:
    data = [{"x": np.array([[1, 2], [3, 4], [5, -6]], dtype), "i": np.int64([2, 0, 2])}]
    body = scalar("n", 3) + f"%y = tf.UnsortedSegment{op}(%x, %i, %n)"
    model = text_model(body, f"%x: {dtype}[3, 2], %i: int64[3]")
    if op in ("Max", "Min"):
        data[0]["i"][1:] = 0, 1
    assert_lowers(model, ["CAST", f"UNSORTED_SEGMENT_{op.upper()}"], data=data)


@given(st.data())
def test_sums_of_segments(data: st.DataObject) -> None:
    """Numbers of segments in any order, some without rows, some rows of no segment."""
    rows, columns, count = (data.draw(st.integers(1, 4)) for _ in range(3))
    numbers = data.draw(st.lists(st.integers(-1, count - 1), min_size=rows, max_size=rows))
    body = scalar("n", count) + "%y = tf.UnsortedSegmentSum(%x, %i, %n)"
    sample = {"x": np.arange(rows * columns, dtype=np.float32).reshape(rows, columns), "i": np.int32(numbers)}
    model = text_model(body, f"%x: float32[{rows}, {columns}], %i: int32[{rows}]")
    assert_lowers(model, ["UNSORTED_SEGMENT_SUM"], data=[sample], reference="reference")


@pytest.mark.tensorflow
@pytest.mark.parametrize("op", ["Sum", "Mean", "Prod", "Max", "Min"])
@pytest.mark.parametrize("inner", ["", ", 2"])
def test_segments_in_a_row(op: str, inner: str) -> None:
    values = np.float32([[1, 2], [3, 4], [5, -6], [7, 8]])
    data = [{"x": values if inner else values[:, 0], "i": np.int32([0, 0, 2, 2])}]
    model = text_model(f"%y = tf.Segment{op}(%x, %i)", f"%x: float32[4{inner}], %i: int32[4]")
    assert_lowers(model, None, data=data)


@pytest.mark.tensorflow
def test_sums_of_known_segments() -> None:
    body = "%i = tf.Const() {value = int32[3] [0, 0, 1]}\n%y = tf.SegmentSum(%x, %i)"
    assert_lowers(text_model(body, "%x: float32[3, 2]"), ["SEGMENT_SUM"])


@pytest.mark.parametrize(
    ("op", "kernel"), [("RandomUniform", "RANDOM_UNIFORM"), ("RandomStandardNormal", "RANDOM_STANDARD_NORMAL")]
)
def test_random_numbers(op: str, kernel: str) -> None:
    body = "%s = tf.Shape(%x) {out_type = int32}\n"
    body += f"%r = tf.{op}(%s) {{dtype = float32, seed = 3, seed2 = 4}}\n%y = tf.AddV2(%r, %x)"
    lowered = assert_lowers(text_model(body, "%x: float32[?, 3]"), ["SHAPE", kernel, "ADD"], reference=None)
    drawn = next(node for node in lowered.model.graph if node.op_type == kernel)
    assert (drawn.attrs["seed"], drawn.attrs["seed2"]) == (3, 4)


@pytest.mark.tensorflow
@pytest.mark.parametrize("op", ["Sum", "Mean", "SqrtN"])
@pytest.mark.parametrize("inner", ["", ", 3"])
def test_segments_of_rows_that_are_picked(op: str, inner: str) -> None:
    model = text_model(f"%y = tf.SparseSegment{op}(%x, %i, %s)", f"%x: float32[?{inner}], %i: int32[?], %s: int32[?]")
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    data = {"x": rows if inner else rows[:, 0], "i": np.int32([0, 2, 1, 4]), "s": np.int32([0, 0, 1, 3])}
    assert_lowers(model, data=[data])


def test_distinct_elements_along_an_axis() -> None:
    axis = "%a = tf.Const() {value = int32[1] [0]}\n%y = tf.UniqueV2(%x, %a)"
    data = [{"x": np.int32([1, 3, 1, 2, 3, 3])}]
    assert_lowers(text_model(axis, "%x: int32[6]", "%y, %y:1"), ["UNIQUE"], data=data, reference="reference")
    with pytest.raises(UnloweredError, match="rows of a matrix"):
        assert_lowers(text_model(axis, "%x: int32[2, 3]", "%y, %y:1"))
