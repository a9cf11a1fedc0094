"""Legalisation of diagonals, triangles and bands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("inputs", ["%x: float32[3]", "%x: float32[?, 3]", "%x: float32[2, ?]"])
def test_vectors_on_diagonals(lowers: Any, inputs: str) -> None:
    lowers("%y = tf.MatrixDiag(%x)", inputs=inputs)


@settings(max_examples=12)
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), batch=st.booleans())
def test_main_diagonals(lowers: Any, rows: int, columns: int, batch: bool) -> None:
    lead = "?, " if batch else ""
    lowers("%y = tf.MatrixDiagPart(%x)", inputs=f"%x: float32[{lead}{rows}, {columns}]")
    size = min(rows, columns)
    inputs = f"%x: float32[{lead}{rows}, {columns}], %d: float32[{lead}{size}]"
    lowers("%y = tf.MatrixSetDiag(%x, %d)", inputs=inputs)


@settings(max_examples=12)
@given(rows=st.integers(2, 4), columns=st.integers(2, 4), low=st.integers(-1, 1), width=st.integers(0, 1),
       align=st.sampled_from(["LEFT_RIGHT", "RIGHT_LEFT", "LEFT_LEFT", "RIGHT_RIGHT"]))  # fmt: skip
def test_other_diagonals(lowers: Any, constant: Any, rows: int, columns: int, low: int, width: int, align: str) -> None:
    high = min(low + width, 1)
    body = constant("k", [low, high]) + constant("p", 7.0)
    body += f'%y = tf.MatrixDiagPartV3(%x, %k, %p) {{align = b"{align}"}}'
    lowers(body, inputs=f"%x: float32[2, {rows}, {columns}]")


@settings(max_examples=12)
@given(lower=st.integers(-1, 3), upper=st.integers(-1, 3))
def test_bands(lowers: Any, constant: Any, lower: int, upper: int) -> None:
    body = constant("l", lower) + constant("u", upper) + "%b = tf.MatrixBandPart(%x, %l, %u)\n%y = tf.Relu(%b)"
    lowers(body, inputs="%x: float32[?, 3, 4]")


def test_a_determinant(lowers: Any) -> None:
    lowers("%y = tf.MatrixDeterminant(%x)", ["Det"], inputs="%x: float32[2, 3, 3]", tolerance=1e-4)


def test_sizes_that_are_not_known_are_refused(refuses: Any) -> None:
    refuses("%y = tf.MatrixDiagPart(%x)", "size of its matrices is not known", "%x: float32[?, ?]")
