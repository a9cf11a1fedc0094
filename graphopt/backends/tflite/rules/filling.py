"""Tensors made of fewer elements: filled, broadcast, tiled, padded, counted up."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import as_int32
from graphopt.backends.tflite.rules.kernels import compute, move
from graphopt.backends.tflite.rules.reshaping import reshaped
from graphopt.backends.tflite.table import RULES
from graphopt.ir import dimensions
from graphopt.ir.types import INT32, STRING
from graphopt.ir.value import Value

PAD_RANK = 5  # axes that LiteRT's PAD takes


@RULES.legalize("tf.Fill")
def fill(op: Lowering) -> Value:
    """One value everywhere."""
    return move(op, "FILL", _target(op, op.input(0)), op.input(1))


@RULES.legalize("tf.ZerosLike", "tf.OnesLike")
def filled_alike(op: Lowering) -> Value:
    """Zeros or ones in the shape of another tensor."""
    value = op.input(0)
    if value.dtype is STRING:
        number = op.constant(np.array(b"", object), name=f"{op.node.name}/nothing")
    else:
        number = op.scalar(float(op.node.op == "tf.OnesLike"), value)
    static = value.shape.static
    if static is not None:
        return op.step("Fill", op.integers(static, name=f"{op.node.name}/shape"), number)
    if op.node.op == "tf.OnesLike" and value.dtype.name in ("float32", "int32", "int64"):
        return op.step("AddV2", op.step("ZerosLike", value), number)
    return op.step("Fill", op.step("Shape", value, out_type=INT32), number)


@RULES.legalize("tf.BroadcastTo")
def broadcast(op: Lowering) -> Value:
    """Axes of size one stretched."""
    value = op.input(0)
    if value.shape.static is not None and value.shape.static == op.type.shape.static:
        return value
    return move(op, "BROADCAST_TO", value, _target(op, op.input(1)))


@RULES.legalize("tf.BroadcastArgs")
def broadcast_shapes(op: Lowering) -> Value:
    """The shape that two shapes broadcast to."""
    return op.emit("BROADCAST_ARGS", op.input(0), op.input(1))


@RULES.legalize("tf.Tile")
def tile(op: Lowering) -> Value:
    """A tensor repeated along its axes."""
    held = op.known(1)
    if held is not None and bool((held == 1).all()):
        return op.input(0)
    return move(op, "TILE", op.input(0), as_int32(op, op.input(1)))


@RULES.legalize("tf.Pad", "tf.PadV2")
def pad(op: Lowering) -> Value:
    """Zeros, or a value, around a tensor; of more than five axes, those without padding are joined first."""
    value, margins = op.input(0), op.known(1)
    if margins is not None and not margins.any():
        return value
    if value.shape.rank is not None and value.shape.rank > PAD_RANK:
        return _pad_joined(op, value)
    wanted = as_int32(op, op.input(1))
    if op.node.op == "tf.Pad":
        return move(op, "PAD", value, wanted)
    filling = op.known(2)
    if filling is not None and not filling.any():
        return move(op, "PAD", value, wanted)
    return move(op, "PADV2", value, wanted, op.input(2))


def _pad_joined(op: Lowering, value: Value) -> Value:
    margins = op.constant_input(1, "how much it pads").astype(np.int64)
    dims = value.shape.dims or ()
    groups: list[list[int]] = []
    for axis in range(len(dims)):
        if groups and not margins[axis].any() and not margins[groups[-1][-1]].any():
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if len(groups) > PAD_RANK:
        op.refuse(f"it pads {len(dims)} dimensions, and LiteRT {PAD_RANK}")
    sizes = [dimensions.product(dims[axis] for axis in group) for group in groups]
    flat = reshaped(op, value, sizes, name=f"{op.node.name}/joined")
    if flat is None:
        op.refuse("more than one of its dimensions is unknown", "give the inputs shapes (set-shapes)")
    around = op.integers([margins[group[0]].tolist() for group in groups], name=f"{op.node.name}/margins")
    padded = op.step(op.node.op_type, flat, around, *op.inputs[2:])
    found = reshaped(op, padded, op.type.shape.dims)
    if found is None:
        op.refuse("more than one of its dimensions is unknown", "give the inputs shapes (set-shapes)")
    return found


@RULES.legalize("tf.MirrorPad")
def mirror_pad(op: Lowering) -> Value:
    """The tensor's own elements around it, mirrored."""
    return move(op, "MIRROR_PAD", op.input(0), as_int32(op, op.input(1)), mode=op.text("mode").encode())


@RULES.legalize("tf.Range")
def count(op: Lowering) -> Value:
    """Numbers that go up or down by equal steps."""
    return compute(op, "RANGE", *op.inputs)


@RULES.legalize("tf.OneHot")
def one_hot(op: Lowering) -> Value:
    """One value at the place that an index names, another one elsewhere."""
    indices, depth, on, off = op.inputs
    if depth.dtype is not INT32:
        depth = as_int32(op, depth)
    if indices.dtype.name not in ("int32", "int64"):
        indices = op.step("Cast", indices, SrcT=indices.dtype, DstT=INT32, Truncate=False)
    return move(op, "ONE_HOT", indices, depth, on, off, axis=int(op.attr("axis")))


def _target(op: Lowering, shape: Value) -> Value:
    """A shape as int32: the known one of the result, or what is computed."""
    static = op.type.shape.static
    if static is not None:
        return op.integers(list(static), name=f"{op.node.name}/shape")
    return as_int32(op, shape)
