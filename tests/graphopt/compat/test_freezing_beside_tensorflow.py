"""TensorFlow's own freezing functions beside ours: the same models, arguments and inputs, the same outputs."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from graphopt.compat import freezing

pytestmark = pytest.mark.tensorflow
STATE = {"Variable", "VariableV2", "VarHandleOp", "ReadVariableOp"}


@pytest.fixture(scope="module")
def tf() -> Any:
    return pytest.importorskip("tensorflow")


def mobilenet(tf: Any) -> tuple[Any, list[int]]:
    tf.keras.utils.set_random_seed(1)
    return tf.keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=5), [1, 32, 32, 3]


def recurrent(kind: str, bidirectional: bool = False) -> Callable[[Any], tuple[Any, list[int]]]:
    def make(tf: Any) -> tuple[Any, list[int]]:
        tf.keras.utils.set_random_seed(2)
        layers = tf.keras.layers
        layer = getattr(layers, kind)(8, return_sequences=True)
        wrapped = layers.Bidirectional(layer) if bidirectional else layer
        return tf.keras.Sequential([layers.Input((6, 4)), wrapped, layers.Dense(3)]), [2, 6, 4]

    make.__name__ = f"{kind.lower()}{'_both_ways' * bidirectional}"
    return make


MODELS = [mobilenet, recurrent("LSTM"), recurrent("GRU"), recurrent("GRU", bidirectional=True)]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_keras_models(tf: Any, make: Callable[..., Any]) -> None:
    from tensorflow.python.framework import convert_to_constants

    built, shape = make(tf)
    function = tf.function(lambda x: built(x, training=False)).get_concrete_function(tf.TensorSpec(shape, name="x"))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for options in ({}, {"lower_control_flow": False}, {"aggressive_inlining": True}):
        theirs = convert_to_constants.convert_variables_to_constants_v2(function, **options)
        ours = freezing.convert_variables_to_constants_v2(function, **options)
        assert [item.name for item in ours.inputs] == [item.name for item in theirs.inputs]
        assert [item.shape for item in ours.inputs] == [item.shape for item in theirs.inputs]
        assert len(ours.outputs) == len(theirs.outputs)
        definition = ours.graph.as_graph_def()
        assert not STATE & {node.op for node in definition.node}
        (want,), (have,) = theirs(tf.constant(x)), ours(tf.constant(x))
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5 * float(np.abs(want).max()))


# Sessions and files ----------------------------------------------------------------------------------------------


class Graph:
    """A v1 graph with reference and resource variables, a table in a resource, and text: built, run and saved once."""

    def __init__(self, tf: Any, folder: pathlib.Path):
        v1 = tf.compat.v1
        self.graph = tf.Graph()
        rng = np.random.default_rng(3)
        with self.graph.as_default():
            x = v1.placeholder(tf.float32, [2, 3], "x")
            word = v1.placeholder(tf.string, [2], "word")
            with v1.variable_scope("a", use_resource=False):
                reference = v1.get_variable("w", initializer=rng.normal(size=(3, 4)).astype(np.float32))
            with v1.variable_scope("b", use_resource=True):
                resource = v1.get_variable("w", initializer=rng.normal(size=(4,)).astype(np.float32))
                names = v1.get_variable("names", initializer=tf.constant(["u", "v", "w", "z"]))
            y = tf.add(tf.matmul(x, reference), resource, name="y")
            tf.strings.join([word, tf.gather(names, tf.argmax(y, 1))], "-", name="label")
            self.session = v1.Session(graph=self.graph)
            self.session.run(v1.global_variables_initializer())
            self.prefix = v1.train.Saver().save(self.session, str(folder / "model"))
            self.definition = self.graph.as_graph_def()
            v1.train.write_graph(self.definition, str(folder), "graph.pb", as_text=False)
            v1.train.write_graph(self.definition, str(folder), "graph.pbtxt", as_text=True)
            inputs, outputs = {"x": x, "word": word}, {"y": y}
            v1.saved_model.simple_save(self.session, str(folder / "saved"), inputs, outputs)
        self.folder = folder
        self.feeds = {"x:0": rng.normal(size=(2, 3)).astype(np.float32), "word:0": [b"p", b"q"]}


@pytest.fixture(scope="module")
def built(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return Graph(tf, tmp_path_factory.mktemp("graph"))


def kept_variables(definition: Any) -> list[str]:
    return sorted(node.name for node in definition.node if node.op in ("VariableV2", "VarHandleOp"))


def run(tf: Any, definition: Any, feeds: Mapping[str, Any], values: Mapping[str, Any]) -> list[Any]:
    """The outputs, after variables that are left were given their values."""
    v1 = tf.compat.v1
    held = v1.GraphDef.FromString(definition.SerializeToString())
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        tf.import_graph_def(held, name="")
        for name in kept_variables(held):
            node = graph.get_operation_by_name(name)
            if node.type == "VarHandleOp":
                session.run(tf.raw_ops.AssignVariableOp(resource=node.outputs[0], value=values[name]))
            else:
                session.run(tf.raw_ops.Assign(ref=node.outputs[0], value=values[name]))
        return list(session.run(["y:0", "label:0"], dict(feeds)))


def current(built: Graph, definition: Any) -> dict[str, Any]:
    """What the session holds for the variables that `definition` kept."""
    ends = {name: "Read/ReadVariableOp" if name.startswith("b/") else "read" for name in kept_variables(definition)}
    found: dict[str, Any] = built.session.run({name: f"{name}/{end}:0" for name, end in ends.items()})
    return found


def assert_same(tf: Any, built: Graph, ours: Any, theirs: Any) -> None:
    assert kept_variables(ours) == kept_variables(theirs)
    values = current(built, theirs)
    want, have = (run(tf, item, built.feeds, values) for item in (theirs, ours))
    np.testing.assert_allclose(have[0], want[0], rtol=1e-6, atol=1e-6)
    assert have[1].tolist() == want[1].tolist()


LISTS = [
    {},
    {"variable_names_denylist": ["b/w"]},
    {"variable_names_denylist": ["a/w", "b/names"]},
    {"variable_names_allowlist": ["a/w", "b/names"]},
    {"variable_names_allowlist": ["a/w", "b/w"], "variable_names_denylist": ["b/w"]},
]


@pytest.mark.parametrize("lists", LISTS)
def test_a_session_graph(tf: Any, built: Graph, lists: dict[str, list[str]]) -> None:
    from tensorflow.python.framework import convert_to_constants

    found = [
        convert(built.session, built.definition, ["y", "label"], **lists)
        for convert in (
            freezing.convert_variables_to_constants_from_session_graph,
            convert_to_constants.convert_variables_to_constants_from_session_graph,
        )
    ]
    assert_same(tf, built, *found)


@pytest.mark.parametrize("kind", ["binary", "text", "meta", "saved"])
@pytest.mark.parametrize(
    "lists", [{}, {"variable_names_denylist": "b/w"}, {"variable_names_whitelist": "a/w,b/names"}], ids=str
)
def test_freeze_graph(tf: Any, built: Graph, tmp_path: pathlib.Path, kind: str, lists: dict[str, str]) -> None:
    """TensorFlow's tool itself freezes resource variables from MetaGraphs only; the live graph is beside the others."""
    from tensorflow.python.tools import freeze_graph as tool

    name = {"binary": "graph.pb", "text": "graph.pbtxt"}.get(kind)
    found = []
    tools = [freezing.freeze_graph, tool.freeze_graph] if kind == "meta" else [freezing.freeze_graph]
    for place, freeze in enumerate(tools):
        output = tmp_path / f"{place}.pb"
        freeze(
            str(built.folder / name) if name else "",
            "",
            kind != "text",
            built.prefix if kind != "saved" else None,
            "y,label",
            "save/restore_all",
            "save/Const:0",
            str(output),
            True,
            "",
            input_meta_graph=f"{built.prefix}.meta" if kind == "meta" else None,
            input_saved_model_dir=str(built.folder / "saved") if kind == "saved" else None,
            **lists,
        )
        found.append(tf.compat.v1.GraphDef.FromString(output.read_bytes()))
    assert not any(node.device for node in found[0].node)
    assert kept_variables(found[0]) == (["b/w"] if lists else [])
    assert_same(tf, built, found[0], found[-1])
    want = built.session.run(["y:0", "label:0"], built.feeds)
    have = run(tf, found[0], built.feeds, current(built, found[0]))
    np.testing.assert_allclose(have[0], want[0], rtol=1e-6, atol=1e-6)
    assert have[1].tolist() == want[1].tolist()
