"""Freezing functions and graphs of a session by TensorFlow's names, and the tool freeze_graph."""

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
    operators,
    spec,
    variable_model,
)

import graphopt
from graphopt.compat.freezing import (
    convert_var_to_const_function_in_v1,
    convert_variables_to_constants_from_session_graph,
    freeze_graph,
)

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def tf() -> Any:
    return pytest.importorskip("tensorflow")


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
