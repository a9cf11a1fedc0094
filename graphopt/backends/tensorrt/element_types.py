"""Element types of the values of an ONNX model, from its operators: those that rules noted may be too narrow."""

from __future__ import annotations

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.formats.onnx.elements import BY_NUMBER
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import BOOL, FLOAT32, INT64, UINT8, UNKNOWN_DTYPE, DType, TensorType
from graphopt.ir.value import Node, Value

Types = dict[Value, DType]
_TRUTHS = frozenset({
    "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsNaN", "IsInf", "Not", "And", "Or", "Xor",
})  # fmt: skip
_PLACES = frozenset({"Shape", "Size", "NonZero", "ArgMax", "ArgMin", "NonMaxSuppression"})
_TYPED_BY = {"Where": 1, "OneHot": 2, "DequantizeLinear": 1, "Loop": 2}  # input whose type the result has


def element_types(model: Model) -> Types:
    """The element type of every value; `UNKNOWN_DTYPE` where nothing tells."""
    types: Types = {}
    for graph in model.graphs:
        _of_graph(model, graph, types)
    return types


def note_types(model: Model) -> None:
    """Give values of a file, which says no types of what is computed, those that follow from its operators."""
    if any(value.dtype is UNKNOWN_DTYPE for graph in model.graphs for node in graph for value in node.outputs):
        for value, dtype in element_types(model).items():
            if value.dtype is UNKNOWN_DTYPE:
                value.type = TensorType(dtype, value.shape)


def _of_graph(model: Model, graph: Graph, types: Types) -> None:
    for node in graph.topological_order():
        made = _of_node(model, node, types)
        for value, dtype in zip(node.outputs, made, strict=True):
            types[value] = dtype if dtype is not UNKNOWN_DTYPE else value.dtype


def _of_node(model: Model, node: Node, types: Types) -> list[DType]:
    kind, count = node.op_type, len(node.outputs)
    if kind in ("Input", "Initializer") or node.dialect != "onnx":
        return [value.dtype for value in node.outputs]
    if kind in _TRUTHS:
        return [BOOL] * count
    if kind in _PLACES:
        return [INT64] * count
    if kind == "Cast":
        to = node.attrs.get("to")
        return [to if isinstance(to, DType) else node.output.dtype]
    if kind == "ConstantOfShape":
        held = node.attrs.get("value")
        return [held.dtype if isinstance(held, Tensor) else FLOAT32]
    if kind == "Loop":
        return [_of(types, value) for value in node.inputs[2:]][:count] + _scanned(model, node)
    if kind == "If":
        return [value.dtype for value in node.outputs]
    if kind == "QuantizeLinear":
        if node.input_count > 2:
            return [_of(types, node.inputs[2])]
        said = node.attrs.get("output_dtype")
        return [said if isinstance(said, DType) else BY_NUMBER.get(said, UINT8)]  # type: ignore[arg-type]
    place = _TYPED_BY.get(kind, 0)
    own = _of(types, node.inputs[place]) if node.input_count > place else UNKNOWN_DTYPE
    if kind == "TopK":
        return [own, INT64][:count]
    return [own] * count


def _scanned(model: Model, node: Node) -> list[DType]:
    """Types of what a loop gathers, iteration by iteration."""
    body = node.attrs.get("body")
    function = model.functions.get(body.name) if isinstance(body, FunctionRef) else None
    states = node.input_count - 2 - int(node.attrs.get("_captures", 0))
    if not isinstance(function, Function):
        return []
    return [value.dtype for value in function.outputs[1 + states :]][: max(len(node.outputs) - states, 0)]


def _of(types: Types, value: Value | None) -> DType:
    return UNKNOWN_DTYPE if value is None else types.get(value, value.dtype)
