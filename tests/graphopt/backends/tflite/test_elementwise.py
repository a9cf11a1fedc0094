"""Legalisation of operators that compute each element by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model

UNARY = {
    "Abs": "ABS", "Ceil": "CEIL", "Cos": "COS", "Elu": "ELU", "Exp": "EXP", "Floor": "FLOOR", "Neg": "NEG",
    "Relu": "RELU", "Relu6": "RELU6", "Rint": "ROUND", "Round": "ROUND", "Sigmoid": "LOGISTIC", "Sign": "SIGN",
    "Sin": "SIN", "Square": "SQUARE", "Tanh": "TANH",
}  # fmt: skip
ARITHMETIC = {
    "AddV2": "ADD", "Sub": "SUB", "Mul": "MUL", "RealDiv": "DIV", "Maximum": "MAXIMUM", "Minimum": "MINIMUM",
    "FloorDiv": "FLOOR_DIV", "FloorMod": "FLOOR_MOD", "SquaredDifference": "SQUARED_DIFFERENCE",
}  # fmt: skip
COMPARISONS = {
    "Equal": "EQUAL", "NotEqual": "NOT_EQUAL", "Less": "LESS", "LessEqual": "LESS_EQUAL", "Greater": "GREATER",
    "GreaterEqual": "GREATER_EQUAL",
}  # fmt: skip


@pytest.mark.parametrize("op", UNARY)
def test_functions_of_one_operand(op: str) -> None:
    model = text_model(f"%y = tf.{op}(%x)", "%x: float32[?, 3]")
    assert_lowers(model, [UNARY[op]], reference="reference")


@pytest.mark.parametrize(("op", "kernel"), [("Log", "LOG"), ("Sqrt", "SQRT"), ("Rsqrt", "RSQRT")])
def test_functions_of_positive_numbers(op: str, kernel: str) -> None:
    model = text_model(f"%a = tf.Square(%x)\n%y = tf.{op}(%a)", "%x: float32[2, 3]")
    assert_lowers(model, ["SQUARE", kernel], reference="reference")


@pytest.mark.parametrize("op", ["Abs", "Relu", "Tanh", "Exp", "Neg"])
def test_half_precision_is_computed_in_float32_where_there_is_no_kernel(op: str) -> None:
    model = text_model(f"%y = tf.{op}(%x)", "%x: float16[2, 3]")
    own = [{"Tanh": "TANH", "Neg": "NEG"}[op]] if op in ("Tanh", "Neg") else ["CAST", op.upper(), "CAST"]
    assert_lowers(model, own, reference="reference", rtol=None)


@pytest.mark.parametrize(
    ("dtype", "op", "expected"),
    [
        ("int8", "Neg", ["NEG"]),
        ("int8", "Abs", ["CAST", "ABS", "CAST"]),
        ("int64", "Abs", ["NEG", "MAXIMUM"]),
        ("uint8", "Relu", ["MAXIMUM"]),
        ("int32", "Relu6", ["MAXIMUM", "MINIMUM"]),
        ("int32", "Square", ["MUL"]),
        ("int64", "Sign", ["GREATER", "LESS", "CAST", "CAST", "SUB"]),
    ],
)
def test_integers(dtype: str, op: str, expected: list[str]) -> None:
    assert_lowers(text_model(f"%y = tf.{op}(%x)", f"%x: {dtype}[2, 3]"), expected, reference="reference")


@pytest.mark.parametrize("op", ARITHMETIC)
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_arithmetic_broadcasts(op: str, dtype: str) -> None:
    if (op, dtype) == ("RealDiv", "int32"):
        op = "TruncateDiv"
    inputs = f"%a: {dtype}[?, 3], %b: {dtype}[2, 1]"
    kernel = "DIV" if op == "TruncateDiv" else ARITHMETIC[op]
    nonzero = np.array([[3], [-2]], dtype)
    data = [{"a": np.array([[5, -7, 2], [1, 8, -9]], dtype), "b": nonzero}]
    assert_lowers(text_model(f"%y = tf.{op}(%a, %b)", inputs), [kernel], data=data, reference="reference")


@given(st.data())
def test_broadcasting_in_all_ranks(data: st.DataObject) -> None:
    """Up to eight dimensions, any of them stretched on either side."""
    op = data.draw(st.sampled_from(("AddV2", "Mul", "Maximum", "Less", "SquaredDifference", "FloorMod")))
    shape = data.draw(st.lists(st.integers(1, 3), max_size=8))
    sides = []
    for side in "ab":
        dims = [data.draw(st.sampled_from((1, dim))) for dim in shape[data.draw(st.integers(0, len(shape))) :]]
        sides.append(f"%{side}: float32{dims}")
    model = text_model(f"%y = tf.{op}(%a, %b)", ", ".join(sides))
    kernels = {"AddV2": "ADD", "SquaredDifference": "SQUARED_DIFFERENCE", "FloorMod": "FLOOR_MOD"}
    assert_lowers(model, [kernels.get(op, op.upper())], reference="reference", random=1)


def test_more_dimensions_than_are_stretched_are_joined() -> None:
    inputs = "%a: float32[2, 3, 1, 1, 2, 2, 1, 2, 3, 2], %b: float32[2, 2, 2, 2, 1, 2, 1, 2]"
    for op, kernel in (("AddV2", "ADD"), ("Less", "LESS")):
        lowered = assert_lowers(text_model(f"%y = tf.{op}(%a, %b)", inputs), None, reference="reference")
        assert next(node for node in lowered.model.graph if node.op_type == kernel).output.shape.rank == 5
    alternating = f"%a: float32{[2, 1] * 4 + [2]}, %b: float32{[1, 2] * 4 + [1]}"
    with pytest.raises(UnloweredError, match="9 dimensions in different ways"):
        assert_lowers(text_model("%y = tf.AddV2(%a, %b)", alternating))


@pytest.mark.parametrize("op", COMPARISONS)
@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
def test_comparisons(op: str, dtype: str) -> None:
    casts = ["CAST", "CAST"] if dtype == "uint8" else []
    model = text_model(f"%y = tf.{op}(%a, %b)", f"%a: {dtype}[2, 3], %b: {dtype}[3]")
    assert_lowers(model, [COMPARISONS[op], *casts], reference="reference")


@pytest.mark.parametrize(("op", "kernel"), [("LogicalAnd", "LOGICAL_AND"), ("LogicalOr", "LOGICAL_OR")])
def test_logic(op: str, kernel: str) -> None:
    body = f"%b = tf.Less(%x, %z)\n%c = tf.Greater(%x, %w)\n%d = tf.{op}(%b, %c)\n%y = tf.LogicalNot(%d)"
    model = text_model(body, "%x: float32[?, 3], %z: float32[3], %w: float32[3]")
    assert_lowers(model, ["LESS", "GREATER", kernel, "LOGICAL_NOT"], reference="reference")


def test_biases() -> None:
    last = text_model("%y = tf.BiasAdd(%x, %b)", "%x: float32[?, 4, 4, 3], %b: float32[3]")
    assert_lowers(last, ["ADD"], reference="reference")
    body = '%y = tf.BiasAdd(%x, %b) {data_format = b"NCHW"}'
    assert_lowers(text_model(body, "%x: float32[?, 3, 4, 4], %b: float32[3]"), None, reference="reference")


def test_quotients_that_are_cut_off() -> None:
    model = text_model("%y = tf.TruncateDiv(%a, %b)", "%a: float32[2, 9], %b: float32[9]")
    data = [{"a": np.linspace(-9, 9, 18, dtype=np.float32).reshape(2, 9), "b": np.full(9, 2.5, np.float32)}]
    assert_lowers(model, ["DIV", "ABS", "FLOOR", "SIGN", "MUL"], data=data, reference="reference")


@pytest.mark.parametrize(
    ("dtype", "count", "expected"),
    [("float32", 3, ["ADD_N"]), ("int64", 3, ["ADD", "ADD"]), ("float32", 2, ["ADD"])],
)
def test_sums_of_many(dtype: str, count: int, expected: list[str]) -> None:
    names = ["%a", "%b", "%c"][:count]
    inputs = ", ".join(f"{name}: {dtype}[?, 2]" for name in names)
    model = text_model(f"%y = tf.AddN({', '.join(names)}) {{N = {count}}}", inputs)
    assert_lowers(model, expected, reference="reference")


@pytest.mark.parametrize("source", ["float32", "int32", "bool", "uint8", "float16", "int64"])
@pytest.mark.parametrize("target", ["float32", "int32", "bool", "uint8", "float64", "int64"])
def test_casts(source: str, target: str) -> None:
    if source == target:
        return
    body = f"%y = tf.Cast(%x) {{SrcT = {source}, DstT = {target}}}"
    data = [{"x": np.array([[0, 1, 3]] * 2, source)}]
    assert_lowers(text_model(body, f"%x: {source}[2, 3]"), ["CAST"], data=data, reference="reference")


def test_what_lite_has_no_kernel_for_is_refused_with_a_remedy() -> None:
    with pytest.raises(UnloweredError, match=r"float64.*build it in float32"):
        assert_lowers(text_model("%y = tf.AddV2(%x, %x)", "%x: float64[2]"))
    with pytest.raises(UnloweredError, match="int64"):
        assert_lowers(text_model("%y = tf.FloorDiv(%x, %x)", "%x: int64[2]"))


def test_quotients_of_sizes() -> None:
    body = """
        %s = tf.Shape(%x) {out_type = int64}
        %two = tf.Const() {value = int64[] 2}
        %y = tf.FloorDiv(%s, %two)
    """
    model = text_model(body, "%x: float32[?, ?, 8]")
    data = [{"x": np.zeros((3, 5, 8), np.float32)}]
    assert_lowers(model, ["SHAPE", "CAST", "FLOOR_DIV", "CAST"], data=data, reference="reference")


@pytest.mark.parametrize(
    ("dims", "expected"), [("[2, 3]", ["BROADCAST_TO"]), ("[?, 3]", ["ZEROS_LIKE", "ADD", "FILL", "MUL", "MUL"])]
)
def test_angles_of_different_shapes(dims: str, expected: list[str]) -> None:
    model = text_model("%y = tf.Atan2(%a, %b)", f"%a: float32{dims}, %b: float32[3]")
    assert_lowers(model, [*expected, "ATAN2"], reference="reference")
