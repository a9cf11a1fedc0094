"""fuse-lstm: loops over LSTM cells become TFLite's operator for whole sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.known import PASS_THROUGH, hold, known_array, known_scalar, known_tensor
from graphopt.ir.model import Model
from graphopt.ir.types import FLOAT32, INT32, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness, Pass, PassContext
from graphopt.passes.control.call_sites import Site, is_passed_through
from graphopt.passes.control.plain_variables import Loops, small_constant
from graphopt.passes.control.take_constant_branches import has_effects
from graphopt.passes.onnx.lstm_operator import lstm_operator
from graphopt.passes.removal import remove_dead

Array = np.ndarray[Any, Any]
OPERATOR = "tfl.UNIDIRECTIONAL_SEQUENCE_LSTM"
SUMS = ("tf.Add", "tf.AddV2", "tf.BiasAdd")
RESHAPES = ("tf.Reshape", "tf.Squeeze", "tf.ExpandDims")
TARGETS = ("tflite", "onnx")
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
    than zeros, a cell state that something reads afterwards, unknown sizes, and types other than float32. With `target`
    `onnx` it makes ONNX's LSTM, which keeps no state, and takes batches of unknown size.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    target: str = TARGETS[0]

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise UsageError(f"there is no target '{printable(self.target)}' here; there are {', '.join(TARGETS)}")

    def run(self, model: Model, context: PassContext) -> None:
        """Fuse every loop that has its functions for itself."""
        for node, site in Loops(model).by_node.items():
            try:
                cell = _Loop(site).cell(self.target == "onnx")
            except _UnfitError as reason:
                context.refused(self.name, node, str(reason))
                continue
            if context.allows(self.name, self.exactness):
                made = _emit(site, cell) if self.target == TARGETS[0] else _emit_onnx(site, cell)
                context.rewrote(self.name, removed=(node,), added=(made,))


class _UnfitError(Exception):
    """Why a loop is no LSTM that can be fused."""


class _Cell(NamedTuple):
    """What was found: places of the loop's variables, and the weights of each gate, laid out by output channel."""

    inputs: int
    hidden: int
    outputs: tuple[tuple[int, bool], ...]  # places of what collects the outputs, and whether the last one alone
    kernels: dict[str, Array]
    recurrent: dict[str, Array]
    biases: dict[str, Array]
    steps: int


def _need(condition: object, reason: str) -> None:
    if not condition:
        raise _UnfitError(reason)


def _through(value: Value) -> Value:
    """What `value` passes on."""
    while value.node.op in PASS_THROUGH and not value.is_input:
        value = value.node.input(0)
    return value


def _operands(value: Value, *ops: str) -> list[Value] | None:
    """The inputs of the node behind `value` if it is one of `ops`, without identities."""
    value = _through(value)
    if value.is_input or value.node.op not in ops:
        return None
    return [_through(other) for other in value.node.inputs if other is not None]


