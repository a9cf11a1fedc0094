"""What a model is: signatures and why, operators, parameters, bytes, dynamic shapes, functions, devices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from graphopt.discovery import discover
from graphopt.ir.graph import Graph
from graphopt.ir.infer import infer_model
from graphopt.ir.known import CONSTANTS as HELD
from graphopt.ir.model import Function, Model, Signature
from graphopt.ir.ops import find
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import DType
from graphopt.ir.value import Node, Value
from graphopt.names import tensor_name
from graphopt.roles import CONSTANTS, VARIABLES, is_aside, is_source

SCHEMA = "graphopt/inspect/v1"
DYNAMIC_LIMIT = 20  # origins of dynamic shapes that are listed


@dataclass
class Port:
    """One input or output of a signature."""

    name: str
    tensor: str
    dtype: str
    shape: list[int | str | None] | None
    reason: str = ""


@dataclass
class SignatureFacts:
    """One signature: its ports, and whether graphopt found them itself."""

    name: str
    inferred: bool
    inputs: list[Port]
    outputs: list[Port]
    targets: list[str]


@dataclass
class DynamicOrigin:
    """A node whose output shape is not known although those of its inputs are, or which is an input itself."""

    node: str
    op: str
    shape: str
    reason: str


@dataclass
class FunctionFacts:
    """One function of the library."""

    name: str
    nodes: int
    inputs: int
    outputs: int


@dataclass
class Inspection:
    """Everything `graphopt inspect` says. Bytes are what constants take in the file, a shared one once."""

    source: str
    format: str
    producer: int
    min_consumer: int
    nodes: int
    main_nodes: int
    signatures: list[SignatureFacts]
    set_aside: dict[str, str]
    operators: dict[str, int]
    parameters: int
    constants: int
    constant_bytes: int
    largest_constants: list[dict[str, Any]]
    functions: list[FunctionFacts]
    devices: dict[str, int]
    unknown_operators: dict[str, int]
    variables: int
    leftovers: int
    dynamic_values: int
    dynamic_origins: list[DynamicOrigin]
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with its versioned schema name."""
        return {"schema": SCHEMA, **asdict(self)}


def inspect(source: Any, *, inputs: Any = None, outputs: Any = None) -> Inspection:
    """What there is to know about a model without running it. `source` is anything `load` takes."""
    from graphopt.sources import read

    model, notes = read(source, inputs=inputs, outputs=outputs)
    return inspect_model(model, list(notes))


def inspect_model(model: Model, notes: list[str] | None = None) -> Inspection:
    """Like `inspect`, of a model that may be changed: the types of its values are refined."""
    outcome = infer_model(model, fresh_symbols=True)
    constants = {id(held): (node, held) for node, held in _constants(model)}
    largest = sorted(constants.values(), key=lambda item: (-item[1].stored_bytes, item[0].name))[:5]
    values = [variable.value for variable in model.variables.values() if variable.value is not None]
    origins = list(_dynamic_origins(model.graph))
    return Inspection(
        source=model.source,
        format=model.format,
        producer=model.versions[0],
        min_consumer=model.versions[1],
        nodes=model.node_count,
        main_nodes=len(model.graph),
        signatures=[_signature(name, signature) for name, signature in model.signatures.items()],
        set_aside=_set_aside(model),
        operators=_counts(node.op_type for graph in model.graphs for node in graph),
        parameters=sum(
            held.size for held in (*(held for _, held in constants.values()), *values) if _is_parameter(held)
        ),
        constants=len(constants),
        constant_bytes=sum(held.stored_bytes for _, held in constants.values()),
        largest_constants=[_constant(node, held) for node, held in largest],
        functions=[_function(function) for function in model.functions.values()],
        devices=_counts(node.device for graph in model.graphs for node in graph if node.device),
        unknown_operators=_counts(_unknown_operators(model)),
        variables=len(model.variables) or sum(1 for graph in model.graphs for node in graph if node.op in VARIABLES),
        leftovers=sum(1 for graph in model.graphs for node in graph if is_aside(node) and node.outputs),
        dynamic_values=sum(1 for node in model.graph for value in node.outputs if not _is_settled(value)),
        dynamic_origins=origins[:DYNAMIC_LIMIT],
        notes=[*(notes or []), *outcome.notes],
    )


