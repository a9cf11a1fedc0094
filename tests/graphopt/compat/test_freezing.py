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

import graphopt
from graphopt.compat.freezing import (
    convert_var_to_const_function_in_v1,
    convert_variables_to_constants_from_session_graph,
    convert_variables_to_constants_v2,
    freeze_graph,
)

pytestmark = pytest.mark.tensorflow
STATE = {"Variable", "VariableV2", "VarHandleOp", "ReadVariableOp"}
ALIVE: list[Any] = []  # functions refer weakly to the variables they capture


@pytest.fixture(scope="module")
def tf() -> Any:
    return pytest.importorskip("tensorflow")


# Functions -------------------------------------------------------------------------------------------------------


def spec(tf: Any, shape: list[int], name: str, dtype: str = "float32") -> Any:
    return tf.TensorSpec(shape, tf.dtypes.as_dtype(dtype), name)


def constant_model(tf: Any, shape: tuple[int, ...] = (1,)) -> tuple[Any, dict[str, Any]]:
    function = tf.function(lambda x: 2.0 * x).get_concrete_function(spec(tf, list(shape), "x"))
    return function, {"x": np.ones(shape, np.float32)}


def variable_model(tf: Any, shape: tuple[int, ...] = (1,)) -> tuple[Any, dict[str, Any]]:
    first, second = tf.Variable(3.0), tf.Variable(2.0)
    ALIVE.extend((first, second))
    function = tf.function(lambda x: first * second * x).get_concrete_function(spec(tf, list(shape), "x"))
    return function, {"x": np.ones(shape, np.float32)}


def scalar_model(tf: Any) -> tuple[Any, dict[str, Any]]:
    return variable_model(tf, ())


def multi_function_model(tf: Any) -> tuple[Any, dict[str, Any]]:
    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.y: Any = None
            self.z = tf.Variable(3.0)

        @tf.function
        def add(self, x: Any) -> Any:
            if self.y is None:
                self.y = tf.Variable(2.0)
            return x + self.y

        @tf.function
        def sub(self, x: Any) -> Any:
            return x - self.z

    model = Model()
    ALIVE.append(model)
    return model.add.get_concrete_function(spec(tf, [1], "x")), {"x": np.ones(1, np.float32)}


def matrix(tf: Any) -> Any:
    ALIVE.append(tf.Variable([[0.1, 0.2], [0.3, 0.4]]))
    return ALIVE[-1]


def if_model(tf: Any) -> tuple[Any, dict[str, Any]]:
    weights = matrix(tf)
    function = tf.function(lambda x, b: tf.cond(b, lambda: tf.matmul(x, weights), lambda: tf.add(x, weights)))
    concrete = function.get_concrete_function(spec(tf, [1, 2], "x"), spec(tf, [], "b", "bool"))
    return concrete, {"x": np.array([[1, 2]], np.float32), "b": np.array(True)}


def stateless_if_model(tf: Any) -> tuple[Any, dict[str, Any]]:
    held = np.array([[1.0, 2.0]], np.float32)
    function = tf.function(lambda b: tf.cond(b, lambda: tf.constant(held), lambda: tf.constant(held) + 2.0))
    return function.get_concrete_function(spec(tf, [], "b", "bool")), {"b": np.array(True)}


