"""What becomes of names when a lowered model takes on TFLite's format."""

from __future__ import annotations

import graphopt
from graphopt.ir.text import parse_model
from graphopt.testing.lowering import text_model


def test_nodes_are_named_without_the_calls_that_led_to_them() -> None:
    body = (
        "%PartitionedCall_1/StatefulPartitionedCall/net/w = tf.Const() {value = float32[3] [1.0, 2.0, 3.0]}\n"
        "%PartitionedCall_1/StatefulPartitionedCall/net/sum = tf.AddV2(%x, "
        "%PartitionedCall_1/StatefulPartitionedCall/net/w)\n"
        "%y = tf.Exp(%PartitionedCall_1/StatefulPartitionedCall/net/sum)"
    )
    model = graphopt.lower(text_model(body), "tflite").model
    assert sorted(node.name for node in model.graph) == ["net/sum", "net/w", "x", "y"]


def test_a_name_that_is_taken_stays_as_it_was() -> None:
    from graphopt.backends.tflite.adoption import shorten_names

    model = parse_model(
        "graph @main(%x) -> (%y) {\n%x = tfl.INPUT() : float32[]\n"
        "%PartitionedCall/w = tfl.CONSTANT() {value = float32[] 1.0} : float32[]\n"
        "%w = tfl.ADD(%x, %PartitionedCall/w) : float32[]\n%y = tfl.NEG(%w) : float32[]\n}"
    )
    shorten_names(model)
    assert model.graph.find("PartitionedCall/w") is not None
