"""How two models are built differently."""

from __future__ import annotations

import json

import numpy as np

import graphopt
from graphopt.ir import Function, RepeatedTensor, tensor_type
from graphopt.ir.model import ARGUMENT
from graphopt.ir.types import FLOAT32


def test_a_model_and_its_copy_are_built_alike(example: str) -> None:
    difference = graphopt.diff(example, graphopt.load(example))
    assert difference.is_empty
    assert str(difference) == "the models are built alike"
    assert difference.as_dict()["equal"] is True


def test_nodes_added_removed_and_changed(affine) -> None:
    first, second = affine(), affine(3.0)
    graph = second.graph
    graph.create_node("tf.Neg", [graph.value("y")], {"T": FLOAT32}, name="extra")
    graph.node("y").device = "/cpu:0"
    graph.node("y").add_control_input(graph.node("x"))
    graph.node("scaled").replace_input(0, graph.value("one"))
    graph.node("scaled").op = "tf.Sub"
    graph.rename(graph.node("x"), "z")
    difference = graphopt.diff(first, second)
    assert [entry["node"] for entry in difference.added] == ["z", "extra"]
    assert [entry["node"] for entry in difference.removed] == ["x"]
    changed = {change.node: change.fields for change in difference.changed}
    assert changed["factor"] == {"attribute value": ("float32[] [2.0]", "float32[] [3.0]")}
    assert changed["scaled"]["operator"] == ("tf.Mul", "tf.Sub")
    assert changed["scaled"]["inputs"] == ("x:0, factor:0", "one:0, factor:0")
    assert changed["y"]["device"] == ("", "/cpu:0")
    assert changed["y"]["inputs"] == ("scaled:0, one:0", "scaled:0, one:0, ^z")
    assert difference.constants_changed == 1
    assert difference.operators == {"Mul": (1, 0), "Neg": (0, 1), "Sub": (0, 1)}
    lines = str(difference).splitlines()
    assert lines[0] == "1 nodes removed, 2 added, 3 changed"
    assert "+ extra: tf.Neg" in lines
    assert "    device:  -> /cpu:0" in lines
    assert json.loads(json.dumps(difference.as_dict()))["schema"] == "graphopt/diff/v1"


def test_constants_are_compared_by_their_bytes_however_they_are_stored(affine) -> None:
    first, second = affine(), affine()
    dense = np.full((4, 4), 7, np.float32)
    for model, held in ((first, dense), (second, None)):
        node = model.graph.node("factor")
        node.attrs["value"] = (
            graphopt.ir.tensor(held) if held is not None else RepeatedTensor(np.float32([7]), FLOAT32, (4, 4))
        )
    assert graphopt.diff(first, second).is_empty
    second.graph.node("factor").attrs["value"] = RepeatedTensor(np.float32([-0.0]), FLOAT32, (4, 4))
    first.graph.node("factor").attrs["value"] = RepeatedTensor(np.float32([0.0]), FLOAT32, (4, 4))
    assert not graphopt.diff(first, second).is_empty


def test_huge_compact_constants_are_not_expanded(affine) -> None:
    first, second = affine(), affine()
    for model, value in ((first, [1.0]), (second, [1.0])):
        model.graph.node("factor").attrs["value"] = RepeatedTensor(np.float32(value), FLOAT32, (1 << 20, 1 << 20))
    assert graphopt.diff(first, second).is_empty
    second.graph.node("factor").attrs["value"] = RepeatedTensor(np.float32([1, 2]), FLOAT32, (1 << 20, 1 << 20))
    assert graphopt.diff(first, second).constants_changed == 1


def with_function(model, gradient: str | None = None):
    function = Function("f")
    argument = function.create_node(ARGUMENT, (), {"T": FLOAT32, "index": 0}, name="a", types=(tensor_type(FLOAT32),))
    function.inputs, function.outputs = [argument.output], [argument.output]
    function.input_names, function.output_names, function.gradient = ["a"], ["r"], gradient
    model.add_function(function)
    return model


def test_functions_signatures_and_versions(affine) -> None:
    difference = graphopt.diff(affine(), with_function(affine()))
    assert difference.functions_added == ["f"]
    assert graphopt.diff(with_function(affine()), affine()).functions_removed == ["f"]
    difference = graphopt.diff(with_function(affine()), with_function(affine(), "g"))
    assert difference.other == ["function f: gradient None -> g"]
    second = affine()
    second.versions = (27, 0, ())
    second.set_signature({"x": second.graph.value("x")}, {"y": second.graph.value("scaled")}, "other")
    difference = graphopt.diff(affine(), second)
    assert difference.signatures == ["- signature serving_default", "+ signature other"]
    assert difference.other == ["versions: (0, 0, ()) -> (27, 0, ())"]
    third = affine()
    third.set_signature({"x": third.graph.value("x")}, {"z": third.graph.value("y")})
    assert graphopt.diff(affine(), third).signatures == [
        "~ signature serving_default, outputs: y: float32 -> z: float32"
    ]


def test_long_lists_are_cut_and_hostile_names_escaped(affine) -> None:
    second = affine()
    for count in range(30):
        second.graph.create_node("tf.NoOp", name=f"\x1b[2J{count}", types=())
    text = str(graphopt.diff(affine(), second))
    assert "+ … and 10 more" in text
    assert "\x1b" not in text
    assert text.count("tf.NoOp") == 20
