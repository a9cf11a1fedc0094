"""Cells of recurrent layers that are one operator: what they compute, step by step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.ir.value import Value
from graphopt.passes.rule import Replacement

STEPS = 256  # of a block that are written out


class Weights(NamedTuple):
    """Of an LSTM cell: one matrix for input and state, a bias, and peepholes where there are some."""

    matrix: Value
    bias: Value
    peepholes: tuple[Value, Value, Value] | None
    forget_bias: float
    clip: float
    order: str  # of the gates along the columns: `ICFO` or `IFCO`


class Step(NamedTuple):
    """What one step of an LSTM cell yields, in the order of TensorFlow's operators."""

    i: Value
    cs: Value
    f: Value
    o: Value
    ci: Value
    co: Value
    h: Value


def lstm_block_cell(op: Lowering) -> Replacement:
    """One step of an LSTM: a product with the weights, gates by sigmoids and hyperbolic tangents."""
    x, state, hidden = op.inputs[:3]
    return list(_step(op, x, state, hidden, _weights(op, op.inputs[3:], "ICFO")))


def block_lstm(op: Lowering) -> Replacement:
    """An LSTM over a known number of steps: all of them, one after the other; steps beyond its length yield zeros."""
    x, state, hidden = op.inputs[1:4]
    count = (x.shape.dims or (None,))[0]
    if not isinstance(count, int) or not 0 < count <= STEPS:
        op.refuse(f"it has {count} steps, and between 1 and {STEPS} can be written out")
    length = min(int(op.constant_input(0, "the number of steps").reshape(())), count)
    if length < 1:
        op.refuse("it runs no step at all")
    weights = _weights(op, op.inputs[4:], "ICFO" if op.node.op == "tf.BlockLSTM" else "IFCO")
    rows = op.edit.node("tf.Unpack", [x], {"num": count, "axis": 0}, name=f"{op.node.name}/steps").outputs
    steps: list[Step] = []
    for row in rows[:length]:
        steps.append(_step(op, row, state, hidden, weights))
        state, hidden = steps[-1].cs, steps[-1].h
    columns = [list(column) for column in zip(*steps, strict=True)]
    used = [bool(value.use_count) or value.is_output for value in op.node.outputs]
    return [_stacked(op, column, count) if wanted else None for column, wanted in zip(columns, used, strict=True)]


def gru_block_cell(op: Lowering) -> Replacement:
    """One step of a gated recurrent unit."""
    x, hidden, gate_weights, weights, gate_bias, bias = op.inputs
    gates = _sigmoid(op, _affine(op, _joined(op, x, hidden), gate_weights, gate_bias))
    reset, update = _split(op, gates, 2)
    candidate = op.source("tf.Tanh", _affine(op, _joined(op, x, _product(op, hidden, reset)), weights, bias))
    rest = op.source("tf.Sub", _number(op, 1.0, x), update)
    made = _sum(op, _product(op, rest, candidate), _product(op, update, hidden))
    return [reset, update, candidate, made]


def _weights(op: Lowering, values: tuple[Value, ...], order: str) -> Weights:
    matrix, wci, wcf, wco, bias = values
    peepholes = (wci, wcf, wco) if op.attr("use_peephole") else None
    forget_bias = float(op.attr("forget_bias", 0.0)) if order == "ICFO" else 0.0
    return Weights(matrix, bias, peepholes, forget_bias, float(op.attr("cell_clip", 0.0)), order)


def _step(op: Lowering, x: Value, state: Value, hidden: Value, weights: Weights) -> Step:
    parts = _split(op, _affine(op, _joined(op, x, hidden), weights.matrix, weights.bias), 4)
    gates = dict(zip(weights.order, parts, strict=True))
    i, f, o = gates["I"], gates["F"], gates["O"]
    if weights.forget_bias:
        f = _sum(op, f, _number(op, weights.forget_bias, f))
    if weights.peepholes is not None:
        wci, wcf, _ = weights.peepholes
        i, f = _sum(op, i, _product(op, state, wci)), _sum(op, f, _product(op, state, wcf))
    i, f, ci = _sigmoid(op, i), _sigmoid(op, f), op.source("tf.Tanh", gates["C"])
    cs = _sum(op, _product(op, ci, i), _product(op, state, f))
    if weights.clip > 0.0:
        cs = op.source("tf.Minimum", cs, _number(op, weights.clip, cs))
        cs = op.source("tf.Maximum", cs, _number(op, -weights.clip, cs))
    if weights.peepholes is not None:
        o = _sum(op, o, _product(op, cs, weights.peepholes[2]))
    o, co = _sigmoid(op, o), op.source("tf.Tanh", cs)
    return Step(i, cs, f, o, ci, co, _product(op, co, o))


def _stacked(op: Lowering, rows: list[Value], count: int) -> Value:
    if len(rows) < count:
        rows = [*rows, *[op.source("tf.ZerosLike", rows[0])] * (count - len(rows))]
    return op.source("tf.Pack", *rows, N=len(rows), axis=0)


def _joined(op: Lowering, left: Value, right: Value) -> Value:
    return op.source("tf.ConcatV2", left, right, op.integers(1, name=f"{op.node.name}/axis"), N=2)


def _affine(op: Lowering, x: Value, matrix: Value, bias: Value) -> Value:
    return op.source("tf.BiasAdd", op.source("tf.MatMul", x, matrix), bias)


def _split(op: Lowering, value: Value, count: int) -> list[Value]:
    axis = op.integers(1, name=f"{op.node.name}/axis")
    return op.edit.node("tf.Split", [axis, value], {"num_split": count}, name=f"{op.node.name}/split").outputs


def _number(op: Lowering, number: float, like: Value) -> Value:
    numpy: Any = like.dtype.numpy
    return op.constant(np.array(number, numpy), name=f"{op.node.name}/number")


def _sigmoid(op: Lowering, value: Value) -> Value:
    return op.source("tf.Sigmoid", value)


def _sum(op: Lowering, left: Value, right: Value) -> Value:
    return op.source("tf.AddV2", left, right)


def _product(op: Lowering, left: Value, right: Value) -> Value:
    return op.source("tf.Mul", left, right)
