"""Legalisation of matrix products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model

WEIGHTS = "%w = tf.Const() {value = float32[3, 2] [[1.0, 2.0], [3.0, -4.0], [5.0, 0.5]]}\n"


def test_weights_make_a_fully_connected_layer() -> None:
    model = text_model(WEIGHTS + "%y = tf.MatMul(%x, %w)", "%x: float32[?, 3]")
    lowered = assert_lowers(
        model, ["FULLY_CONNECTED"], reference="reference", data={"x": np.ones((1, 4, 3), np.float32)}
    )
    (layer,) = (node for node in lowered.model.graph if node.op == "tfl.FULLY_CONNECTED")
    assert layer.input(1).shape.static == (2, 3)
    assert layer.attrs["keep_num_dims"] is False


def test_a_transposed_operand_is_transposed_first() -> None:
    model = text_model(WEIGHTS + "%y = tf.MatMul(%x, %w) {transpose_a = true}", "%x: float32[3, 5]")
    assert_lowers(model, ["TRANSPOSE", "FULLY_CONNECTED"], reference="reference")


@pytest.mark.parametrize("flipped", [False, True])
def test_two_computed_matrices(flipped: bool) -> None:
    text = f"%y = tf.MatMul(%x, %z) {{transpose_b = {str(flipped).lower()}}}"
    model = text_model(text, f"%x: float32[4, 3], %z: float32[{'5, 3' if flipped else '3, 5'}]")
    assert_lowers(model, ["BATCH_MATMUL"], reference="reference")


def test_one_matrix_of_weights_for_a_batch_keeps_the_axes() -> None:
    model = text_model(WEIGHTS + "%y = tf.BatchMatMulV2(%x, %w)", "%x: float32[2, ?, 3]")
    data = {"x": np.arange(24, dtype=np.float32).reshape(1, 2, 4, 3)}
    lowered = assert_lowers(model, ["FULLY_CONNECTED"], reference="reference", data=data)
    (layer,) = (node for node in lowered.model.graph if node.op == "tfl.FULLY_CONNECTED")
    assert layer.attrs["keep_num_dims"] is True


def test_more_axes_than_litert_takes_are_joined() -> None:
    model = text_model("%y = tf.BatchMatMulV2(%x, %z)", "%x: float32[2, 1, 2, 3, 4, 5], %z: float32[2, 1, 2, 3, 5, 2]")
    assert_lowers(model, ["RESHAPE", "RESHAPE", "BATCH_MATMUL", "RESHAPE"], reference="reference")


def test_more_axes_that_broadcast_are_refused() -> None:
    model = text_model("%y = tf.BatchMatMulV2(%x, %z)", "%x: float32[2, 1, 2, 3, 4, 5], %z: float32[1, 1, 2, 3, 5, 2]")
    with pytest.raises(UnloweredError, match="6 dimensions, of which LiteRT takes 5"):
        assert_lowers(model, reference=None)


def test_integers_are_multiplied_and_summed() -> None:
    model = text_model("%y = tf.MatMul(%x, %z)", "%x: int32[4, 3], %z: int32[3, 5]")
    assert_lowers(model, ["EXPAND_DIMS", "MUL", "SUM"], reference="reference")


def test_double_precision_is_refused() -> None:
    model = text_model("%y = tf.MatMul(%x, %z)", "%x: float64[4, 3], %z: float64[3, 5]")
    with pytest.raises(UnloweredError, match="float64"):
        assert_lowers(model, reference=None)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_batch(data: st.DataObject) -> None:
    size = st.integers(1, 4)
    rows, inner, columns = data.draw(size), data.draw(size), data.draw(size)
    batch = data.draw(st.lists(size, max_size=2))
    ones = [data.draw(st.sampled_from([dim, 1])) for dim in batch]
    adj_x, adj_y = data.draw(st.booleans()), data.draw(st.booleans())
    left = [*batch, *((inner, rows) if adj_x else (rows, inner))]
    right = [*ones[data.draw(st.integers(0, len(ones))) :], *((columns, inner) if adj_y else (inner, columns))]
    flags = f"{{adj_x = {str(adj_x).lower()}, adj_y = {str(adj_y).lower()}}}"
    model = text_model(f"%y = tf.BatchMatMulV2(%x, %z) {flags}", f"%x: float32{left}, %z: float32{right}")
    assert_lowers(model, reference="reference")
