"""Cells of recurrent layers, found in the bodies of loops: LSTM, GRU, and the plain one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from graphopt.ir.known import known_scalar
from graphopt.ir.value import Value
from graphopt.passes.rules.recurrence import Array, Linear, RecurrentLoop, UnfitError, need, operands


class Weights(NamedTuple):
    """Of one gate: what inputs and hidden state are multiplied with, laid out [units, features], and the bias."""

    kernel: Array
    recurrent: Array
    bias: Array


class Cell(NamedTuple):
    """A cell: places of the loop's variables, -1 for none, and the weights of each gate.

    `recurrent_bias` of a GRU belongs to the product with the state that the reset gate is multiplied with; None where
    the state itself is.
    """

    kind: str
    inputs: int
    hidden: int
    state: int
    gates: Mapping[str, Weights]
    recurrent_bias: Array | None = None


def find_lstm(loop: RecurrentLoop, counter: int) -> Cell:
    """The LSTM cell that the body is: `c' = sigmoid(f) * c + sigmoid(i) * tanh(g)`, `h' = sigmoid(o) * tanh(c')`."""
    for state, result in enumerate(loop.results):
        gates = _gates_of_state(result, loop.body.inputs[state])
        if gates is None:
            continue
        for hidden, value in enumerate(loop.results):
            output = _output_gate(value, result)
            if output is not None:
                sums = {gate: loop.linear(item) for gate, item in {**gates, "o": output}.items()}
                inputs, weights = _weights(loop, sums, counter, hidden)
                return Cell("LSTM", inputs, hidden, state, weights)
    raise UnfitError("its body is no LSTM cell")


def find_gru(loop: RecurrentLoop, counter: int) -> Cell:
    """The GRU cell that the body is: `h' = sigmoid(z) * h + (1 - sigmoid(z)) * tanh(n)`."""
    for hidden, result in enumerate(loop.results):
        argument = loop.body.inputs[hidden]
        found = _interpolated(result, argument)
        if found is not None:
            update, candidate = found
            return _with_reset_after(loop, counter, hidden, update, candidate) or _with_reset_before(
                loop, counter, hidden, update, candidate
            )
    raise UnfitError("its body is no GRU cell")


def find_plain(loop: RecurrentLoop, counter: int) -> Cell:
    """The plain cell that the body is: `h' = tanh(i)`."""
    for hidden, result in enumerate(loop.results):
        inner = operands(result, "tf.Tanh")
        if inner is not None:
            total = loop.linear(inner[0])
            if loop.body.inputs[hidden] in total.terms:
                inputs, weights = _weights(loop, {"i": total}, counter, hidden)
                return Cell("RNN", inputs, hidden, -1, weights)
    raise UnfitError("its body is no recurrent cell")


def _weights(
    loop: RecurrentLoop, sums: Mapping[str, Linear], counter: int, hidden: int
) -> tuple[int, dict[str, Weights]]:
    """The variable that holds the inputs, and the weights of gates that sum up products with inputs and state."""
    state, inputs, found = loop.body.inputs[hidden], -1, {}
    for gate, total in sums.items():
        others = [value for value in total.terms if value is not state]
        need(
            len(others) == 1 and len(total.terms) == 2, "its gates are no sums of inputs and state, each times weights"
        )
        inputs = loop.step_of(others[0], counter)
        found[gate] = _laid_out(total.terms[others[0]], total.terms[state], total.bias)
    units = {item.recurrent.shape for item in found.values()} | {item.kernel.shape for item in found.values()}
    need(len(units) <= 2 and all(shape[0] == len(total.bias) for shape in units), "its weights do not fit")
    return inputs, found


def _laid_out(kernel: Array, recurrent: Array, bias: Array) -> Weights:
    return Weights(
        np.ascontiguousarray(kernel.T), np.ascontiguousarray(recurrent.T), np.asarray(bias, np.float32)
    )  # fmt: skip


def _gates_of_state(result: Value, argument: Value) -> dict[str, Value] | None:
    products = [operands(value, "tf.Mul") for value in operands(result, "tf.Add", "tf.AddV2") or ()]
    found: dict[str, Value] = {}
    for factors in products:
        if factors is None or len(products) != 2:
            return None
        sigmoids = [inner[0] for value in factors if (inner := operands(value, "tf.Sigmoid"))]
        tangents = [inner[0] for value in factors if (inner := operands(value, "tf.Tanh"))]
        if len(sigmoids) == 1 and any(value is argument for value in factors):
            found["f"] = sigmoids[0]
        elif len(sigmoids) == 1 and len(tangents) == 1:
            found["i"], found["c"] = sigmoids[0], tangents[0]
    return found if len(found) == 3 else None


def _output_gate(value: Value, state: Value) -> Value | None:
    factors = operands(value, "tf.Mul") or []
    tangents = [inner[0] for factor in factors if (inner := operands(factor, "tf.Tanh"))]
    sigmoids = [inner[0] for factor in factors if (inner := operands(factor, "tf.Sigmoid"))]
    return sigmoids[0] if len(sigmoids) == 1 and len(tangents) == 1 and tangents[0] is state else None


def _interpolated(result: Value, argument: Value) -> tuple[Value, Value] | None:
    """What goes into the update gate and into the candidate's tangent."""
    products = [operands(value, "tf.Mul") for value in operands(result, "tf.Add", "tf.AddV2") or ()]
    if len(products) != 2 or any(factors is None or len(factors) != 2 for factors in products):
        return None
    for kept, new in (products, products[::-1]):
        assert kept is not None
        assert new is not None
        gates = [value for value in kept if value is not argument]
        if len(gates) != 1 or (update := operands(gates[0], "tf.Sigmoid")) is None:
            continue
        for rest, candidate in (new, new[::-1]):
            difference, tangent = operands(rest, "tf.Sub"), operands(candidate, "tf.Tanh")
            if difference and tangent and known_scalar(difference[0]) == 1 and difference[1] is gates[0]:
                return update[0], tangent[0]
    return None


