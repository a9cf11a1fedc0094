"""Legalisation of reshapes, permutations and questions for sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.known import known_array
from graphopt.testing.lowering import assert_lowers, text_model


def test_a_reshape_whose_sizes_are_computed_has_a_constant_shape() -> None:
    body = """
        %s = tf.Shape(%x) {out_type = int32}
        %zero = tf.Const() {value = int32[1] [0]}
        %one = tf.Const() {value = int32[1] [1]}
        %b = tf.StridedSlice(%s, %zero, %one, %one) {shrink_axis_mask = 1}
        %n = tf.Const() {value = int32[] 12}
        %t = tf.Pack(%b, %n) {N = 2}
        %y = tf.Reshape(%x, %t)
    """
    lowered = assert_lowers(text_model(body, "%x: float32[batch, 3, 4]"), ["RESHAPE"], reference="reference")
    reshape = next(node for node in lowered.model.graph if node.op == "tfl.RESHAPE")
    shape = known_array(reshape.input(1))
    assert shape is not None
    assert shape.tolist() == [-1, 12]


def test_a_reshape_of_several_unknown_sizes_keeps_its_computation() -> None:
    body = """
        %s = tf.Shape(%x) {out_type = int64}
        %order = tf.Const() {value = int32[2] [1, 0]}
        %zero = tf.Const() {value = int32[] 0}
        %t = tf.GatherV2(%s, %order, %zero)
        %y = tf.Reshape(%x, %t)
    """
    model = text_model(body, "%x: float32[?, ?]")
    data = [{"x": np.arange(6, dtype=np.float32).reshape(2, 3)}]
    assert_lowers(model, None, data=data, reference="reference")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("%a = tf.Const() {value = int64[] -2}\n%y = tf.ExpandDims(%x, %a)", ["RESHAPE"]),
        ("%b = tf.Relu(%x)\n%y = tf.Squeeze(%b) {squeeze_dims = [1]}", ["RELU", "RESHAPE"]),
        ("%p = tf.Const() {value = int32[3] [1, 0, 2]}\n%y = tf.Transpose(%x, %p)", ["RESHAPE"]),
        ("%p = tf.Const() {value = int64[3] [2, 1, 0]}\n%y = tf.Transpose(%x, %p)", ["TRANSPOSE"]),
    ],
)
def test_axes_of_size_one(body: str, expected: list[str]) -> None:
    lowered = assert_lowers(text_model(body, "%x: float32[?, 1, 4]"), None, reference="reference")
    assert {node.op_type for node in lowered.model.graph} - {"INPUT", "CONSTANT"} == set(expected)


def test_axes_added_to_several_unknown_ones() -> None:
    data = [{"x": np.ones((2, 1, 3), np.float32)}]
    added = text_model("%a = tf.Const() {value = int64[] 1}\n%y = tf.ExpandDims(%x, %a)", "%x: float32[?, 1, ?]")
    assert_lowers(added, ["EXPAND_DIMS"], data=data, reference="reference")
    dropped = text_model("%y = tf.Squeeze(%x) {squeeze_dims = [1]}", "%x: float32[?, 1, ?]")
    assert_lowers(dropped, ["SQUEEZE"], data=data, reference="reference")


@given(st.data())
def test_permutations(data: st.DataObject) -> None:
    """Any rank up to eight, axes of size one among them, the first unknown or not."""
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=8))
    order = data.draw(st.permutations(range(len(shape))))
    is_dynamic = data.draw(st.booleans())
    dims = ", ".join("?" if is_dynamic and not place else str(dim) for place, dim in enumerate(shape))
    body = f"%p = tf.Const() {{value = int32[{len(order)}] {list(order)}}}\n%y = tf.Transpose(%x, %p)"
    sample = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    assert_lowers(text_model(body, f"%x: float32[{dims}]"), None, data=[{"x": sample}], reference="reference")


def test_axes_that_stay_together_are_joined() -> None:
    body = "%p = tf.Const() {value = int32[7] [0, 4, 5, 6, 1, 2, 3]}\n%y = tf.Transpose(%x, %p)"
    model = text_model(body, "%x: float32[2, 3, 2, 1, 2, 3, 2]")
    lowered = assert_lowers(model, ["RESHAPE", "TRANSPOSE", "RESHAPE"], reference="reference")
    assert next(node for node in lowered.model.graph if node.op == "tfl.TRANSPOSE").output.shape.rank == 3


def test_questions_for_sizes() -> None:
    data = [{"x": np.ones((2, 3, 4), np.float32)}]
    for body, expected in (
        ("%y = tf.Shape(%x) {out_type = int64}", ["SHAPE"]),
        ("%y = tf.Size(%x) {out_type = int32}", ["SHAPE", "REDUCE_PROD"]),
    ):
        assert_lowers(text_model(body, "%x: float32[?, ?, 4]"), expected, data=data, reference="reference")


def test_what_passes_on_is_passed_over() -> None:
    body = '%a = tf.StopGradient(%x)\n%b = tf.CheckNumerics(%a) {message = b"no"}\n%y = tf.Relu(%b)'
    assert_lowers(text_model(body), ["RELU"], reference="reference")


def test_an_inverse_permutation() -> None:
    data = [{"x": np.array([2, 0, 3, 1], np.int32)}]
    model = text_model("%y = tf.InvertPermutation(%x)", "%x: int32[4]")
    assert_lowers(model, ["RESHAPE", "SCATTER_ND"], data=data, reference="reference")
