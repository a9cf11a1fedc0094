"""fuse-recurrent: loops over recurrent cells become ONNX's LSTM, GRU and RNN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphopt.ir.known import hold
from graphopt.ir.model import Model
from graphopt.ir.types import FLOAT32, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness, Pass, PassContext
from graphopt.passes.control.call_sites import Site
from graphopt.passes.control.plain_variables import Loops
from graphopt.passes.removal import remove_dead
from graphopt.passes.rules.recurrence import RecurrentLoop, UnfitError, is_zero, need
from graphopt.passes.rules.recurrent_cells import Cell, find_gru, find_lstm, find_plain

# Gates in the order of the operators' weights.
GATES = {"LSTM": "iofc", "GRU": "zrh", "RNN": "i"}
FINDERS = (find_lstm, find_gru, find_plain)


@dataclass(frozen=True)
class FuseRecurrent(Pass):
    """Make one operator of a loop whose body is an LSTM, GRU or plain recurrent cell.

    *Given*, as Keras and TensorFlow 1 write it, after `specialise-functions` and `plain-tensor-lists`

        function @body(%i, %ys, %h, %c, %xs) -> (%j, %w, %h2, %c2, %xs) {
          %x = tf.GatherV2(%xs, %i, %axis)
          %a = tf.MatMul(%x, %kernel)
          %b = tf.MatMul(%h, %recurrent_kernel)
          ...
        }
        %loop = tf.While(%zero, %ys, %h0, %c0, %xs) {cond = @cond, body = @body}

    *Result*

        %loop = onnx.LSTM(%xs, %kernels, %recurrent_kernels, %biases, , %h0, %c0) {hidden_size = 32}

    Batches and the number of steps may be unknown; states that begin with zeros are left out. A GRU resets the state
    before or after it is multiplied.

    Refuses loops whose body does more than that, with other activations than sigmoids and hyperbolic tangents, masks,
    and types other than float32.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def run(self, model: Model, context: PassContext) -> None:
        """Fuse every loop that has its functions for itself."""
        for node, site in Loops(model).by_node.items():
            try:
                layer = _Layer(site)
            except UnfitError as reason:
                context.refused(self.name, node, str(reason))
                continue
            if context.allows(self.name, self.exactness):
                context.rewrote(self.name, removed=(node,), added=(layer.emit(),))


class _Layer:
    """A recurrent layer that a loop is. Raises `UnfitError` for another loop."""

    def __init__(self, site: Site):
        loop = RecurrentLoop(site)
        loop.check_effects()
        counter, limit = loop.counter()
        self.site, self.node, self.cell = site, site.node, _found(loop, counter)
        cell, self.inputs = self.cell, site.operands[self.cell.inputs]
        dims = self.inputs.shape.dims
        need(dims is not None and len(dims) == 3, "the shape of its inputs is not known")
        need(self.inputs.dtype is FLOAT32, "its inputs are not float32")
        need(loop.turns_over(limit, cell.inputs), "it does not run over all its inputs")
        self.steps, self.batch = dims[:2] if dims is not None else (None, None)
        self.outputs = loop.collectors(cell.hidden, counter, self.steps)
        read = dict.fromkeys([place for place, _ in self.outputs], True) | {cell.hidden: True, cell.state: True}
        loop.check_readers({counter: False, cell.inputs: False, **read})
        self.units = next(iter(cell.gates.values())).recurrent.shape[0]

    def emit(self) -> Node:
        """Put the operator in place of the loop."""
        loop, cell = self.node, self.cell
        graph = loop.graph
        assert graph is not None
        state = Shape([1, self.batch, self.units])
        kinds = [TensorType(FLOAT32, Shape([self.steps, 1, self.batch, self.units])), TensorType(FLOAT32, state)]
        kinds += [TensorType(FLOAT32, state)] if cell.kind == "LSTM" else []
        attrs: dict[str, Any] = {"hidden_size": self.units}
        if cell.recurrent_bias is not None:
            attrs["linear_before_reset"] = 1
        made = graph.create_node(
            f"onnx.{cell.kind}", (self.inputs, *self._weights(), *self._states()), attrs,
            name=f"{loop.name}/{cell.kind.lower()}", types=kinds, before=loop, origins=loop.source_names,
        )  # fmt: skip
        for place, is_last in self.outputs:
            if loop.outputs[place].use_count:
                graph.replace_value(loop.outputs[place], made.outputs[1] if is_last else self._squeezed(made.output, 1))
        for place, value in zip((cell.hidden, cell.state), made.outputs[1:], strict=False):
            if place >= 0 and loop.outputs[place].use_count:
                graph.replace_value(loop.outputs[place], self._squeezed(value, 0))
        _remove(loop)
        return made

    def _weights(self) -> list[Value]:
        """Kernels, recurrent kernels and biases [1, ...] of all gates; the second half of biases is the state's."""
        gates = [self.cell.gates[gate] for gate in GATES[self.cell.kind]]
        biases = [gate.bias for gate in gates]
        others = [np.zeros_like(bias) for bias in biases]
        if self.cell.recurrent_bias is not None:
            others[-1] = self.cell.recurrent_bias
        return [
            self._held([gate.kernel for gate in gates], "kernel"),
            self._held([gate.recurrent for gate in gates], "recurrent_kernel"),
            self._held([*biases, *others], "bias"),
        ]

    def _held(self, arrays: Sequence[Any], what: str) -> Value:
        graph, loop = self.node.graph, self.node
        assert graph is not None
        array = np.concatenate(arrays)[None].astype(np.float32)
        return hold(graph, array, name=f"{loop.name}/{what}", before=loop, origins=loop.source_names)

    def _states(self) -> list[Value | None]:
        """Lengths, which all are the longest, and where the states begin; nothing where that is zeros."""
        places = [place for place in (self.cell.hidden, self.cell.state) if place >= 0]
        given = [self.site.operands[place] for place in places]
        if all(map(is_zero, given)):
            return []
        return [None, *(self._reshaped("ExpandDims", value, 0) for value in given)]

    def _squeezed(self, value: Value, axis: int) -> Value:
        return self._reshaped("Squeeze", value, axis)

    def _reshaped(self, kind: str, value: Value, axis: int) -> Value:
        """The value without the axis, or with it."""
        graph, loop = self.node.graph, self.node
        assert graph is not None
        dims, inputs = list(value.shape.dims or ()), [value]
        attrs: dict[str, Any] = {"T": FLOAT32}
        if kind == "Squeeze":
            del dims[axis]
            attrs["squeeze_dims"] = (axis,)
        else:
            dims.insert(axis, 1)
            inputs.append(hold(graph, np.array(axis, np.int32), name=f"{loop.name}/axis", before=loop))
        types = (TensorType(FLOAT32, Shape(dims)),)
        return graph.create_node(
            f"tf.{kind}", inputs, attrs, name=f"{loop.name}/{kind.lower()}", types=types, before=loop,
            origins=loop.source_names,
        ).output  # fmt: skip


def _found(loop: RecurrentLoop, counter: int) -> Cell:
    """The cell, whichever it is; the reason is that of the first kind that is not."""
    for find in FINDERS[:-1]:
        try:
            return find(loop, counter)
        except UnfitError:
            continue
    return FINDERS[-1](loop, counter)


def _remove(loop: Node) -> None:
    graph = loop.graph
    assert graph is not None
    producers = list(dict.fromkeys(loop.predecessors()))
    for user in loop.control_users:
        user.remove_control_input(loop)
    graph.remove(loop)
    remove_dead(graph, producers)
