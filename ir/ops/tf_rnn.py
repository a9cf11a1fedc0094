"""Operators of TensorFlow: rnn: fused cells and layers. Sequences are `[time, batch, depth]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim, multiply
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import ShapeFunction, register
from graphopt.ir.ops.tf_windows import check_size, merge_dims, ranked, settled, widened
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]
STATES = 7  # outputs of an LSTM: input gate, cell, forget gate, output gate, candidate, squashed cell, result


# Shapes -------------------------------------------------------------------------------------------------------


def _lstm_shape(sequence: bool) -> ShapeFunction:
    """Seven outputs `[batch, units]`, for a sequence `[time, batch, units]`."""
    first = 1 if sequence else 0

    def infer(context: InferenceContext) -> Sequence[Shape]:
        inputs = ranked(context.shape(first), 3 if sequence else 2, "the input")
        cells = ranked(context.shape(first + 1), 2, "the cells")
        results = ranked(context.shape(first + 2), 2, "the results")
        weights = ranked(context.shape(first + 3), 2, "the weights")
        batch = merge_dims(inputs[-2], merge_dims(cells[0], results[0], "the batch"), "the batch")
        units = merge_dims(cells[1], results[1], "the number of units")
        if isinstance(weights[1], int):
            if weights[1] % 4:
                raise InferenceError(f"weights of shape {weights} do not hold four gates")
            units = merge_dims(units, weights[1] // 4, "the number of units")
        result = Shape((inputs[0], batch, units) if sequence else (batch, units))
        return [result] * context.output_count

    return infer


def _gru_shape(context: InferenceContext) -> Sequence[Shape]:
    inputs, results = ranked(context.shape(0), 2, "the input"), ranked(context.shape(1), 2, "the state")
    batch = merge_dims(inputs[0], results[0], "the batch")
    units = merge_dims(results[1], ranked(context.shape(3), 2, "the weights")[1], "the number of units")
    return [Shape((batch, units))] * context.output_count


def _shapes_of_inputs(*indices: int) -> ShapeFunction:
    """Gradients shaped like the inputs they belong to."""

    def infer(context: InferenceContext) -> Sequence[Shape]:
        return [context.shape(index) for index in indices]

    return infer


def _gru_gradient_shape(context: InferenceContext) -> Sequence[Shape]:
    state = ranked(context.shape(1), 2, "the state")
    return [context.shape(0), state, state, Shape((state[0], multiply(state[1], 2)))]


def _cell_gradient_shape(context: InferenceContext) -> Sequence[Shape]:
    cells = ranked(context.shape(1), 2, "the cells")
    gates = Shape((cells[0], multiply(cells[1], 4)))
    return [cells, gates, context.shape(4), context.shape(5), context.shape(6)]


@settled("rnn_mode", "direction", "num_proj", "time_major")
def _cudnn_shape(context: InferenceContext) -> Sequence[Shape]:
    attrs = context.attrs
    inputs, state = ranked(context.shape(0), 3, "the input"), ranked(context.shape(1), 3, "the state")
    both = 2 if attrs.get("direction") == b"bidirectional" else 1
    depth: Dim = multiply(state[2], both)
    result = Shape((inputs[0], inputs[1], depth))
    cells = context.shape(2) if attrs.get("rnn_mode") == b"lstm" else UNKNOWN_SHAPE
    return [result, state, cells, *[UNKNOWN_SHAPE] * (context.output_count - 3)]


# Evaluation ---------------------------------------------------------------------------------------------------


def sigmoid(values: Array) -> Array:
    """Logistic function, without overflow."""
    tail = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1, tail) / (1 + tail))


def _lstm_step(
    inputs: Array, cells: Array, results: Array, weights: Array, peepholes: Sequence[Array], bias: Array,
    forget_bias: float, clip: float, gates: Sequence[int],
) -> list[Array]:  # fmt: skip
    """One step. `gates` says where input gate, candidate, forget gate and output gate are among the columns."""
    columns = np.concatenate([inputs, results], 1) @ weights + bias
    units = cells.shape[1]
    entry, candidate, forget, exit_ = (columns[:, place * units : (place + 1) * units] for place in gates)
    if peepholes:
        entry, forget = entry + cells * peepholes[0], forget + cells * peepholes[1]
    entry, forget = sigmoid(entry), sigmoid(forget + cells.dtype.type(forget_bias))
    candidate = np.tanh(candidate)
    after = candidate * entry + cells * forget
    if clip > 0:
        after = np.clip(after, -clip, clip)
    exit_ = sigmoid(exit_ + after * peepholes[2] if peepholes else exit_)
    squashed = np.tanh(after)
    return [entry, after, forget, exit_, candidate, squashed, exit_ * squashed]


def _check_lstm(inputs: Array, cells: Array, results: Array, weights: Array, bias: Array) -> None:
    batch, units = cells.shape if cells.ndim == 2 else (-1, -1)
    expected = (inputs.shape[-1] + units, 4 * units)
    if inputs.shape[-2] != batch or results.shape != cells.shape or weights.shape != expected:
        raise ValueError(
            f"inputs {list(inputs.shape)}, cells {list(cells.shape)}, state {list(results.shape)} and weights "
            f"{list(weights.shape)} do not fit"
        )
    if bias.shape != (4 * units,):
        raise ValueError(f"a bias of shape {list(bias.shape)} does not fit {units} units")


def _lstm_cell(attrs: Attrs, inputs: Array, *rest: Array) -> list[Array]:
    """`LSTMBlockCell`: one step, gates in the order input, candidate, forget, output."""
    dtype = inputs.dtype
    if inputs.ndim != 2:
        raise ValueError(f"the input must be [batch, depth], not of shape {list(inputs.shape)}")
    inputs, cells, results, weights, *peepholes, bias = (widened(item) for item in (inputs, *rest))
    _check_lstm(inputs, cells, results, weights, bias)
    used = peepholes if attrs["use_peephole"] else ()
    with np.errstate(all="ignore"):
        outputs = _lstm_step(
            inputs, cells, results, weights, used, bias, attrs["forget_bias"], attrs["cell_clip"], (0, 1, 2, 3)
        )
    return [item.astype(dtype, copy=False) for item in outputs]


def _lstm_layer(attrs: Attrs, last: Array, inputs: Array, *rest: Array) -> list[Array]:
    """`BlockLSTM` and, with its gates in the order input, forget, candidate, output, `BlockLSTMV2`.

    Steps from `last` on give zeros.
    """
    dtype = inputs.dtype
    if inputs.ndim != 3 or np.size(last) != 1:
        raise ValueError(f"the input must be [time, batch, depth], not of shape {list(inputs.shape)}")
    inputs, cells, results, weights, *peepholes, bias = (widened(item) for item in (inputs, *rest))
    _check_lstm(inputs, cells, results, weights, bias)
    newer = "forget_bias" not in attrs
    used = peepholes if attrs["use_peephole"] else ()
    check_size((len(inputs), *cells.shape))
    outputs = [np.zeros((len(inputs), *cells.shape), dtype) for _ in range(STATES)]
    forget_bias = 0.0 if newer else attrs["forget_bias"]
    with np.errstate(all="ignore"):
        for time in range(min(len(inputs), int(last))):
            step = _lstm_step(
                inputs[time], cells, results, weights, used, bias, forget_bias, attrs["cell_clip"],
                (0, 2, 1, 3) if newer else (0, 1, 2, 3),
            )  # fmt: skip
            cells, results = step[1], step[6]
            for output, item in zip(outputs, step, strict=True):
                output[time] = item
    return outputs


def _gru_cell(attrs: Attrs, inputs: Array, state: Array, *rest: Array) -> list[Array]:
    """`GRUBlockCell`: reset gate, update gate, candidate, result."""
    dtype = inputs.dtype
    inputs, state, gate_weights, weights, gate_bias, bias = (widened(item) for item in (inputs, state, *rest))
    if inputs.ndim != 2 or state.ndim != 2 or inputs.shape[0] != state.shape[0]:
        raise ValueError(f"inputs {list(inputs.shape)} and state {list(state.shape)} do not fit")
    units, depth = state.shape[1], inputs.shape[1] + state.shape[1]
    if gate_weights.shape != (depth, 2 * units) or weights.shape != (depth, units):
        raise ValueError(f"weights {list(gate_weights.shape)} and {list(weights.shape)} do not fit {units} units")
    if gate_bias.shape != (2 * units,) or bias.shape != (units,):
        raise ValueError(f"biases {list(gate_bias.shape)} and {list(bias.shape)} do not fit {units} units")
    with np.errstate(all="ignore"):
        gates = sigmoid(np.concatenate([inputs, state], 1) @ gate_weights + gate_bias)
        reset, update = gates[:, :units], gates[:, units:]
        candidate = np.tanh(np.concatenate([inputs, state * reset], 1) @ weights + bias)
        result = update * state + (1 - update) * candidate
    return [item.astype(dtype) for item in (reset, update, candidate, result)]


register("tf.LSTMBlockCell", shape=_lstm_shape(False), evaluate=_lstm_cell)
register(("tf.BlockLSTM", "tf.BlockLSTMV2"), shape=_lstm_shape(True), evaluate=_lstm_layer)
register("tf.GRUBlockCell", shape=_gru_shape, evaluate=_gru_cell)
# Stateful only for the random numbers of their dropout.
register(("tf.CudnnRNN", "tf.CudnnRNNV2", "tf.CudnnRNNV3"), shape=_cudnn_shape)

register("tf.LSTMBlockCellGrad", traits=Trait.TRAINING, shape=_cell_gradient_shape)
register(
    ("tf.BlockLSTMGrad", "tf.BlockLSTMGradV2"),
    traits=Trait.TRAINING,
    shape=_shapes_of_inputs(1, 2, 3, 4, 5, 6, 7, 8),
)
register("tf.GRUBlockCellGrad", traits=Trait.TRAINING, shape=_gru_gradient_shape)
register(
    ("tf.CudnnRNNBackprop", "tf.CudnnRNNBackpropV2", "tf.CudnnRNNBackpropV3"),
    traits=Trait.TRAINING,
    shape=_shapes_of_inputs(0, 1, 2, 3),
)
register("tf.CudnnRNNParamsSize", shape=lambda context: [Shape((1,))])
register(("tf.CudnnRNNCanonicalToParams", "tf.CudnnRNNCanonicalToParamsV2"), shape=lambda context: [Shape((None,))])
register(
    ("tf.CudnnRNNParamsToCanonical", "tf.CudnnRNNParamsToCanonicalV2"),
    shape=lambda context: [UNKNOWN_SHAPE] * context.output_count,
)
