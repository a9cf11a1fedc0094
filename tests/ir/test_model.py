"""Models: the library, signatures, copies, and what nodes call."""

from __future__ import annotations

import pytest

from graphopt.ir import Function, FunctionRef, Graph, GraphError, Model
from graphopt.ir.model import callees, clone_graph, copy_nodes, function_references
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.verifier import verify
from graphopt.testing import assert_same_structure, random_model

TEXT = """
graph @main(%x: float32[?, 2]) -> (%y, %s:1) targets(%done) {
  %w = tf.Const() {value = float32[2, 2] [1.0, 2.0, 3.0, 4.0]}
  %mm = tf.MatMul(%x, %w) device("/cpu:0") origins("a")
  %s = tf.Split(%axis, %mm) {num_split = 2}
  %axis = tf.Const() {value = int32[] 1}
  %y = tf.PartitionedCall(%mm) {f = @f}
  %done = tf.NoOp() after(%y)
}
function @f(a = %a: float32[*]) -> (b = %b) control_outputs(c = %b) attrs {k = 1} gradient(@g) {
  %b = tf.Relu(%a)
}
function @g(%a: float32[*]) -> (%a) {}
signature "serving_default"(x = %x) -> (s = %s:1, y = %y) method("predict")
"""


def test_counting() -> None:
    model = parse_model(TEXT)
    assert model.node_count == 10
    assert [graph.name for graph in model.graphs] == ["main", "f", "g"]
    assert repr(model) == "<Model : 10 nodes>"


def test_the_library_has_each_name_once() -> None:
    model = parse_model(TEXT)
    with pytest.raises(GraphError, match="already has a function 'f'"):
        model.add_function(Function("f"))
    assert model.unique_function_name("f") == "f_1"
    assert model.unique_function_name("h") == "h"
    assert list(model.functions) == ["f", "g"]


def test_signatures() -> None:
    model = parse_model(TEXT)
    signature = model.signatures["serving_default"]
    assert {name: value.name for name, value in signature.output_values().items()} == {"s": "s:1", "y": "y"}
    assert {name: value.name for name, value in signature.input_values().items()} == {"x": "x"}
    y = model.graph.value("y")
    made = model.set_signature({"in": model.graph.value("mm")}, {"one": y, "two": y}, "other")
    assert list(model.signatures) == ["other"]
    assert made.outputs == {"one": 0, "two": 0}
    assert model.graph.outputs == (y,)
    verify(model)


def test_a_refused_signature_changes_nothing() -> None:
    model = parse_model(TEXT)
    before = print_model(model)
    foreign = Graph().create_node("tf.Relu").output
    with pytest.raises(GraphError, match="is not of graph"):
        model.set_signature({"x": model.graph.value("mm")}, {"y": foreign})
    assert print_model(model) == before
    verify(model)


def test_a_clone_is_equal_and_independent() -> None:
    model = parse_model(TEXT)
    model.source, model.format, model.metadata["k"] = "somewhere", "text", 1
    before = print_model(model)
    copy = model.clone()
    assert_same_structure(model, copy)
    verify(copy)
    assert (copy.source, copy.format, copy.metadata) == ("somewhere", "text", {"k": 1})
    assert copy.graph.node("w").attrs["value"] is model.graph.node("w").attrs["value"]
    copy.graph.node("mm").attrs["transpose_a"] = True
    copy.graph.replace_value(copy.graph.value("y"), copy.graph.value("mm"))
    copy.functions["f"].rename(copy.functions["f"].node("b"), "z")
    copy.signatures["serving_default"].outputs["s"] = 0
    copy.functions["f"].attrs["k"] = 2
    assert print_model(model) == before
    assert model.graph.node("mm").graph is model.graph
    verify(model)


def test_clones_of_random_models_are_equal() -> None:
    for seed in range(10):
        model = random_model(seed)
        assert_same_structure(model, model.clone())


def test_graphs_can_be_copied_under_another_name_and_into_another() -> None:
    model = parse_model(TEXT)
    copy = clone_graph(model.functions["f"], "h")
    assert isinstance(copy, Function)
    assert (copy.name, copy.input_names, copy.output_names, copy.gradient) == ("h", ["a"], ["b"], "g")
    target = Graph("other")
    target.create_node("tf.NoOp", name="mine", types=())
    copies = copy_nodes(model.graph, target)
    assert [node.name for node in target] == ["mine", *(node.name for node in model.graph)]
    assert copies[model.graph.node("mm")].origins == ("a",)
    verify(target)
    with pytest.raises(GraphError, match="already has a node 'x'"):
        copy_nodes(model.graph, target)


def test_what_nodes_call() -> None:
    model = parse_model(TEXT)
    node = model.graph.node("y")
    assert list(callees(node)) == ["f"]
    node.attrs["list"] = (FunctionRef("p", {"q": FunctionRef("r", {"s": (FunctionRef("t"),)})}), FunctionRef("u"))
    assert sorted(callees(node)) == ["f", "p", "r", "t", "u"]
    assert list(callees(model.graph.create_node("tf.g"))) == ["g"]
    assert list(callees(model.graph.node("mm"))) == []


def test_nested_references_need_no_stack() -> None:
    reference = FunctionRef("f")
    for _ in range(10_000):
        reference = FunctionRef("f", {"g": reference})
    assert sum(1 for _ in function_references(reference)) == 10_001


def test_an_empty_model() -> None:
    model = Model()
    verify(model)
    assert model.node_count == 0
    assert_same_structure(model, model.clone())
