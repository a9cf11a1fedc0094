"""Legalisation of gathering, scattering, selecting and diagonals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model


def scalar(name: str, value: int) -> str:
    return f"%{name} = tf.Const() {{value = int32[] {value}}}\n"


def vector(name: str, numbers: list[int], dtype: str = "int32") -> str:
    return f"%{name} = tf.Const() {{value = {dtype}[{len(numbers)}] {numbers}}}\n"


@given(st.data())
def test_gathered(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    axis = data.draw(st.integers(0, len(shape) - 1))
    batch = data.draw(st.integers(0, min(axis, 2)))
    index = data.draw(st.sampled_from(("int32", "int64")))
    inner = data.draw(st.lists(st.integers(1, 3), max_size=2))
    is_dynamic = data.draw(st.booleans())
    dtype = data.draw(st.sampled_from(("float32", "int64", "bool")))
    indices = [*shape[:batch], *inner]
    sample = {
        "x": np.arange(np.prod(shape)).reshape(shape).astype(dtype),
        "i": np.random.default_rng(0).integers(0, shape[axis], indices).astype(index),
    }
    dims = ", ".join("?" if is_dynamic and not place else str(dim) for place, dim in enumerate(shape))
    body = scalar("a", axis - len(shape)) + f"%y = tf.GatherV2(%x, %i, %a) {{batch_dims = {batch}}}"
    model = text_model(body, f"%x: {dtype}[{dims}], %i: {index}{indices}")
    assert_lowers(model, ["GATHER"], data=[sample], reference="reference")


def test_gathered_by_several_axes() -> None:
    data = [{"x": np.arange(12, dtype=np.float32).reshape(3, 4), "i": np.int64([[0, 1], [2, 3]])}]
    model = text_model("%y = tf.GatherNd(%x, %i)", "%x: float32[3, 4], %i: int64[?, 2]")
    assert_lowers(model, ["GATHER_ND"], data=data, reference="reference")


def test_one_row_of_one_is_a_reshape() -> None:
    model = text_model(scalar("i", 0) + scalar("a", 1) + "%y = tf.GatherV2(%x, %i, %a)", "%x: float32[?, 1, 3]")
    assert_lowers(model, ["RESHAPE"], reference="reference")


@pytest.mark.parametrize(("second", "expected"), [([1, 3], ["CONCATENATION"]), ([3, 1], ["CONCATENATION", "GATHER"])])
def test_stitched_rows(second: list[int], expected: list[str]) -> None:
    first = [0, 2] if len(expected) == 2 else [0, 1]
    second = second if len(expected) == 2 else [2, 3]
    body = vector("i", first) + vector("j", second) + "%y = tf.DynamicStitch(%i, %j, %a, %b) {N = 2}"
    model = text_model(body, "%a: float32[2, 3], %b: float32[2, 3]")
    assert_lowers(model, expected, reference="reference")


@pytest.mark.tensorflow
def test_rows_by_part() -> None:
    data = [{"x": np.arange(8, dtype=np.float32).reshape(4, 2), "p": np.int32([1, 0, 1, 1])}]
    body = "%y = tf.DynamicPartition(%x, %p) {num_partitions = 2}"
    model = text_model(body, "%x: float32[?, 2], %p: int32[?]", "%y, %y:1")
    expected = {"EQUAL": 2, "WHERE": 2, "RESHAPE": 2, "GATHER": 2}
    assert_lowers(model, expected, data=data)


def test_scattered() -> None:
    data = [{"i": np.int64([[2], [0], [2]]), "x": np.arange(6, dtype=np.float32).reshape(3, 2)}]
    body = vector("s", [4, 2], "int64") + "%y = tf.ScatterNd(%i, %x, %s)"
    model = text_model(body, "%i: int64[3, 1], %x: float32[3, 2]")
    assert_lowers(model, ["CAST", "SCATTER_ND"], data=data, reference="reference")


@given(st.data())
def test_scattered_anywhere(data: st.DataObject) -> None:
    """Any depth of indices, places named twice among them."""
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    depth = data.draw(st.integers(1, len(shape)))
    count = data.draw(st.integers(1, 5))
    dtype = data.draw(st.sampled_from(("float32", "int32", "int64", "int16", "float16")))
    rows = [[data.draw(st.integers(0, dim - 1)) for dim in shape[:depth]] for _ in range(count)]
    sample = {
        "i": np.int32(rows),
        "x": np.arange(count * int(np.prod(shape[depth:]))).reshape(count, *shape[depth:]).astype(dtype),
    }
    body = vector("s", shape) + "%y = tf.ScatterNd(%i, %x, %s)"
    model = text_model(body, f"%i: int32[{count}, {depth}], %x: {dtype}{[count, *shape[depth:]]}")
    assert_lowers(model, None, data=[sample], reference="reference", rtol=None)


@pytest.mark.parametrize("op", ["TensorScatterAdd", "TensorScatterSub", "TensorScatterUpdate"])
@pytest.mark.parametrize("dims", ["[4, 2]", "[?, 2]"])
@pytest.mark.tensorflow
def test_scattered_into_a_tensor(op: str, dims: str) -> None:
    rows = [[2], [0], [2]] if op != "TensorScatterUpdate" else [[2], [0], [1]]
    data = [
        {
            "x": np.ones((4, 2), np.float32),
            "i": np.int32(rows),
            "u": np.arange(6, dtype=np.float32).reshape(3, 2),
        }
    ]
    model = text_model(f"%y = tf.{op}(%x, %i, %u)", f"%x: float32{dims}, %i: int32[3, 1], %u: float32[3, 2]")
    assert_lowers(model, None, data=data)


def test_updates_of_one_place_are_refused() -> None:
    body = "%i = tf.Const() {value = int32[2, 1] [1, 1]}\n%y = tf.TensorScatterUpdate(%x, %i, %u)"
    with pytest.raises(UnloweredError, match=r"twice|more than one row"):
        assert_lowers(text_model(body, "%x: float32[3], %u: float32[2]"))


@pytest.mark.tensorflow
def test_sparse_to_dense() -> None:
    data = [{"i": np.int64([[0], [2]]), "v": np.float32([5, 6])}]
    body = vector("s", [4], "int64") + "%d = tf.Const() {value = float32[] -1.0}\n"
    model = text_model(body + "%y = tf.SparseToDense(%i, %s, %v, %d)", "%i: int64[2, 1], %v: float32[2]")
    assert_lowers(model, ["SPARSE_TO_DENSE"], data=data)


@pytest.mark.parametrize(
    ("op", "condition", "shape", "expected"),
    [
        ("Select", "[2, 3]", "[2, 3]", ["SELECT"]),
        ("Select", "[]", "[2, 3]", ["SELECT_V2"]),
        ("Select", "[2]", "[2, 3]", ["RESHAPE", "SELECT_V2"]),
        ("SelectV2", "[3]", "[?, 3]", ["SELECT_V2"]),
    ],
)
def test_selected(op: str, condition: str, shape: str, expected: list[str]) -> None:
    inputs = f"%c: bool{condition}, %a: float32{shape}, %b: float32{shape}"
    assert_lowers(text_model(f"%y = tf.{op}(%c, %a, %b)", inputs), expected, reference="reference")


@pytest.mark.parametrize("dtype", ["bool", "float32"])
@pytest.mark.parametrize("dims", ["[6]", "[?, 3]"])
def test_places(dtype: str, dims: str) -> None:
    values = np.array([0, 1, 0, 1, 1, 0], dtype).reshape((6,) if dims == "[6]" else (2, 3))
    assert_lowers(
        text_model("%y = tf.Where(%x)", f"%x: {dtype}{dims}"), None, data=[{"x": values}], reference="reference"
    )


@pytest.mark.tensorflow
def test_a_box_replaced() -> None:
    data = [{"x": np.zeros((4, 3), np.float32), "u": np.ones((1, 3), np.float32), "i": np.int32([2, 0])}]
    inputs = "%x: float32[?, 3], %u: float32[1, 3], %i: int32[2]"
    model = text_model("%y = tf.XlaDynamicUpdateSlice(%x, %u, %i)", inputs)
    assert_lowers(model, ["DYNAMIC_UPDATE_SLICE"], data=data)
