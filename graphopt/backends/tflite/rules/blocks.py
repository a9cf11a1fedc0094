"""Blocks of axes moved into the channels or into the batch, and back."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import as_int32
from graphopt.backends.tflite.rules.kernels import move
from graphopt.backends.tflite.rules.reshaping import reshaped
from graphopt.backends.tflite.table import RULES
from graphopt.ir import dimensions
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Value

BLOCKS = {"tf.SpaceToDepth": "SPACE_TO_DEPTH", "tf.DepthToSpace": "DEPTH_TO_SPACE"}
BATCHES = {"tf.SpaceToBatchND": "SPACE_TO_BATCH_ND", "tf.BatchToSpaceND": "BATCH_TO_SPACE_ND"}


@RULES.legalize(*BLOCKS)
def blocks(op: Lowering) -> Value:
    """Blocks of height and width moved into the channels, or back. Channels that come first are moved to the end."""
    layout = op.text("data_format", "NHWC")
    size = int(op.attr("block_size") or 0)
    if layout == "NHWC":
        return move(op, BLOCKS[op.node.op], op.input(0), block_size=size)
    if layout != "NCHW":
        op.refuse(f"its layout is {layout}")
    last = op.integers([0, 2, 3, 1], name=f"{op.node.name}/channels_last")
    first = op.integers([0, 3, 1, 2], name=f"{op.node.name}/channels_first")
    moved = op.step(op.node.op_type, op.step("Transpose", op.input(0), last), block_size=size, data_format=b"NHWC")
    return op.step("Transpose", moved, first)


@RULES.legalize(*BATCHES)
def batches(op: Lowering) -> Value:
    """Blocks of one or two axes moved into the batch, or back; whatever axes come after them are made one. Those of
    more axes are moved in turn."""
    value, spatial = op.input(0), (op.input(1).shape.static or (0,))[0]
    operands = as_int32(op, op.input(1)), as_int32(op, op.input(2))
    if spatial > 2:
        return _in_turn(op, spatial)
    if spatial < 1:
        op.refuse("the number of its axes of blocks is not known", "give the inputs shapes (set-shapes)")
    if op.rank(value) == spatial + 2:
        return move(op, BATCHES[op.node.op], value, *operands)
    return _with_one_last_axis(op, value, operands, spatial)


def _in_turn(op: Lowering, spatial: int) -> Value:
    """Blocks of all axes but the last, and of the last, with the axes before it as the height of pictures."""
    sizes, pairs = op.constant_input(1, "the sizes of blocks"), op.constant_input(2, "what is around them")
    value = op.input(0)

    def all_but_last(value: Value) -> Value:
        return op.step(op.node.op_type, value, op.integers(sizes[:-1]), op.integers(pairs[:-1]))

    def last(value: Value) -> Value:
        dims = value.shape.dims or ()
        before, rest = dimensions.product(dims[1:spatial]), dimensions.product(dims[spatial + 1 :])
        flat = reshaped(op, value, (dims[0], before, dims[spatial], rest), name=f"{op.node.name}/flat")
        if flat is None:
            op.refuse("more than one of its dimensions is unknown", "give the inputs shapes (set-shapes)")
        moved = op.step(op.node.op_type, flat, op.integers([1, sizes[-1]]), op.integers([[0, 0], pairs[-1]]))
        batch, _, width, _ = moved.shape.dims or (None,) * 4
        found = reshaped(op, moved, (batch, *dims[1:spatial], width, *dims[spatial + 1 :]), name=f"{op.node.name}/last")
        return moved if found is None else found

    return all_but_last(last(value)) if op.node.op == "tf.SpaceToBatchND" else last(all_but_last(value))


def _with_one_last_axis(op: Lowering, value: Value, operands: tuple[Value, Value], spatial: int) -> Value:
    dims, made = value.shape.dims or (), op.type.shape.dims or ()
    rest = dimensions.product(dims[1 + spatial :])
    flat = reshaped(op, value, (*dims[: 1 + spatial], rest), name=f"{op.node.name}/flat")
    if flat is not None:
        type = TensorType(value.dtype, Shape((*made[: 1 + spatial], rest)))
        moved = move(op, BATCHES[op.node.op], flat, *operands, type=type, name=f"{op.node.name}/moved")
        found = reshaped(op, moved, made)
        if found is not None:
            return found
    op.refuse("more than one of its dimensions is unknown", "give the inputs shapes (set-shapes)")
