"""Elements and slices picked by index. As everywhere in XLA, an index out of bounds is moved to the nearest one."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.layer import dequantized
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.slicing import dynamic_slice
from graphopt.backends.xla.table import RULES
from graphopt.ir.dimensions import KnownDim


@RULES.lower("tf.Gather", "tf.GatherV2")
def gather(op: Emission) -> Operand:
    """Slices along an axis, within each element of the batch dimensions."""
    layer, indices = op.emitter.layers.get(op.node), op.input(1)
    x = op.input(0) if layer is None else op.emitter.stored(layer, op.node)
    axis = op.axis(2, x.rank) if op.node.op == "tf.GatherV2" else 0
    batch = int(op.attr("batch_dims", 0) or 0)
    batch = batch + indices.rank if batch < 0 else batch
    made = take(op, x, indices, axis, batch)
    return made if layer is None else dequantized(op.build, layer, made, made.rank - 1)


def take(op: Emission, x: Operand, indices: Operand, axis: int, batch: int = 0) -> Operand:
    """Slices of `x` along `axis`."""
    b = op.build
    if indices.rank == 0 and not batch:
        starts = [indices if place == axis else b.full(0, indices.dtype) for place in range(x.rank)]
        part = dynamic_slice(op, x, starts, tuple(1 if place == axis else dim for place, dim in enumerate(x.dims)))
        return b.reshape(part, (*x.dims[:axis], *x.dims[axis + 1 :]))
    vectors = b.reshape(indices, (*indices.dims, 1))
    picked = [axis]
    if batch:
        counts = [b.iota(indices.dtype, vectors.dims, place) for place in range(batch)]
        vectors, picked = b.concatenate([*counts, vectors], indices.rank), [*range(batch), axis]
    sizes = [1 if place in picked else dim for place, dim in enumerate(x.dims)]
    before = list(range(batch, axis))
    after = range(axis + indices.rank - batch, axis + indices.rank - batch + x.rank - axis - 1)
    offsets = [*before, *after]
    dims = (*x.dims[:axis], *indices.dims[batch:], *x.dims[axis + 1 :])
    return emit_gather(op, x, vectors, picked, sizes, offsets, dims)


def emit_gather(
    op: Emission,
    x: Operand,
    vectors: Operand,
    picked: Sequence[int],
    sizes: Sequence[KnownDim],
    offsets: Sequence[int],
    dims: Sequence[KnownDim],
) -> Operand:
    """StableHLO's gather: the last dimension of `vectors` indexes the axes `picked`, which the result lacks."""
    b = op.build
    numbers = b.hlo.GatherDimensionNumbers.get(list(offsets), sorted(picked), [], [], list(picked), vectors.rank - 1)
    kind = b.type(x.dtype, dims)
    if all(isinstance(size, int) for size in sizes):
        value = b.hlo.gather(x.value, vectors.value, numbers, list(sizes), results=[kind])
    else:
        whole = b.convert(b.sizes.stacked(sizes), vectors.dtype)
        value = b.hlo.dynamic_gather(x.value, vectors.value, whole.value, numbers, results=[kind])
    return b.made(value, x.dtype, dims)


@RULES.lower("tf.GatherNd")
def gather_nd(op: Emission) -> Operand:
    """Slices at index vectors."""
    x, vectors = op.input(0), op.input(1)
    width = vectors.dims[-1]
    if not isinstance(width, int):
        op.refuse("the length of its index vectors is not known", "specialise the inputs (--unknown)")
    if int(op.attr("batch_dims", 0) or 0):
        op.refuse("it has batch dimensions", "gather along one axis")
    sizes = [1 if place < width else dim for place, dim in enumerate(x.dims)]
    outer = vectors.rank - 1
    offsets = range(outer, outer + x.rank - width)
    return emit_gather(op, x, vectors, range(width), sizes, offsets, (*vectors.dims[:-1], *x.dims[width:]))


@RULES.lower("tf.OneHot")
def one_hot(op: Emission) -> Operand:
    """One value where the index is, another elsewhere."""
    b, indices = op.build, op.input(0)
    dims = op.dims()
    axis = int(op.attr("axis", -1)) % len(dims)
    places = [place for place in range(len(dims)) if place != axis]
    hit = b.compare("EQ", b.broadcast(indices, dims, places), b.iota(indices.dtype, dims, axis))
    return b.select(hit, b.broadcast(op.input(2), dims), b.broadcast(op.input(3), dims))


@RULES.lower("tf.InvertPermutation")
def invert_permutation(op: Emission) -> Operand:
    """Where each number is."""
    b, x = op.build, op.input(0)
    (count,) = x.dims
    table = b.compare("EQ", b.broadcast(x, (count, count), (0,)), b.iota(x.dtype, (count, count), 1))
    places = b.iota(x.dtype, (count, count), 0)
    return b.reduce("add", b.select(table, places, b.like(0, places)), [0])
