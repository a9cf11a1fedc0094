"""The TensorFlow runtime, and the reference runtime against it: branches, loops, lists, random and real graphs."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.errors import UnsupportedError
from graphopt.ir.formats.graphdef import load, read_graphdef
from graphopt.ir.formats.savedmodel import read_savedmodel
from graphopt.ir.infer import infer_graph, infer_model
from graphopt.ir.model import Model, Variable
from graphopt.ir.tensors import tensor
from graphopt.ir.text import parse_model
from graphopt.ir.types import FLOAT32, Shape, unshaped
from graphopt.runtimes.base import RunError, get_runtime

pytestmark = pytest.mark.tensorflow

X = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)


@pytest.fixture(scope="module")
def tensorflow() -> Any:
    import tensorflow as tf

    return tf


@pytest.fixture(scope="module")
def runtimes() -> tuple[Any, Any]:
    return get_runtime("reference"), get_runtime("tensorflow")


def assert_same(runtimes: tuple[Any, Any], model: Model, feeds: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
    """Both runtimes yield the same, before and after inference; returns what they yield."""
    reference, other = runtimes
    expected = other.run(model, feeds, outputs)
    for _ in range(2):
        found = reference.run(model, feeds, outputs)
        for name in outputs:
            assert found[name].dtype == expected[name].dtype
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
        infer_model(model)
    for name in outputs:
        shape = model.graph.value(name).type.shape
        assert shape.dims is None or all(
            not isinstance(dim, int) or dim == size for dim, size in zip(shape.dims, expected[name].shape, strict=True)
        )
    return expected


def v1_model(tensorflow: Any, build: Callable[[Any], None]) -> Model:
    """What `build` adds to a graph with v1 control flow."""
    v1 = tensorflow.compat.v1
    graph = tensorflow.Graph()
    with graph.as_default():
        v1.disable_control_flow_v2()
        v1.disable_tensor_equality()
        build(v1)
    return read_graphdef(graph.as_graph_def().SerializeToString())


# v1 control flow -----------------------------------------------------------------------------------------------


def test_nested_cond(tensorflow: Any, runtimes: Any) -> None:
    def build(v1: Any) -> None:
        x, p, q = (
            v1.placeholder(t, s, name=n) for t, s, n in (("float32", [2, 2], "x"), ("bool", [], "p"), ("bool", [], "q"))
        )
        inner = lambda: v1.cond(q, lambda: x * 2.0, lambda: v1.nn.relu(x) + 1.0)  # noqa: E731
        v1.identity(v1.cond(p, inner, lambda: -x), name="y")

    model = v1_model(tensorflow, build)
    assert {"tf.Switch", "tf.Merge"} <= {node.op for node in model.graph}
    for p in (True, False):
        for q in (True, False):
            assert_same(runtimes, model, {"x": X, "p": np.array(p), "q": np.array(q)}, ["y"])


@pytest.mark.parametrize("n", [0, 1, 5])
def test_nested_while(tensorflow: Any, runtimes: Any, n: int) -> None:
    def build(v1: Any) -> None:
        x, limit = v1.placeholder("float32", [2, 2], name="x"), v1.placeholder("int32", [], name="n")

        def inner(j: Any, a: Any) -> Any:
            return j + 1, v1.cond(v1.equal(j % 2, 0), lambda: a + x, lambda: a * 0.5)

        def outer(i: Any, a: Any) -> Any:
            _, a = v1.while_loop(lambda j, a: j < i, inner, [v1.constant(0), a])
            return i + 1, a

        _, y = v1.while_loop(lambda i, a: i < limit, outer, [v1.constant(0), x])
        v1.identity(y, name="y")

    model = v1_model(tensorflow, build)
    assert "tf.Enter" in {node.op for node in model.graph}
    assert_same(runtimes, model, {"x": X, "n": np.array(n, np.int32)}, ["y"])


def test_a_while_that_grows(tensorflow: Any, runtimes: Any) -> None:
    def build(v1: Any) -> None:
        x = v1.placeholder("float32", [2, 2], name="x")
        grow = lambda i, a: (i + 1, v1.concat([a, x], 0))  # noqa: E731
        shapes = [v1.TensorShape([]), v1.TensorShape([None, 2])]
        _, y = v1.while_loop(lambda i, a: i < 4, grow, [v1.constant(0), x], shape_invariants=shapes)
        v1.identity(y, name="y")

    model = v1_model(tensorflow, build)
    assert assert_same(runtimes, model, {"x": X}, ["y"])["y"].shape == (10, 2)
    assert str(model.graph.value("y").type) == "float32[?, 2]"


def test_dynamic_rnn_with_tensor_arrays(tensorflow: Any, runtimes: Any) -> None:
    def build(v1: Any) -> None:
        x = v1.placeholder("float32", [None, 5, 3], name="x")
        w = v1.constant(np.linspace(-1, 1, 18).reshape(6, 3).astype(np.float32))
        steps = v1.unstack(v1.shape(x))[1]
        rows = v1.TensorArray("float32", steps, element_shape=[None, 3]).unstack(v1.transpose(x, [1, 0, 2]))
        out = v1.TensorArray("float32", steps, element_shape=[None, 3])

        def cell(t: Any, h: Any, o: Any) -> Any:
            new = v1.tanh(v1.matmul(v1.concat([rows.read(t), h], 1), w))
            return t + 1, new, o.write(t, new)

        state = [v1.constant(0), v1.zeros([v1.shape(x)[0], 3]), out]
        _, last, out = v1.while_loop(lambda t, h, o: t < steps, cell, state)
        v1.identity(last, name="last")
        v1.transpose(out.stack(), [1, 0, 2], name="all")

    model = v1_model(tensorflow, build)
    assert "tf.TensorArrayScatterV3" in {node.op for node in model.graph}
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)}
    assert_same(runtimes, model, feeds, ["last", "all"])


# Functional control flow ---------------------------------------------------------------------------------------


def v2_model(tensorflow: Any, function: Callable[..., Any], *specs: Any) -> Model:
    concrete = tensorflow.function(function).get_concrete_function(*specs)
    definition = concrete.graph.as_graph_def()
    model = read_graphdef(definition.SerializeToString())
    names = (
        [item.name for item in concrete.graph.structured_outputs]
        if isinstance(concrete.graph.structured_outputs, (list, tuple))
        else [concrete.graph.structured_outputs.name]
    )
    model.set_signature(
        {item.name.split(":")[0]: model.graph.value(item.name) for item in concrete.inputs},
        {f"y{place}": model.graph.value(name) for place, name in enumerate(names)},
    )
    return model


def assert_same_signature(runtimes: tuple[Any, Any], model: Model, feeds: dict[str, Any]) -> None:
    expected = runtimes[1].run(model, feeds)
    infer_model(model)
    found = runtimes[0].run(model, feeds)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def test_functional_branches_and_loops(tensorflow: Any, runtimes: Any) -> None:
    tf = tensorflow

    def function(x: Any, n: Any) -> Any:
        y = tf.cond(n > 2, lambda: x * 2.0, lambda: tf.nn.relu(x))
        z = tf.while_loop(lambda i, a: i < n, lambda i, a: (i + 1, a + y), [tf.constant(0), x])[1]
        return tf.switch_case(n, [lambda: y, lambda: z, lambda: z - y]), z

    model = v2_model(tf, function, tf.TensorSpec([2, 2], tf.float32, "x"), tf.TensorSpec([], tf.int32, "n"))
    ops = {node.op for node in model.graph}
    assert {"tf.StatelessIf", "tf.StatelessWhile", "tf.StatelessCase"} <= ops
    for n in range(5):
        assert_same_signature(runtimes, model, {"x": X, "n": np.array(n, np.int32)})


def test_a_loop_over_tensor_lists(tensorflow: Any, runtimes: Any) -> None:
    tf = tensorflow

    def function(x: Any) -> Any:
        rows = tf.TensorArray(tf.float32, 4, element_shape=[2]).unstack(x)
        out = tf.TensorArray(tf.float32, 4, element_shape=[2])
        body = lambda i, o: (i + 1, o.write(i, rows.read(3 - i) * tf.cast(i, tf.float32)))  # noqa: E731
        return tf.while_loop(lambda i, o: i < 4, body, [0, out])[1].stack()

    model = v2_model(tf, function, tf.TensorSpec([4, 2], tf.float32, "x"))
    used = {node.op for graph in model.graphs for node in graph}
    assert {"tf.TensorListFromTensor", "tf.TensorListSetItem", "tf.TensorListGetItem"} <= used
    assert_same_signature(runtimes, model, {"x": np.arange(8, dtype=np.float32).reshape(4, 2)})


LISTS = """graph @main(%x: float32[3, 2], %i: int32[2]) -> (%stack, %concat, %gather, %length, %popped, %back) {
    %two = tf.Const() {value = int32[1] [2]}
    %five = tf.Const() {value = int32[] 5}
    %one = tf.Const() {value = int32[] 1}
    %lengths = tf.Const() {value = int64[2] [1, 2]}
    %none = tf.Const() {value = int64[0] []}
    %any2 = tf.Const() {value = int32[2] [-1, 2]}
    %axis = tf.Const() {value = int32[] 0}
    %list = tf.TensorListFromTensor(%x, %two)
    %row = tf.GatherV2(%x, %one, %axis)
    %pushed = tf.TensorListPushBack(%list, %row)
    %set = tf.TensorListSetItem(%pushed, %one, %row)
    %sized = tf.TensorListResize(%set, %five)
    %stack = tf.TensorListStack(%sized, %two) {element_dtype = float32}
    %gather = tf.TensorListGather(%sized, %i, %two) {element_dtype = float32}
    %split = tf.TensorListSplit(%x, %any2, %lengths)
    %concat = tf.TensorListConcatV2(%split, %any2, %none) {element_dtype = float32}
    %length = tf.TensorListLength(%sized)
    %pop = tf.TensorListPopBack(%pushed, %two) {element_dtype = float32}
    %popped = tf.Identity(%pop:1) {T = float32}
    %rest = tf.TensorListConcatLists(%pop, %list) {element_dtype = float32}
    %back = tf.TensorListStack(%rest, %two) {element_dtype = float32}
  }"""


def test_every_operator_of_lists(runtimes: Any) -> None:
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "i": np.array([4, 0], np.int32)}
    names = ["stack", "concat", "concat:1", "gather", "length", "popped", "back"]
    assert_same(runtimes, parse_model(LISTS), feeds, names)


# The TensorFlow runtime itself ---------------------------------------------------------------------------------


def test_the_session_is_kept_until_the_model_changes(runtimes: Any) -> None:
    model = parse_model(
        "graph @main(%x: float32[2, 2]) -> (%y) { %c = tf.Const() {value = float32[] 2.0}  %y = tf.Mul(%x, %c) }"
    )
    runtime = runtimes[1]
    assert runtime.run(model, {"x": X})["y"].tolist() == (2 * X).tolist()
    session = runtime._sessions[model][1]
    runtime.run(model, {"x": X})
    assert runtime._sessions[model][1] is session
    model.graph.node("c").attrs["value"] = tensor(np.float32(3))
    assert runtime.run(model, {"x": X})["y"].tolist() == (3 * X).tolist()


def test_every_intermediate_that_can_be_fetched(tensorflow: Any, runtimes: Any) -> None:
    def build(v1: Any) -> None:
        x, p = v1.placeholder("float32", [2, 2], name="x"), v1.placeholder("bool", [], name="p")
        y = v1.cond(
            p, lambda: x * 2.0, lambda: v1.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a + x), [0, x])[1]
        )
        v1.nn.relu(y, name="y")

    model = v1_model(tensorflow, build)
    model.set_signature({"x": model.graph.value("x"), "p": model.graph.value("p")}, {"y": model.graph.value("y")})
    for p in (True, False):
        found = runtimes[1].run_all(model, {"x": X, "p": np.array(p)})
        known = runtimes[0].run_all(model, {"x": X, "p": np.array(p)})
        assert {"x:0", "p:0", "y:0", "cond/Merge:0"} <= set(found)
        for name, array in found.items():
            np.testing.assert_allclose(known[name], array, rtol=1e-6)


def test_what_tensorflow_refuses_and_where_it_fails(runtimes: Any) -> None:
    refused = parse_model("graph @main(%x: float32[2]) -> (%y) { %y = tf.NobodyKnowsThis(%x) : float32[*] }")
    with pytest.raises(RunError, match=r"does not accept the graph: .*NobodyKnowsThis"):
        runtimes[1].run(refused, {"x": np.ones(2, np.float32)})
    failing = parse_model("graph @main(%x: float32[*], %z: float32[*]) -> (%y) { %y = tf.AddV2(%x, %z) }")
    with pytest.raises(RunError, match=r"TensorFlow failed: .*y"):
        runtimes[1].run(failing, {"x": np.ones(2, np.float32), "z": np.ones(3, np.float32)})


def test_a_model_over_two_gigabytes_is_refused(runtimes: Any) -> None:
    from graphopt.ir.tensors import ArrayTensor

    model = parse_model("graph @main() -> (%y) { %c = tf.Const() {value = float32[2] [1.0, 2.0]}  %y = tf.Neg(%c) }")
    model.graph.node("c").attrs["value"] = ArrayTensor(np.empty(1 << 29, np.float32))  # never touched, so no memory
    with pytest.raises(UnsupportedError, match="2 GiB"):
        runtimes[1].run(model, {})


def test_an_oracle_for_operators_outside_the_table() -> None:
    from graphopt.runtimes.tensorflow import tensorflow_shape_oracle

    model = parse_model("""graph @main(%x: float32[4, ?, 3]) -> (%y) {
        %y = tf.BesselI0(%x)
        %z = tf.NobodyKnowsThis(%x) : float32[*]
      }""")
    model.graph.value("y").type = unshaped(FLOAT32)
    oracle = tensorflow_shape_oracle()
    found = oracle(model.graph.node("y"))
    assert found is not None
    assert [str(item) for item in found] == ["float32[4, ?, 3]"]
    assert oracle(model.graph.node("z")) is None
    infer_graph(model.graph, oracle=oracle)
    assert str(model.graph.value("y").type) == "float32[4, ?, 3]"


# Random and real graphs ----------------------------------------------------------------------------------------

UNARY = ("Relu", "Neg", "Tanh", "Abs", "Sigmoid", "Square")
BINARY = ("AddV2", "Mul", "Sub", "Maximum")


@given(choices=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12))
def test_random_graphs(runtimes: Any, choices: list[tuple[int, int, int]]) -> None:
    lines, names = [], ["x", "z"]
    for number, (kind, left, right) in enumerate(choices):
        first, second = names[left % len(names)], names[right % len(names)]
        node = f"{UNARY[kind]}(%{first})" if kind < len(UNARY) else f"{BINARY[kind - len(UNARY)]}(%{first}, %{second})"
        lines.append(f"%n{number} = tf.{node}")
        names.append(f"n{number}")
    model = parse_model(f"graph @main(%x: float32[2, 2], %z: float32[2]) -> (%{names[-1]}) {{ {chr(10).join(lines)} }}")
    assert_same(runtimes, model, {"x": X, "z": np.array([0.5, -1.5], np.float32)}, names)


@pytest.mark.corpus("graphdef/dl4j-test-resources/rnn__*.pb", "graphdef/dl4j-test-resources/lstm_mnist.pb")
def test_recurrent_networks_with_recorded_outputs(runtimes: Any, corpus_file: pathlib.Path) -> None:
    recorded = np.load(corpus_file.with_suffix(".io.npz"), allow_pickle=False)
    model = load(corpus_file)
    feeds = {key.removeprefix("in|"): recorded[key] for key in recorded.files if key.startswith("in|")}
    outputs = {key.removeprefix("out|"): recorded[key] for key in recorded.files if key.startswith("out|")}
    assert outputs
    found = assert_same(runtimes, model, feeds, list(outputs))
    for name, expected in outputs.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)


# State --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stateful(tensorflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A SavedModel with a variable that is read, one that is counted up, and a table filled from a file."""
    tf = tensorflow
    folder = tmp_path_factory.mktemp("stateful")
    (folder / "words.txt").write_text("a\nb\n")

    class Made(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.w = tf.Variable([1.0, 2.0], name="w")
            self.count = tf.Variable(0, name="count", dtype=tf.int64)
            lines = tf.lookup.TextFileInitializer(
                str(folder / "words.txt"),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            self.table = tf.lookup.StaticHashTable(lines, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "word")])
        def __call__(self, word: Any) -> Any:
            return {"row": self.table.lookup(word), "w": self.w * 2.0, "count": self.count.assign_add(1)}

    made = Made()
    tf.saved_model.save(made, str(folder / "saved"), signatures=made.__call__)
    return read_savedmodel(folder / "saved")


