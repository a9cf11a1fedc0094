"""Layers of ONNX: where their weights are, along which axis their channels lie, what only moves elements."""

from __future__ import annotations

import numpy as np

from graphopt.ir.known import known_array, known_tensor
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Node, Value

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
PRODUCTS = frozenset({"MatMul", "Gemm"})
LAYERS = CONVOLUTIONS | PRODUCTS
POOLS = frozenset({"AveragePool", "GlobalAveragePool"})
# What yields elements of its first input and nothing else: a scale is as good behind it as before.
MOVING = frozenset({
    "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "MaxPool", "GlobalMaxPool", "DepthToSpace",
    "SpaceToDepth", "Slice", "Gather", "Tile", "Expand",
})  # fmt: skip
# Of these, what yields all of them.
KEEPING = frozenset({
    "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "DepthToSpace", "SpaceToDepth", "Tile",
    "Expand",
})  # fmt: skip


def weights_of(node: Node) -> Tensor | None:
    """The constant float32 matrix or kernel that a layer multiplies what it computes on by; None without one."""
    if node.op_type not in LAYERS or known_tensor(node.input(0)) is not None:
        return None
    held = known_tensor(node.input(1))
    return held if held is not None and held.dtype is FLOAT32 and len(held.shape) >= 2 else None


def channel_axis(node: Node, rank: int) -> int:
    """The axis of a layer's weights along which its results lie."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if int(node.attrs.get("group", 1)) == 1 else 0
    return 0 if node.attrs.get("transB") else rank - 1


def input_axis(node: Node, rank: int) -> int:
    """The axis of a product's weights that is summed over."""
    return 1 if node.attrs.get("transB") else rank - 2


def is_pool(node: Node) -> bool:
    """The node averages over places, channel by channel."""
    if node.op_type in POOLS:
        return True
    rank = node.input(0).shape.rank if node.op_type == "ReduceMean" else None
    if rank not in (4, 5) or node.input_count < 2:
        return False
    axes = known_array(node.inputs[1])
    return axes is not None and sorted(np.ravel(axes) % rank) == list(range(2, rank))


def layer_before(value: Value) -> Node | None:
    """The layer whose result `value` is, a bias added or not, where nothing else reads it on the way."""
    while value.use_count == 1 and not value.is_output:
        node = value.node
        if node.op_type in LAYERS:
            return node
        if node.op_type != "Add" or known_tensor(node.inputs[1]) is None:
            return None
        value = node.input(0)
    return None
