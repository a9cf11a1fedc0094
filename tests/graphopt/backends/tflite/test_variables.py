"""Variables that a model changes stay variables: resources of TFLite, compared with TensorFlow run by run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.ir.model import Model
from graphopt.lowering import lower
from graphopt.testing.lowering import operators

pytestmark = pytest.mark.tensorflow
Array = np.ndarray[Any, Any]
Runs = list[tuple[str, dict[str, Array]]]


def interpreter(model: Model) -> Any:
    """LiteRT with the model."""
    from ai_edge_litert.interpreter import Interpreter

    from graphopt.ir.formats.tflite import write_model

    return Interpreter(model_content=b"".join(write_model(model).pieces))


def results(model: Model, runs: Runs) -> Iterator[dict[str, Array]]:
    """Outputs of one run of a signature after the other, in one interpreter."""
    held = interpreter(model)
    for name, feeds in runs:
        yield dict(held.get_signature_runner(name)(**feeds))


def check(module: Any, signatures: dict[str, Any], folder: Path, runs: Runs) -> Model:
    """Lower the module and compare every run with the module itself, as it is after the runs before."""
    import tensorflow as tf

    tf.saved_model.save(module, str(folder), signatures=signatures)
    lowered = lower(folder, "tflite").model
    loaded = tf.saved_model.load(str(folder))
    for (name, feeds), found in zip(runs, results(lowered, runs), strict=True):
        right = loaded.signatures[name](**{key: tf.constant(value) for key, value in feeds.items()})
        assert set(found) == set(right)
        for key, value in right.items():
            np.testing.assert_allclose(found[key], value.numpy(), rtol=1e-6, atol=1e-6)
    return lowered


def vector(*numbers: float) -> dict[str, Array]:
    return {"x": np.array(numbers, np.float32)}


def spec() -> Any:
    import tensorflow as tf

    return tf.TensorSpec([2], tf.float32, name="x")


def test_a_sum_that_grows(tmp_path: Path) -> None:
    import tensorflow as tf

    class Total(tf.Module):
        def __init__(self) -> None:
            self.total = tf.Variable([1.0, 2.0])
            self.scale = tf.Variable([3.0, 3.0])

        @tf.function(input_signature=[spec()])
        def add(self, x: Any) -> Any:
            before = tf.identity(self.total)
            self.total.assign_add(x * self.scale)
            self.total.assign_sub(tf.ones(2))
            return {"before": before, "after": self.total * 2.0}

    module = Total()
    runs = [("serving_default", vector(1.0, k)) for k in (1.0, -2.0, 5.0)]
    lowered = check(module, {"serving_default": module.add}, tmp_path, runs)
    found = operators(lowered)
    assert found["CALL_ONCE"] == 1
    assert found["VAR_HANDLE"] == 2  # `scale`, which nothing changes, is a constant
    assert found["ASSIGN_VARIABLE"] == 3


def test_signatures_share_what_one_of_them_changes(tmp_path: Path) -> None:
    import tensorflow as tf

    class Trained(tf.Module):
        def __init__(self) -> None:
            self.weights = tf.Variable([0.5, -0.5])

        @tf.function(input_signature=[spec()])
        def infer(self, x: Any) -> Any:
            return {"y": x * self.weights}

        @tf.function(input_signature=[spec()])
        def train(self, x: Any) -> Any:
            self.weights.assign(self.weights * 0.9 + x)
            return {"norm": tf.reduce_sum(self.weights)}

    module = Trained()
    runs = [("infer", vector(1.0, 2.0)), ("train", vector(0.1, 0.2)), ("infer", vector(1.0, 2.0)),
            ("train", vector(-3.0, 0.2)), ("infer", vector(1.0, 2.0))]  # fmt: skip
    lowered = check(module, {"infer": module.infer, "train": module.train}, tmp_path, runs)
    assert operators(lowered)["CALL_ONCE"] == 2
    alone = lower(tmp_path, "tflite", signatures=("infer",)).model
    assert operators(alone) == {"MUL": 1}


def test_branches_and_loops(tmp_path: Path) -> None:
    import tensorflow as tf

    class Branching(tf.Module):
        def __init__(self) -> None:
            self.count = tf.Variable(0)
            self.state = tf.Variable([1.0, 1.0])

        @tf.function(input_signature=[spec()])
        def step(self, x: Any) -> Any:
            if tf.reduce_sum(x) > 0.0:
                self.state.assign_add(x)
            else:
                self.state.assign(x * 2.0)
            for _ in tf.range(3):
                self.count.assign_add(1)
                self.state.assign(self.state * 0.5)
            return {"count": self.count.read_value(), "state": self.state.read_value()}

    module = Branching()
    runs = [("serving_default", vector(*pair)) for pair in ((1.0, 2.0), (-1.0, -2.0), (3.0, 1.0))]
    lowered = check(module, {"serving_default": module.step}, tmp_path, runs)
    assert {"WHILE", "IF"} <= set(operators(lowered))


def test_rows_of_a_variable(tmp_path: Path) -> None:
    import tensorflow as tf

    class Rows(tf.Module):
        def __init__(self) -> None:
            self.table = tf.Variable(np.arange(6, dtype=np.float32).reshape(3, 2))

        @tf.function(input_signature=[tf.TensorSpec([2], tf.int32, name="i")])
        def look(self, i: Any) -> Any:
            found = tf.nn.embedding_lookup(self.table, i)
            self.table.assign_add(tf.ones([3, 2]))
            return {"y": found}

    module = Rows()
    feeds = {"i": np.array([2, 0], np.int32)}
    check(module, {"serving_default": module.look}, tmp_path, [("serving_default", feeds)] * 3)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["assign", "add", "sub", "read"]), st.integers(0, 1)), max_size=6))
def test_any_order(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    import tensorflow as tf

    class Steps(tf.Module):
        def __init__(self) -> None:
            self.variables_ = [tf.Variable([1.0, 2.0]), tf.Variable([3.0, 4.0])]

        @tf.function(input_signature=[spec()])
        def run(self, x: Any) -> Any:
            seen = x
            actions: dict[str, Callable[[Any, Any], Any]] = {
                "assign": lambda v, s: v.assign(s * 0.5),
                "add": lambda v, s: v.assign_add(s),
                "sub": lambda v, s: v.assign_sub(s * 0.25),
                "read": lambda v, s: None,
            }
            for name, place in steps:
                actions[name](self.variables_[place], seen)
                seen = seen + self.variables_[place].read_value()
            return {"y": seen}

    module = Steps()
    runs = [("serving_default", vector(1.0, -1.0)), ("serving_default", vector(2.0, 0.5))]
    check(module, {"serving_default": module.run}, tmp_path_factory.mktemp("steps"), runs)


def test_a_variable_without_a_value_is_set_by_a_signature_first(tmp_path: Path) -> None:
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        held = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[2], shared_name="held", name="held")
        x = tf.compat.v1.placeholder(tf.float32, [2], name="x")
        with tf.control_dependencies([tf.raw_ops.AssignVariableOp(resource=held, value=x)]):
            tf.identity(tf.raw_ops.ReadVariableOp(resource=held, dtype=tf.float32) * 2, name="y")
    (tmp_path / "model.pb").write_bytes(graph.as_graph_def().SerializeToString())
    lowered = lower(tmp_path / "model.pb", "tflite", inputs="x", outputs="y")
    assert operators(lowered.model) == {"VAR_HANDLE": 1, "ASSIGN_VARIABLE": 1, "READ_VARIABLE": 1, "MUL": 1}
    assert any("'held' has no value to start from" in note for note in lowered.notes)
    (found,) = results(lowered.model, [("serving_default", vector(1, 3))])
    np.testing.assert_array_equal(found["y"], [2, 6])