def test_a_model_has_its_state(runtimes: tuple[Any, Any], stateful: Model) -> None:
    model = stateful.clone()
    for _ in range(2):  # what one run counts, the next does not see
        found = runtimes[1].run(model, {"word": ["b", "?", "a"]})
        assert found["row"].tolist() == [1, -1, 0]
        assert found["w"].tolist() == [2.0, 4.0]
        assert found["count"] == 1
    model.variables["w"].value = tensor(np.array([5, 6], np.float32))
    assert runtimes[1].run(model, {"word": ["b"]})["w"].tolist() == [10.0, 12.0]


def test_a_variable_of_a_function(runtimes: tuple[Any, Any]) -> None:
    model = parse_model(
        """graph @main() -> (%y, %z) {
          %y = tf.StatefulPartitionedCall() {f = @f, Tin = [], Tout = [float32]}
          %v = tf.VariableV2() {dtype = float32, shape = shape[1]}
          %z = tf.Identity(%v) {T = float32}
        }
        function @f() -> (%r) {
          %h = tf.VarHandleOp() {dtype = float32, shape = shape[1], shared_name = b"h"}
          %r = tf.ReadVariableOp(%h) {dtype = float32}
        }"""
    )
    for name, held in (("h", 3), ("v", 4)):
        model.variables[name] = Variable(name, FLOAT32, Shape([1]), tensor(np.array([held], np.float32)))
    infer_model(model)
    assert {name: item.tolist() for name, item in runtimes[1].run(model, {}).items()} == {"y": [3.0], "z": [4.0]}


def test_initialisers_that_fail(runtimes: tuple[Any, Any]) -> None:
    model = parse_model(
        """graph @main(%x: float32[]) -> (%y) targets(%init) {
          %no = tf.Const() {value = bool[] false}
          %init = tf.Assert(%no, %no) {T = [bool], summarize = 3}
          %y = tf.Neg(%x) {T = float32}
        }"""
    )
    model.metadata["metagraph"] = SimpleNamespace(initialisers=("init",), assets=())
    with pytest.raises(RunError, match="TensorFlow does not initialise the model"):
        runtimes[1].run(model, {"x": 1.0})
