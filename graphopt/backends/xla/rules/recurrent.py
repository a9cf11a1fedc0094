"""Cells of recurrent networks that are one operator."""

from __future__ import annotations

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES


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


@RULES.lower("tf.LSTMBlockCell")
def lstm_block_cell(op: Emission) -> list[Operand | None]:
    """One step of an LSTM, with peepholes where it uses them."""
    b = op.build
    x, cell, hidden, weights, w_in, w_forget, w_out, bias = op.inputs
    both = b.concatenate([x, hidden], 1)
    size = hidden.dims[1]
    gates = _gates(op, both, weights, 4)
    assert isinstance(size, int)
    parts = [
        b.add(gate, b.broadcast(b.slice(bias, [size * place], [size * (place + 1)]), gate.dims))
        for place, gate in enumerate(gates)
    ]
    gate_in, fresh, gate_forget, gate_out = parts
    if op.attr("use_peephole"):
        gate_in = b.add(gate_in, b.mul(cell, w_in))
        gate_forget = b.add(gate_forget, b.mul(cell, w_forget))
    gate_in = b.unary("logistic", gate_in)
    gate_forget = b.unary("logistic", b.add(gate_forget, float(op.attr("forget_bias"))))
    fresh = b.unary("tanh", fresh)
    state = b.add(b.mul(fresh, gate_in), b.mul(cell, gate_forget))
    clip = float(op.attr("cell_clip"))
    if clip > 0:
        state = b.min(b.max(state, -clip), clip)
    if op.attr("use_peephole"):
        gate_out = b.add(gate_out, b.mul(state, w_out))
    gate_out = b.unary("logistic", gate_out)
    shown = b.unary("tanh", state)
    return [gate_in, state, gate_forget, gate_out, fresh, shown, b.mul(shown, gate_out)]


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
