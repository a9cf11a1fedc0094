"""recognise-normalization: every way of writing a layer norm, softmaxes, and what is refused."""

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

NAME = "recognise-normalization"
SHAPE = "float32[2, 3, 4]"
ONE = "float32[2, 3, 1]"
HEAD = f"""
%axes = onnx.Initializer() {{value = int64[1] [-1]}} : int64[1]
%e = onnx.Initializer() {{value = float32[] 0.001}} : float32[]
%g = onnx.Initializer() {{value = float32[1, 1, 4] [[[1.0, 2.0, -1.0, 0.5]]]}} : float32[1, 1, 4]
%b = onnx.Initializer() {{value = float32[4] [1.0, 0.0, -1.0, 0.5]}} : float32[4]
%m = onnx.ReduceMean(%x, %axes) {{keepdims = 1}} : {ONE}
%d = onnx.Sub(%x, %m) : {SHAPE}
%q = onnx.Mul(%d, %d) : {SHAPE}
%v = onnx.ReduceMean(%q, %axes) {{keepdims = 1}} : {ONE}
%s = onnx.Add(%v, %e) : {ONE}
%r = onnx.Sqrt(%s) : {ONE}
"""
PLAIN = (
    HEAD
    + f"""
%n = onnx.Div(%d, %r) : {SHAPE}
%p = onnx.Mul(%n, %g) : {SHAPE}
%y = onnx.Add(%p, %b) : {SHAPE}
"""
)
MULTIPLIED_OUT = (
    HEAD
    + f"""
%i = onnx.Reciprocal(%r) : {ONE}
%f = onnx.Mul(%i, %g) : {SHAPE}
%a = onnx.Mul(%x, %f) : {SHAPE}
%o = onnx.Neg(%m) : {ONE}
%t = onnx.Mul(%o, %f) : {SHAPE}
%u = onnx.Add(%t, %b) : {SHAPE}
%y = onnx.Add(%a, %u) : {SHAPE}
"""
)
WITHOUT_OFFSET = HEAD + f"%n = onnx.Div(%d, %r) : {SHAPE}\n%y = onnx.Mul(%n, %g) : {SHAPE}"
SOFTMAX = f"""
%axes = onnx.Initializer() {{value = int64[1] [1]}} : int64[1]
%m = onnx.ReduceMax(%x, %axes) {{keepdims = 1}} : float32[2, 1, 4]
%d = onnx.Sub(%x, %m) : {SHAPE}
%e = onnx.Exp(%d) : {SHAPE}
%s = onnx.ReduceSum(%e, %axes) {{keepdims = 1}} : float32[2, 1, 4]
%y = onnx.Div(%e, %s) : {SHAPE}
"""


def build(body: str) -> Model:
    model = parse_model(f"graph @main(%x: {SHAPE}) -> (%y) {{\n%x = onnx.Input() : {SHAPE}\n{body}\n}}")
    model.format = "onnx"
    model.set_signature({"x": model.graph.inputs[0]}, {"y": model.graph.outputs[0]})
    return model


def operators(model: Model) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph if node.op_type not in ("Input", "Initializer")))


def checked(body: str, seed: int = 0, spread: float = 1.0) -> Model:
    """The model after the pass, which computes the same in ONNX Runtime, and has nothing left to do."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle: pip install 'graphopt[tensorrt]'")
    from graphopt.runtimes.onnxruntime import OnnxRuntime

    model = build(body)
    feeds = {"x": np.random.default_rng(seed).normal(size=(2, 3, 4), scale=spread).astype(np.float32)}
    before = OnnxRuntime().run(model, feeds)["y"]
    run_pass(model, NAME)
    verify(model)
    after = OnnxRuntime().run(model, feeds)["y"]
    assert np.allclose(before, after, rtol=1e-4, atol=1e-4)
    text = print_model(model)
    run_pass(model, NAME)
    assert print_model(model) == text
    assert [value.name for value in model.graph.outputs] == ["y"]
    return model


@pytest.mark.parametrize("body", [PLAIN, MULTIPLIED_OUT, WITHOUT_OFFSET])
def test_layer_norms(body: str) -> None:
    model = checked(body)
    assert operators(model) == {"LayerNormalization": 1}
    node = model.graph.node("y")
    assert node.attrs["axis"] == 2
    assert node.attrs["epsilon"] == pytest.approx(0.001)
    assert node.input_count == (2 if body is WITHOUT_OFFSET else 3)


@given(seed=st.integers(0, 1000), spread=st.sampled_from([0.1, 1.0, 30.0]))
def test_softmaxes(seed: int, spread: float) -> None:
    model = checked(SOFTMAX, seed, spread)
    assert operators(model) == {"Softmax": 1}
    assert model.graph.node("y").attrs["axis"] == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("value = int64[1] [-1]", "value = int64[1] [0]"),
        ("float32[] 0.001", "float32[] 5.0"),
        ("%v = onnx.ReduceMean(%q, %axes)", "%v = onnx.ReduceMean(%x, %axes)"),
    ],
)
def test_what_is_no_layer_norm_stays(old: str, new: str) -> None:
    model = build(PLAIN.replace(old, new))
    run_pass(model, NAME)
    assert "LayerNormalization" not in operators(model)


def test_parts_that_something_else_reads_stay() -> None:
    model = build(PLAIN.replace("%y = ", "%z = ") + f"%y = onnx.Add(%z, %n) : {SHAPE}")
    run_pass(model, NAME)
    assert operators(model)["Sqrt"] == 1
