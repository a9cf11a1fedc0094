"""Cells of recurrent networks that are one operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.slicing import dynamic_slice
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import INT32


def _gates(op: Emission, x: Operand, weights: Operand, count: int) -> list[Operand]:
    b = op.build
    made = b.dot_general(x, weights, ((), ()), ((1,), (0,)))
    size = made.static[1] // count if made.is_static else None
    width = made.dims[1]
    if size is None:
        if not isinstance(width, int):
            op.refuse("the size of its state is not known", "give the inputs shapes (set-shapes)")
        size = width // count
    return [b.slice(made, [0, size * place], [made.dims[0], size * (place + 1)]) for place in range(count)]


class _Lstm(NamedTuple):
    """Weights of an LSTM, and where input gate, candidate, forget gate and output gate are among their columns."""

    weights: Operand
    peepholes: Sequence[Operand]
    bias: Operand
    forget_bias: float
    clip: float
    order: tuple[int, int, int, int]


def _lstm(op: Emission, parts: Sequence[Operand], is_newer: bool) -> _Lstm:
    weights, w_in, w_forget, w_out, bias = parts
    return _Lstm(
        weights, (w_in, w_forget, w_out) if op.attr("use_peephole") else (), bias,
        0.0 if is_newer else float(op.attr("forget_bias", 1.0)), float(op.attr("cell_clip", 0.0)),
        (0, 2, 1, 3) if is_newer else (0, 1, 2, 3),
    )  # fmt: skip


def _step(op: Emission, lstm: _Lstm, x: Operand, cell: Operand, hidden: Operand) -> list[Operand]:
    """Gates and states of one step, in the order in which the operators yield them."""
    b = op.build
    size = hidden.dims[1]
    gates = _gates(op, b.concatenate([x, hidden], 1), lstm.weights, 4)
    assert isinstance(size, int)
    gate_in, fresh, gate_forget, gate_out = (
        b.add(gates[at], b.broadcast(b.slice(lstm.bias, [size * at], [size * (at + 1)]), gates[at].dims))
        for at in lstm.order
    )
    if lstm.peepholes:
        gate_in = b.add(gate_in, b.mul(cell, lstm.peepholes[0]))
        gate_forget = b.add(gate_forget, b.mul(cell, lstm.peepholes[1]))
    gate_in = b.unary("logistic", gate_in)
    gate_forget = b.unary("logistic", b.add(gate_forget, lstm.forget_bias))
    fresh = b.unary("tanh", fresh)
    state = b.add(b.mul(fresh, gate_in), b.mul(cell, gate_forget))
    if lstm.clip > 0:
        state = b.min(b.max(state, -lstm.clip), lstm.clip)
    if lstm.peepholes:
        gate_out = b.add(gate_out, b.mul(state, lstm.peepholes[2]))
    gate_out = b.unary("logistic", gate_out)
    shown = b.unary("tanh", state)
    return [gate_in, state, gate_forget, gate_out, fresh, shown, b.mul(shown, gate_out)]


@RULES.lower("tf.LSTMBlockCell")
def lstm_block_cell(op: Emission) -> list[Operand | None]:
    """One step of an LSTM, with peepholes where it uses them."""
    x, cell, hidden, *parts = op.inputs
    return list(_step(op, _lstm(op, parts, is_newer=False), x, cell, hidden))


@RULES.lower("tf.BlockLSTM", "tf.BlockLSTMV2")
def lstm_block(op: Emission) -> list[Operand | None]:
    """A whole LSTM, step by step; steps from the given number on yield zeros."""
    b = op.build
    last, x, cell, hidden, *parts = op.inputs
    lstm = _lstm(op, parts, is_newer=op.node.op.endswith("V2"))
    time = x.dims[0]
    if not isinstance(time, int):
        op.refuse("the number of its steps is not known", "give the inputs numbers for it (--unknown)")
    outputs = [b.full(0, x.dtype, (time, *cell.dims)) for _ in op.node.outputs]
    limit = b.convert(b.reshape(last, ()), INT32)

    def step(number: Operand, state: list[Operand]) -> list[Operand]:
        before, after, *rows = state
        zero = b.full(0, INT32)
        now = dynamic_slice(op, x, [number, zero, zero], (1, *x.dims[1:]))
        made = _step(op, lstm, b.reshape(now, x.dims[1:]), before, after)
        runs = b.compare("LT", number, limit)
        kept = [b.select(runs, part, b.like(0, part)) for part in made]
        starts = [number.value, zero.value, zero.value]
        written = []
        for row, part in zip(rows, kept, strict=True):
            value = b.hlo.dynamic_update_slice(row.value, b.reshape(part, (1, *part.dims)).value, starts)
            written.append(b.made(value, row.dtype, row.dims))
        return [b.select(runs, made[1], before), b.select(runs, made[6], after), *written]

    return list(b.repeat(time, [cell, hidden, *outputs], step)[2:])


@RULES.lower("tf.GRUBlockCell", "tf.GRUBlockCellV2")
def gru_block_cell(op: Emission) -> list[Operand | None]:
    """One step of a GRU."""
    b = op.build
    x, hidden, w_gates, w_new, b_gates, b_new = op.inputs
    size = hidden.dims[1]
    if not isinstance(size, int):
        op.refuse("the size of its state is not known", "give the inputs shapes (set-shapes)")
    gates = _gates(op, b.concatenate([x, hidden], 1), w_gates, 2)
    reset, update = (
        b.unary("logistic", b.add(gate, b.broadcast(b.slice(b_gates, [size * place], [size * (place + 1)]), gate.dims)))
        for place, gate in enumerate(gates)
    )
    both = b.concatenate([x, b.mul(reset, hidden)], 1)
    fresh = b.unary("tanh", b.add(b.dot_general(both, w_new, ((), ()), ((1,), (0,))), b_new))
    made = b.add(b.mul(update, hidden), b.mul(b.sub(b.like(1, update), update), fresh))
    return [reset, update, fresh, made]
