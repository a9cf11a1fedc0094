"""Legalisation of functions of single elements, of bits, and of what is composed of several operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("Relu", ["Relu"]),
        ("Tanh", ["Tanh"]),
        ("Square", ["Mul"]),
        ("Relu6", ["Clip"]),
        ("Softplus", ["Softplus"]),
        ("Erfc", ["Erf", "Sub"]),
        ("Expm1", ["Exp", "Sub"]),
        ("Inv", ["Reciprocal"]),
        ("IsFinite", ["IsNaN", "IsInf", "Or", "Not"]),
        ("Rsqrt", ["Sqrt", "Reciprocal"]),
    ],
)
def test_functions_of_one_operand(lowers: Any, op: str, expected: list[str]) -> None:
    lowers(f"%y = tf.{op}(%x)", expected, feeds={"x": np.linspace(0.1, 2, 6, dtype=np.float32).reshape(2, 3)})


@pytest.mark.parametrize(
    "op",
    ["AddV2", "Sub", "Mul", "RealDiv", "Maximum", "SquaredDifference", "Less", "NotEqual", "Atan2", "Xdivy", "DivNoNan",
     "MulNoNan", "FloorDiv", "FloorMod", "SigmoidGrad", "TanhGrad", "ReluGrad"],
)  # fmt: skip
def test_functions_of_two_operands(lowers: Any, op: str) -> None:
    second = "float32[2, 3]" if op.endswith("Grad") else "float32[3]"
    lowers(f"%y = tf.{op}(%x, %z)", inputs=f"%x: float32[?, 3], %z: {second}", tolerance=1e-4)


@settings(max_examples=12)
@given(a=st.integers(-20, 20), b=st.integers(1, 7), op=st.sampled_from(["FloorDiv", "FloorMod", "TruncateDiv", "Mod"]))
def test_integer_division(lowers: Any, a: int, b: int, op: str) -> None:
    feeds = {"x": np.array([a, -a], np.int32), "z": np.array([b, -b], np.int32)}
    lowers(f"%y = tf.{op}(%x, %z)", inputs="%x: int32[2], %z: int32[2]", feeds=feeds)


@settings(max_examples=12)
@given(
    numbers=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=3, max_size=3), places=st.integers(0, 31),
    op=st.sampled_from(["LeftShift", "RightShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"]),
)  # fmt: skip
def test_bits(lowers: Any, numbers: list[int], places: int, op: str) -> None:
    feeds = {"x": np.array(numbers, np.int32), "z": np.full(3, places, np.int32)}
    lowers(f"%y = tf.{op}(%x, %z)", inputs="%x: int32[3], %z: int32[3]", feeds=feeds)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint8", "float16", "float64"])
@pytest.mark.parametrize("op", ["Neg", "Abs", "Relu", "Square"])
def test_types_without_a_kernel_are_widened(lowers: Any, dtype: str, op: str) -> None:
    if dtype == "uint8" and op in ("Neg", "Abs"):
        pytest.skip("TensorFlow has no such kernel")
    feeds = {"x": np.array([-3, 0, 5]).astype(dtype)}
    lowers(f"%y = tf.{op}(%x)", inputs=f"%x: {dtype}[3]", feeds=feeds)


def test_a_condition_of_rows_chooses_rows(lowers: Any) -> None:
    inputs = "%c: bool[2], %x: float32[2, 3], %z: float32[2, 3]"
    lowers(
        "%y = tf.Select(%c, %x, %z)", {"Reshape": 1, "Where": 1}, inputs=inputs, feeds={"c": np.array([True, False])}
    )


@pytest.mark.parametrize("op", ["CheckNumerics", "Snapshot", "PlaceholderWithDefault", "IdentityN", "StopGradient"])
def test_what_only_passes_on_goes(lowers: Any, op: str) -> None:
    attrs = '{message = b""}' if op == "CheckNumerics" else ""
    lowers(f"%p = tf.{op}(%x) {attrs}\n%y = tf.Relu(%p)", ["Relu"])


def test_truth_values_that_differ(lowers: Any) -> None:
    inputs = "%x: bool[3], %z: bool[3]"
    feeds = {"x": np.array([True, False, True]), "z": np.array([True, True, False])}
    lowers("%y = tf.NotEqual(%x, %z)", ["Xor"], inputs=inputs, feeds=feeds)


def test_what_has_no_form_is_named(refuses: Any) -> None:
    refuses("%y = tf.Digamma(%x)", "ONNX has no operator for it")
