"""Freezing by TensorFlow's names: the cases its own tests of convert_to_constants have, and what those leave out.

Each frozen function must have no reads of variables and no calls left, keep its inputs by name and shape, and compute
what the live one does, also after it was saved and loaded.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from functions_to_freeze import (
    FUNCTIONAL,
    PLAIN,
    STATE,
    constant_model,
    operators,
    results,
    spec,
    variable_model,
)

import graphopt
from graphopt.compat.freezing import (
    convert_variables_to_constants_v2,
)

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def tf() -> Any:
    return pytest.importorskip("tensorflow")


def assert_frozen(tf: Any, function: Any, frozen: Any, data: Mapping[str, Any], folder: pathlib.Path) -> None:
    assert not STATE.intersection(operators(frozen))
    assert "StatefulPartitionedCall" not in operators(frozen)
    for node in frozen.graph.as_graph_def().library.function:
        assert not STATE.intersection(inner.op for inner in node.node_def)
    shapes = {item.name.partition(":")[0]: tuple(item.shape) for item in frozen.inputs}
    assert shapes == {name: value.shape for name, value in data.items()}
    feeds = [tf.constant(data[item.name.partition(":")[0]]) for item in frozen.inputs]
    expected = results(function, data)
    actual = [item.numpy() for item in tf.nest.flatten(frozen(*feeds))]
    for left, right in zip(expected, actual, strict=True):
        np.testing.assert_allclose(right, left, rtol=1e-6, atol=1e-6)
    root = tf.Module()
    tf.saved_model.save(root, folder, {"mykey": frozen})
    loaded = tf.saved_model.load(folder).signatures["mykey"]
    again = loaded(**{name: tf.constant(value) for name, value in data.items()})
    for left, right in zip(expected, again.values(), strict=True):
        np.testing.assert_allclose(right.numpy(), left, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("make", PLAIN)
def test_functions(tf: Any, make: Callable[..., Any], tmp_path: pathlib.Path) -> None:
    function, data = make(tf)
    reads = {"constant_model": 0, "multi_function_model": 1}.get(make.__name__, 2)
    assert operators(function).count("ReadVariableOp") == reads
    frozen = convert_variables_to_constants_v2(function)
    assert_frozen(tf, function, frozen, data, tmp_path)
    assert operators(function).count("ReadVariableOp") == reads  # the live one is as it was
    results(function, data)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("make", FUNCTIONAL)
def test_control_flow(tf: Any, make: Callable[..., Any], lower: bool, tmp_path: pathlib.Path) -> None:
    function, data = make(tf)
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=lower)
    assert_frozen(tf, function, frozen, data, tmp_path)
    functional = {"If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase"}
    assert bool(functional.intersection(operators(frozen))) == (not lower)


@pytest.mark.parametrize("make", [constant_model, variable_model])
def test_loaded_signatures(tf: Any, make: Callable[..., Any], tmp_path: pathlib.Path) -> None:
    function, data = make(tf)
    module = tf.Module()
    module.owned = list(function.variables)
    tf.saved_model.save(module, tmp_path / "in", {"serving_default": function})
    loaded = tf.saved_model.load(tmp_path / "in")
    signature = loaded.signatures["serving_default"]
    assert signature.graph.as_graph_def().library.function
    assert "ReadVariableOp" not in operators(signature)
    frozen = convert_variables_to_constants_v2(signature)
    assert_frozen(tf, signature, frozen, data, tmp_path / "out")


def test_keras_model(tf: Any, tmp_path: pathlib.Path) -> None:
    dense = tf.keras.Sequential([tf.keras.layers.Input([1]), tf.keras.layers.Dense(1)])
    dense.compile("sgd", "mse")
    x = np.array([[-1.0], [0.0], [1.0], [2.0], [3.0], [4.0]])
    dense.fit(x, 2 * x - 1, epochs=1, verbose=0)
    function = tf.function(lambda x: dense(x)).get_concrete_function(spec(tf, [1, 1], "x"))
    assert "ReadVariableOp" in str(function.graph.as_graph_def())
    frozen = convert_variables_to_constants_v2(function)
    assert_frozen(tf, function, frozen, {"x": np.ones([1, 1], np.float32)}, tmp_path)


def test_reference_variables_of_old_savedmodels(tf: Any, tmp_path: pathlib.Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default():
        start = v1.placeholder(tf.float32, [1, 1], name="start")
        distractor = v1.Variable(-1.0, use_resource=False, name="distractor")
        v = v1.Variable(3.0, use_resource=False, name="v")
        local = v1.Variable(1.0, collections=[v1.GraphKeys.LOCAL_VARIABLES], use_resource=True, name="local")
        output = tf.identity(start * v * local, name="output")
        with v1.Session() as session:
            session.run([v.initializer, distractor.initializer, local.initializer])
            v1.saved_model.simple_save(
                session,
                str(tmp_path / "in"),
                {"start": start},
                {"output": output},
                legacy_init_op=v1.group(local.initializer, name="legacy_init"),
            )
    loaded = tf.saved_model.load(str(tmp_path / "in"))
    signature = loaded.signatures["serving_default"]
    frozen = convert_variables_to_constants_v2(signature)
    assert_frozen(tf, signature, frozen, {"start": np.ones([1, 1], np.float32)}, tmp_path / "out")
    ours = graphopt.freeze(tmp_path / "in")
    assert ours.initialisers == ()
    graph = ours.model.graph
    assert [node.name for node in graph if node.op == "tf.Const"] == ["v", "local"]
    assert graph.find("distractor") is None


def test_functions_that_must_not_be_inlined(tf: Any, tmp_path: pathlib.Path) -> None:
    v1 = tf.compat.v1

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.v2, self.v1 = tf.Variable(2.0), tf.Variable(3.0)

        @tf.function(input_signature=[tf.TensorSpec([1], tf.float32)])
        def add_all(self, x: Any) -> Any:
            return x + self.v1 + self.v2

        @tf.function(input_signature=[tf.TensorSpec([1], tf.float32)])
        def serve(self, x: Any) -> Any:
            return self.add_all(x)

    model = Model()
    tf.saved_model.save(model, tmp_path / "in", model.serve)
    from tensorflow.core.protobuf import saved_model_pb2

    path = tmp_path / "in" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for item in saved.meta_graphs[0].graph_def.library.function:
        if item.signature.name.removeprefix("__inference_").startswith("add_all"):
            item.attr["_noinline"].b = True
    path.write_bytes(saved.SerializeToString())
    loaded = tf.saved_model.load(tmp_path / "in")
    signature = loaded.signatures["serving_default"]
    frozen = convert_variables_to_constants_v2(signature)
    assert not STATE.intersection(operators(frozen))
    assert "StatefulPartitionedCall" in operators(frozen)
    assert next(iter(frozen(tf.ones([1])))).numpy() == [6.0]
    eager = convert_variables_to_constants_v2(signature, aggressive_inlining=True)
    assert "StatefulPartitionedCall" not in operators(eager)
    del v1


def test_a_function_that_changes_a_variable_is_refused(tf: Any) -> None:
    count = tf.Variable(0.0, name="count")
    function = tf.function(lambda x: x + count.assign_add(1.0)).get_concrete_function(spec(tf, [], "x"))
    with pytest.raises(graphopt.UnsupportedError, match=r"AssignAddVariableOp\) changes it"):
        convert_variables_to_constants_v2(function)
