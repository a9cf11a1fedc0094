"""Tensors of lowered models, matched with those of the model they came from."""

from __future__ import annotations

import numpy as np

import graphopt
from graphopt.backends.tflite.backend import TFLiteBackend
from graphopt.ir import tensor
from graphopt.layers import inlined, layer_pairs
from graphopt.lowering import lower
from graphopt.samples import signature_of
from graphopt.testing.lowering import text_model
from graphopt.verification import engine_for, verify

DENSE = """
%w = tf.Const() {value = float32[3, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.5], dtype = float32}
%b = tf.Const() {value = float32[3] [1.0, 2.0, 3.0], dtype = float32}
%product = tf.MatMul(%x, %w)
%sum = tf.BiasAdd(%product, %b)
%active = tf.Relu(%sum)
%scores = tf.Tanh(%active)
"""


def test_a_fused_node_is_the_last_of_its_origins() -> None:
    model = text_model("%a = tf.Neg(%x)\n%b = tf.Abs(%a)\n%y = tf.Relu(%b)")
    fused = text_model("%made = tf.Abs(%x)\n%y = tf.Relu(%made)")
    fused.graph.node("made").origins = ("b", "a")
    assert layer_pairs(signature_of(model), signature_of(fused)) == {"x:0": "x:0", "made:0": "b:0", "y:0": "y:0"}


def test_a_name_says_more_than_an_origin_and_the_last_of_several_stands() -> None:
    model = text_model("%a = tf.Neg(%x)\n%y = tf.Abs(%a)")
    split = text_model("%one = tf.Neg(%x)\n%two = tf.Abs(%one)\n%y = tf.Abs(%two)")
    for name in ("one", "two"):
        split.graph.node(name).origins = ("a", "nowhere")
    assert layer_pairs(signature_of(model), signature_of(split)) == {"x:0": "x:0", "two:0": "a:0", "y:0": "y:0"}
    split.graph.node("two").origins = ("y",)
    assert layer_pairs(signature_of(model), signature_of(split)) == {"x:0": "x:0", "one:0": "a:0", "y:0": "y:0"}


def test_the_first_tensor_that_diverges_is_named_after_its_origin() -> None:
    model = text_model(DENSE, outputs="%scores")
    lowered = lower(model, "tflite").model
    report = verify(model, lowered, per_layer=True, runtime="reference")
    assert report.holds
    assert report.runtime == "reference, litert"
    assert report.first_divergence is None
    assert {"active:0", "scores:0"} <= {layer.name for layer in report.layers if layer.holds}

    wrong = next(node for node in lowered.graph if node.op == "tfl.FULLY_CONNECTED")
    weights = next(value for value in wrong.inputs if value is not None and value.node.op == "tfl.CONSTANT")
    held = weights.node.attrs["value"].numpy()
    weights.node.attrs["value"] = tensor(np.asarray(held * np.float32(1.5)))
    report = verify(model, lowered, per_layer=True, runtime="reference")
    assert not report.holds
    assert report.first_divergence in ("product:0", "sum:0", "active:0")


def test_functions_are_looked_into(tmp_path) -> None:
    model = text_model(DENSE, outputs="%scores")
    assert inlined(model, "serving_default") is model
    graphopt.save(model, f"{tmp_path}/saved/")
    report = verify(f"{tmp_path}/saved", lower(model, "tflite").model, per_layer=True, runtime="reference")
    assert "active:0" in {layer.name for layer in report.layers}


def test_litert_runs_what_is_tflites_and_nothing_else() -> None:
    model = text_model("%y = tf.Relu(%x)")
    lowered = TFLiteBackend().lower(model).model
    assert engine_for(lowered, "reference").name == "litert"
    assert engine_for(model, "litert").name == engine_for(model, None).name != "litert"


def test_calls_need_not_be_in_names() -> None:
    model = text_model("%PartitionedCall/net/a = tf.Neg(%x)\n%y = tf.Abs(%PartitionedCall/net/a)")
    short = text_model("%net/a = tf.Neg(%x)\n%y = tf.Abs(%net/a)")
    pairs = layer_pairs(signature_of(model), signature_of(short))
    assert pairs == {"x:0": "x:0", "net/a:0": "PartitionedCall/net/a:0", "y:0": "y:0"}
