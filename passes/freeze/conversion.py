"""Turning handles and references of one graph into values, and what reads them into what reads values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.graph import Graph
from graphopt.ir.known import CONSTANT, constant_type, hold
from graphopt.ir.model import Function
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import BOOL, INT32, RESOURCE, SCALAR, DType, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.ir.variable_flow import CALL_FORMS, HANDLE_CARRIERS, LOOPS, REFERENCE_CARRIERS
from graphopt.passes.frames import frame_anchors, has_v1_control_flow

ARGUMENT_MARKS = ("_handle_dtypes", "_handle_shapes", "_resource_arg_unique_id", "_output_shapes")
COLOCATED = b"loc:@"


def make_constant(node: Node, held: Tensor, first: Value | None) -> None:
    """Make the constant `held` of a variable's node; where the graph has it already, pass on `first`."""
    wanted = constant_type(held)
    if first is not None and not node._control_inputs and not first.node._control_inputs:
        node.op, node.attrs = "tf.Identity", {"T": held.dtype}
        node.set_inputs((first,))
    else:
        node.op, node.attrs = CONSTANT, {"dtype": held.dtype, "value": held}
    node.extras = None
    node.output.type = wanted


def retype_argument(value: Value, wanted: TensorType) -> None:
    """Let an argument of a function pass a value instead of a handle."""
    node = value.node
    node.attrs = {name: item for name, item in node.attrs.items() if name not in ARGUMENT_MARKS}
    node.attrs["T"] = wanted.dtype
    value.type = wanted


def convert_node(node: Node, values: dict[Value, TensorType]) -> bool:
    """Make `node` read values where it read handles; `values` are former handles with their types now.

    Returns False for a node that is not to be converted so: a call, or what cannot read a value.
    """
    converter = _CONVERTERS.get(node.op)
    if node.op in HANDLE_CARRIERS or node.op in REFERENCE_CARRIERS:
        converter = _carry
    if converter is None:
        return False
    converter(node, values)
    return True


def _carry(node: Node, values: dict[Value, TensorType]) -> None:
    if node.op in REFERENCE_CARRIERS:
        node.op = f"tf.{node.op_type.removeprefix('Ref')}"
    node.attrs = _kept(node)
    for value in node.outputs:
        if value in values:
            value.type = values[value]
    dtypes = tuple(value.dtype for value in node._inputs if value is not None)
    if node.op == "tf.IdentityN":
        node.attrs["T"] = dtypes
    else:
        node.attrs["T"] = dtypes[0]


def _kept(node: Node) -> dict[str, Any]:
    """Attributes without what a conversion makes untrue."""
    return {name: value for name, value in node.attrs.items() if name not in ("_output_shapes", *ARGUMENT_MARKS)}


def _become(node: Node, op: str, inputs: Iterable[Value], attrs: dict[str, Any], keep: Iterable[str] = ()) -> None:
    marks = {name: value for name, value in _kept(node).items() if name.startswith("_") or name in keep}
    node.op, node.attrs, node.extras = op, {**marks, **attrs}, None
    node.set_inputs(inputs)


def _read(node: Node, values: dict[Value, TensorType]) -> None:
    value = node.input(0)
    _become(node, "tf.Identity", (value,), {"T": value.dtype})
    _refine(node.output, value.shape)


def _read_several(node: Node, values: dict[Value, TensorType]) -> None:
    inputs = [value for value in node._inputs if value is not None]
    _become(node, "tf.IdentityN", inputs, {"T": tuple(value.dtype for value in inputs)})
    for output, value in zip(node.outputs, inputs, strict=True):
        _refine(output, value.shape)


def _refine(value: Value, shape: Shape) -> None:
    merged = value.shape.merged(shape)
    value.type = value.type.with_shape(shape if merged is None else merged)


def _gather(node: Node, values: dict[Value, TensorType]) -> None:
    """The elements that `indices` select of a variable, along the dimension after the batch's."""
    graph, table, indices = node.graph, node.input(0), node.input(1)
    assert graph is not None
    batch_dims = int(node.attrs.get("batch_dims", 0))
    axis = hold(graph, np.array(batch_dims, np.int32), name=f"{node.name}/axis", before=node, origins=node.source_names)
    _tie(axis.node, table)
    types = {"Tparams": table.dtype, "Tindices": indices.dtype, "Taxis": INT32, "batch_dims": batch_dims}
    _become(node, "tf.GatherV2", (table, indices, axis), types)


def _gather_nd(node: Node, values: dict[Value, TensorType]) -> None:
    table, indices = node.input(0), node.input(1)
    _become(node, "tf.GatherNd", (table, indices), {"Tparams": table.dtype, "Tindices": indices.dtype})


def _shape(node: Node, values: dict[Value, TensorType]) -> None:
    value = node.input(0)
    _become(node, "tf.Shape", (value,), {"T": value.dtype}, keep=("out_type",))


def _is_initialized(node: Node, values: dict[Value, TensorType]) -> None:
    value = node.input(0)
    _become(node, CONSTANT, (), {"dtype": BOOL, "value": _true()})
    _tie(node, value)
    node.output.type = TensorType(BOOL, SCALAR)


