"""Fused recurrent cells and layers against TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import check_operator

from graphopt.ir import ops
from graphopt.ir.dimensions import symbol
from graphopt.ir.graph import Graph
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.types import UNKNOWN_SHAPE, Shape, tensor_type

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=15)
DEPTH, UNITS = 5, 4
LSTM = st.fixed_dictionaries({"use_peephole": st.booleans(), "cell_clip": st.sampled_from([-1.0, 0.0, 0.4, 3.0])})


def values(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.RandomState(seed).uniform(-1.5, 1.5, shape).astype(np.float32)


def lstm_inputs(seed: int, *leading: int) -> list[Any]:
    state = [values(seed + place, leading[-1], UNITS) for place in (1, 2)]
    weights = values(seed + 3, DEPTH + UNITS, 4 * UNITS)
    return [values(seed, *leading, DEPTH), *state, weights, *values(seed + 4, 3, UNITS), values(seed + 5, 4 * UNITS)]


@tensorflow
@FEW
@given(st.integers(0, 99), LSTM, st.floats(-1, 1), st.integers(1, 3))
def test_lstm_cell(seed: int, attrs: dict[str, Any], bias: float, batch: int) -> None:
    check_operator("LSTMBlockCell", lstm_inputs(seed, batch), {**attrs, "forget_bias": bias}, rtol=1e-4, atol=1e-5)


@tensorflow
@FEW
@given(st.integers(0, 99), LSTM, st.floats(-1, 1), st.integers(1, 3), st.integers(1, 5))
def test_lstm_layer(seed: int, attrs: dict[str, Any], bias: float, batch: int, time: int) -> None:
    inputs = [np.array(time), *lstm_inputs(seed, time, batch)]
    check_operator("BlockLSTM", inputs, {**attrs, "forget_bias": bias}, rtol=1e-4, atol=1e-5)
    check_operator("BlockLSTMV2", inputs, attrs, rtol=1e-4, atol=1e-5)


@tensorflow
@pytest.mark.parametrize("op", ["BlockLSTM", "BlockLSTMV2"])
def test_steps_beyond_the_last_give_zeros(op: str) -> None:
    def compare(index: int, ours: Any, theirs: Any) -> None:
        assert not ours[3:].any()
        kept = slice(None) if index in (1, 6) else slice(0, 3)  # TensorFlow leaves the others unset
        oracle.assert_same(ours[kept], theirs[kept], rtol=1e-4, atol=1e-5)

    check_operator(op, [np.array(3), *lstm_inputs(7, 6, 2)], {}, compare=compare)


@tensorflow
@FEW
@given(st.integers(0, 99), st.integers(1, 3))
def test_gru_cell(seed: int, batch: int) -> None:
    width = DEPTH + UNITS
    inputs = [values(seed, batch, DEPTH), values(seed + 1, batch, UNITS), values(seed + 2, width, 2 * UNITS),
              values(seed + 3, width, UNITS), values(seed + 4, 2 * UNITS), values(seed + 5, UNITS)]  # fmt: skip
    check_operator("GRUBlockCell", inputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("op", "leading"), [("LSTMBlockCell", (2,)), ("BlockLSTM", (3, 2))])
@pytest.mark.parametrize("place", [1, 2, 3, 7])
def test_inputs_that_do_not_fit_are_refused(op: str, leading: tuple[int, ...], place: int) -> None:
    inputs = lstm_inputs(0, *leading)
    inputs[place] = inputs[place][..., :-1]
    with pytest.raises(ValueError, match="do"):
        oracle.evaluate(op, [*([np.array(3)] if op == "BlockLSTM" else []), *inputs], {})


def infer(op: str, attrs: dict[str, Any], *inputs: Shape, outputs: int) -> list[Shape]:
    graph = Graph()
    sources = [graph.create_node("tf.Placeholder", types=(tensor_type("float32", item),)).output for item in inputs]
    node = graph.create_node(op, sources, attrs, types=(tensor_type("float32"),) * outputs)
    operator = ops.find(op)
    assert operator is not None
    assert operator.shape is not None
    return list(operator.shape(InferenceContext(node)))


def test_units_follow_from_the_weights() -> None:
    n, t = symbol("n"), symbol("t")
    rest = [UNKNOWN_SHAPE] * 2
    result = infer("tf.BlockLSTM", {}, Shape(()), Shape((t, n, 5)), *rest, Shape((9, 16)), *rest, *rest, outputs=7)
    assert result == [Shape((t, n, 4))] * 7
    with pytest.raises(InferenceError):
        infer("tf.LSTMBlockCell", {}, Shape((1, 5)), *rest, Shape((9, 15)), *rest, *rest, outputs=7)


def test_layers_of_other_devices_know_their_shapes() -> None:
    n, t = symbol("n"), symbol("t")
    state = Shape((2, n, 8))
    attrs = {"rnn_mode": b"lstm", "direction": b"bidirectional"}
    result = infer("tf.CudnnRNN", attrs, Shape((t, n, 5)), state, state, UNKNOWN_SHAPE, outputs=4)
    assert result == [Shape((t, n, 16)), state, state, UNKNOWN_SHAPE]
    result = infer("tf.CudnnRNNV2", {"rnn_mode": b"gru"}, Shape((t, n, 5)), state, *[UNKNOWN_SHAPE] * 2, outputs=5)
    assert result == [Shape((t, n, 8)), state, *[UNKNOWN_SHAPE] * 3]
