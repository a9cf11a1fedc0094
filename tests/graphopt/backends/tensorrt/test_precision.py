"""Precision by types: what is narrow, what stays in float32, and that it computes about the same."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.backends.base import find_backend
from graphopt.backends.tensorrt.element_types import element_types
from graphopt.cli.main import main
from graphopt.ir.errors import UsageError
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model
from graphopt.ir.verifier import verify
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import text_model


def lower(model: Model, **options: Any) -> Any:
    return find_backend("tensorrt").lower(model, **options)


def types_by_operator(model: Model) -> dict[str, str]:
    types = element_types(model)
    return {node.op_type: types[node.output].name for node in model.graph if node.op_type != "Initializer"}


@pytest.mark.parametrize(("precision", "body"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_layers_are_narrow_and_softmax_and_means_are_not(network: Model, precision: str, body: str) -> None:
    model = lower(network, precision=precision).model
    verify(model)
    found = types_by_operator(model)
    assert found["MatMul"] == body
    assert found["Softmax"] == found["ReduceMean"] == "float32"
    assert found["Conv"] == "float32"  # it reads two channels, as they are fed
    assert model.graph.inputs[0].dtype.name == model.graph.outputs[0].dtype.name == "float32"
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_bfloat16_needs_convolutions_that_take_it(network: Model) -> None:
    from graphopt.ir.formats.onnx.elements import DOMAINS

    assert lower(network, precision="bf16").model.metadata[DOMAINS] == {"": 22}


def test_float16_computes_about_the_same(network: Model, samples: Any, onnxruntime: Any) -> None:
    wanted = get_runtime("reference").run(network, samples[0])["y"]
    got = get_runtime("onnxruntime").run(lower(network, precision="fp16").model, samples[0])["y"]
    assert got.dtype == np.float32
    assert np.abs(got - wanted).max() <= 1e-2 * np.abs(wanted).max()


def test_tensors_that_leave_the_range_are_pinned(onnxruntime: Any) -> None:
    body = """
    %big = tf.Const() {value = float32[] 60000.0}
    %small = tf.Const() {value = float32[] 0.5}
    %a = tf.Mul(%x, %small)
    %b = tf.Mul(%a, %big)
    %c = tf.Tanh(%b)
    %y = tf.Mul(%c, %small)
    """
    model = text_model(body, "%x: float32[4]")
    data = [{"x": np.array([8.0, -8.0, 1.0, 2.0], np.float32)}]
    blind, seeing = (lower(model, precision="fp16", **more).model for more in ({}, {"data": data}))
    right = get_runtime("reference").run(model, data[0])["y"]
    runtime = get_runtime("onnxruntime")
    assert np.allclose(runtime.run(seeing, data[0])["y"], right, atol=1e-3)
    types = element_types(seeing)
    pinned = next(node for node in seeing.graph if node.op_type == "Tanh")
    assert types[pinned.input(0)].name == "float32"
    assert element_types(blind)[next(n for n in blind.graph if n.op_type == "Tanh").input(0)].name == "float16"


def test_what_leaves_the_range_is_reported(tmp_path: pathlib.Path, onnxruntime: Any, capsys: Any) -> None:
    body = "%big = tf.Const() {value = float32[] 60000.0}\n%t = tf.Tanh(%x)\n%b = tf.Mul(%t, %big)\n%y = tf.Tanh(%b)"
    graphopt.save(text_model(body, "%x: float32[4]"), tmp_path / "model.pb")
    np.savez(tmp_path / "data.npz", x=np.linspace(-3, 3, 8, dtype=np.float32).reshape(2, 4))
    command = ["lower", str(tmp_path / "model.pb"), "--to", "tensorrt", "-o", str(tmp_path / "out"), "--outputs", "y"]
    assert main([*command, "--precision", "fp16", "--data", str(tmp_path / "data.npz")]) == 0
    captured = capsys.readouterr()
    assert "1 tensors leave float16's range" in captured.out
    assert "'b' reaches" in captured.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(item["tensor"], round(item["largest"])) for item in report["overflow"]] == [("b", 59703)]
    reasons = {layer["name"]: layer["reason"] for layer in report["layers"]}
    assert "leave float16's range" in reasons["b"]
    assert "leave float16's range" in reasons["y"]


def test_float16_keeps_within_its_bound_on_the_samples(onnxruntime: Any) -> None:
    """A difference that all but cancels makes much of weights that were rounded: its products stay in float32 then."""
    generator = np.random.default_rng(0)
    large = generator.uniform(200, 400, (6, 4)).round(3)
    weights = {"w": large, "v": large + generator.normal(size=(6, 4)).round(3)}
    held = [f"%{name} = tf.Const() {{value = float32[6, 4] {array.tolist()}}}" for name, array in weights.items()]
    lines = [*held, "%a = tf.MatMul(%x, %w)", "%b = tf.MatMul(%x, %v)", "%n0 = tf.Sub(%a, %b)"]
    lines += [f"%n{place + 1} = tf.{'Tanh' if place % 2 else 'Atan'}(%n{place})" for place in range(6)]
    model = text_model("\n".join([*lines, "%y = tf.Softsign(%n6)"]), "%x: float32[2, 6]")
    data = [{"x": generator.normal(size=(2, 6)).astype(np.float32)} for _ in range(3)]
    errors = {}
    for effort in ("fast", "default"):
        lowered = lower(model, precision="fp16", data=data, effort=effort)
        made = [get_runtime("onnxruntime").run(lowered.model, sample)["y"] for sample in data]
        wanted = [get_runtime("reference").run(model, sample)["y"] for sample in data]
        errors[effort] = np.abs(np.array(made) - wanted).max() / np.abs(wanted).max()
    assert errors["default"] <= 1e-2 < errors["fast"]
    reasons = lowered.model.metadata["tensorrt"]["outcome"].reasons
    assert {"a", "b"} <= {name for name, reason in reasons.items() if "grow on the way" in reason}


def test_constants_outside_the_range_stay() -> None:
    model = text_model("%c = tf.Const() {value = float32[] 1e6}\n%y = tf.Mul(%x, %c)")
    assert types_by_operator(lower(model, precision="fp16").model)["Mul"] == "float32"


def test_what_is_directly_behind_the_first_convolution_stays_where_it_is_depthwise() -> None:
    body = """
    %w = tf.Const() {value = float32[3, 3, 3, 4] repeat [0.3, -0.7, 1.1, 0.9, -0.4]}
    %v = tf.Const() {value = float32[3, 3, 4, 1] repeat [0.2, 0.7, -0.1]}
    %u = tf.Const() {value = float32[1, 1, 4, 4] repeat [0.2, 0.7, -0.1]}
    %a = tf.Conv2D(%x, %w) {strides = [1, 2, 2, 1], padding = b"SAME"}
    %b = tf.Relu6(%a)
    %c = tf.DepthwiseConv2dNative(%b, %v) {strides = [1, 1, 1, 1], padding = b"SAME"}
    %d = tf.Relu6(%c)
    %e = tf.Conv2D(%d, %u) {strides = [1, 1, 1, 1], padding = b"SAME"}
    %y = tf.DepthwiseConv2dNative(%e, %v) {strides = [1, 1, 1, 1], padding = b"SAME"}
    """
    model = lower(text_model(body, "%x: float32[1, 8, 8, 3]"), precision="fp16").model
    types = element_types(model)
    found = [types[node.input(0)].name for node in model.graph.topological_order() if node.op_type == "Conv"]
    assert found == ["float32", "float32", "float16", "float16"]


def test_scores_that_boxes_are_suppressed_by_stay() -> None:
    body = """
    %w = tf.Const() {value = float32[8, 8] repeat [0.3, -0.7, 1.1, 0.9, -0.4]}
    %v = tf.Const() {value = float32[8, 1] repeat [0.2, 0.7, -0.1]}
    %size = tf.Const() {value = int32[] 4}
    %overlap = tf.Const() {value = float32[] 0.5}
    %flat = tf.Const() {value = int32[1] [-1]}
    %h = tf.MatMul(%x, %w)
    %t = tf.Tanh(%h)
    %l = tf.MatMul(%t, %v)
    %s = tf.Sigmoid(%l)
    %r = tf.Reshape(%s, %flat)
    %y = tf.NonMaxSuppressionV2(%boxes, %r, %size, %overlap)
    """
    model = lower(text_model(body, "%boxes: float32[20, 4], %x: float32[20, 8]"), precision="fp16").model
    types = element_types(model)
    assert [types[n.input(0)].name for n in model.graph.topological_order() if n.op_type == "MatMul"] == [
        "float16", "float32",
    ]  # fmt: skip
    assert types_by_operator(model)["Sigmoid"] == "float32"


def test_a_node_can_be_pinned_by_its_name(network: Model) -> None:
    assert types_by_operator(lower(network, precision="fp16", pinned=("c",)).model)["Conv"] == "float32"


@settings(max_examples=15)
@given(ops=st.lists(st.sampled_from(("Relu", "Tanh", "Exp", "Sigmoid", "Square", "Neg")), min_size=1, max_size=6))
def test_chains_of_functions(ops: list[str]) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install 'graphopt[tensorrt]'")
    lines = [f"%v{place} = tf.{op}(%v{place - 1})" for place, op in enumerate(ops, 1)]
    body = "\n".join(["%v0 = tf.Tanh(%x)", *lines, f"%y = tf.Sigmoid(%v{len(ops)})"])
    model = text_model(body)
    feeds = {"x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)}
    wanted = get_runtime("reference").run(model, feeds)["y"]
    got = get_runtime("onnxruntime").run(lower(model, precision="fp16").model, feeds)["y"]
    assert np.abs(got - wanted).max() <= 2e-2


def test_int8_is_symmetric_and_by_channel(network: Model, samples: Any, onnxruntime: Any) -> None:
    lowered = lower(network, precision="int8", data=samples)
    graph = lowered.model.graph
    pairs = [node for node in graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert not any(np.any(held.numpy()) for held in map(known_tensor, (v for n in pairs for v in n.inputs[2:])) if held)
    conv = next(node for node in graph if node.op_type == "Conv")
    weights = conv.input(1).node
    assert weights.op_type == "DequantizeLinear"
    assert weights.input(1).shape.static == (4,)
    assert any("2 of 2 layers" in note for note in lowered.notes)
    wanted = get_runtime("reference").run(network, samples[0])["y"]
    got = get_runtime("onnxruntime").run(lowered.model, samples[0])["y"]
    assert np.abs(got - wanted).max() <= 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize(("precision", "allowed"), [("int8", 0.1), ("fp8", 0.15)])
def test_what_is_around_integers_may_be_narrow(
    network: Model, samples: Any, onnxruntime: Any, precision: str, allowed: float
) -> None:
    lowered = lower(network, precision=precision, body="fp16", data=samples)
    verify(lowered.model)
    types = element_types(lowered.model)
    floats = {types[node.output].name for node in lowered.model.graph if node.op_type in ("DequantizeLinear", "MatMul")}
    assert floats == {"float16"}
    wanted = get_runtime("reference").run(network, samples[0])["y"]
    got = get_runtime("onnxruntime").run(lowered.model, samples[0])["y"]
    assert got.dtype == np.float32
    assert np.abs(got - wanted).max() <= allowed * np.abs(wanted).max()


def test_fp8_stores_weights_by_channel(network: Model, samples: Any, onnxruntime: Any) -> None:
    graph = lower(network, precision="fp8", data=samples).model.graph
    weights = next(node for node in graph if node.op_type == "Conv").input(1).node
    held = weights.input(0).node.attrs["value"]
    assert held.dtype.name == "float8_e4m3fn"
    scale = weights.input(1).node.attrs["value"].numpy().reshape(4, 1, 1, 1)
    plain = next(node for node in lower(network).model.graph if node.op_type == "Conv").input(1).node.attrs["value"]
    assert np.allclose(held.numpy().astype(np.float32) * scale, plain.numpy(), rtol=1 / 16, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"precision": "fp12"}, "no precision 'fp12'"),
        ({"precision": "int8"}, "needs samples"),
        ({"opset": 9}, "opset 9 is not offered"),
        ({"body": "fp64"}, "no body 'fp64'"),
        ({"speed": "high"}, "has no option 'speed'"),
    ],
)
def test_options_that_make_no_sense(network: Model, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        lower(network, **options)
