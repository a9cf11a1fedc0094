"""fuse-layers: biases and margins of ONNX's layers become part of them."""

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

NAME = "fuse-layers"
WEIGHTS = (
    "%w = onnx.Initializer() {value = float32[3, 2, 2, 2] repeat [0.5, -1.0, 0.25, 2.0, 0.75]} : float32[3, 2, 2, 2]"
)
BIAS = "%b = onnx.Initializer() {value = float32[3, 1, 1] [[[1.0]], [[2.0]], [[-1.0]]]} : float32[3, 1, 1]"
PADS = "%pads = onnx.Initializer() {value = int64[8] [0, 0, 1, 0, 0, 0, 1, 2]} : int64[8]"
CONV = "%c = onnx.Conv(%p, %w) {strides = [1, 1], kernel_shape = [2, 2]} : float32[1, 3, 5, 5]"


def build(*lines: str, x: str = "float32[1, 2, 4, 4]") -> Model:
    body = "\n".join((f"%x = onnx.Input() : {x}", *lines))
    model = parse_model(f"graph @main(%x: {x}) -> (%y) {{\n{body}\n}}")
    model.format = "onnx"
    graph = model.graph
    model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
    return model


def operators(model: Model) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph if node.op_type not in ("Input", "Initializer")))


LINES = (WEIGHTS, BIAS, PADS, '%p = onnx.Pad(%x, %pads) {mode = b"constant"} : float32[1, 2, 6, 6]', CONV,
         "%y = onnx.Add(%c, %b) : float32[1, 3, 5, 5]")  # fmt: skip


def fused(model: Model, seed: int = 0) -> Model:
    """The model after the pass, which computes the same in ONNX Runtime."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle: pip install 'graphopt[tensorrt]'")
    from graphopt.runtimes.onnxruntime import OnnxRuntime

    shape = model.graph.inputs[0].shape.static
    assert shape is not None
    feeds = {"x": np.random.default_rng(seed).normal(size=shape).astype(np.float32)}
    before = OnnxRuntime().run(model, feeds)["y"]
    run_pass(model, NAME)
    verify(model)
    after = OnnxRuntime().run(model, feeds)["y"]
    assert np.allclose(before, after, rtol=1e-5, atol=1e-5)
    return model


def test_bias_and_margin_go_into_the_convolution() -> None:
    model = fused(build(*LINES))
    assert operators(model) == {"Conv": 1}
    node = model.graph.node("y")
    assert node.attrs["pads"] == (1, 0, 1, 2)
    assert node.input_count == 3
    assert [value.name for value in model.graph.outputs] == ["y"]
    text = print_model(model)
    run_pass(model, NAME)
    assert print_model(model) == text


def test_a_product_and_a_row_are_one_operator() -> None:
    weights = "%w = onnx.Initializer() {value = float32[4, 2] repeat [0.5, -1.0]} : float32[4, 2]"
    bias = "%b = onnx.Initializer() {value = float32[2] [1.0, -1.0]} : float32[2]"
    model = build(
        weights, bias, "%m = onnx.MatMul(%x, %w) : float32[3, 2]", "%y = onnx.Add(%m, %b) : float32[3, 2]",
        x="float32[3, 4]",
    )  # fmt: skip
    assert operators(fused(model)) == {"Gemm": 1}


@pytest.mark.parametrize(("shape", "is_taken"), [("3, 2", True), ("2", True), ("1, 3, 2", False)])
def test_a_product_takes_what_is_added_to_its_rows(shape: str, is_taken: bool) -> None:
    weights = "%w = onnx.Initializer() {value = float32[4, 2] repeat [0.5, -1.0]} : float32[4, 2]"
    dims = [int(dim) for dim in shape.split(", ")]
    sizes = f"%s = onnx.Initializer() {{value = int64[{len(dims)}] {dims}}} : int64[{len(dims)}]"
    axes = "%a = onnx.Initializer() {value = int64[1] [0]} : int64[1]"
    part = "%e = onnx.ReduceMax(%x, %a) {keepdims = 0} : float32[4]"
    more = "%m = onnx.MatMul(%x, %w) : float32[3, 2]\n%t = onnx.ReduceMax(%e) {keepdims = 0} : float32[]"
    made = "3, 2" if is_taken else "1, 3, 2"
    lines = (f"%o = onnx.Expand(%t, %s) : float32[{shape}]", f"%y = onnx.Add(%m, %o) : float32[{made}]")
    found = operators(fused(build(weights, sizes, axes, part, more, *lines, x="float32[3, 4]")))
    assert (found.get("Gemm", 0), found.get("MatMul", 0)) == (int(is_taken), int(not is_taken))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (BIAS.partition("value = ")[2], "float32[5] repeat [1.0, 2.0]} : float32[5]", "is not one by channel"),
        ('mode = b"constant"', 'mode = b"edge"', "repeats what it borders on"),
        ("[0, 0, 1, 0, 0, 0, 1, 2]", "[0, 0, -1, 0, 0, 0, 3, 2]", "or cuts off"),
    ],
)  # fmt: skip
def test_what_does_not_fit_stays(old: str, new: str, reason: str) -> None:
    model = build(*(line.replace(old, new) for line in LINES))
    report = run_pass(model, NAME)
    assert any(reason in entry["reason"] for entry in report.refusals), report.refusals


def test_a_layer_that_something_else_reads_stays() -> None:
    model = build(WEIGHTS, BIAS, CONV.replace("%p", "%x"), "%d = onnx.Add(%c, %b) : float32[1, 3, 5, 5]",
                  "%y = onnx.Mul(%c, %d) : float32[1, 3, 5, 5]", x="float32[1, 2, 6, 6]")  # fmt: skip
    run_pass(model, NAME)
    assert operators(model) == {"Conv": 1, "Add": 1, "Mul": 1}


@given(top=st.integers(0, 2), right=st.integers(0, 2), stride=st.integers(1, 2), seed=st.integers(0, 100))
def test_margins_of_any_size(top: int, right: int, stride: int, seed: int) -> None:
    pads = f"%pads = onnx.Initializer() {{value = int64[8] [0, 0, {top}, 0, 0, 0, 1, {right}]}} : int64[8]"
    conv = CONV.replace("[1, 1], k", f"[{stride}, {stride}], k").partition(" : ")[0]
    lines = (WEIGHTS, BIAS, pads, "%p = onnx.Pad(%x, %pads)", conv, "%y = onnx.Add(%c, %b)")
    model = build(*lines)
    for node in model.graph:
        if node.name in ("p", "c", "y"):
            from graphopt.ir.types import FLOAT32, TensorType

            node.output.type = TensorType(FLOAT32)
    fused(model, seed)
