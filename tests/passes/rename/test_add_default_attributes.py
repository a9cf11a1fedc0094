"""add-default-attributes."""

from __future__ import annotations

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import check_pass


def test_in_the_graph_and_in_bodies() -> None:
    before = """
    function @f(%a: float32[1, 1, 1, 8]) -> (%b) { %b = tf.LRN(%a) {bias = 2.0, depth_radius = 7} }
    graph @main(%x: float32[1, 1, 1, 8]) -> (%z) {
      %y = tf.LRN(%x) {alpha = 0.25}
      %z = tf.Custom(%y) {T = float32} : float32[*]
    }
    """
    after = (
        before.replace("depth_radius = 7", "depth_radius = 7, alpha = 1.0, beta = 0.5, T = float32")
        .replace("alpha = 0.25", "alpha = 0.25, depth_radius = 5, bias = 1.0, beta = 0.5, T = float32")
    )  # fmt: skip
    _, report = check_pass("add-default-attributes", before, after, runtime=None)
    assert report.rules == {"add-default-attributes": 2}


def test_all_operators_of_a_model_keep_their_types(sample_models) -> None:
    for model in sample_models:
        types = [[value.type for value in node.outputs] for graph in model.graphs for node in graph]
        run_pass(model, "add-default-attributes")
        assert [[value.type for value in node.outputs] for graph in model.graphs for node in graph] == types
        assert run_pass(model, "add-default-attributes").rules == {}


def test_attributes_without_default_stay_away() -> None:
    model = parse_model("graph @main() -> (%y) { %y = tf.Const() {value = int32[] 1} }")
    assert run_pass(model, "add-default-attributes").rules == {}
