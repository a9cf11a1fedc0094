"""Operators that compute each element by itself, compared with NumPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.testing.lowering import assert_lowers, text_model

FLOATS = (
    "Abs", "Acos", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Erfc", "Exp", "Expm1", "Floor",
    "Neg", "Reciprocal", "Relu", "Relu6", "Elu", "Selu", "Softplus", "Softsign", "Sigmoid", "Sign", "Sin", "Sinh",
    "Square", "Tan", "Tanh", "Rint", "Round", "IsNan", "IsInf", "IsFinite", "ZerosLike", "OnesLike", "LeakyRelu",
)  # fmt: skip
POSITIVE = ("Log", "Log1p", "Rsqrt", "Sqrt", "Acosh", "Lgamma", "Digamma")
BINARY = (
    "AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "SquaredDifference", "Atan2", "FloorMod", "FloorDiv",
    "DivNoNan", "Less", "LessEqual", "Greater", "GreaterEqual", "Equal", "NotEqual", "MulNoNan", "Xdivy",
)  # fmt: skip
INTEGERS = (
    "AddV2", "Sub", "Mul", "Maximum", "Minimum", "FloorMod", "FloorDiv", "TruncateDiv", "TruncateMod", "Less", "Equal",
    "BitwiseAnd", "BitwiseOr", "BitwiseXor",
)  # fmt: skip


def many(ops: tuple[str, ...], operands: str) -> tuple[str, str]:
    """Nodes, one for each operator, and their names."""
    body = "\n".join(f"%y{place} = tf.{op}({operands})" for place, op in enumerate(ops))
    return body, ", ".join(f"%y{place}" for place in range(len(ops)))


def test_functions_of_one_operand() -> None:
    body, outputs = many(FLOATS, "%x")
    data = {"x": np.array([[[-0.9, -0.5, -0.1], [0.1, 0.5, 0.9]]], np.float32)}
    assert_lowers(text_model(body, outputs=outputs), target="xla", reference="reference", data=data, fallback=False)


def test_functions_of_positive_numbers() -> None:
    body, outputs = many(POSITIVE, "%x")
    data = {"x": np.array([[[1.0, 1.5, 2.0], [3.0, 7.5, 20.0]]], np.float32)}
    assert_lowers(text_model(body, outputs=outputs), target="xla", reference="reference", data=data, fallback=False)


def test_functions_of_two_operands_broadcast() -> None:
    body, outputs = many(BINARY, "%x, %z")
    model = text_model(body, "%x: float32[2, 3], %z: float32[3]", outputs)
    data = {
        "x": np.array([[[-7.5, 0.0, 3.25], [2.0, -0.5, 9.0]]], np.float32),
        "z": np.array([[2.0, -3.0, 3.25]], np.float32),
    }
    assert_lowers(model, target="xla", reference="reference", data=data, fallback=False)


def test_integers_are_divided_as_tensorflow_divides_them() -> None:
    body, outputs = many(INTEGERS, "%x, %z")
    model = text_model(body, "%x: int32[6], %z: int32[6]", outputs)
    data = {"x": np.array([[-7, 7, -7, 7, 0, 6]], np.int32), "z": np.array([[2, -2, -2, 2, 5, 3]], np.int32)}
    assert_lowers(model, target="xla", reference="reference", data=data, fallback=False)


def test_selection_and_casts() -> None:
    body = (
        "%zero = tf.Const() {value = float32[] 0.0}\n%c = tf.Greater(%x, %zero)\n%a = tf.SelectV2(%c, %x, %zero)\n"
        "%i = tf.Cast(%x) {DstT = int64}\n%b = tf.Cast(%x) {DstT = bool}\n%h = tf.Cast(%x) {DstT = float16}\n"
        "%w = tf.BiasAdd(%x, %v)\n%n = tf.AddN(%x, %x, %w)"
    )
    model = text_model(body, "%x: float32[2, 3], %v: float32[3]", "%a, %i, %b, %h, %w, %n")
    assert_lowers(model, target="xla", reference="reference", fallback=False)


@settings(max_examples=8)
@given(st.data())
def test_any_shapes_that_broadcast(data: st.DataObject) -> None:
    """Dimensions of one, missing ones, and scalars."""
    full = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    shapes = []
    for _ in range(2):
        kept = full[data.draw(st.integers(0, len(full))) :]
        shapes.append([data.draw(st.sampled_from((dim, 1))) for dim in kept])
    op = data.draw(st.sampled_from(("AddV2", "Mul", "Maximum", "Less")))
    left, right = (", ".join(map(str, shape)) for shape in shapes)
    model = text_model(f"%y = tf.{op}(%x, %z)", f"%x: float32[{left}], %z: float32[{right}]")
    assert_lowers(model, target="xla", reference="reference", random=1, fallback=False)
