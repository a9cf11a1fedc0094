"""What callers of a converted model rely on: names, order, types, signatures, dynamic dimensions, shared weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.ir.formats.tflite import tflite_bytes
from graphopt.ir.model import Model, Signature
from graphopt.ir.types import FLOAT32, INT32
from graphopt.lowering import lower
from graphopt.testing.lowering import text_model
from graphopt.verification import verify

TWO = """
%w = tf.Const() {value = float32[64, 64] splat 0.5, dtype = float32}
%encoded = tf.MatMul(%picture, %w)
%swapped = tf.MatMul(%code, %w) {transpose_b = true}
%decoded = tf.Tanh(%swapped)
"""


@pytest.fixture
def two_signatures() -> Model:
    """Two signatures that share their weights, one of them under two names."""
    model = text_model(TWO, "%picture: float32[?, 64], %code: float32[2, 64]", "%encoded, %decoded")
    graph = model.graph
    model.signatures = {
        "decode": Signature(graph, {"code": 1}, {"picture": 1}),
        "encode": Signature(graph, {"image": 0}, {"code": 0, "same": 0}),
        "serving_default": Signature(graph, {"image": 0}, {"code": 0, "same": 0}),
    }
    return model


def interpreter(model: Model) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=tflite_bytes(model))


def test_each_signature_has_its_names_and_runs(two_signatures: Model) -> None:
    lowered = lower(two_signatures, "tflite").model
    made = interpreter(lowered)
    same = {"inputs": ["image"], "outputs": ["code", "same"]}
    assert made.get_signature_list() == {
        "serving_default": same, "encode": same, "decode": {"inputs": ["code"], "outputs": ["picture"]},
    }  # fmt: skip
    feed = np.full((2, 64), 0.25, np.float32)
    for key, name in (("serving_default", "image"), ("encode", "image"), ("decode", "code")):
        found = made.get_signature_runner(key)(**{name: feed})
        expected = np.full((2, 64), 8.0 if key != "decode" else np.tanh(8.0), np.float32)
        for array in found.values():
            np.testing.assert_allclose(array, expected, rtol=1e-6)
    for key in two_signatures.signatures:
        report = verify(two_signatures, lowered, signature=key, runtime="reference", per_layer=True)
        assert report.holds
        wanted = "swapped:0" if key == "decode" else "encoded:0"
        assert wanted in {layer.name for layer in report.layers if layer.holds}


def test_signatures_share_weights_and_equal_ones_a_subgraph(two_signatures: Model) -> None:
    lowered = lower(two_signatures, "tflite").model
    assert len(list(lowered.graphs)) == 2
    alone = lower(two_signatures, "tflite", signatures=("encode",)).model
    assert list(alone.signatures) == ["encode"]
    weights = 64 * 64 * 4
    assert weights < len(tflite_bytes(alone)) < len(tflite_bytes(lowered)) < 2 * weights
    with pytest.raises(graphopt.UsageError, match="no signature 'encodes'"):
        lower(two_signatures, "tflite", signatures=("encodes",))


def test_dynamic_dimensions_stay_dynamic_unless_set(two_signatures: Model, tmp_path: Any) -> None:
    lowered = lower(two_signatures, "tflite", signatures=("encode",)).model
    (detail,) = interpreter(lowered).get_input_details()
    assert detail["shape_signature"].tolist() == [-1, 64]
    (detail,) = interpreter(lowered).get_output_details()
    assert detail["shape_signature"].tolist() == [-1, 64]
    model = text_model("%y = tf.Relu(%x)", "%x: float32[?, 3]")
    set_ = graphopt.optimize(model, passes='set-shapes{shapes=["x:5,3"]}').model
    (detail,) = interpreter(lower(set_, "tflite").model).get_input_details()
    assert detail["shape"].tolist() == detail["shape_signature"].tolist() == [5, 3]


def test_inputs_and_outputs_keep_their_order_and_types() -> None:
    body = "%third = tf.Relu(%b)\n%first = tf.Neg(%a)\n%second = tf.Cast(%a) {SrcT = int32, DstT = float32}"
    model = text_model(body, "%b: float32[2], %unused: float32[1], %a: int32[2]", "%first, %third, %second")
    lowered = lower(model, "tflite").model
    (signature,) = lowered.signatures.values()
    assert list(signature.inputs) == ["b", "unused", "a"]
    assert list(signature.outputs) == ["first", "third", "second"]
    assert [value.dtype for value in lowered.graph.inputs] == [FLOAT32, FLOAT32, INT32]
    assert [value.dtype for value in lowered.graph.outputs] == [INT32, FLOAT32, FLOAT32]
    assert [item["name"] for item in interpreter(lowered).get_input_details()] == ["b", "unused", "a"]
    assert [item["name"] for item in interpreter(lowered).get_output_details()] == ["first", "third", "second"]


def test_an_input_may_be_an_output_and_a_constant_too() -> None:
    body = (
        "%c = tf.Const() {value = float32[2] [1.0, 2.0], dtype = float32}\n%y = tf.Identity(%x)\n%z = tf.Identity(%c)"
    )
    model = text_model(body, "%x: float32[2]", "%x, %y, %z")
    made = interpreter(lower(model, "tflite").model)
    found = made.get_signature_runner()(x=np.float32([3, 4]))
    assert {name: array.tolist() for name, array in found.items()} == {"x": [3, 4], "y": [3, 4], "z": [1, 2]}


def test_tensors_carry_the_names_of_the_layers_they_came_from() -> None:
    model = text_model("%layer/one = tf.Relu(%x)\n%layer/two = tf.Neg(%layer/one)", outputs="%layer/two")
    names = {item["name"] for item in interpreter(lower(model, "tflite").model).get_tensor_details()}
    assert {"x", "layer/one", "layer/two"} <= names


def test_the_same_model_gives_the_same_bytes(two_signatures: Model) -> None:
    first = tflite_bytes(lower(two_signatures, "tflite").model)
    assert tflite_bytes(lower(two_signatures.clone(), "tflite").model) == first