def cell(tf: Any, size: int) -> Any:
    kernel = tf.Variable(np.random.default_rng(1).normal(size=(2 * size, 4 * size)).astype(np.float32))
    bias = tf.Variable(tf.zeros([4 * size]))

    def step(x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        i, j, f, o = tf.split(tf.matmul(tf.concat([x, h], 1), kernel) + bias, 4, axis=1)
        c = tf.sigmoid(f + 1.0) * c + tf.sigmoid(i) * tf.tanh(j)
        return tf.sigmoid(o) * tf.tanh(c), c

    ALIVE.extend((kernel, bias))
    return step


def static_rnn_model(tf: Any) -> tuple[Any, dict[str, Any]]:
    step = cell(tf, 10)

    @tf.function
    def run(x: Any) -> Any:
        h = c = tf.zeros([1, 10])
        outputs = []
        for time, piece in enumerate(tf.split(x, 3)):
            new_h, new_c = step(piece, h, c)
            past = tf.reduce_min(tf.constant([1])) <= time
            h, c = tf.cond(past, lambda h=h, c=c: (h, c), lambda h=new_h, c=new_c: (tf.identity(h), tf.identity(c)))
            outputs.append(h)
        return tf.stack(outputs)

    data = np.random.default_rng(2).normal(size=(3, 10)).astype(np.float32)
    return run.get_concrete_function(spec(tf, [3, 10], "x")), {"x": data}


def while_model(tf: Any) -> tuple[Any, dict[str, Any]]:
    weights = matrix(tf)
    function = tf.function(lambda x: tf.while_loop(lambda v: tf.reduce_sum(v) < 100, lambda v: [v + weights], [x])[0])
    return function.get_concrete_function(spec(tf, [2, 2], "x")), {"x": np.array([[1, 2], [3, 4]], np.float32)}


def stateless_while_model(tf: Any) -> tuple[Any, dict[str, Any]]:
    function = tf.function(lambda x: tf.while_loop(lambda v: v < 4.0, lambda v: [v * v], [x], name="while_1")[0])
    return function.get_concrete_function(spec(tf, [], "x")), {"x": np.array(2.0, np.float32)}


def dynamic_rnn_model(tf: Any) -> tuple[Any, dict[str, Any]]:
    step = cell(tf, 10)

    @tf.function
    def run(x: Any) -> Any:
        length = tf.shape(x)[1]

        def body(time: Any, h: Any, c: Any, outputs: Any) -> Any:
            h, c = step(x[:, time], h, c)
            return time + 1, h, c, outputs.write(time, h)

        outputs = tf.TensorArray(tf.float32, length, element_shape=[3, 10])
        start = (tf.constant(0), tf.zeros([3, 10]), tf.zeros([3, 10]), outputs)
        return tf.while_loop(lambda time, h, c, outputs: time < length, body, start)[3].stack()

    data = np.random.default_rng(3).normal(size=(3, 10, 10)).astype(np.float32)
    return run.get_concrete_function(spec(tf, [3, 10, 10], "x")), {"x": data}


def switch_case_model(tf: Any) -> tuple[Any, dict[str, Any]]:
    draw = np.random.default_rng(4)
    w0, w1 = (tf.Variable(draw.random((3, 4), np.float32)) for _ in range(2))
    w2 = tf.Variable(draw.random(4, np.float32))
    ALIVE.extend((w0, w1, w2))

    @tf.function
    def run(i: Any, x: Any) -> Any:
        padded = lambda: tf.pad(x, [[0, 0], [0, 1]]) + w2  # noqa: E731
        return tf.switch_case(i, [lambda: tf.matmul(x, w0), lambda: tf.matmul(x, w1), padded])

    concrete = run.get_concrete_function(spec(tf, [], "i", "int32"), spec(tf, [10, 3], "x"))
    return concrete, {"i": np.array(1, np.int32), "x": draw.random((10, 3), np.float32)}


def stateless_case_model(tf: Any) -> tuple[Any, dict[str, Any]]:
    """TensorFlow's freezer leaves StatelessCase out; it needs branches that share a variable read outside."""
    weights = matrix(tf)

    @tf.function
    def run(i: Any, x: Any) -> Any:
        w = weights.read_value()
        return tf.switch_case(i, [lambda: x + w, lambda: x * w, lambda: x - w])

    concrete = run.get_concrete_function(spec(tf, [], "i", "int32"), spec(tf, [2, 2], "x"))
    return concrete, {"i": np.array(2, np.int32), "x": np.array([[1, 2], [3, 5]], np.float32)}


def gather_model(tf: Any) -> tuple[Any, dict[str, Any]]:
    """Gathers within a branch, one of them with batch dimensions: further holes of TensorFlow's freezer."""
    table = tf.Variable(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    ALIVE.append(table)

    @tf.function
    def run(b: Any, i: Any) -> Any:
        raw = tf.raw_ops

        def batched() -> Any:
            return raw.ResourceGather(resource=table.handle, indices=i, dtype=tf.float32, batch_dims=1)

        def nested() -> Any:
            rows = raw.ResourceGatherNd(resource=table.handle, indices=tf.reshape(i, [2, 2]), dtype=tf.float32)
            shape = raw.VariableShape(input=table.handle)
            there = tf.cast(raw.VarIsInitializedOp(resource=table.handle), tf.float32)
            return tf.reshape(rows, [2, 1, 4]) + tf.cast(shape[2], tf.float32) * there

        return tf.cond(b, batched, nested)

    concrete = run.get_concrete_function(spec(tf, [], "b", "bool"), spec(tf, [2, 2], "i", "int32"))
    return concrete, {"b": np.array(True), "i": np.array([[0, 1], [1, 2]], np.int32)}


FUNCTIONAL = (
    if_model,
    stateless_if_model,
    static_rnn_model,
    while_model,
    stateless_while_model,
    dynamic_rnn_model,
    switch_case_model,
    stateless_case_model,
    gather_model,
)
PLAIN = (constant_model, variable_model, scalar_model, multi_function_model)


def operators(function: Any) -> list[str]:
    return [node.op for node in function.graph.as_graph_def().node]


def results(function: Any, data: Mapping[str, Any]) -> list[np.ndarray]:
    import tensorflow as tf

    found = function(**{name: tf.constant(value) for name, value in data.items()})
    return [item.numpy() for item in tf.nest.flatten(found)]


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


# Functions within a graph and session ----------------------------------------------------------------------------


def test_outside_a_session(tf: Any) -> None:
    function, _ = variable_model(tf)
    with pytest.raises(RuntimeError, match="must be carried out in a Session"):
        convert_var_to_const_function_in_v1(function)


def session_results(tf: Any, session: Any, function: Any, data: Mapping[str, Any]) -> list[np.ndarray]:
    feeds = [tf.constant(data[item.name.partition(":")[0]]) for item in function.inputs if item.dtype != tf.resource]
    return [np.asarray(item) for item in session.run(tf.nest.flatten(function(*feeds)))]


@pytest.mark.parametrize("make", [*PLAIN, *FUNCTIONAL])
def test_functions_in_a_session(tf: Any, make: Callable[..., Any]) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.enable_resource_variables()
        function, data = make(tf)
        session.run(v1.global_variables_initializer())
        frozen = convert_var_to_const_function_in_v1(function, lower_control_flow=False)
        assert not STATE.intersection(operators(frozen))
        assert "StatefulPartitionedCall" not in operators(frozen)
        expected = session_results(tf, session, function, data)
        for left, right in zip(expected, session_results(tf, session, frozen, data), strict=True):
            np.testing.assert_allclose(right, left, rtol=1e-6, atol=1e-6)


def test_assignments_collected_for_the_conversion(tf: Any) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        first, second = tf.Variable(3.0), tf.Variable(2.0)
        function = tf.function(lambda x: first * second * x).get_concrete_function(spec(tf, [1], "x"))
        session.run(v1.global_variables_initializer())
        for variable, value in ((first, 1.5), (second, 3.0), (first, 4.0)):
            v1.add_to_collection("extra_var_assign_ops", variable.assign(value).op)
        frozen = convert_var_to_const_function_in_v1(function)
        assert session_results(tf, session, frozen, {"x": np.ones(1, np.float32)}) == [np.array([12.0])]


# Graphs of a session ---------------------------------------------------------------------------------------------


class Converted:
    """A graph frozen from a session: nodes by name, to be looked at and run."""

    def __init__(self, tf: Any, graph_def: Any) -> None:
        self.tf, self.graph_def = tf, graph_def
        self.nodes = {node.name: node for node in graph_def.node}

    def require(self, name: str, op: str, *inputs: str, **attrs: Any) -> None:
        node = self.nodes[name]
        assert node.op == op
        assert not inputs or tuple(node.input) == inputs
        for key, value in attrs.items():
            assert node.attr[key].type == value

    def function(self, start: str) -> Any:
        found = [f for f in self.graph_def.library.function if f.signature.name.startswith(start)]
        assert len(found) == 1
        return found[0]

    def run(self, fetch: str, *before: str) -> Any:
        v1 = self.tf.compat.v1
        with self.tf.Graph().as_default(), v1.Session() as session:
            self.tf.import_graph_def(self.graph_def, name="")
            for name in before:
                session.run(name)
            return session.run(f"{fetch}:0"), session.run(f"{fetch}:0")

    @property
    def is_stateless(self) -> bool:
        bodies = [node for item in self.graph_def.library.function for node in item.node_def]
        return not STATE.intersection(node.op for node in (*self.graph_def.node, *bodies))


def convert(tf: Any, build: Callable[[Any], Any], outputs: list[str], **options: Any) -> Converted:
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        skipped = build(v1) or ()
        session.run([v.initializer for v in v1.global_variables() if v.op.name not in skipped])
        graph_def = graph.as_graph_def()
        before = graph_def.SerializeToString()
        frozen = convert_variables_to_constants_from_session_graph(session, graph_def, outputs, **options)
        assert graph_def.SerializeToString() == before
    assert type(frozen).__name__ == "GraphDef"
    return Converted(tf, frozen)


@pytest.mark.parametrize("resource", [False, True])
def test_variables_of_a_session(tf: Any, resource: bool) -> None:
    def build(v1: Any) -> list[str]:
        with v1.variable_scope("", use_resource=resource):
            variable = v1.get_variable("variable_node", initializer=1.0)
            v1.get_variable("unused_variable_node", initializer=1.0)
            tf.multiply(variable, 2.0, name="output_node")
        return ["unused_variable_node"]

    found = convert(tf, build, ["output_node"])
    assert found.is_stateless
    assert len(found.nodes) == 4
    assert found.run("output_node")[0] == 2.0


def test_a_denied_variable_can_still_be_written(tf: Any) -> None:
    names: list[str] = []

    def build(v1: Any) -> None:
        with v1.variable_scope("", use_resource=True):
            variable = v1.get_variable("variable_node", initializer=1.0)
            another = v1.get_variable("unused_variable_node", initializer=2.0)
            with tf.control_dependencies([variable.assign(another + variable)]):
                tf.identity(variable, name="output_node")
            names.append(variable.initializer.name)

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        build(v1)
        session.run(v1.global_variables_initializer())
        frozen = convert_variables_to_constants_from_session_graph(
            session, graph.as_graph_def(), ["output_node", names[0]], variable_names_denylist=["variable_node"]
        )
    found = Converted(tf, frozen)
    found.require("variable_node", "VarHandleOp")
    found.require("unused_variable_node", "Const")
    assert found.run("output_node", names[0]) == (3.0, 5.0)


@pytest.mark.parametrize("inlined", [False, True])
def test_graphs_with_functions(tf: Any, inlined: bool) -> None:
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.framework import function
    from tensorflow.python.grappler import tf_optimizer
    from tensorflow.python.training.saver import export_meta_graph

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:

        @function.Defun(tf.float32)
        def plus_one(x: Any) -> Any:
            return x + 1.0

        with v1.variable_scope("", use_resource=True):
            variable = v1.get_variable("variable_node", initializer=1.0)
        tf.multiply(plus_one(variable), 2.0, name="output_node")
        session.run(v1.global_variables_initializer())
        graph_def = graph.as_graph_def()
        if inlined:
            meta = export_meta_graph(graph_def=graph_def, graph=graph)
            for name in ("variable_node", "output_node"):
                meta.collection_def["train_op"].node_list.value.append(name)
            config = config_pb2.ConfigProto()
            config.graph_options.rewrite_options.optimizers.append("function")
            graph_def = tf_optimizer.OptimizeGraph(config, meta)
        found = Converted(tf, convert_variables_to_constants_from_session_graph(session, graph_def, ["output_node"]))
    assert found.is_stateless
    assert found.run("output_node")[0] == 4.0


def test_graph_with_switch(tf: Any) -> None:
    def build(v1: Any) -> None:
        v1.disable_control_flow_v2()
        with v1.variable_scope("", use_resource=True):
            x, y = v1.get_variable("var_x", initializer=1.0), v1.get_variable("var_y", initializer=2.0)
            f1 = lambda: v1.get_variable("f1", initializer=17.0)  # noqa: E731
            f2 = lambda: v1.get_variable("f2", initializer=23.0)  # noqa: E731
            tf.multiply(v1.case([(tf.less(x, y), f1)], default=f2), 2.0, name="output_node")

    found = convert(tf, build, ["output_node"])
    assert found.is_stateless
    assert found.run("output_node")[0] == 34.0


def two(v1: Any, resource: bool) -> tuple[Any, Any]:
    with v1.variable_scope("", use_resource=resource):
        return v1.get_variable("x", initializer=1.0), v1.get_variable("y", initializer=2.0)


FLOAT = 1


def test_one_reference_variable(tf: Any) -> None:
    found = convert(tf, lambda v1: two(v1, False) and None, ["x/read"])
    found.require("x", "Const", dtype=FLOAT)
    found.require("x/read", "Identity", "x", T=FLOAT)
    assert sorted(found.nodes) == ["x", "x/read"]


def test_one_resource_variable(tf: Any) -> None:
    found = convert(tf, lambda v1: two(v1, True) and None, ["x/Read/ReadVariableOp"])
    found.require("x", "Const", dtype=FLOAT)
    found.require("x/Read/ReadVariableOp", "Identity", "x", T=FLOAT)


def test_one_reference_variable_of_two(tf: Any) -> None:
    def build(v1: Any) -> None:
        tf.multiply(*two(v1, False), name="out")

    found = convert(tf, build, ["out"], variable_names_denylist=["y"])
    found.require("x", "Const", dtype=FLOAT)
    found.require("x/read", "Identity", "x", T=FLOAT)
    found.require("y", "VariableV2")
    found.require("y/read", "Identity", "y")
    found.require("out", "Mul", "x/read", "y/read")


def test_one_resource_variable_of_two(tf: Any) -> None:
    def build(v1: Any) -> None:
        tf.multiply(*two(v1, True), name="out")

    for options in ({"variable_names_denylist": ["y"]}, {"variable_names_allowlist": ["x"]}):
        found = convert(tf, build, ["out"], **options)
        found.require("x", "Const", dtype=FLOAT)
        found.require("y", "VarHandleOp")
        found.require("out/ReadVariableOp", "Identity", "x", T=FLOAT)
        found.require("out/ReadVariableOp_1", "ReadVariableOp", "y", dtype=FLOAT)
        found.require("out", "Mul", "out/ReadVariableOp", "out/ReadVariableOp_1")


def test_identity_chain(tf: Any) -> None:
    def build(v1: Any) -> None:
        with v1.variable_scope("", use_resource=True):
            x = v1.get_variable("x", initializer=1.0)
        tf.identity(tf.identity(x, name="y"), name="z")

    found = convert(tf, build, ["z"])
    found.require("x", "Const", dtype=FLOAT)
    found.require("y/ReadVariableOp", "Identity", "x", T=FLOAT)
    found.require("y", "Identity", "y/ReadVariableOp", T=FLOAT)
    found.require("z", "Identity", "y", T=FLOAT)


def test_case_in_v1_control_flow(tf: Any) -> None:
    def build(v1: Any) -> None:
        v1.disable_control_flow_v2()
        x, y = two(v1, False)
        v1.case([(tf.less(x, y), lambda: x)], default=lambda: y)

    found = convert(tf, build, ["case/cond/Merge"])
    for name in ("x", "y"):
        found.require(name, "Const", dtype=FLOAT)
        found.require(f"{name}/read", "Identity", name, T=FLOAT)
    found.require("Less", "Less", "x/read", "y/read", T=FLOAT)
    found.require("case/cond/pred_id", "Identity", "Less")
    found.require("case/cond/Switch_1", "Switch", "x/read", "case/cond/pred_id", T=FLOAT)
    found.require("case/cond/Switch_2", "Switch", "y/read", "case/cond/pred_id", T=FLOAT)
    found.require("case/cond/Merge", "Merge", "case/cond/Switch_2", "case/cond/Switch_1:1", T=FLOAT)
    assert found.run("case/cond/Merge")[0] == 1.0


def functional(v1: Any) -> None:
    v1.enable_control_flow_v2()


def test_case_of_reference_variables(tf: Any) -> None:
    def build(v1: Any) -> None:
        functional(v1)
        a = v1.get_variable("a", initializer=2.0, use_resource=False)
        x, y = two(v1, False)
        v1.case([(tf.less(x, y), lambda: a)], default=lambda: y)

    found = convert(tf, build, ["case/cond"])
    for name in ("x", "y", "a"):
        found.require(name, "Const", dtype=FLOAT)
        found.require(f"{name}/read", "Identity", name, T=FLOAT)
    found.require("case/cond", "StatelessIf", "Less", "a/read", "y/read")
    assert list(found.nodes["case/cond"].attr["Tin"].list.type) == [FLOAT, FLOAT]
    assert found.run("case/cond")[0] == 2.0


def test_case_of_resource_variables(tf: Any) -> None:
    def build(v1: Any) -> None:
        functional(v1)
        x, y = two(v1, True)
        v1.case([(tf.less(x, y), lambda: x)], default=lambda: y)

    found = convert(tf, build, ["case/cond"])
    found.require("x", "Const", dtype=FLOAT)
    found.require("y", "Const", dtype=FLOAT)
    found.require("case/cond", "If", "Less", "x", "y")
    assert list(found.nodes["case/cond"].attr["Tin"].list.type) == [FLOAT, FLOAT]
    for start in ("case_cond_true", "case_cond_false"):
        body = found.function(start)
        assert [argument.type for argument in body.signature.input_arg] == [FLOAT, FLOAT]
        assert [node.op for node in body.node_def if node.op == "ReadVariableOp"] == []
    assert found.run("case/cond")[0] == 1.0


def test_nested_case_with_a_variable_that_stays(tf: Any) -> None:
    def build(v1: Any) -> None:
        functional(v1)
        x, y = two(v1, True)
        z = v1.get_variable("z", initializer=3.0, use_resource=True)
        inner = lambda: v1.case([(tf.less(z, y), lambda: z)], default=lambda: y)  # noqa: E731
        v1.case([(tf.less(x, y), lambda: x)], default=inner)

    found = convert(tf, build, ["case/cond"], variable_names_denylist=["y"])
    for name in ("x", "z"):
        found.require(name, "Const", dtype=FLOAT)
    found.require("y", "VarHandleOp")
    found.require("Less/ReadVariableOp", "Identity", "x", T=FLOAT)
    found.require("Less/ReadVariableOp_1", "ReadVariableOp", "y", dtype=FLOAT)
    outer = found.nodes["case/cond"]
    assert outer.op == "If"
    types = dict(zip(list(outer.input)[1:], outer.attr["Tin"].list.type, strict=True))
    resource = 20
    assert types == {"x": FLOAT, "y": resource, "z": FLOAT}
    assert [list(outer.input)[place] for place in outer.attr["_read_only_resource_inputs"].list.i] == ["y"]
    bodies = {f.signature.name: f for f in found.graph_def.library.function}
    reads = {name: sum(node.op == "ReadVariableOp" for node in body.node_def) for name, body in bodies.items()}
    assert sorted(reads.values()) == [0, 0, 1, 1]  # y is read by the outer branch and by the inner one
    assert all(body.signature.is_stateful or not reads[name] for name, body in bodies.items())


# The tool --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["graph", "meta"])
@pytest.mark.parametrize("resource", [False, True])
def test_freeze_graph(tf: Any, tmp_path: pathlib.Path, kind: str, resource: bool) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        with v1.variable_scope("", use_resource=resource):
            variable = v1.get_variable("variable_node", initializer=1.0)
        tf.multiply(variable, 2.0, name="output_node")
        session.run(variable.initializer)
        prefix = v1.train.Saver([variable]).save(session, str(tmp_path / "checkpoint" / "saved"))
        v1.train.write_graph(graph, str(tmp_path), "input.pb", as_text=False)
    frozen = freeze_graph(
        str(tmp_path / "input.pb") if kind == "graph" else "",
        "",
        True,
        prefix,
        "output_node",
        "save/restore_all",
        "save/Const:0",
        str(tmp_path / "output.pb"),
        True,
        "",
        input_meta_graph=f"{prefix}.meta" if kind == "meta" else None,
    )
    assert frozen.SerializeToString() == (tmp_path / "output.pb").read_bytes()
    found = Converted(tf, v1.GraphDef.FromString(frozen.SerializeToString()))
    assert found.is_stateless
    assert len(found.nodes) == 4
    assert found.run("output_node")[0] == 2.0


def test_freeze_graph_without_a_checkpoint() -> None:
    with pytest.raises(graphopt.UsageError, match="needs a checkpoint"):
        freeze_graph("graph.pb", "", True, "", "y", None, None, "", True, "")
    with pytest.raises(graphopt.UsageError, match="names of output nodes"):
        freeze_graph("graph.pb", "", True, "c", "", None, None, "", True, "")
