"""Everything `inspect` knows."""

from __future__ import annotations

import json

import pytest

import graphopt
from graphopt.ir import Shape, UsageError, hold, tensor_type
from graphopt.ir.types import INT64


def test_the_example_in_full(example: str) -> None:
    facts = graphopt.inspect(example)
    assert facts.format == "graphdef"
    assert facts.producer == 1882
    assert facts.nodes == facts.main_nodes == 294
    (signature,) = facts.signatures
    assert signature.inferred
    assert [(port.name, port.dtype, port.shape) for port in signature.inputs] == [
        ("pictures", "float32", [1, 32, 32, 3])
    ]
    assert [(port.tensor, port.shape) for port in signature.outputs] == [("probabilities:0", [1, 10])]
    assert "summary/scores" in facts.set_aside
    assert facts.operators["Rsqrt"] == 13
    assert next(iter(facts.operators)) == "Const"
    assert facts.parameters == 8106
    assert facts.constants == 87
    assert facts.constant_bytes > 4 * facts.parameters
    assert facts.largest_constants[0]["bytes"] == 6144
    assert facts.dynamic_values == 0
    assert facts.dynamic_origins == []
    assert facts.unknown_operators == {}
    assert json.loads(json.dumps(facts.as_dict()))["schema"] == "graphopt/inspect/v1"


def test_dynamic_shapes_have_a_reason(sketch) -> None:
    sketch.add("Placeholder", "x", shape=[None, 3])
    sketch.add("Relu", "still_batch", "x", shape=None)
    sketch.add("Where", "where", "still_batch", shape=None, dtype="int64")
    sketch.graph.node("where").output.type = tensor_type(INT64)
    sketch.add("Shuffle", "custom", "x", shape=None)
    sketch.add("Neg", "after", "custom", shape=None)
    facts = graphopt.inspect(sketch.model)
    origins = {origin.node: origin.reason for origin in facts.dynamic_origins}
    assert origins == {
        "x": "the input leaves it open",
        "where": "it depends on values",
        "custom": "the operator is not in the table",
    }
    assert facts.unknown_operators == {"Shuffle": 1}
    assert facts.dynamic_values == 5


def test_unknown_dimensions_have_the_names_that_set_shapes_takes(sketch) -> None:
    sketch.add("Placeholder", "x", shape=None)
    sketch.graph.node("x").attrs["shape"] = Shape((None, 3))  # as a file is read: declared, not inferred yet
    sketch.add("Relu", "y", "x", shape=None)
    (signature,) = graphopt.inspect(sketch.model).signatures
    assert [port.shape for port in (*signature.inputs, *signature.outputs)] == [["x_0", 3], ["x_0", 3]]
    model = graphopt.optimize(sketch.model, passes='set-shapes{dimensions=["x_0=8"]}').model
    assert str(model.graph.outputs[0].shape) == "[8, 3]"
    with pytest.raises(UsageError, match=r"input 'x' has shape \[x_0, 3\], not \[8, 5\]"):
        graphopt.optimize(sketch.model, passes='set-shapes{shapes=["x:8,5"]}')


def test_devices_variables_functions_and_leftovers(sketch) -> None:
    sketch.add("Placeholder", "x")
    sketch.add("VariableV2", "v")
    sketch.add("Assign", "v/Assign", "v", "x")
    sketch.add("Relu", "y", "x").node.device = "/gpu:0"
    hold(sketch.graph, [[1, 2]], name="integers")
    facts = graphopt.inspect(sketch.model)
    assert facts.devices == {"/gpu:0": 1}
    assert facts.variables == 1
    assert facts.leftovers == 1
    assert facts.parameters == 0, "tables of indices are no weights"


def test_the_model_that_was_given_stays_as_it_was(sketch) -> None:
    sketch.add("Placeholder", "x", shape=[None])
    y = sketch.add("Relu", "y", "x", shape=None)
    graphopt.inspect(sketch.model)
    assert y.shape.dims is None
    assert not sketch.model.signatures


def test_names_may_be_given(example: str) -> None:
    facts = graphopt.inspect(example, inputs="pool", outputs="softmax")
    (signature,) = facts.signatures
    assert signature.inputs[0].shape == [1, 48]
    assert signature.inputs[0].reason == "named by the caller; cuts the graph here"
