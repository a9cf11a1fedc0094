"""The same elements in another shape or order, and shapes as data."""

from __future__ import annotations

import numpy as np

from graphopt.backends.xla.builder import size_of
from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import SPECIALISE, Operand
from graphopt.backends.xla.rules.indexing import emit_gather
from graphopt.backends.xla.table import RULES
from graphopt.ir.dimensions import KnownDim
from graphopt.ir.types import INT32


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


@RULES.lower("tf.Roll")
def roll(op: Emission) -> Operand:
    """Moved along axes, what leaves at one end coming in at the other."""
    b, made = op.build, op.input(0)
    shifts, axes = (op.constant_input(place, what).reshape(-1) for place, what in ((1, "the shift"), (2, "the axis")))
    for shift, axis in zip(shifts.tolist(), (int(axis) % made.rank for axis in axes), strict=True):
        size = made.dims[axis]
        if not isinstance(size, int):
            op.refuse(f"it moves along the dimension {size}, which is not known", SPECIALISE)
        cut = -shift % size if size else 0
        starts, limits = [0] * made.rank, list(made.dims)
        starts[axis] = limits[axis] = cut
        parts = [b.slice(made, starts, made.dims), b.slice(made, [0] * made.rank, limits)]
        made = b.concatenate(parts, axis) if cut else made
    return made


@RULES.lower("tf.ReverseSequence")
def reverse_sequence(op: Emission) -> Operand:
    """The first elements of each row the other way round, as many as its length says."""
    b, x, lengths = op.build, op.input(0), op.input(1)
    along, batch = int(op.attr("seq_dim")) % x.rank, int(op.attr("batch_dim", 0)) % x.rank
    places = b.iota(INT32, x.dims, along)
    long = b.broadcast(b.convert(lengths, INT32), x.dims, (batch,))
    source = b.select(b.compare("LT", places, long), b.sub(b.sub(long, places), 1), places)
    counts = [source if axis == along else b.iota(INT32, x.dims, axis) for axis in range(x.rank)]
    vectors = b.concatenate([b.reshape(part, (*x.dims, 1)) for part in counts], x.rank)
    return emit_gather(op, x, vectors, range(x.rank), [1] * x.rank, [], x.dims)


@RULES.lower("tf.ConcatOffset")
def concat_offset(op: Emission) -> list[Operand | None]:
    """Where each part begins in what they are joined to."""
    b, axis = op.build, int(op.constant_input(0, "the axis").reshape(-1)[0])
    made: list[Operand | None] = []
    total: KnownDim = 0
    for place, value in enumerate(op.node.outputs):
        dims = op.sizes(1 + place, "a shape")
        starts = [total if at == axis % len(dims) else 0 for at in range(len(dims))]
        made.append(b.convert(b.sizes.stacked(starts), value.dtype))
        total = total + dims[axis]
    return made


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