class _Loop:
    """One loop, looked at from its results backwards."""

    def __init__(self, site: Site):
        self.site = site
        self.condition, self.body = site.functions
        self.arguments = {value: place for place, value in enumerate(self.body.inputs)}
        self.results = [_through(value) for value in self.body.outputs]

    def cell(self, open_batch: bool = False) -> _Cell:
        """The cell. Raises `_UnfitError`."""
        loop = self.site.node
        _need(not any(has_effects(function) for function in self.site.functions), "its body has effects")
        _need(not any(value.is_output for value in loop.outputs), "its results are outputs of the graph")
        counter, steps = self._counter()
        state, hidden, gates = self._states()
        kernels, recurrent, biases, inputs = self._weights(gates, counter, hidden)
        outputs = self._collectors(hidden, counter, steps)
        accounted = {counter, state, hidden, inputs, *(place for place, _ in outputs)}
        for place, value in enumerate(loop.outputs):
            used = bool(value.use_count)
            _need(place != state or not used, "its cell state is read afterwards")
            _need(place in accounted or not used, f"it also computes '{printable(value.name)}'")
            _need(place not in (counter, inputs) or not used, f"'{printable(value.name)}' is read afterwards")
        for place in (state, hidden):
            _need(_is_zero(self.site.operands[place]), "its state does not start with zeros")
        known = self.site.operands[inputs].shape
        shape = known.dims if open_batch else known.static
        _need(shape is not None and len(shape) == 3, "the shape of its inputs is not known")
        assert shape is not None
        _need(shape[0] == steps, f"it runs {steps} steps over {shape[0]} inputs")
        _need(self.site.operands[inputs].dtype is FLOAT32, "its inputs are not float32")
        return _Cell(inputs, hidden, outputs, kernels, recurrent, biases, steps)

    def _counter(self) -> tuple[int, int]:
        """The variable that counts from zero, and up to what."""
        operands = _operands(self.condition.outputs[0], "tf.Less")
        _need(operands, "its condition is no comparison of a counter with a number")
        assert operands is not None
        places = [place for place, value in enumerate(self.condition.inputs) if value is operands[0]]
        limit = known_scalar(operands[1])
        _need(places and limit is not None, "how often it turns is not known")
        place = places[0]
        sum_ = _operands(self.body.outputs[place], *SUMS) or []
        is_count = any(value is self.body.inputs[place] for value in sum_) and any(known_scalar(v) == 1 for v in sum_)
        _need(is_count and known_scalar(self.site.operands[place]) == 0, "it does not count its steps from zero")
        assert limit is not None
        return place, int(limit)

    def _states(self) -> tuple[int, int, dict[str, Value]]:
        """Places of cell state and hidden state, and what goes into the activation of each gate."""
        for place, result in enumerate(self.results):
            gates = self._gates_of_state(result, self.body.inputs[place])
            if gates is None:
                continue
            for other, value in enumerate(self.results):
                output_gate = self._output_gate(value, result)
                if output_gate is not None:
                    return place, other, {**gates, "o": output_gate}
        raise _UnfitError("its body is no LSTM cell")

    def _gates_of_state(self, result: Value, argument: Value) -> dict[str, Value] | None:
        """`sigmoid(f) * c + sigmoid(i) * tanh(c)`."""
        products = [_operands(value, "tf.Mul") for value in _operands(result, "tf.Add", "tf.AddV2") or ()]
        found: dict[str, Value] = {}
        for factors in products:
            if factors is None or len(products) != 2:
                return None
            sigmoids = [inner[0] for value in factors if (inner := _operands(value, "tf.Sigmoid"))]
            tangents = [inner[0] for value in factors if (inner := _operands(value, "tf.Tanh"))]
            if len(sigmoids) == 1 and any(value is argument for value in factors):
                found["f"] = sigmoids[0]
            elif len(sigmoids) == 1 and len(tangents) == 1:
                found["i"], found["c"] = sigmoids[0], tangents[0]
        return found if len(found) == 3 else None

    def _output_gate(self, value: Value, state: Value) -> Value | None:
        """`sigmoid(o) * tanh(c)`."""
        factors = _operands(value, "tf.Mul") or []
        tangents = [inner[0] for factor in factors if (inner := _operands(factor, "tf.Tanh"))]
        sigmoids = [inner[0] for factor in factors if (inner := _operands(factor, "tf.Sigmoid"))]
        return sigmoids[0] if len(sigmoids) == 1 and len(tangents) == 1 and tangents[0] is state else None

    def _weights(
        self, gates: dict[str, Value], counter: int, hidden: int
    ) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array], int]:
        """Kernels, recurrent kernels and biases by gate, and the variable that holds the inputs."""
        splits: dict[str, tuple[Value, Array | float]] = {gate: _shifted(value) for gate, value in gates.items()}
        nodes = {value.node for value, _ in splits.values()}
        _need(len(nodes) == 1, "its gates are not parts of one sum")
        (split,) = nodes
        _need(split.op == "tf.Split" and split.attrs.get("num_split") == 4, "its gates are not parts of one sum")
        _need(known_scalar(split.input(0)) in (1, -1), "its gates are split along another axis")
        kernel, recurrent, bias, inputs = self._terms(split.input(1), counter, hidden)
        units = recurrent.shape[0]
        _need(recurrent.shape[1] == 4 * units and kernel.shape[1] == 4 * units, "its weights do not fit")
        kernels, hiddens, biases = {}, {}, {}
        for gate, (value, shift) in splits.items():
            part = slice(value.index * units, (value.index + 1) * units)
            kernels[gate] = np.ascontiguousarray(kernel[:, part].T)
            hiddens[gate] = np.ascontiguousarray(recurrent[:, part].T)
            biases[gate] = np.asarray(bias[part] + shift, np.float32)
        return kernels, hiddens, biases, inputs

    def _terms(self, total: Value, counter: int, hidden: int) -> tuple[Array, Array, Array, int]:
        """Kernel, recurrent kernel, bias, and the variable that holds the inputs, of the sum that the gates are."""
        width = total.shape[-1] if total.shape.rank else None
        _need(isinstance(width, int), "how many units it has is not known")
        bias = np.zeros(int(str(width)), np.float32)
        kernel: Array | None = None
        recurrent: Array | None = None
        inputs = -1
        for term in _summands(total, width):
            held = known_array(term)
            if held is not None:
                _need(held.size == bias.size, "its bias does not fit")
                bias = bias + held.reshape(-1)
                continue
            factors = _operands(term, "tf.MatMul")
            matrix = known_array(factors[1]) if factors is not None else None
            flipped = any(term.node.attrs.get(name) for name in ("transpose_a", "transpose_b"))
            _need(matrix is not None and not flipped, "it sums something else than products with weights")
            assert factors is not None
            assert matrix is not None
            for value, rows in self._parts(factors[0], matrix):
                if value is self.body.inputs[hidden]:
                    _need(recurrent is None, "its state is multiplied twice")
                    recurrent = rows
                else:
                    _need(kernel is None, "its input is multiplied twice")
                    kernel, inputs = rows, self._step_of(value, counter)
        _need(kernel is not None and recurrent is not None, "input or state are missing from its gates")
        assert kernel is not None
        assert recurrent is not None
        return kernel, recurrent, bias, inputs

    def _parts(self, value: Value, matrix: Array) -> Sequence[tuple[Value, Array]]:
        """The operand of a product with the rows of the weights for it; both parts of a concatenation."""
        parts = _operands(value, "tf.ConcatV2")
        if parts is None:
            return [(value, matrix)]
        *joined, axis = parts
        sizes = [part.shape[-1] if part.shape.rank == 2 else None for part in joined]
        fits = known_scalar(axis) in (1, -1) and all(isinstance(size, int) for size in sizes)
        _need(fits, "it joins input and state in another way")
        rows, start = [], 0
        for part, size in zip(joined, sizes, strict=True):
            end = start + int(str(size))
            rows.append((part, matrix[start:end]))
            start = end
        return rows

    def _step_of(self, value: Value, counter: int) -> int:
        """The variable of which `value` is the element of this step."""
        operands = _operands(value, "tf.GatherV2") or []
        fits = (
            len(operands) == 3
            and operands[0] in self.arguments
            and operands[1] is self.body.inputs[counter]
            and known_scalar(operands[2]) == 0
            and not _through(value).node.attrs.get("batch_dims")
        )
        _need(fits, "its input is not one element after the other")
        place = self.arguments[operands[0]]
        _need(is_passed_through(self.body, place), "its inputs change")
        return place

    def _collectors(self, hidden: int, counter: int, steps: int) -> tuple[tuple[int, bool], ...]:
        """Variables that collect the outputs, and whether they keep the last one alone."""
        found = []
        for place, result in enumerate(self.results):
            operands = _operands(result, "tf.TensorScatterUpdate")
            if operands is None or operands[0] is not self.body.inputs[place]:
                continue
            row = _unwrapped(operands[2])
            length = (self.body.inputs[place].shape.dims or (None,))[0]
            index = known_array(operands[1])
            every = _unwrapped(operands[1]) is self.body.inputs[counter] and length == steps
            last = length == 1 and index is not None and index.size == 1 and int(index.reshape(())) == 0
            if row is self.results[hidden] and (every or last):
                found.append((place, not every))
        return tuple(found)


