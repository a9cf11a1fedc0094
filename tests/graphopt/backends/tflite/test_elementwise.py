"""Legalisation of operators that compute each element by itself."""

from __future__ import annotations

import pytest

from graphopt.testing.lowering import assert_lowers, text_model

UNARY = {"Relu": "RELU", "Tanh": "TANH", "Abs": "ABS"}


@pytest.mark.parametrize("op", UNARY)
def test_functions_of_one_operand(op: str) -> None:
    model = text_model(f"%y = tf.{op}(%x)", "%x: float32[2, 3]")
    assert_lowers(model, [UNARY[op]], reference="reference")
