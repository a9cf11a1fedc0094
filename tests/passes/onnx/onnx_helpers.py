"""Graphs of ONNX's operators, and what every pass over them is asked."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from graphopt.ir.model import Model
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass


def vector(name: str, numbers: list[int]) -> str:
    return f"%{name} = onnx.Initializer() {{value = int64[{len(numbers)}] {numbers}}} : int64[{len(numbers)}]\n"


def build(body: str, x: str = "float32[2, 3, 4, 5]") -> Model:
    model = parse_model(f"graph @main(%x: {x}) -> (%y) {{\n%x = onnx.Input() : {x}\n{body}\n}}")
    model.format = "onnx"
    model.set_signature({"x": model.graph.inputs[0]}, {"y": model.graph.outputs[0]})
    return model


def operators(model: Model) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph if node.op_type not in ("Input", "Initializer")))


def checked(name: str, model: Model) -> Model:
    """The model after the pass, which computes the same in ONNX Runtime, and has nothing left to do."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle: pip install 'graphopt[tensorrt]'")
    from graphopt.runtimes.onnxruntime import OnnxRuntime

    dims = [dim if isinstance(dim, int) else 2 for dim in model.graph.inputs[0].shape.dims or ()]
    feeds = {"x": np.random.default_rng(0).normal(size=dims).astype(np.float32)}
    before = OnnxRuntime().run(model, feeds)["y"]
    run_pass(model, name)
    verify(model)
    np.testing.assert_allclose(OnnxRuntime().run(model, feeds)["y"], before, rtol=1e-5, atol=1e-6)
    text = print_model(model)
    run_pass(model, name)
    assert print_model(model) == text
    return model