def _with_reset_after(loop: RecurrentLoop, counter: int, hidden: int, update: Value, candidate: Value) -> Cell | None:
    """The candidate is `x @ K + r * (h @ R + b)`."""
    state = loop.body.inputs[hidden]
    summands = operands(candidate, "tf.Add", "tf.AddV2") or []
    for one, other in (summands, summands[::-1]) if len(summands) == 2 else ():
        factors = operands(other, "tf.Mul")
        for gate, product in (factors, factors[::-1]) if factors is not None and len(factors) == 2 else ():
            reset = operands(gate, "tf.Sigmoid")
            if reset is None or product is state:
                continue
            inner, outer = loop.linear(product), loop.linear(one)
            if list(inner.terms) != [state] or state in outer.terms:
                continue
            sums = {"z": loop.linear(update), "r": loop.linear(reset[0])}
            whole = Linear({**outer.terms, **inner.terms}, outer.bias)
            inputs, weights = _weights(loop, {**sums, "h": whole}, counter, hidden)
            return Cell("GRU", inputs, hidden, -1, weights, np.asarray(inner.bias, np.float32))
    return None


def _with_reset_before(loop: RecurrentLoop, counter: int, hidden: int, update: Value, candidate: Value) -> Cell:
    """The candidate is `x @ K + (r * h) @ R + b`."""
    state, total = loop.body.inputs[hidden], loop.linear(candidate)
    for value, matrix in total.terms.items():
        factors = operands(value, "tf.Mul")
        if factors is None or len(factors) != 2 or not any(item is state for item in factors):
            continue
        gates = [reset[0] for item in factors if (reset := operands(item, "tf.Sigmoid"))]
        if len(gates) == 1:
            terms = {item: rows for item, rows in total.terms.items() if item is not value}
            sums = {"z": loop.linear(update), "r": loop.linear(gates[0])}
            whole = Linear({**terms, state: matrix}, total.bias)
            inputs, weights = _weights(loop, {**sums, "h": whole}, counter, hidden)
            return Cell("GRU", inputs, hidden, -1, weights)
    raise UnfitError("its body is no GRU cell")
