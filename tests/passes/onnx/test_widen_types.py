"""widen-types: what computes in a wider type, what stays as it is, and that the same is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.ir.model import Model
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass

NAME = "widen-types"


def build(body: str, x: str, y: str = "") -> Model:
    text = f"graph @main(%x: {x}) -> (%y) {{\n%x = onnx.Input() : {x}\n{body} : {y or x}\n}}"
    model = parse_model(text)
    model.format = "onnx"
    model.set_signature({"x": model.graph.inputs[0]}, {"y": model.graph.outputs[0]})
    return model


def widened(model: Model) -> list[str]:
    """Operators after the pass, which has nothing left to do."""
    run_pass(model, NAME)
    verify(model)
    text = print_model(model)
    run_pass(model, NAME)
    assert print_model(model) == text
    assert [value.name for value in model.graph.outputs] == ["y"]
    return [node.op_type for node in model.graph.topological_order() if node.op_type not in ("Input", "Initializer")]


@pytest.mark.parametrize(
    ("body", "x", "wide"),
    [
        ("%y = onnx.Relu(%x)", "int16[3]", "int32"),
        ("%y = onnx.Erf(%x)", "float64[3]", "float32"),
        ("%y = onnx.Tanh(%x)", "float16[3]", "float32"),
        ("%y = onnx.Where(%x, %x, %x)", "bool[3]", "uint8"),
    ],
)
def test_types_without_a_kernel(body: str, x: str, wide: str) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle: pip install 'graphopt[tensorrt]'")
    from graphopt.runtimes.onnxruntime import OnnxRuntime

    model = build(body, x)
    op = body.split(".")[1].split("(")[0]
    *casts, inner, last = widened(model)
    assert (inner, last, set(casts)) == (op, "Cast", {"Cast"})
    assert {node.attrs["to"].name for node in model.graph if node.op_type == "Cast"} == {wide, x.partition("[")[0]}
    feeds: Any = {"x": np.array([1, 0, 1]).astype(model.graph.inputs[0].dtype.numpy)}
    expected = {"Relu": [1, 0, 1], "Where": [1, 0, 1], "Erf": [0.8427, 0, 0.8427], "Tanh": [0.7616, 0, 0.7616]}
    found = OnnxRuntime().run(model, feeds)["y"]
    assert found.dtype == feeds["x"].dtype
    np.testing.assert_allclose(found.astype(float), expected[op], atol=1e-3)


@pytest.mark.parametrize("body", ["%y = onnx.Relu(%x)", "%y = com.microsoft.Gelu(%x)"])
def test_what_has_a_kernel_or_is_not_known_stays(body: str) -> None:
    assert len(widened(build(body, "float32[3]"))) == 1


def test_what_has_no_kernel_in_any_type_stays() -> None:
    model = build("%y = onnx.Det(%x)", "int64[3, 3]", "int64[]")
    report = run_pass(model, NAME)
    assert report.rewrites == 0
    assert "no kernel of Det for int64" in report.refusals[0]["reason"]
