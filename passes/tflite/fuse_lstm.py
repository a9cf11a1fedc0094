"""fuse-lstm: loops over LSTM cells become TFLite's operator for whole sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from graphopt.ir.known import hold, known_scalar
from graphopt.ir.model import Model
from graphopt.ir.types import FLOAT32, INT32, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness, Pass, PassContext
from graphopt.passes.control.call_sites import Site
from graphopt.passes.control.plain_variables import Loops, small_constant
from graphopt.passes.removal import remove_dead
from graphopt.passes.rules.recurrence import RecurrentLoop, UnfitError, is_zero, need
from graphopt.passes.rules.recurrent_cells import find_lstm

Array = np.ndarray[Any, Any]
OPERATOR = "tfl.UNIDIRECTIONAL_SEQUENCE_LSTM"
GATES = "ifco"  # in the order of the operator's inputs


@dataclass(frozen=True)
class FuseLstm(Pass):
    """Make one operator of a loop whose body is an LSTM cell.

    *Given*, as Keras and TensorFlow 1 write it, after `specialise-functions` and `plain-tensor-lists`

        function @body(%i, %ys, %h, %c, %xs) -> (%j, %w, %h2, %c2, %xs) {
          %x = tf.GatherV2(%xs, %i, %axis)
          %a = tf.MatMul(%x, %kernel)
          %b = tf.MatMul(%h, %recurrent_kernel)
          ...
        }
        %loop = tf.While(%zero, %ys, %zeros, %zeros, %xs) {cond = @cond, body = @body}

    *Result*

        %loop = tfl.UNIDIRECTIONAL_SEQUENCE_LSTM(%xs, %kernel_of_each_gate, ...) {time_major = true}

    TFLite's operator keeps its state in variables that live on from run to run: an application has to reset them
    (`reset_all_variables`) before every sequence. A loop needs no such care, and is faster where batches or layers are
    large, so this pass runs only where it is asked for.

    Refuses loops whose body does more than an LSTM cell with sigmoids and hyperbolic tangents, initial states other
    than zeros, a cell state that something reads afterwards, unknown sizes, and types other than float32.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def run(self, model: Model, context: PassContext) -> None:
        """Fuse every loop that has its functions for itself."""
        for node, site in Loops(model).by_node.items():
            try:
                cell = _cell(site)
            except UnfitError as reason:
                context.refused(self.name, node, str(reason))
                continue
            if context.allows(self.name, self.exactness):
                context.rewrote(self.name, removed=(node,), added=(_emit(site, cell),))


class _Cell(NamedTuple):
    """What was found: places of the loop's variables, and the weights of each gate, laid out by output channel."""

    inputs: int
    hidden: int
    outputs: tuple[tuple[int, bool], ...]  # places of what collects the outputs, and whether the last one alone
    kernels: dict[str, Array]
    recurrent: dict[str, Array]
    biases: dict[str, Array]
    steps: int


def _cell(site: Site) -> _Cell:
    """The cell that the loop runs over. Raises `UnfitError`."""
    loop = RecurrentLoop(site)
    loop.check_effects()
    counter, limit = loop.counter()
    steps = known_scalar(limit)
    need(steps is not None, "how often it turns is not known")
    found = find_lstm(loop, counter)
    inputs = site.operands[found.inputs]
    need(inputs.shape.static is not None and len(inputs.shape.static) == 3, "the shape of its inputs is not known")
    need(loop.turns_over(limit, found.inputs), f"it runs {steps} steps over inputs of shape {inputs.shape}")
    need(inputs.dtype is FLOAT32, "its inputs are not float32")
    outputs = loop.collectors(found.hidden, counter, inputs.shape.dims[0] if inputs.shape.dims else None)
    need(not site.node.outputs[found.state].use_count, "its cell state is read afterwards")
    read = dict.fromkeys([place for place, _ in outputs], True) | {found.hidden: True, found.state: False}
    loop.check_readers({counter: False, found.inputs: False, **read})
    starts_with_zeros = all(is_zero(site.operands[place]) for place in (found.state, found.hidden))
    need(starts_with_zeros, "its state does not start with zeros")
    kernels, recurrent, biases = (
        {gate: getattr(weights, name) for gate, weights in found.gates.items()}
        for name in ("kernel", "recurrent", "bias")
    )
    assert steps is not None
    return _Cell(found.inputs, found.hidden, outputs, kernels, recurrent, biases, int(steps))


# Making --------------------------------------------------------------------------------------------------------


def _emit(site: Site, cell: _Cell) -> Node:
    """Put the operator in place of the loop."""
    loop = site.node
    graph = loop.graph
    assert graph is not None
    units = cell.recurrent["i"].shape[0]
    steps, batch, _ = site.operands[cell.inputs].shape.static or (0, 0, 0)

    def weights(arrays: dict[str, Array], what: str) -> list[Value]:
        name = f"{loop.name}/{what}"
        return [
            hold(graph, arrays[gate], name=f"{name}_{gate}", before=loop, origins=loop.source_names) for gate in GATES
        ]

    state_type = TensorType(FLOAT32, Shape([batch, units]))
    states = [
        graph.create_node("tfl.VARIABLE", name=f"{loop.name}/{what}", types=(state_type,), before=loop).output
        for what in ("hidden_state", "cell_state")
    ]
    inputs: list[Value | None] = [site.operands[cell.inputs]]
    inputs += [*weights(cell.kernels, "kernel"), *weights(cell.recurrent, "recurrent_kernel"), None, None, None]
    inputs += [*weights(cell.biases, "bias"), None, None, *states, None, None, None, None]
    attrs = {
        "fused_activation_function": b"TANH", "cell_clip": 0.0, "proj_clip": 0.0, "time_major": True,
        "asymmetric_quantize_inputs": False,
    }  # fmt: skip
    made = graph.create_node(
        OPERATOR, inputs, attrs, name=f"{loop.name}/lstm", types=[TensorType(FLOAT32, Shape([steps, batch, units]))],
        before=loop, origins=loop.source_names,
    )  # fmt: skip
    last: Callable[[list[int] | int], Value] = lambda index: _element(loop, made.output, index)  # noqa: E731
    for place, only_last in cell.outputs:
        graph.replace_value(loop.outputs[place], last([cell.steps - 1]) if only_last else made.output)
    if loop.outputs[cell.hidden].use_count:
        graph.replace_value(loop.outputs[cell.hidden], last(cell.steps - 1))
    _remove(loop)
    return made


def _remove(loop: Node) -> None:
    graph = loop.graph
    assert graph is not None
    producers = list(dict.fromkeys(loop.predecessors()))
    for user in loop.control_users:
        user.remove_control_input(loop)
    graph.remove(loop)
    remove_dead(graph, producers)


def _element(loop: Node, sequence: Value, index: list[int] | int) -> Value:
    """One element of the sequence, or a sequence of it alone."""
    graph = loop.graph
    assert graph is not None
    rows = (sequence.shape.dims or ())[1:]
    shape = Shape([1, *rows] if isinstance(index, list) else rows)
    inputs = [sequence, small_constant(loop, index, "last"), small_constant(loop, 0, "axis")]
    attrs = {"Tparams": FLOAT32, "Tindices": INT32, "Taxis": INT32, "batch_dims": 0}
    made = graph.create_node(
        "tf.GatherV2", inputs, attrs, name=f"{loop.name}/last", types=[TensorType(FLOAT32, shape)], before=loop,
        origins=loop.source_names,
    )  # fmt: skip
    return made.output