def _signature(name: str, signature: Signature) -> SignatureFacts:
    return SignatureFacts(
        name,
        signature.inferred,
        [_port(key, value, signature) for key, value in signature.input_values().items()],
        [_port(key, value, signature) for key, value in signature.output_values().items()],
        [node.name for node in signature.graph.targets],
    )


def _port(name: str, value: Value, signature: Signature) -> Port:
    dims = value.shape.dims
    shape = None if dims is None else [dim if isinstance(dim, int) or dim is None else str(dim) for dim in dims]
    return Port(name, tensor_name(value), value.dtype.name, shape, signature.reasons.get(name, ""))


def _set_aside(model: Model) -> dict[str, str]:
    if not any(signature.inferred for signature in model.signatures.values()):
        return {}
    chosen = {value.name: None for value in (*model.graph.inputs, *model.graph.outputs)}
    return {name: reason for name, reason in discover(model).set_aside.items() if name not in chosen}


def _counts(names: Iterable[str]) -> dict[str, int]:
    """How often each name occurs, the most frequent first."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _constants(model: Model) -> Iterator[tuple[Node, Tensor]]:
    for graph in model.graphs:
        for node in graph:
            if node.op in HELD:
                held = node.attrs.get("value")
                if isinstance(held, Tensor):
                    yield node, held


def _constant(node: Node, held: Tensor) -> dict[str, Any]:
    return {"node": node.name, "dtype": held.dtype.name, "shape": list(held.shape), "bytes": held.stored_bytes}


def _is_parameter(held: Tensor) -> bool:
    """Weights: floats and quantized integers that are more than one number."""
    return bool(held.shape) and (_may_be_weight(held.dtype)) and math.prod(held.shape) > 1


def _may_be_weight(dtype: DType) -> bool:
    return dtype.is_float or dtype.is_quantized or dtype.kind == "complex" or (dtype.is_integer and 0 < dtype.bits <= 8)


def _function(function: Function) -> FunctionFacts:
    return FunctionFacts(function.name, len(function), len(function.inputs), len(function.outputs))


def _unknown_operators(model: Model) -> Iterator[str]:
    for graph in model.graphs:
        for node in graph:
            if find(node.op) is None and node.op_type not in model.functions:
                yield node.op_type


# Dynamic shapes -----------------------------------------------------------------------------------------------


def _dynamic_origins(graph: Graph) -> Iterator[DynamicOrigin]:
    """Where shapes stop being known: inputs that leave dimensions open, and nodes that yield what nobody knows."""
    for node in graph:
        for value in node.outputs:
            if _is_settled(value):
                continue
            if value.is_input or is_source(node):
                yield _origin(value, "the input leaves it open")
            elif _is_unknown(value) and not any(_is_unknown(source) for source in node.inputs if source is not None):
                yield _origin(value, _why_unknown(node))


def _why_unknown(node: Node) -> str:
    operator = find(node.op)
    if operator is None:
        return "the operator is not in the table"
    if operator.shape is None:
        return "no shape inference for the operator"
    if node.op in VARIABLES or node.op in CONSTANTS or node.op in HELD:
        return "it is not declared"
    return "it depends on values"


def _origin(value: Value, reason: str) -> DynamicOrigin:
    return DynamicOrigin(value.node.name, value.node.op_type, str(value.shape), reason)


def _is_settled(value: Value) -> bool:
    """The shape is all numbers, or the value is none that has a shape."""
    return value.shape.is_static or value.dtype.is_handle


def _is_unknown(value: Value) -> bool:
    """Some dimension is not even an expression of the inputs' named ones."""
    dims = value.shape.dims
    return not value.dtype.is_handle and (dims is None or None in dims)
