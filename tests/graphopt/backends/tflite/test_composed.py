"""Legalisation of functions that LiteRT has no kernel for."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, operators, text_model

ANYWHERE = ("Softplus", "Softsign", "Selu", "Expm1", "Erf", "Erfc", "Tan", "Atan", "Sinh", "Cosh", "Asinh")
BETWEEN_ZERO_AND_ONE = ("Log1p", "Reciprocal", "Inv", "Asin", "Acos", "Atanh")
POINTS = np.float32([[-90, -4, -1.5, -1e-4, 0], [1e-5, 0.5, 1.25, 3, 60]])


@pytest.mark.tensorflow
@pytest.mark.parametrize("op", ANYWHERE)
def test_functions_of_any_number(op: str) -> None:
    points = POINTS if op not in ("Sinh", "Cosh", "Expm1") else np.clip(POINTS, -9, 9)
    model = text_model(f"%y = tf.{op}(%x)", "%x: float32[?, 5]")
    assert_lowers(model, None, data=[{"x": points}], rtol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("op", BETWEEN_ZERO_AND_ONE)
def test_functions_of_numbers_between_zero_and_one(op: str) -> None:
    data = [{"x": np.linspace(0.05, 0.95, 10, dtype=np.float32)}]
    assert_lowers(text_model(f"%y = tf.{op}(%x)", "%x: float32[10]"), None, data=data, rtol=1e-5)


@pytest.mark.tensorflow
def test_logarithms_of_the_gamma_function() -> None:
    data = [{"x": np.float32([-3.3, -1.5, -0.2, 0.1, 0.5, 1, 2, 3.7, 20, 90])}]
    assert_lowers(text_model("%y = tf.Lgamma(%x)", "%x: float32[10]"), None, data=data, rtol=1e-5)


@pytest.mark.tensorflow
def test_small_numbers_keep_their_precision() -> None:
    data = [{"x": np.linspace(-1e-4, 1e-4, 10, dtype=np.float32)}]
    assert_lowers(text_model("%y = tf.Expm1(%x)", "%x: float32[10]"), None, data=data, rtol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("op", ["Lgamma", "Asinh", "Softplus"])
def test_half_precision_is_rounded_once(op: str) -> None:
    data = [{"x": np.linspace(0.1, 6, 20).astype(np.float16)}]
    lowered = assert_lowers(text_model(f"%y = tf.{op}(%x)", "%x: float16[20]"), None, data=data, rtol=1e-3)
    assert operators(lowered.model)["CAST"] == 2


@pytest.mark.parametrize("op", ["IsNan", "IsInf", "IsFinite"])
def test_kinds_of_numbers(op: str) -> None:
    data = [{"x": np.float32([1, np.nan, np.inf, -np.inf, 0])}]
    expected = {"IsNan": ["NOT_EQUAL"], "IsInf": ["ABS", "EQUAL"], "IsFinite": ["ABS", "LESS"]}[op]
    assert_lowers(text_model(f"%y = tf.{op}(%x)", "%x: float32[5]"), expected, data=data, reference="reference")


@pytest.mark.tensorflow
@pytest.mark.parametrize("op", ["DivNoNan", "MulNoNan", "Xdivy", "Xlogy", "Xlog1py", "Mod", "TruncateMod", "FloorMod"])
def test_functions_of_two_operands(op: str) -> None:
    x, y = np.float32([0, 1, -2, 3.5, -7]), np.float32([2, 3, 1.5, 2, 4])
    if op.endswith("NoNan"):
        y[1] = 0
        x[1] = np.inf if op == "MulNoNan" else 1
    model = text_model(f"%y = tf.{op}(%a, %b)", "%a: float32[5], %b: float32[5]")
    assert_lowers(model, None, data=[{"a": x, "b": y}], rtol=1e-5)


def test_remainders_of_integers() -> None:
    data = [{"a": np.int32([7, -7, 7, -7]), "b": np.int32([3, 3, -3, -3])}]
    model = text_model("%y = tf.TruncateMod(%a, %b)", "%a: int32[4], %b: int32[4]")
    assert_lowers(model, ["DIV", "MUL", "SUB"], data=data, reference="reference")


@pytest.mark.tensorflow
def test_gradients() -> None:
    for op in ("ReluGrad", "Relu6Grad", "SigmoidGrad", "TanhGrad"):
        assert_lowers(text_model(f"%y = tf.{op}(%a, %b)", "%a: float32[2, 9], %b: float32[2, 9]"), None, rtol=1e-5)


def test_equality_within_a_tolerance() -> None:
    model = text_model("%y = tf.ApproximateEqual(%a, %b) {tolerance = 0.5}", "%a: float32[9], %b: float32[9]")
    assert_lowers(model, ["SUB", "ABS", "LESS"], reference="reference")


def test_what_could_only_be_computed_with_less_precision_is_refused() -> None:
    """As the operator that it is, so that it can be a Flex operator whole."""
    for op in ("Softplus(%x)", "Xlogy(%x, %x)", "DivNoNan(%x, %x)", "SigmoidGrad(%x, %x)"):
        model = text_model(f"%y = tf.{op}", "%x: float64[2]")
        with pytest.raises(UnloweredError, match=rf"tf\.{op.partition('(')[0]}\): .*float64; build it in float32"):
            assert_lowers(model)
        assert list(operators(assert_lowers(model, reference=None, allow_flex=True).model)) == ["CUSTOM"]


@pytest.mark.tensorflow
def test_cross_products() -> None:
    model = text_model("%y = tf.Cross(%a, %b)", "%a: float32[?, 2, 3], %b: float32[?, 2, 3]")
    assert_lowers(model, {"UNPACK": 2, "MUL": 6, "SUB": 3, "PACK": 1})
