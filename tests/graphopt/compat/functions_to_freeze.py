"""Functions of TensorFlow with variables, calls, branches and loops, for the tests of freezing.

Each maker returns a concrete function and the inputs to run it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

STATE = {"Variable", "VariableV2", "VarHandleOp", "ReadVariableOp"}
ALIVE: list[Any] = []  # functions refer weakly to the variables they capture


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
