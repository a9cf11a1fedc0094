"""Lists of tensors that passes did not make plain: a list is the tensor of its elements, one after the other."""

from __future__ import annotations

from graphopt.backends.xla.builder import numbers
from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import SPECIALISE, Operand, PendingList
from graphopt.backends.xla.rules.indexing import take
from graphopt.backends.xla.rules.scattering import emit_scatter
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import INT64


@RULES.lower("tf.TensorListReserve")
def reserve(op: Emission) -> Operand:
    """Zeros, until elements are set; where their shape is not known, it is that of the first one that is set."""
    (count,) = op.sizes(1, "the number of its elements")
    dtype, shape = op.attr("element_dtype"), op.known(0)
    if shape is None or shape.ndim != 1 or (shape < 0).any():
        return PendingList(count, dtype)
    return op.build.full(0, dtype, (count, *(int(dim) for dim in shape)))


@RULES.lower("tf.TensorListFromTensor")
def from_tensor(op: Emission) -> Operand:
    """The elements lie along the first dimension already."""
    return op.input(0)


@RULES.lower("tf.TensorListGetItem")
def get_item(op: Emission) -> Operand:
    """One element."""
    return take(op, _sized(op), op.input(1), 0)


@RULES.lower("tf.TensorListSetItem")
def set_item(op: Emission) -> Operand:
    """The list with one element replaced."""
    b, x, index, item = op.build, op.input(0), op.input(1), op.input(2)
    if op.attr("resize_if_index_out_of_bounds"):
        op.refuse("it may make the list longer", "give the list its size when it is made")
    if isinstance(x, PendingList):
        x.found = item.dims
        return x
    if x.dims[1:] != item.dims:
        op.refuse("its elements have different shapes", "pad them to one shape")
    row = b.reshape(item, (1, *item.dims))
    starts = [index.value, *[b.full(0, index.dtype).value] * (x.rank - 1)]
    return b.made(b.hlo.dynamic_update_slice(x.value, row.value, starts), x.dtype, x.dims)


@RULES.lower("tf.TensorListStack")
def stack(op: Emission) -> Operand:
    """All elements along a new first dimension."""
    return _sized(op)


def _sized(op: Emission) -> Operand:
    x = op.input(0)
    if isinstance(x, PendingList):
        op.refuse("the shape of its elements is not known", "specialise the inputs (--batch, --unknown)")
    return x


@RULES.lower("tf.TensorListLength")
def length(op: Emission) -> Operand:
    """The number of elements."""
    return op.build.sizes.scalar(op.input(0).dims[0])


@RULES.lower("tf.EmptyTensorList")
def empty(op: Emission) -> Operand:
    """No elements yet: the first that is pushed says what they are like."""
    return PendingList(0, op.attr("element_dtype"))


@RULES.lower("tf.TensorListPushBack")
def push_back(op: Emission) -> Operand:
    """One element more."""
    b, x, item = op.build, op.input(0), op.input(1)
    row = b.reshape(item, (1, *item.dims))
    if isinstance(x, PendingList):
        if x.dims != (0,):
            op.refuse("its list has elements of which nothing is known", SPECIALISE)
        return row
    if x.dims[1:] != item.dims:
        op.refuse("its elements have different shapes", "pad them to one shape")
    return b.concatenate([x, row], 0)


@RULES.lower("tf.TensorListPopBack")
def pop_back(op: Emission) -> list[Operand | None]:
    """The list without its last element, and that element."""
    b, x = op.build, _sized(op)
    (count,) = numbers(x.dims, [0], "the list")
    last = b.slice(x, [count - 1, *[0] * (x.rank - 1)], [count, *x.dims[1:]])
    rest = b.slice(x, [0] * x.rank, [count - 1, *x.dims[1:]])
    return [rest, b.reshape(last, x.dims[1:])]


@RULES.lower("tf.TensorListGather")
def gather(op: Emission) -> Operand:
    """Some elements along a new first dimension."""
    return take(op, _sized(op), op.input(1), 0)


@RULES.lower("tf.TensorListScatterV2", "tf.TensorListScatterIntoExistingList")
def scatter(op: Emission) -> Operand:
    """Elements put in their places, of a list that is there or of one with zeros in all others."""
    b = op.build
    is_there = op.node.op == "tf.TensorListScatterIntoExistingList"
    items, places = (op.input(1), op.input(2)) if is_there else (op.input(0), op.input(1))
    vectors = b.reshape(places, (*places.dims, 1))
    if is_there:
        start = _sized(op)
    else:
        (count,) = op.sizes(3, "the number of its elements")
        start = b.full(0, items.dtype, (count, *items.dims[1:]))
    return emit_scatter(op, start, vectors, items, "")


@RULES.lower("tf.TensorListConcatV2")
def concat(op: Emission) -> list[Operand | None]:
    """All elements, one after the other along their first dimension, and how long each is."""
    b, x = op.build, _sized(op)
    if x.rank < 2:
        op.refuse("its elements are numbers", "stack them")
    lengths = b.broadcast(b.convert(b.sizes.scalar(x.dims[1]), INT64), (x.dims[0],))
    return [b.reshape(x, (x.dims[0] * x.dims[1], *x.dims[2:])), lengths]


@RULES.lower("tf.TensorListSplit")
def split(op: Emission) -> Operand:
    """Parts of one length as elements."""
    x = op.input(0)
    lengths = op.constant_input(2, "how long its parts are").reshape(-1)
    if not lengths.size or (lengths != lengths[0]).any():
        op.refuse("its parts have different lengths", "pad them to one length")
    return op.build.reshape(x, (lengths.size, int(lengths[0]), *x.dims[1:]))


@RULES.lower("tf.TensorListElementShape")
def element_shape(op: Emission) -> Operand:
    """The shape that all elements have."""
    x = _sized(op)
    if x.rank == 1:
        return op.build.integers([], op.dtype)
    return op.build.convert(op.build.sizes.stacked(x.dims[1:]), op.dtype)


@RULES.lower(
    *(f"tf.TensorArray{verb}V3" for verb in ("", "Read", "Write", "Gather", "Scatter", "Concat", "Split", "Size"))
)
def arrays(op: Emission) -> Operand:
    """Arrays that passes did not make tensors of."""
    op.refuse("its array could not be made a tensor: elements of different shapes, or used in branches", SPECIALISE)
