"""The same elements in another shape or order, and shapes as data."""

from __future__ import annotations

import numpy as np

from graphopt.backends.xla.builder import size_of
from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES


@RULES.lower("tf.Reshape", "tf.Squeeze", "tf.ExpandDims")
def reshape(op: Emission) -> Operand:
    """Another shape, which is that of the output."""
    return op.build.reshape(op.input(0), op.dims())


@RULES.lower("tf.Transpose", "tf.ConjugateTranspose")
def transpose(op: Emission) -> Operand:
    """The axes in another order."""
    x = op.input(0)
    order = [int(axis) % x.rank for axis in op.constant_input(1, "the permutation").reshape(-1)]
    return op.build.transpose(x, order)


@RULES.lower("tf.Shape", "tf.ShapeN")
def shape(op: Emission) -> list[Operand | None]:
    """Shapes as vectors."""
    b = op.build
    return [
        b.convert(b.sizes.stacked(x.dims), value.dtype) if x.dims else b.integers([], value.dtype)
        for x, value in zip(op.inputs, op.node.outputs, strict=True)
    ]


@RULES.lower("tf.Size")
def size(op: Emission) -> Operand:
    """The number of elements."""
    return op.build.convert(op.build.sizes.scalar(size_of(op.input(0).dims)), op.dtype)


@RULES.lower("tf.Rank")
def rank(op: Emission) -> Operand:
    """The number of dimensions."""
    return op.build.constant(np.asarray(op.input(0).rank), op.dtype)


@RULES.lower("tf.BroadcastTo")
def broadcast_to(op: Emission) -> Operand:
    """Repeated to a shape."""
    return op.build.broadcast(op.input(0), op.dims())


@RULES.lower("tf.Tile")
def tile(op: Emission) -> Operand:
    """Repeated side by side along each axis."""
    b, x = op.build, op.input(0)
    times = op.sizes(1, "how often it repeats")
    spread = [dim for pair in zip(times, x.dims, strict=True) for dim in pair]
    wide = b.broadcast(x, spread, range(1, 2 * x.rank, 2))
    return b.reshape(wide, [count * dim for count, dim in zip(times, x.dims, strict=True)])


@RULES.lower("tf.ReverseV2", "tf.Reverse")
def reverse(op: Emission) -> Operand:
    """Some axes the other way round."""
    x = op.input(0)
    given = op.constant_input(1, "the axes").reshape(-1)
    if given.dtype == np.bool_:
        axes = [place for place, chosen in enumerate(given) if chosen]
    else:
        axes = [int(axis) % x.rank for axis in given]
    if not axes:
        return x
    return op.build.made(op.build.hlo.reverse(x.value, axes), x.dtype, x.dims)


@RULES.lower("tf.Bitcast")
def bitcast(op: Emission) -> Operand:
    """The same bits as another element type."""
    x, dims = op.input(0), op.dims()
    return op.build.made(op.build.hlo.bitcast_convert(op.build.type(op.dtype, dims), x.value), op.dtype, dims)


@RULES.lower("tf.SpaceToDepth", "tf.DepthToSpace")
def blocks(op: Emission) -> Operand:
    """Blocks of pixels to channels, and back."""
    b, x, side = op.build, op.input(0), int(op.attr("block_size"))
    if op.text("data_format", "NHWC") != "NHWC":
        op.refuse(f"its data format is {op.text('data_format')}", "use channels-last")
    batch, height, width, depth = x.dims
    if op.node.op == "tf.SpaceToDepth":
        split = b.reshape(x, (batch, height // side, side, width // side, side, depth))
        return b.reshape(b.transpose(split, (0, 1, 3, 2, 4, 5)), op.dims())
    split = b.reshape(x, (batch, height, width, side, side, depth // (side * side)))
    return b.reshape(b.transpose(split, (0, 1, 3, 2, 4, 5)), op.dims())


@RULES.lower("tf.SpaceToBatchND", "tf.BatchToSpaceND", "tf.SpaceToBatch", "tf.BatchToSpace")
def batch_blocks(op: Emission) -> Operand:
    """Blocks of pixels to the batch, and back, with padding or cropping."""
    b, x = op.build, op.input(0)
    if op.node.op in ("tf.SpaceToBatch", "tf.BatchToSpace"):
        sides, edges = [int(op.attr("block_size"))] * 2, op.constant_input(1, "the borders").reshape(-1, 2)
    else:
        sides = [int(side) for side in op.constant_input(1, "the block").reshape(-1)]
        edges = op.constant_input(2, "the borders").reshape(-1, 2)
    count, batch = len(sides), x.dims[0]
    rest, zeros = list(x.dims[1 + count :]), [0] * (x.rank - 1 - count)
    low, high = ([0, *(int(edge[side]) for edge in edges), *zeros] for side in range(2))
    if op.node.op.startswith("tf.SpaceToBatch"):
        padded = b.pad(x, low, high)
        inner = [dim for place in range(count) for dim in (padded.dims[1 + place] // sides[place], sides[place])]
        split = b.reshape(padded, (batch, *inner, *rest))
        order = [*range(2, 2 * count + 1, 2), 0, *range(1, 2 * count, 2), *range(2 * count + 1, split.rank)]
        outer = [padded.dims[1 + place] // sides[place] for place in range(count)]
        return b.reshape(b.transpose(split, order), (batch * int(np.prod(sides)), *outer, *rest))
    split = b.reshape(x, (*sides, batch // int(np.prod(sides)), *x.dims[1:]))
    order = [count, *(axis for place in range(count) for axis in (count + 1 + place, place))]
    order += range(2 * count + 1, split.rank)
    wide = [x.dims[1 + place] * sides[place] for place in range(count)]
    whole = b.reshape(b.transpose(split, order), (batch // int(np.prod(sides)), *wide, *rest))
    return b.pad(whole, [-number for number in low], [-number for number in high])
