"""plain-tensor-arrays: loops as TensorFlow 1 wrote them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from control_helpers import arrays_left, refusals
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.formats.graphdef import read_graphdef
from graphopt.ir.verifier import verify
from graphopt.passes import PassManager
from graphopt.testing import assert_equivalent

NAME = "plain-tensor-arrays"


@pytest.mark.tensorflow
@given(st.integers(3, 6), st.integers(1, 3), st.integers(0, 2), st.booleans())
def test_arrays_of_tensorflow_1(count: int, width: int, back: int, conditional: bool) -> None:
    """A loop as `tf.while_loop` wrote it: what it wrote before is read, in a branch or not, while more is written."""
    v1, arrays = tensorflow_1()
    graph = v1.Graph()
    with graph.as_default():
        x = v1.placeholder("float32", [width], name="x")
        made = arrays.TensorArray("float32", count, element_shape=[width], clear_after_read=False)
        made = made.write(0, x)

        def body(i: object, array: object, state: object) -> object:
            place = v1.maximum(i - 1 - back, 0)
            if conditional:
                state = v1.cond(v1.equal(i % 2, 0), lambda: array.read(place) + state, lambda: state - x)
                flow = v1.cond(v1.equal(i % 3, 0), lambda: v1.identity(array.flow), lambda: array.write(i, state).flow)
                return i + 1, arrays.build_ta_with_new_flow(array, flow), state
            state = v1.tanh(array.read(place)) + state
            return i + 1, array.write(i, state), state

        _, made, last = v1.while_loop(lambda i, *_: i < count, body, (1, made, x))
        v1.identity(made.stack(), name="y")
        v1.identity(last, name="z")
    source = read_graphdef(graph.as_graph_def().SerializeToString())
    source.set_signature({"x": source.graph.value("x")}, {name: source.graph.value(name) for name in ("y", "z")})
    model = source.clone()
    report = PassManager(f"strip-unused,infer-shapes,raise-control-flow,infer-shapes,fold-constants,{NAME}").run(model)
    verify(model)
    assert not arrays_left(model), [refusals(item) for item in report.passes]
    assert list(model.signatures) == list(source.signatures)
    feeds = {"x": np.random.default_rng(count).normal(size=width).astype(np.float32)}
    assert_equivalent(source, model, feeds, runtime="tensorflow", allow_flat=True)


@pytest.fixture(scope="module", autouse=True)
def control_flow_of_tensorflow_2() -> Iterator[None]:
    """What comes after these tests finds TensorFlow as it was."""
    yield
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].compat.v1.enable_control_flow_v2()


def tensorflow_1() -> tuple[Any, Any]:
    """TensorFlow 1's functions, with its control flow, and its tensor arrays."""
    v1 = pytest.importorskip("tensorflow").compat.v1
    from tensorflow.python.ops import tensor_array_ops

    v1.disable_control_flow_v2()
    return v1, tensor_array_ops


class Cell:
    """A recurrent cell without weights, as TensorFlow 1's recurrent loops take it."""

    state_size = output_size = 3

    def __call__(self, x: Any, state: Any, scope: Any = None) -> Any:
        v1, _ = tensorflow_1()
        new = v1.tanh(x + 0.5 * state)
        return new * 2.0, new

    def zero_state(self, batch: int, dtype: Any) -> Any:
        v1, _ = tensorflow_1()
        return v1.zeros([batch, 3], dtype)

    def get_initial_state(self, inputs: Any = None, batch_size: Any = None, dtype: Any = None) -> Any:
        return self.zero_state(batch_size, dtype)


def recurrent(kind: str, x: Any) -> Any:
    """The outputs of one of TensorFlow 1's recurrent loops over `x`."""
    v1, arrays = tensorflow_1()
    from tensorflow.python.ops import rnn

    cell = Cell()
    if kind != "raw_rnn":
        lengths = v1.constant([3, 5]) if kind == "lengths" else None
        return rnn.dynamic_rnn(cell, x, dtype="float32", sequence_length=lengths)[0]
    rows = arrays.TensorArray("float32", 5).unstack(v1.transpose(x, [1, 0, 2]))

    def step(time: Any, output: Any, state: Any, _: Any) -> Any:
        finished = time >= v1.constant([5, 4])
        given = v1.cond(v1.reduce_all(finished), lambda: v1.zeros([2, 3]), lambda: rows.read(time))
        return finished, given, cell.zero_state(2, "float32") if output is None else state, output, None

    return rnn.raw_rnn(cell, step)[0].stack()


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["dynamic_rnn", "lengths", "raw_rnn"])
def test_recurrent_loops_of_tensorflow_1(kind: str) -> None:
    v1, _ = tensorflow_1()
    graph = v1.Graph()
    with graph.as_default():
        x = v1.placeholder("float32", [2, 5, 3], name="x")
        v1.identity(recurrent(kind, x), name="y")
    source = read_graphdef(graph.as_graph_def().SerializeToString())
    source.set_signature({"x": source.graph.value("x")}, {"y": source.graph.value("y")})
    model = source.clone()
    before = "infer-shapes,fold-constants,take-constant-branches,strip-unused,raise-control-flow,specialise-functions"
    report = PassManager(f"{before},infer-shapes,fold-constants,{NAME}{{dynamic=true}}").run(model)
    assert not arrays_left(model), [refusals(item) for item in report.passes]
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)}
    assert_equivalent(source, model, feeds, runtime="tensorflow", exactness="reassociating")
