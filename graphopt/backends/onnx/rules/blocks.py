"""Blocks of space moved into channels or batches."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering, shaped
from graphopt.backends.onnx.rules.common import back, channels_first, first_type, longs, reshape, transpose
from graphopt.backends.onnx.table import RULES
from graphopt.ir.value import Value


@RULES.legalize("tf.DepthToSpace")
def depth_to_space(op: Lowering) -> Value:
    """Channels as blocks of pixels."""
    made = op.emit_node(
        "DepthToSpace", (channels_first(op),), [first_type(op)],
        attrs={"blocksize": int(op.attr("block_size")), "mode": b"DCR"},
    )  # fmt: skip
    return back(op, made.output)


@RULES.legalize("tf.SpaceToDepth")
def space_to_depth(op: Lowering) -> Value:
    """Blocks of pixels as channels."""
    made = op.emit_node(
        "SpaceToDepth", (channels_first(op),), [first_type(op)],
        attrs={"blocksize": int(op.attr("block_size"))},
    )  # fmt: skip
    return back(op, made.output)


@RULES.legalize("tf.SpaceToBatchND")
def space_to_batch(op: Lowering) -> Value:
    """Blocks of space as batches: padded, taken apart, reordered."""
    block = [int(n) for n in op.constant_input(1, "the block")]
    pads = op.constant_input(2, "the padding")
    rank = op.rank(op.input(0))
    margins = np.zeros((rank, 2), np.int64)
    margins[1 : 1 + len(block)] = pads
    value = op.input(0)
    dims: list[int | None] = [dim if isinstance(dim, int) else None for dim in value.shape.dims or ()]
    if margins.any():
        dims = [None if dim is None else dim + int(margins[axis].sum()) for axis, dim in enumerate(dims)]
        flat = longs(op, [int(n) for n in margins.T.reshape(-1)], "pads")
        value = op.emit(
            "Pad", value, flat, type=shaped(value.dtype, dims), name=f"{op.node.name}/padded", mode=b"constant"
        )
    inner = dims[1 : 1 + len(block)]
    if any(dim is None for dim in inner):
        op.refuse("the space it takes apart has a size that is not known", "give the inputs shapes (set-shapes)")
    split: list[int | None] = [dims[0]]
    for dim, size in zip(inner, block, strict=True):
        split += [(dim or 0) // size, size]
    apart = reshape(op, value, [*split, *dims[1 + len(block) :]], "apart")
    places = [2 + 2 * place for place in range(len(block))]
    order = [
        *places,
        0,
        *(place - 1 for place in places),
        *range(1 + 2 * len(block), len(split) + rank - 1 - len(block)),
    ]
    moved = transpose(op, apart, order, "moved")
    total = int(np.prod(block))
    batch = None if dims[0] is None else dims[0] * total
    final = [batch, *((dim or 0) // size for dim, size in zip(inner, block, strict=True)), *dims[1 + len(block) :]]
    return op.emit("Reshape", moved, longs(op, [-1 if dim is None else dim for dim in final], "shape"))


@RULES.legalize("tf.BatchToSpaceND")
def batch_to_space(op: Lowering) -> Value:
    """Batches as blocks of space: taken apart, reordered, cropped."""
    block = [int(n) for n in op.constant_input(1, "the block")]
    crops = op.constant_input(2, "the crops")
    value, count = op.input(0), len(block)
    dims: list[int | None] = [dim if isinstance(dim, int) else None for dim in value.shape.dims or ()]
    op.rank(value)
    inner = dims[1 : 1 + count]
    if any(dim is None for dim in inner):
        op.refuse("the space it puts together has a size that is not known", "give the inputs shapes (set-shapes)")
    total = int(np.prod(block))
    batch = None if dims[0] is None else dims[0] // total
    apart = reshape(op, value, [*block, batch, *dims[1:]], "apart")
    order = [count]
    for place in range(count):
        order += [count + 1 + place, place]
    order += list(range(2 * count + 1, count + len(dims)))
    moved = transpose(op, apart, order, "moved")
    joined = [(dim or 0) * size for dim, size in zip(inner, block, strict=True)]
    whole = reshape(op, moved, [batch, *joined, *dims[1 + count :]], "joined")
    if not crops.any():
        return whole
    starts = [int(crop[0]) for crop in crops]
    ends = [size - int(crop[1]) for size, crop in zip(joined, crops, strict=True)]
    axes = longs(op, range(1, 1 + count), "axes")
    return op.emit("Slice", whole, longs(op, starts, "starts"), longs(op, ends, "ends"), axes)