def _true() -> Tensor:
    from graphopt.ir.tensors import tensor

    return tensor(np.array(True))


def _forget_copy(node: Node, values: dict[Value, TensorType]) -> None:
    _become(node, "tf.NoOp", (), {})


def _tie(node: Node, value: Value) -> None:
    """Keep a constant in the v1 frame and branch of `value`."""
    graph = node.graph
    assert graph is not None
    if not has_v1_control_flow(graph):
        return
    anchors = frame_anchors([value])
    if anchors is None:
        identity = graph.create_node(
            "tf.Identity",
            (value,),
            {"T": value.dtype},
            name=f"{node.name}/frame",
            types=(value.type,),
            before=node,
            origins=node.source_names,
        )
        anchors = [identity]
    for anchor in anchors:
        if anchor is not node:
            node.add_control_input(anchor)


_CONVERTERS: dict[str, Callable[[Node, dict[Value, TensorType]], None]] = {
    "tf.ReadVariableOp": _read,
    "tf._ReadVariablesOp": _read_several,
    "tf.ResourceGather": _gather,
    "tf.ResourceGatherNd": _gather_nd,
    "tf.VariableShape": _shape,
    "tf.VarIsInitializedOp": _is_initialized,
    "tf.IsVariableInitialized": _is_initialized,
    "tf.DisableCopyOnRead": _forget_copy,
}


def convert_call(node: Node, values: dict[Value, TensorType], names: Mapping[str, str]) -> None:
    """Let a call pass values, to the functions that take values: `names` says which stand for which."""
    form = CALL_FORMS.get(node.op)
    node.attrs = _kept_of_call(node)
    for value in node.outputs:
        if value in values:
            value.type = values[value]
    if form is None:
        node.op = f"tf.{names.get(node.op_type, node.op_type)}"
        return
    for attr in form.functions:
        node.attrs[attr] = renamed(node.attrs[attr], names)
    operands = [None if value is None else value.dtype for value in node._inputs[form.first :]]
    place = 0
    for attr in form.operand_types:
        listed = node.attrs.get(attr)
        if isinstance(listed, tuple):
            node.attrs[attr] = _retyped(listed, operands[place : place + len(listed)])
            place += len(listed)
    if node.op not in LOOPS and isinstance(node.attrs.get(form.result_types), tuple):
        node.attrs[form.result_types] = _retyped(node.attrs[form.result_types], [v.dtype for v in node.outputs])
    shapes = node.attrs.get("output_shapes")
    if isinstance(shapes, tuple) and len(shapes) == len(node.outputs):
        pairs = zip(shapes, node.outputs, strict=True)
        node.attrs["output_shapes"] = tuple(v.shape if v in values else shape for shape, v in pairs)
    resources = node.attrs.get("_read_only_resource_inputs")
    if isinstance(resources, tuple):
        inputs = node.inputs
        node.attrs["_read_only_resource_inputs"] = tuple(
            place for place in resources if place < len(inputs) and getattr(inputs[place], "dtype", None) is RESOURCE
        )


def _kept_of_call(node: Node) -> dict[str, Any]:
    return {name: value for name, value in node.attrs.items() if name not in ("_output_shapes", "_handle_shapes")}


def _retyped(listed: tuple[Any, ...], dtypes: list[DType | None]) -> tuple[Any, ...]:
    return tuple(
        actual if old is RESOURCE and actual is not None else old for old, actual in zip(listed, dtypes, strict=False)
    )


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """An attribute with the functions that it refers to called by their new names."""
    if isinstance(value, FunctionRef):
        attrs = {key: renamed(item, names) for key, item in value.attrs.items()}
        return FunctionRef(names.get(value.name, value.name), attrs)
    return tuple(renamed(item, names) for item in value) if type(value) is tuple else value


def settle_function(function: Function, arguments: tuple[TensorType | None, ...]) -> None:
    """Retype arguments of a specialised function, and drop what was said of the function it was made from."""
    for value, wanted in zip(function.inputs, arguments, strict=True):
        if wanted is not None:
            retype_argument(value, wanted)
    shapes = function.attrs.get("_input_shapes")
    if isinstance(shapes, tuple) and len(shapes) == len(arguments):
        pairs = zip(shapes, arguments, strict=True)
        function.attrs["_input_shapes"] = tuple(s if wanted is None else wanted.shape for s, wanted in pairs)
    for name in ("api_implements", "api_preferred_device", "forward_function_name", "backward_function_name"):
        function.attrs.pop(name, None)
    function.gradient = None


def drop_colocations(graph: Graph, names: Iterable[str]) -> None:
    """Forget `_class` constraints that tie nodes to former variables."""
    gone = {COLOCATED + name.encode() for name in names}
    for node in graph:
        listed = node.attrs.get("_class")
        if isinstance(listed, tuple) and not gone.isdisjoint(item for item in listed if isinstance(item, bytes)):
            kept = tuple(item for item in listed if item not in gone)
            node.attrs.pop("_class")
            if kept:
                node.attrs["_class"] = kept
