"""A lowered signature, and the model of the `xla` dialect that holds one for each signature.

The model's graph has inputs (`xla.INPUT`), weights (`xla.WEIGHT`) and one node `xla.PROGRAM` for each program, whose
operands are the inputs and then the weights. Equal signatures share a program.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphopt.backends.xla.emitter import Emitted
from graphopt.backends.xla.options import XlaOptions
from graphopt.backends.xla.state import State
from graphopt.ir.dimensions import SymbolicDim
from graphopt.ir.model import Model, Signature
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Node, Value

FORMAT = "xla"
INPUT, WEIGHT, PROGRAM = "xla.INPUT", "xla.WEIGHT", "xla.PROGRAM"
CODE, EXPORTED, PLATFORMS, VERSION, PRODUCER = "code", "exported", "platforms", "minimum_version", "producer"
WEIGHTS_FORMAT = "weights_format"
STATE = "state_"  # and a number: what a variable is at the start; with "_ends", its input and output


@dataclass
class Program:
    """StableHLO for signatures that compute the same; `inputs` and `outputs` are their names in order.

    A program for several platforms takes the place of the one it runs on, an int32 scalar, before its inputs.
    """

    signatures: tuple[str, ...]
    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    code: bytes
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    platforms: tuple[str, ...] = ("cpu",)
    minimum_version: str = ""
    producer: str = "graphopt"
    exported: bytes = b""
    weights_format: str = "npz"
    state: tuple[State, ...] = ()  # inputs that are to be fed with an output of the run before

    @classmethod
    def of(
        cls,
        signature: Signature,
        names: tuple[str, ...],
        code: bytes,
        options: XlaOptions,
        emitted: Emitted | None = None,
        producer: str = "graphopt",
    ) -> Program:
        """The program of a signature that was just lowered; what was emitted knows shapes that inference did not."""
        kinds = emitted.outputs if emitted is not None else map(_kept, signature.output_values().values())
        return cls(
            names,
            {name: _kept(value) for name, value in signature.input_values().items()},
            dict(zip(signature.outputs, kinds, strict=True)),
            code, dict(emitted.weights) if emitted is not None else {},
            options.platforms, options.minimum_version, producer, weights_format=options.weights_format,
        )  # fmt: skip

    @property
    def is_dynamic(self) -> bool:
        """Some dimension is a symbol."""
        return any(isinstance(dim, SymbolicDim) for kind in self.inputs.values() for dim in kind.shape.dims or ())


def _kept(value: Value) -> TensorType:
    return TensorType(value.dtype, value.shape)


def model_of(programs: Sequence[Program], options: XlaOptions | None = None) -> Model:
    """A model of the `xla` dialect that holds `programs`. Tensors that programs share are held once."""
    model = Model()
    model.format = FORMAT
    graph = model.graph
    held: dict[int, Value] = {}
    ends: list[tuple[Program, list[Value], list[Value]]] = []
    for program in programs:
        inputs = [_input(model, name, kind, graph.unique_name(name)) for name, kind in program.inputs.items()]
        weights = []
        for name, tensor in program.weights.items():
            value = held.get(id(tensor))
            if value is None:
                kind = TensorType(tensor.dtype, Shape(tensor.shape))
                made = graph.create_node(WEIGHT, [], {"value": tensor}, name=graph.unique_name(name), types=(kind,))
                value = held[id(tensor)] = made.output
            weights.append(value)
        attrs: dict[str, Any] = {
            CODE: program.code, EXPORTED: program.exported, PLATFORMS: ",".join(program.platforms).encode(),
            VERSION: program.minimum_version.encode(), PRODUCER: program.producer.encode(),
            WEIGHTS_FORMAT: program.weights_format.encode(),
        }  # fmt: skip
        for place, state in enumerate(program.state):
            attrs[f"{STATE}{place}"] = state.initial
            attrs[f"{STATE}{place}_ends"] = json.dumps([state.input, state.output]).encode()
        node = graph.create_node(
            PROGRAM, [*inputs, *weights], attrs, name=graph.unique_name(f"{program.signatures[0]}/program"),
            types=tuple(program.outputs.values()),
        )  # fmt: skip
        for name, value in zip(program.outputs, node.outputs, strict=True):
            value.name = name
        ends.append((program, inputs, list(node.outputs)))
    add_signatures(model, ends)
    return model


def add_signatures(model: Model, ends: Sequence[tuple[Program, list[Value], list[Value]]]) -> None:
    """Let the model have the signatures of each program, whose inputs and outputs are given beside it."""
    graph = model.graph
    graph.inputs = [value for _, inputs, _ in ends for value in inputs]
    graph.outputs = [value for _, _, outputs in ends for value in outputs]
    places_in = {value: place for place, value in enumerate(graph.inputs)}
    places_out = {value: place for place, value in enumerate(graph.outputs)}
    for program, inputs, outputs in ends:
        for name in program.signatures:
            model.signatures[name] = Signature(
                graph,
                {key: places_in[value] for key, value in zip(program.inputs, inputs, strict=True)},
                {key: places_out[value] for key, value in zip(program.outputs, outputs, strict=True)},
            )


def _input(model: Model, name: str, kind: TensorType, unique: str) -> Value:
    value = model.graph.create_node(INPUT, [], {}, name=unique, types=(kind,)).output
    if name != unique:
        value.name = name
    return value


def programs_of(model: Model) -> list[Program]:
    """The programs that a model of the `xla` dialect holds."""
    by_node: dict[Node, list[str]] = {}
    for name, signature in model.signatures.items():
        node = program_node(signature)
        by_node.setdefault(node, []).append(name)
    return [program_at(node, model.signatures[names[0]], tuple(names)) for node, names in by_node.items()]


def program_node(signature: Signature) -> Node:
    """The node that computes a signature."""
    return next(iter(signature.output_values().values())).node


def program_at(node: Node, signature: Signature, names: tuple[str, ...]) -> Program:
    """What a node `xla.PROGRAM` holds."""
    weights = {
        value.node.name: value.node.attrs["value"]
        for value in node.inputs
        if value is not None and value.node.op == WEIGHT
    }
    text = {key: node.attrs[key].decode() for key in (PLATFORMS, VERSION, PRODUCER, WEIGHTS_FORMAT)}
    return Program(
        names,
        {name: value.type for name, value in signature.input_values().items()},
        {name: value.type for name, value in signature.output_values().items()},
        node.attrs[CODE], weights, tuple(text[PLATFORMS].split(",")), text[VERSION], text[PRODUCER],
        node.attrs[EXPORTED], text[WEIGHTS_FORMAT], state_at(node),
    )  # fmt: skip


def state_at(node: Node) -> tuple[State, ...]:
    """The variables that a node `xla.PROGRAM` takes and yields."""
    found: list[State] = []
    while f"{STATE}{len(found)}" in node.attrs:
        key = f"{STATE}{len(found)}"
        taken, yielded = json.loads(node.attrs[f"{key}_ends"])
        found.append(State(taken, yielded, node.attrs[key]))
    return tuple(found)
