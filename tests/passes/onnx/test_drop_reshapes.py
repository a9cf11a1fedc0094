"""drop-reshapes: which reshapes go, which stay, and that the same is computed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from onnx_helpers import build, checked, operators, vector

NAME = "drop-reshapes"


def dense(first: str = "6, 4", back: str = "2, 3, 5", made: str = "2, 3, 5") -> str:
    rows = [int(n) for n in first.split(", ")]
    body = "%w = onnx.Initializer() {value = float32[4, 5] repeat [0.5, -1.0, 0.25]} : float32[4, 5]\n"
    body += vector("two", rows) + vector("three", [int(n) for n in back.split(", ")])
    body += f"%r = onnx.Reshape(%x, %two) : float32[{first}]\n%p = onnx.MatMul(%r, %w) : float32[{rows[0]}, 5]\n"
    return body + f"%y = onnx.Reshape(%p, %three) : float32[{made}]"


def test_a_product_takes_all_axes() -> None:
    assert operators(checked(NAME, build(dense(), "float32[2, 3, 4]"))) == {"MatMul": 1}


def test_a_product_that_comes_back_otherwise_keeps_its_reshapes() -> None:
    model = checked(NAME, build(dense(back="3, 2, 5", made="3, 2, 5"), "float32[2, 3, 4]"))
    assert operators(model) == {"Reshape": 2, "MatMul": 1}


def test_a_reduction_keeps_its_axes() -> None:
    body = vector("axes", [2, 3]) + vector("s", [2, 3, 1, 1])
    body += "%m = onnx.ReduceMean(%x, %axes) {keepdims = 0} : float32[2, 3]\n"
    body += "%y = onnx.Reshape(%m, %s) : float32[2, 3, 1, 1]"
    model = checked(NAME, build(body, "float32[2, 3, 4, 4]"))
    assert operators(model) == {"ReduceMean": 1}
    assert model.graph.node("y").attrs["keepdims"] == 1


@given(order=st.permutations(range(4)))
def test_transposes_of_ones_are_reshapes(order: list[int]) -> None:
    dims = [2, 1, 3, 1]
    made = [dims[axis] for axis in order]
    body = f"%y = onnx.Transpose(%x) {{perm = {list(order)}}} : float32{made}"
    model = checked(NAME, build(body, f"float32{dims}"))
    kept = [axis for axis in order if dims[axis] != 1]
    assert operators(model) == {"Reshape" if kept == sorted(kept) else "Transpose": 1}


def test_of_two_reshapes_one_is_left() -> None:
    body = vector("a", [6, 4]) + vector("b", [3, 8])
    body += "%r = onnx.Reshape(%x, %a) : float32[6, 4]\n%y = onnx.Reshape(%r, %b) : float32[3, 8]"
    assert operators(checked(NAME, build(body, "float32[2, 3, 4]"))) == {"Reshape": 1}


def test_shapes_that_cannot_be_written_down_stay() -> None:
    body = "%s = onnx.Shape(%x) : int64[3]\n%r = onnx.Flatten(%x) : float32[?, ?]\n"
    body += "%y = onnx.Reshape(%r, %s) : float32[?, ?, 4]"
    assert operators(checked(NAME, build(body, "float32[?, ?, 4]"))) == {"Shape": 1, "Flatten": 1, "Reshape": 1}
