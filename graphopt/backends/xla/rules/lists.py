"""Lists of tensors that passes did not make plain: a list is the tensor of its elements, one after the other."""

from __future__ import annotations

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.indexing import take
from graphopt.backends.xla.table import RULES
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.dimensions import KnownDim
from graphopt.ir.graph import Graph
from graphopt.ir.value import Value

LOOPS = frozenset({"tf.While", "tf.StatelessWhile"})
READERS = 64  # of a list, looked at for what its elements are


@RULES.lower("tf.TensorListReserve")
def reserve(op: Emission) -> Operand:
    """Zeros, until elements are set; their shape is that of the first one that is."""
    (count,) = op.sizes(1, "the number of its elements")
    dims = _element_dims(op, op.node.output)
    return op.build.full(0, op.attr("element_dtype"), (count, *dims))


@RULES.lower("tf.TensorListFromTensor")
def from_tensor(op: Emission) -> Operand:
    """The elements lie along the first dimension already."""
    return op.input(0)


@RULES.lower("tf.TensorListGetItem")
def get_item(op: Emission) -> Operand:
    """One element."""
    return take(op, op.input(0), op.input(1), 0)


@RULES.lower("tf.TensorListSetItem")
def set_item(op: Emission) -> Operand:
    """The list with one element replaced."""
    b, x, index, item = op.build, op.input(0), op.input(1), op.input(2)
    if op.attr("resize_if_index_out_of_bounds"):
        op.refuse("it may make the list longer", "give the list its size when it is made")
    if x.dims[1:] != item.dims:
        op.refuse("its elements have different shapes", "pad them to one shape")
    row = b.reshape(item, (1, *item.dims))
    starts = [index.value, *[b.full(0, index.dtype).value] * (x.rank - 1)]
    return b.made(b.hlo.dynamic_update_slice(x.value, row.value, starts), x.dtype, x.dims)


@RULES.lower("tf.TensorListStack")
def stack(op: Emission) -> Operand:
    """All elements along a new first dimension."""
    return op.input(0)


@RULES.lower("tf.TensorListLength")
def length(op: Emission) -> Operand:
    """The number of elements."""
    return op.build.sizes.scalar(op.input(0).dims[0])


def _element_dims(op: Emission, made: Value) -> tuple[KnownDim, ...]:
    """What is set says the shape of an element: follow the list through identities and into loops."""
    pending, seen = [made], {made: None}
    while pending and len(seen) < READERS:
        value = pending.pop()
        for reader, place in value.uses:
            if reader.op == "tf.TensorListSetItem" and place == 0:
                dims = reader.input(2).shape.dims
                known = tuple(dim for dim in dims or () if dim is not None)
                if dims is not None and len(known) == len(dims):
                    return known
            elif reader.op == "tf.Identity" and reader.output not in seen:
                seen[reader.output] = None
                pending.append(reader.output)
            elif reader.op in LOOPS:
                inner = _argument(op, reader.attrs.get("body"), place)
                if inner is not None and inner not in seen:
                    seen[inner] = None
                    pending.append(inner)
    op.refuse("the shape of its elements is not known", "specialise the inputs (--batch, --unknown)")


def _argument(op: Emission, reference: object, place: int) -> Value | None:
    if not isinstance(reference, FunctionRef):
        return None
    body: Graph | None = op.emitter.model.functions.get(reference.name)
    return body.inputs[place] if body is not None and place < len(body.inputs) else None
