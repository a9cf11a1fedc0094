"""Functions that say which operator they stand for (`experimental_implements`): their calls become custom operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphopt.backends.tflite.custom import custom_options
from graphopt.backends.tflite.rules.detection import POSTPROCESS
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.model import Function, Model
from graphopt.ir.types import UNKNOWN_DTYPE
from graphopt.ir.value import Node

IMPLEMENTS = "_implements"
FUSABLE = "tfl_fusable_op"
CALLS = frozenset({"tf.PartitionedCall", "tf.StatefulPartitionedCall"})
# The order in which tf.lite's converter writes these, flags as numbers.
_ORDER = (
    "max_detections", "max_classes_per_detection", "num_classes", "nms_score_threshold", "nms_iou_threshold",
    "y_scale", "x_scale", "h_scale", "w_scale", "use_regular_nms",
)  # fmt: skip


def fuse_composites(model: Model) -> None:
    """Make custom operators of calls of functions that stand for one and take no resources."""
    described = {
        name: found
        for name, function in model.functions.items()
        if IMPLEMENTS in function.attrs and (found := _described(function)) is not None
    }
    if not described:
        return
    for graph in model.graphs:
        for node in graph:
            name = _callee(node)
            if name in described and _is_plain(node, model.functions[name]):
                _fuse(node, model.functions[name], *described[name])


def _is_plain(node: Node, function: Function) -> bool:
    """The call has the function's outputs, and no resources among its inputs."""
    return len(node.outputs) == len(function.outputs) and not any(
        value.dtype.is_handle for value in node.inputs if value is not None
    )


def _callee(node: Node) -> str:
    held = node.attrs.get("f") if node.op in CALLS else None
    return held.name if isinstance(held, FunctionRef) else node.op_type


def _described(function: Function) -> tuple[str, dict[str, Any]] | None:
    """Name and attributes of the operator that a function stands for; None for one that is merely called something."""
    held = function.attrs[IMPLEMENTS]
    if not isinstance(held, FunctionRef) or not (held.attrs.get(FUSABLE) or held.name == POSTPROCESS):
        return None
    return held.name, {key: value for key, value in held.attrs.items() if key != FUSABLE}


def _fuse(node: Node, function: Function, name: str, attrs: Mapping[str, Any]) -> None:
    ordered = dict(sorted(attrs.items()))
    if name == POSTPROCESS:
        ordered = {
            key: int(attrs[key]) if attrs[key] is True or attrs[key] is False else attrs[key]
            for key in _ORDER
            if key in attrs
        }
    for value, result in zip(node.outputs, function.outputs, strict=True):
        if value.dtype is UNKNOWN_DTYPE or value.shape.dims is None:
            value.type = result.type
    node.op, node.extras = "tfl.CUSTOM", None
    node.attrs = {"custom_code": name.encode(), "custom_options": custom_options(ordered)}
