"""Legalisation of diagonals and bands."""

from __future__ import annotations

import numpy as np
import pytest

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
    other = scalar("k", 1) + "%p = tf.Const() {value = float32[] 0.0}\n%y = tf.MatrixDiagPartV3(%x, %k, %p)"
    with pytest.raises(UnloweredError, match="other diagonals"):
        assert_lowers(text_model(other, square))


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
