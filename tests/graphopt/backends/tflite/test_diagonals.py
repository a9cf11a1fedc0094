"""Legalisation of diagonals and bands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model


def scalar(name: str, value: int) -> str:
    return f"%{name} = tf.Const() {{value = int32[] {value}}}\n"


@pytest.mark.tensorflow
def test_diagonals() -> None:
    square = "%x: float32[?, 3, 3]"
    assert_lowers(text_model("%y = tf.MatrixDiag(%x)", "%x: float32[?, 3]"), ["MATRIX_DIAG"])
    assert_lowers(text_model("%y = tf.MatrixSetDiag(%x, %d)", f"{square}, %d: float32[?, 3]"), ["MATRIX_SET_DIAG"])
    for dims in ("3, 3", "2, 4", "4, 2"):
        part = text_model("%y = tf.MatrixDiagPart(%x)", f"%x: float32[?, {dims}]")
        assert_lowers(part, ["RESHAPE", "STRIDED_SLICE"])
    flags = text_model("%y = tf.MatrixDiag(%x)", "%x: bool[2, 3]")
    assert_lowers(flags, ["CAST", "MATRIX_DIAG", "CAST"])
    third = scalar("k", 0) + "%p = tf.Const() {value = float32[] 0.0}\n%y = tf.MatrixDiagPartV3(%x, %k, %p)"
    assert_lowers(text_model(third, square), ["RESHAPE", "STRIDED_SLICE"])


PADDING = "%p = tf.Const() {value = float32[] 0.0}\n"


@pytest.mark.tensorflow
@given(st.integers(-2, 2), st.integers(0, 2), st.integers(0, 2), st.sampled_from(["?", "2"]))
def test_other_diagonals(place: int, more_rows: int, more_columns: int, batch: str) -> None:
    held = scalar("k", place) + PADDING
    assert_lowers(text_model(held + "%y = tf.MatrixDiagPartV3(%x, %k, %p)", f"%x: float32[{batch}, 3, 4]"), random=1)
    length = min(3 + min(place, 0), 4 - max(place, 0))
    inputs = f"%x: float32[{batch}, 3, 4], %d: float32[{batch}, {length}]"
    assert_lowers(text_model(held + "%y = tf.MatrixSetDiagV3(%x, %d, %k)", inputs), random=1)
    rows = -1 if more_columns and more_rows else 3 + max(-place, 0) + more_rows
    columns = -1 if rows != -1 and more_rows else 3 + max(place, 0) + more_columns
    held += scalar("r", rows) + scalar("c", columns)
    assert_lowers(text_model(held + "%y = tf.MatrixDiagV3(%x, %k, %r, %c, %p)", f"%x: float32[{batch}, 3]"), random=1)


@pytest.mark.tensorflow
def test_diagonals_of_tensors() -> None:
    assert_lowers(text_model("%y = tf.Diag(%x)", "%x: float32[2, 3]"), ["RESHAPE", "MATRIX_DIAG", "RESHAPE"])


def test_bands_of_diagonals_are_refused() -> None:
    band = "%k = tf.Const() {value = int32[2] [-1, 1]}\n" + PADDING + "%y = tf.MatrixDiagPartV3(%x, %k, %p)"
    with pytest.raises(UnloweredError, match="several diagonals"):
        assert_lowers(text_model(band, "%x: float32[3, 3]"))


@pytest.mark.tensorflow
@pytest.mark.parametrize(("below", "above", "expected"), [(0, -1, ["SELECT_V2"]), (1, 0, ["SELECT_V2"]), (-1, -1, [])])
def test_bands(below: int, above: int, expected: list[str]) -> None:
    body = f"%l = tf.Const() {{value = int64[] {below}}}\n%u = tf.Const() {{value = int64[] {above}}}\n"
    model = text_model(body + "%r = tf.Relu(%x)\n%y = tf.MatrixBandPart(%r, %l, %u)", "%x: float32[?, 3, 4]")
    assert_lowers(model, ["RELU", *expected])


@pytest.mark.tensorflow
@pytest.mark.parametrize(("below", "above"), [(0, -1), (-1, 1), (1, 0)])
def test_bands_of_matrices_of_unknown_size(below: int, above: int) -> None:
    body = f"%l = tf.Const() {{value = int64[] {below}}}\n%u = tf.Const() {{value = int64[] {above}}}\n"
    data = [{"x": np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4)}]
    assert_lowers(text_model(body + "%y = tf.MatrixBandPart(%x, %l, %u)", "%x: float32[?, ?, ?]"), None, data=data)
