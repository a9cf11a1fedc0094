"""Diagonals of every kind, against the operator table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=5)
@given(st.data())
def test_any_diagonals(agrees: Callable[..., Any], data: st.DataObject) -> None:
    """Taken out, aligned to either side, put back in, and made a matrix of."""
    rows, columns = data.draw(st.integers(2, 4)), data.draw(st.integers(2, 4))
    low = data.draw(st.integers(1 - rows, columns - 1))
    high = data.draw(st.integers(low, columns - 1))
    align = data.draw(st.sampled_from(("LEFT_RIGHT", "RIGHT_LEFT", "LEFT_LEFT", "RIGHT_RIGHT")))
    body = (
        f"%k = tf.Const() {{value = int32[2] [{low}, {high}]}}\n%p = tf.Const() {{value = float32[] -9.0}}\n"
        f'%d = tf.MatrixDiagPartV3(%x, %k, %p) {{align = "{align}"}}\n'
        f'%s = tf.MatrixSetDiagV3(%x, %d, %k) {{align = "{align}"}}\n'
        f"%r = tf.Const() {{value = int32[] {rows}}}\n%c = tf.Const() {{value = int32[] {columns}}}\n"
        f'%m = tf.MatrixDiagV3(%d, %k, %r, %c, %p) {{align = "{align}"}}'
    )
    agrees(body, f"%x: float32[2, {rows}, {columns}]", "%d, %s, %m")


@pytest.mark.parametrize("shape", ["3, 3", "2, 3, 5", "4, 2"])
def test_main_diagonals_and_bands(agrees: Callable[..., Any], shape: str) -> None:
    body = (
        "%l = tf.Const() {value = int64[] 1}\n%u = tf.Const() {value = int64[] -1}\n"
        "%y = tf.MatrixBandPart(%x, %l, %u)\n%d = tf.MatrixDiagPart(%x)\n%m = tf.MatrixDiag(%d)\n"
        "%s = tf.MatrixSetDiag(%x, %d)"
    )
    agrees(body, f"%x: float32[{shape}]", "%y, %d, %m, %s")


def test_diagonals_of_tensors(agrees: Callable[..., Any]) -> None:
    agrees("%d = tf.Diag(%x)\n%y = tf.DiagPart(%d)", "%x: float32[2, 3]", "%d, %y")


def test_bands_of_any_number_of_matrices(operations: Callable[..., dict[str, int]]) -> None:
    body = "%l = tf.Const() {value = int64[] 1}\n%y = tf.MatrixBandPart(%x, %l, %l)"
    assert operations(body, "%x: float32[?, 3, 3]")["select"] == 1


def test_unknown_bands_are_refused(refusal: Callable[..., Any]) -> None:
    body = "%p = tf.Const() {value = float32[] 0.0}\n%y = tf.MatrixDiagPartV3(%x, %k, %p)"
    finding = refusal(body, "%x: float32[3, 3], %k: int32[]")
    assert finding.node == "y"
    assert finding.remedy
