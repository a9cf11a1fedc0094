"""Lists of tensors that passes did not make plain: a list is the tensor of its elements, one after the other."""

from __future__ import annotations

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand, PendingList
from graphopt.backends.xla.rules.indexing import take
from graphopt.backends.xla.table import RULES


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