def _shifted(value: Value) -> tuple[Value, Array | float]:
    """A gate without the constant that is added to it, a forget bias, and that constant."""
    operands = _operands(value, "tf.Add", "tf.AddV2") or []
    for one, other in ((0, 1), (1, 0)) if len(operands) == 2 else ():
        held = known_array(operands[other])
        if held is not None and held.size == 1:
            return operands[one], float(held.reshape(()))
    return value, 0.0


def _unwrapped(value: Value) -> Value:
    """What was reshaped."""
    value = _through(value)
    while not value.is_input and value.node.op in RESHAPES:
        value = _through(value.node.input(0))
    return value


def _summands(total: Value, width: object) -> list[Value]:
    """Everything that is added up, through reshapes that keep the last axis."""
    found, pending = [], [total]
    while pending:
        value = _through(pending.pop())
        reshaped = not value.is_input and value.node.op in RESHAPES
        if reshaped and value.shape.rank and value.shape[-1] == width and value.node.input(0).shape.rank:
            inner = value.node.input(0)
            if inner.shape[-1] == width:
                pending.append(inner)
                continue
        operands = _operands(value, *SUMS) if known_tensor(value) is None else None
        if operands is None:
            found.append(value)
        else:
            pending += operands
    return found


def _is_zero(value: Value) -> bool:
    """The value is zeros: a constant, or filled with them."""
    value = _through(value)
    if value.node.op == "tf.Fill" and not value.is_input:
        return known_scalar(value.node.input(1)) == 0.0
    held = known_array(value)
    return held is not None and not np.any(held) and not np.any(np.signbit(held))


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


def _emit_onnx(site: Site, cell: _Cell) -> Node:
    """The same with ONNX's operator."""
    loop = site.node
    graph = loop.graph
    assert graph is not None
    inputs = site.operands[cell.inputs]
    made, every, last, state = lstm_operator(loop, inputs, cell.kernels, cell.recurrent, cell.biases)
    for place, only_last in cell.outputs:
        graph.replace_value(loop.outputs[place], last if only_last else every)
    if loop.outputs[cell.hidden].use_count:
        graph.replace_value(loop.outputs[cell.hidden], state)
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
