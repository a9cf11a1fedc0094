"""Known values: what a rule may ask of a value, and how the model comes to hold a new one.

A rule never asks whether weights are constants, frozen variables or variables that stay variables: it asks
`known_tensor(value)`, and `hold(tensor, ...)` gives it a value for the tensor it computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.tensors import ArrayTensor, Tensor, contiguous, tensor
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Node, Value

CONSTANT = "tf.Const"
TFLITE_CONSTANT = "tfl.CONSTANT"
ONNX_CONSTANT = "onnx.Initializer"
CONSTANTS = frozenset({CONSTANT, TFLITE_CONSTANT, ONNX_CONSTANT})
_OF_DIALECT = {"tfl": TFLITE_CONSTANT, "onnx": ONNX_CONSTANT}
_OF_FORMAT = {"tflite": TFLITE_CONSTANT, "onnx": ONNX_CONSTANT}
PASS_THROUGH = frozenset({"tf.Identity", "tf.Snapshot", "tf.StopGradient", "tf.PreventGradient", "tf.GuaranteeConst"})

VARIABLE_VALUES = frozenset({"tf.ReadVariableOp", "tf.VariableV2", "tf.Variable"})


def known_tensor(value: Value | None) -> Tensor | None:
    """The tensor that `value` always is, or None. Looks through identities; never evaluates or copies anything.

    A variable that nothing in the model changes is known, too; `constant_tensor` leaves variables out. What is among
    the graph's inputs is fed by the caller, so it is not known.
    """
    while value is not None and not value._inputs:
        node = value.node
        if node.op in CONSTANTS:
            held = node.attrs.get("value")
            return held if isinstance(held, Tensor) else None
        if node.op not in PASS_THROUGH or not node._inputs:
            return _variable_tensor(node) if node.op in VARIABLE_VALUES else None
        value = node._inputs[0]
    return None


def _variable_tensor(node: Node) -> Tensor | None:
    from graphopt.ir.known_variables import variable_tensor

    return variable_tensor(node)


def constant_tensor(value: Value | None) -> Tensor | None:
    """The tensor that `value`, a constant or passed on from one, always is, or None."""
    while value is not None and not value._inputs:
        node = value.node
        if node.op in CONSTANTS:
            held = node.attrs.get("value")
            return held if isinstance(held, Tensor) else None
        if node.op not in PASS_THROUGH or not node._inputs:
            return None
        value = node._inputs[0]
    return None


def known_array(value: Value | None, limit: int | None = None) -> np.ndarray[Any, Any] | None:
    """The known tensor's values, or None where it is unknown or takes more than `limit` bytes."""
    held = known_tensor(value)
    if held is None or held.dtype.numpy is None or (limit is not None and held.nbytes > limit):
        return None
    return held.numpy()


def known_scalar(value: Value | None) -> Any | None:
    """The one number of a known tensor with a single element, as a Python number; None otherwise."""
    held = known_tensor(value)
    if held is None or held.size != 1 or held.dtype.numpy is None:
        return None
    return held.numpy().reshape(-1)[0].item() if held.dtype.kind != "string" else held.numpy().reshape(-1)[0]


def constant_type(held: Tensor) -> TensorType:
    """The type of a constant that holds `held`."""
    return TensorType(held.dtype, Shape(held.shape))


def _constant_operator(graph: Graph, before: Node | None) -> str:
    if before is not None:
        return _OF_DIALECT.get(before.dialect, CONSTANT)
    return CONSTANT if graph.model is None else _OF_FORMAT.get(graph.model.format, CONSTANT)


def hold(
    graph: Graph,
    data: Tensor | np.ndarray[Any, Any],
    *,
    name: str,
    before: Node | None = None,
    origins: tuple[str, ...] = (),
) -> Value:
    """A value that is always `data`: a new constant of `graph`, put before `before`, in the dialect of that node."""
    held = data if isinstance(data, Tensor) else tensor(data)
    if isinstance(held, ArrayTensor) and not held.numpy().flags.c_contiguous:
        held = ArrayTensor(contiguous(held.numpy()), held.dtype)
    op = _constant_operator(graph, before)
    node = graph.create_node(
        op,
        attrs={"dtype": held.dtype, "value": held} if op == CONSTANT else {"value": held},
        name=name,
        types=(constant_type(held),),
        before=before,
        origins=origins,
    )
    return node.output
