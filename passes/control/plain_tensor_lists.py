"""plain-tensor-lists: lists of tensors whose sizes are known become tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.known import CONSTANT, known_array, known_scalar
from graphopt.ir.model import ARGUMENT, Function, Model
from graphopt.ir.tensors import tensor
from graphopt.ir.types import INT32, SCALAR, DType, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.control.call_sites import Site
from graphopt.passes.control.plain_variables import (
    Loops,
    Slot,
    become,
    become_filled,
    become_zeros,
    dimension_of,
    followed,
    made_before,
    operand_with,
    sizes_of,
    small_constant,
)
from graphopt.passes.frames import has_v1_control_flow
from graphopt.passes.removal import remove_dead

RESERVE, FROM_TENSOR, IDENTITY = "tf.TensorListReserve", "tf.TensorListFromTensor", "tf.Identity"
SET_ITEM, PUSH, EMPTY = "tf.TensorListSetItem", "tf.TensorListPushBack", "tf.EmptyTensorList"
MAKERS = frozenset({RESERVE, FROM_TENSOR, EMPTY})
STEPS = frozenset({SET_ITEM, PUSH, IDENTITY})  # whose result is the list in another state
RESIZES = "resize_if_index_out_of_bounds"


@dataclass(frozen=True)
class PlainTensorLists(Pass):
    """Replace lists of tensors with a known number of elements of one known shape by a tensor of one more dimension.

    *Given*

        %list = tf.TensorListReserve(%shape, %three) {element_dtype = float32}
        %set = tf.TensorListSetItem(%list, %i, %x)
        %get = tf.TensorListGetItem(%set, %j, %shape)
        %y = tf.TensorListStack(%set, %shape)

    *Result*

        %list = tf.Const() {value = float32[3, 2] splat 0.0}
        %set = tf.TensorScatterUpdate(%list, %index, %row)
        %get = tf.GatherV2(%set, %j, %zero)
        %y = tf.Identity(%set)

    `TensorListFromTensor` passes its tensor on. Lists are followed through identities, the variables of `While` loops,
    and what `If`, `Case` and `PartitionedCall` take and yield; their functions change their signatures. Functions that
    others run too are copied, unless they call functions or make resources. An element that was not set counts as
    zeros, as in a list.

    With `dynamic`, number and shape of the elements may be known only when the model runs, as they are where the batch
    is not known: `infer-shapes` must have found that a dimension is one of an operand of the loop (which it does once
    the inputs' unknown dimensions have names), and the tensor is made by `Fill`. Then lists may grow as well, by one
    element at a time: the tensor is concatenated with the new one. One that starts empty has a row of zeros before its
    first element, as runtimes do not let an empty tensor grow in a loop. Of a list of one element the sizes need not be
    known, for that element becomes the whole.

    Refuses a list whose size or element shape is not known, which grows or shrinks, which takes more than `max_bytes`,
    or which something reads that is not named here, and graphs with v1 control flow (`raise-control-flow` comes first).
    """

    max_bytes: int = 1 << 24
    dynamic: bool = False

    def run(self, model: Model, context: PassContext) -> None:
        """Replace lists in all graphs."""
        loops = Loops(model, calls=True)
        done: dict[Value, None] = {}
        for graph in model.graphs:
            for node in graph:
                if node.op not in MAKERS or node.output in done:
                    continue
                web, separated = followed(partial(_Web, node.output, loops, self.dynamic), loops)
                done.update(web.values)
                reason = web.problem or web.measure(self.max_bytes)
                is_allowed = reason is None and context.allows(self.name)
                if not is_allowed:
                    for call, before in reversed(separated):
                        loops.rejoin(call, before)
                if reason is not None:
                    context.refused(self.name, node, reason)
                elif is_allowed:
                    web.replace()
                    context.rewrote(self.name, removed=(node,), added=(node,))


class _Web:
    """Every value that is, or may be, one list in some state; `problem` says why it must stay a list."""

    def __init__(self, start: Value, loops: Loops, dynamic: bool):
        self.loops, self.dynamic = loops, dynamic
        self.values: dict[Value, None] = {}
        self.nodes: dict[Node, None] = {}
        self.slots: dict[Slot, None] = {}
        self.problem: str | None = None
        self.shared: Node | None = None  # a call whose functions others run too is in the way
        self.grows = self.is_empty = False
        self.type = TensorType(start.dtype, Shape(None))
        pending = [start]
        while pending and self.problem is None:
            value = pending.pop()
            if value not in self.values:
                self.values[value] = None
                pending += self._producer(value)
                for user, place in value.uses:
                    pending += self._reader(user, place)
                if value.is_output or value.is_input:
                    pending += self._interface(value)

    def _producer(self, value: Value) -> list[Value]:
        node = value.node
        if node.op in MAKERS:
            self.nodes[node] = None
        elif node.op in STEPS:
            return [node.input(0)]
        elif node in self.loops.by_node:
            return self._slot(self.loops.yielded(value))
        elif node.op != ARGUMENT:
            self.shared = node if node in self.loops.shared else None
            self.problem = f"'{printable(node.name)}' ({node.op_type}) may yield it too"
        return []

    def _reader(self, node: Node, place: int) -> list[Value]:
        slot = self.loops.read_at(node, place) if node in self.loops.by_node else None
        if slot is not None:
            return self._slot(slot)
        if (node.op in _READERS and place == 0) or node.op == IDENTITY:
            self.nodes[node] = None
            return [node.outputs[0]] if node.op in STEPS else []
        self.shared = node if node in self.loops.shared else None
        self.problem = f"'{printable(node.name)}' ({node.op_type}) reads it"
        return []

    def _interface(self, value: Value) -> list[Value]:
        """Follow an argument or result of a function."""
        slots = self.loops.interface(value)
        if slots is None:
            self.problem = f"'{printable(value.name)}' is an input or output of a graph"
        return [found for slot in slots or () for found in self._slot(slot)]

    def _slot(self, slot: Slot) -> list[Value]:
        if slot in self.slots:
            return []
        self.slots[slot] = None
        return slot.values

    @property
    def sites(self) -> list[Site]:
        """The calls that the list goes into or comes out of."""
        return list(dict.fromkeys(slot.site for slot in self.slots))

    def measure(self, most: int) -> str | None:
        """Find out type and shape of the tensor; a reason, if that cannot be."""
        found: TensorType | None = None
        for node in self.nodes:
            if node.graph is not None and has_v1_control_flow(node.graph):
                return "the graph has v1 control flow"
            if self._may_grow(node):
                if not self.dynamic or (node.op == SET_ITEM and not self._appends(node)):
                    return f"'{printable(node.name)}' may make it longer"
                self.grows = True
        for node in self.nodes:
            if node.op in MAKERS:
                type = self._made(node)
                if isinstance(type, str):
                    return type
                if found is not None and (found.dtype is not type.dtype or not self._alike(found, type)):
                    return "it takes the place of a list of another size or type"
                found = type
        if found is None:
            return "nothing says how large it is"
        if self.grows:
            self.is_empty = all(_starts_empty(node) for node in self.nodes if node.op in MAKERS)
            found = found.with_shape(Shape([None, *(found.shape.dims or (None,))[1:]]))
        self.type = found
        return self._unfit(found, most)

    def _unfit(self, type: TensorType, most: int) -> str | None:
        """Why a tensor of `type` cannot take the list's place."""
        static = type.shape.static
        if static is not None and math.prod(static) * type.dtype.itemsize > most:
            return f"it takes more than {most} bytes"
        length = (type.shape.dims or (None,))[0]
        for node in self.nodes:
            count = node.attrs.get("num_elements", -1)
            if node.op == "tf.TensorListStack" and count not in (-1, length):
                return f"'{printable(node.name)}' expects {count} elements"
            put = node.input(_ELEMENT[node.op]).dtype if node.op in _ELEMENT else type.dtype
            if put.code and put is not type.dtype:
                return f"'{printable(node.name)}' puts in {put}"
        return None

    def _made(self, node: Node) -> TensorType | str:
        """What tensor stands for the list that `node` makes, or why none does."""
        dtype = node.attrs.get("element_dtype")
        if not isinstance(dtype, DType) or not (dtype.is_numeric or dtype.kind == "bool"):
            return f"its elements are {dtype}"
        unknown = "its number of elements or their shape is not known"
        if node.op == FROM_TENSOR:
            shape = node.input(0).shape
            fits = bool(shape.dims) if self.dynamic else bool(shape.static)
            return TensorType(dtype, shape) if fits else unknown
        dims = self._element_dims(node)
        count = np.zeros((), np.int32) if node.op == EMPTY else known_array(node.input(1))
        if dims is None or (count is not None and (count.size != 1 or int(count) < (0 if self.grows else 1))):
            return unknown
        length = None if count is None else int(count)
        if not self.dynamic and (length is None or not all(isinstance(dim, int) for dim in dims)):
            return unknown
        replaced = self.dynamic and length == 1 and not self.grows  # the one element takes the place of the whole
        if not replaced and any(not isinstance(d, int) and operand_with(self.sites, node, d) is None for d in dims):
            return unknown
        return TensorType(dtype, Shape([length, *dims]))

    def _element_dims(self, node: Node) -> tuple[Any, ...] | None:
        """Dimensions of an element of the list that `node` reserves: those it states, the rest of what is put in."""
        stated = known_array(node.input(0))
        shape = Shape(None)
        if stated is not None and stated.ndim == 1:
            shape = Shape([int(dim) if dim >= 0 else None for dim in stated])
        if self.dynamic and not shape.is_static:
            for other in self.nodes:
                merged = shape.merged(other.input(_ELEMENT[other.op]).shape) if other.op in _ELEMENT else None
                shape = shape if merged is None else merged
        return shape.dims

    def _alike(self, one: TensorType, other: TensorType) -> bool:
        """Of the same shape, the number of elements aside where that changes."""
        return one.shape == other.shape or (self.grows and (one.shape.dims or ())[1:] == (other.shape.dims or ())[1:])

    def _count(self, node: Node) -> Value:
        """How many rows the tensor has when the list is made."""
        if self.is_empty:
            return small_constant(node, 1, "count")
        return small_constant(node, 0, "count") if node.op == EMPTY else node.input(1)

    def _may_grow(self, node: Node) -> bool:
        return node.op == PUSH or (node.op == SET_ITEM and bool(node.attrs.get(RESIZES)))

    def _appends(self, node: Node) -> bool:
        """The element is put behind the last: at the place that is the number of elements so far."""
        before, index = _without_identities(node.input(0)), _without_identities(node.input(1))
        place = known_scalar(index)
        if place is not None:
            known = known_scalar(before.node.input(1)) if before.node.op in (RESERVE, SET_ITEM) else None
            return known is not None and place == known + (before.node.op == SET_ITEM)
        body = node.graph
        site = self.loops.by_function.get(body) if isinstance(body, Function) else None
        if (
            site is None
            or not site.is_loop
            or body is not site.functions[1]
            or not (before.is_input and index.is_input)
        ):
            return False
        lists, counter = body.inputs.index(before), body.inputs.index(index)
        next_ = _without_identities(body.outputs[counter])
        counts = next_.node.op in ("tf.Add", "tf.AddV2") and not next_.is_input
        terms = [_without_identities(value) for value in next_.node.inputs if value is not None] if counts else []
        one = [known_scalar(value) for value in terms if value is not index] == [1]
        start = _without_identities(site.operands[lists]).node
        length = known_scalar(start.input(1)) if start.op == RESERVE else None
        same = _without_identities(body.outputs[lists]) is node.output
        return one and same and length is not None and length == known_scalar(site.operands[counter])

    def replace(self) -> None:
        """Turn the lists into tensors."""
        makers = [node for node in self.nodes if node.op in (RESERVE, EMPTY)]
        sizes = {}
        if not self.type.shape.is_static:
            sites = self.sites
            sizes = {n: [self._count(n), *sizes_of(n, self._element_dims(n) or (), sites)] for n in makers}
        for slot in self.slots:
            slot.retype(self.type)
        for node in self.nodes:
            producers = list(dict.fromkeys(node.predecessors()))
            if self.is_empty:
                _skip_first(node, self.type)
            if node in sizes:
                become_filled(node, self.type, sizes[node])
            else:
                _READERS[node.op](node, self.type)
            node.extras = None
            if node.graph is not None:
                remove_dead(node.graph, producers)


# Operators -----------------------------------------------------------------------------------------------------


def _pass_on(node: Node, type: TensorType) -> None:
    become(node, IDENTITY, [node.input(0)], {"T": type.dtype}, type)


def _reshaped(node: Node, value: Value, dims: list[int], name: str) -> Value:
    inputs = [value, small_constant(node, dims, f"{name}_shape")]
    attrs: dict[str, object] = {"T": value.dtype, "Tshape": INT32}
    return made_before(node, "tf.Reshape", inputs, attrs, value.type.with_shape(Shape(dims)), name)


def _set_item(node: Node, type: TensorType) -> None:
    if node.attrs.get(RESIZES):
        _append(node, type)
        return
    static = type.shape.static
    if static is None and type.shape[0] == 1:  # the element is all there is
        become(node, "tf.ExpandDims", [node.input(2), small_constant(node, 0, "axis")],
               {"T": type.dtype, "Tdim": INT32}, type)  # fmt: skip
        return
    index = _reshaped(node, node.input(1), [1, 1], "index")
    if static is not None:
        row = _reshaped(node, node.input(2), [1, *static[1:]], "row")
    else:
        made = type.with_shape(Shape([1, *(type.shape.dims or (None,))[1:]]))
        attrs: dict[str, object] = {"T": type.dtype, "Tdim": INT32}
        row = made_before(node, "tf.ExpandDims", [node.input(2), small_constant(node, 0, "axis")], attrs, made, "row")
    inputs = [node.input(0), index, row]
    become(node, "tf.TensorScatterUpdate", inputs, {"T": type.dtype, "Tindices": INT32}, type)


def _gather(node: Node, type: TensorType) -> None:
    indices = node.input(1)
    axis = small_constant(node, 0, "axis")
    attrs: dict[str, object] = {"Tparams": type.dtype, "Tindices": INT32, "Taxis": INT32, "batch_dims": 0}
    known = indices.shape.dims
    rows = (type.shape.dims or ())[1:]
    shape = Shape(rows) if node.op == "tf.TensorListGetItem" else Shape(None if known is None else (*known, *rows))
    become(node, "tf.GatherV2", [node.input(0), indices, axis], attrs, TensorType(type.dtype, shape))


def _append(node: Node, type: TensorType) -> None:
    element = node.input(_ELEMENT[node.op])
    shape = Shape([1, *(type.shape.dims or (None,))[1:]])
    attrs: dict[str, object] = {"T": type.dtype, "Tdim": INT32}
    inputs = [element, small_constant(node, 0, "axis")]
    row = made_before(node, "tf.ExpandDims", inputs, attrs, type.with_shape(shape), "row")
    joined = [node.input(0), row, small_constant(node, 0, "along")]
    become(node, "tf.ConcatV2", joined, {"T": type.dtype, "N": 2, "Tidx": INT32}, type)


def _starts_empty(node: Node) -> bool:
    return node.op == EMPTY or (node.op == RESERVE and known_scalar(node.input(1)) == 0)


def _skip_first(node: Node, type: TensorType) -> None:
    """Let a reader of a list pass over the row before the first element."""
    if node.op in _INDEXED and not node.attrs.get(RESIZES):
        index = node.input(1)
        inputs = [index, small_constant(node, 1, "first")]
        node.replace_input(1, made_before(node, "tf.AddV2", inputs, {"T": INT32}, index.type, "place"))
    elif node.op in _WHOLE:
        inputs = [node.input(0), *(small_constant(node, [number], "bound") for number in (1, 0, 1))]
        attrs: dict[str, object] = {"T": type.dtype, "Index": INT32, "end_mask": 1}
        node.replace_input(0, made_before(node, "tf.StridedSlice", inputs, attrs, type, "elements"))


def _without_identities(value: Value) -> Value:
    while value.node.op == IDENTITY and not value.is_input:
        value = value.node.input(0)
    return value


def _length(node: Node, type: TensorType) -> None:
    if type.shape.static is None and not isinstance((type.shape.dims or (None,))[0], int):
        length = dimension_of(node, node.input(0), 0)
        become(node, IDENTITY, [length], {"T": INT32}, TensorType(INT32, SCALAR))
        return
    held = tensor(np.array((type.shape.static or (0,))[0], np.int32), INT32)
    become(node, CONSTANT, [], {"dtype": INT32, "value": held}, TensorType(INT32, SCALAR))


_INDEXED = (SET_ITEM, "tf.TensorListGetItem", "tf.TensorListGather")
_WHOLE = ("tf.TensorListStack", "tf.TensorListLength")
_ELEMENT = {SET_ITEM: 2, PUSH: 1}  # operator -> which input is the element

_READERS: dict[str, Callable[[Node, TensorType], None]] = {
    RESERVE: become_zeros,
    FROM_TENSOR: _pass_on,
    IDENTITY: _pass_on,
    SET_ITEM: _set_item,
    PUSH: _append,
    "tf.TensorListGetItem": _gather,
    "tf.TensorListGather": _gather,
    "tf.TensorListStack": _pass_on,
    "tf.TensorListLength": _length,
}
