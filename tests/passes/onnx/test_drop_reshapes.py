"""drop-reshapes: which reshapes go, which stay, and that the same is computed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.model import Model
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass

NAME = "drop-reshapes"


def shape(name: str, dims: list[int]) -> str:
    return f"%{name} = onnx.Initializer() {{value = int64[{len(dims)}] {dims}}} : int64[{len(dims)}]\n"


def build(body: str, x: str) -> Model:
    model = parse_model(f"graph @main(%x: {x}) -> (%y) {{\n%x = onnx.Input() : {x}\n{body}\n}}")
    model.format = "onnx"
    model.set_signature({"x": model.graph.inputs[0]}, {"y": model.graph.outputs[0]})
    return model


def operators(model: Model) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph if node.op_type not in ("Input", "Initializer")))


def checked(model: Model) -> Model:
    """The model after the pass, which computes the same in ONNX Runtime, and has nothing left to do."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle: pip install 'graphopt[tensorrt]'")
    from graphopt.runtimes.onnxruntime import OnnxRuntime

    dims = [dim if isinstance(dim, int) else 2 for dim in model.graph.inputs[0].shape.dims or ()]
    feeds = {"x": np.random.default_rng(0).normal(size=dims).astype(np.float32)}
    before = OnnxRuntime().run(model, feeds)["y"]
    run_pass(model, NAME)
    verify(model)
    np.testing.assert_allclose(OnnxRuntime().run(model, feeds)["y"], before, rtol=1e-5, atol=1e-6)
    text = print_model(model)
    run_pass(model, NAME)
    assert print_model(model) == text
    return model


def dense(first: str = "6, 4", back: str = "2, 3, 5", made: str = "2, 3, 5") -> str:
    rows = [int(n) for n in first.split(", ")]
    body = "%w = onnx.Initializer() {value = float32[4, 5] repeat [0.5, -1.0, 0.25]} : float32[4, 5]\n"
    body += shape("two", rows) + shape("three", [int(n) for n in back.split(", ")])
    body += f"%r = onnx.Reshape(%x, %two) : float32[{first}]\n%p = onnx.MatMul(%r, %w) : float32[{rows[0]}, 5]\n"
    return body + f"%y = onnx.Reshape(%p, %three) : float32[{made}]"


def test_a_product_takes_all_axes() -> None:
    assert operators(checked(build(dense(), "float32[2, 3, 4]"))) == {"MatMul": 1}


def test_a_product_that_comes_back_otherwise_keeps_its_reshapes() -> None:
    model = checked(build(dense(back="3, 2, 5", made="3, 2, 5"), "float32[2, 3, 4]"))
    assert operators(model) == {"Reshape": 2, "MatMul": 1}


def test_a_reduction_keeps_its_axes() -> None:
    body = shape("axes", [2, 3]) + shape("s", [2, 3, 1, 1])
    body += "%m = onnx.ReduceMean(%x, %axes) {keepdims = 0} : float32[2, 3]\n"
    body += "%y = onnx.Reshape(%m, %s) : float32[2, 3, 1, 1]"
    model = checked(build(body, "float32[2, 3, 4, 4]"))
    assert operators(model) == {"ReduceMean": 1}
    assert model.graph.node("y").attrs["keepdims"] == 1


@given(order=st.permutations(range(4)))
def test_transposes_of_ones_are_reshapes(order: list[int]) -> None:
    dims = [2, 1, 3, 1]
    made = [dims[axis] for axis in order]
    body = f"%y = onnx.Transpose(%x) {{perm = {list(order)}}} : float32{made}"
    model = checked(build(body, f"float32{dims}"))
    kept = [axis for axis in order if dims[axis] != 1]
    assert operators(model) == {"Reshape" if kept == sorted(kept) else "Transpose": 1}


def test_of_two_reshapes_one_is_left() -> None:
    body = shape("a", [6, 4]) + shape("b", [3, 8])
    body += "%r = onnx.Reshape(%x, %a) : float32[6, 4]\n%y = onnx.Reshape(%r, %b) : float32[3, 8]"
    assert operators(checked(build(body, "float32[2, 3, 4]"))) == {"Reshape": 1}


def test_shapes_that_cannot_be_written_down_stay() -> None:
    body = "%s = onnx.Shape(%x) : int64[3]\n%r = onnx.Flatten(%x) : float32[?, ?]\n"
    body += "%y = onnx.Reshape(%r, %s) : float32[?, ?, 4]"
    assert operators(checked(build(body, "float32[?, ?, 4]"))) == {"Shape": 1, "Flatten": 1, "Reshape": 1}
