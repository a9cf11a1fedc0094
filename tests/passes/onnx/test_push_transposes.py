"""push-transposes: which transposes of ONNX's operators cancel, which stay, and that the same is computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_helpers import build, checked, operators, vector

NAME = "push-transposes"
LAST, FIRST = "{perm = [0, 2, 3, 1]}", "{perm = [0, 3, 1, 2]}"


def between(middle: str, back: str) -> str:
    """`middle` makes %m of %t, with channels last; it is transposed back to the shape `back`."""
    return f"%t = onnx.Transpose(%x) {LAST} : float32[2, 4, 5, 3]\n{middle}\n" + (
        f"%u = onnx.Transpose(%m) {FIRST} : float32[{back}]\n%y = onnx.Neg(%u) : float32[{back}]"
    )


@pytest.mark.parametrize(
    ("middle", "back", "op"),
    [
        ("%m = onnx.Relu(%t) : float32[2, 4, 5, 3]", "2, 3, 4, 5", "Relu"),
        ("%m = onnx.Softmax(%t) {axis = -1} : float32[2, 4, 5, 3]", "2, 3, 4, 5", "Softmax"),
        ("%m = onnx.Concat(%t, %t) {axis = 3} : float32[2, 4, 5, 6]", "2, 6, 4, 5", "Concat"),
        (
            vector("p", [0, 1, 0, 2, 0, 0, 3, 0]) + "%m = onnx.Pad(%t, %p) : float32[2, 5, 8, 5]", "2, 5, 5, 8",
            "Pad",
        ),
        (
            vector("s", [1]) + vector("e", [3]) + vector("a", [1])
            + "%m = onnx.Slice(%t, %s, %e, %a) : float32[2, 2, 5, 3]", "2, 3, 2, 5", "Slice",
        ),
        (
            vector("a", [1, 2]) + "%m = onnx.ReduceMean(%t, %a) {keepdims = 1} : float32[2, 1, 1, 3]", "2, 3, 1, 1",
            "ReduceMean",
        ),
        (vector("r", [1, 2, 1, 3]) + "%m = onnx.Tile(%t, %r) : float32[2, 8, 5, 9]", "2, 9, 8, 5", "Tile"),
    ],
)  # fmt: skip
def test_what_lies_between_is_renumbered(middle: str, back: str, op: str) -> None:
    assert operators(checked(NAME, build(between(middle, back)))) == {op: 1, "Neg": 1}


def test_constants_by_channel_follow() -> None:
    body = "%c = onnx.Initializer() {value = float32[3] [1.0, 2.0, 3.0]} : float32[3]\n"
    model = checked(NAME, build(body + between("%m = onnx.Mul(%t, %c) : float32[2, 4, 5, 3]", "2, 3, 4, 5")))
    assert operators(model) == {"Mul": 1, "Neg": 1}
    (product,) = (node for node in model.graph if node.op_type == "Mul")
    assert product.input(1).shape.static == (1, 3, 1, 1)


def test_weights_take_a_transpose_in() -> None:
    numbers = np.random.default_rng(2).normal(size=(60, 2)).round(2).tolist()
    body = f"%w = onnx.Initializer() {{value = float32[60, 2] {numbers}}} : float32[60, 2]\n" + vector("s", [2, 60])
    body += f"%t = onnx.Transpose(%x) {LAST} : float32[2, 4, 5, 3]\n%f = onnx.Reshape(%t, %s) : float32[2, 60]\n"
    assert operators(checked(NAME, build(body + "%y = onnx.MatMul(%f, %w) : float32[2, 2]"))) == {
        "Reshape": 1,
        "MatMul": 1,
    }


@settings(max_examples=10)
@given(first=st.permutations(range(4)), second=st.permutations(range(4)))
def test_of_two_in_a_row_one_is_left(first: list[int], second: list[int]) -> None:
    dims = [2, 3, 4, 5]
    inner = [dims[axis] for axis in first]
    outer = [inner[axis] for axis in second]
    body = f"%t = onnx.Transpose(%x) {{perm = {list(first)}}} : float32{inner}\n"
    body += f"%u = onnx.Transpose(%t) {{perm = {list(second)}}} : float32{outer}\n%y = onnx.Relu(%u) : float32{outer}"
    assert operators(checked(NAME, build(body))).get("Transpose", 0) <= 1


def test_a_transpose_that_nothing_takes_back_stays() -> None:
    body = f"%t = onnx.Transpose(%x) {LAST} : float32[2, 4, 5, 3]\n%y = onnx.Relu(%t) : float32[2, 4, 5, 3]"
    assert operators(checked(NAME, build(body))) == {"Transpose": 1, "Relu": 1}
