"""TensorArray, TensorList, Stack and Optional for the reference runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.types import UNKNOWN_SHAPE, Shape
from graphopt.ir.value import Node
from graphopt.runtimes.base import Array, RunError
from graphopt.runtimes.reference_values import TensorArray, TensorList, zeros

Attrs = Mapping[str, Any]
Inputs = Sequence[Any]
Handler = Callable[[Node, Attrs, Inputs], Sequence[Any]]
FLOW = np.float32(0).reshape(())
GROWTH_LIMIT = 1 << 28  # elements of a list beyond which its size is taken for nonsense


def _count(array: Array) -> int:
    count = int(array)
    if not 0 <= count <= GROWTH_LIMIT:
        raise RunError(f"a list cannot have {count} elements")
    return count


def _stacked(items: Sequence[Array], empty: Callable[[], Array]) -> Array:
    """All items in a new first dimension; for none, no rows of what `empty` says an element is."""
    if not items:
        element = empty()
        return np.zeros((0, *element.shape), dtype=element.dtype)
    if any(item.shape != items[0].shape for item in items):
        raise RunError("elements of different shapes cannot be stacked")
    return np.stack(items)


# TensorArray -----------------------------------------------------------------------------------------------------


def _array(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    made = TensorArray(node.name, attrs["dtype"], _count(inputs[0]), attrs["element_shape"], attrs["dynamic_size"])
    return [made, FLOW][: len(node.outputs)]


def _array_write(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    inputs[0].write(int(inputs[1]), inputs[2])
    return [FLOW]


def _array_read(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [inputs[0].read(int(inputs[1]))]


def _rows(array: TensorArray, places: Sequence[int], shape: Shape) -> Array:
    merged = array.element_shape.merged(shape)
    return _stacked([array.read(place) for place in places], lambda: zeros(array.dtype, merged or shape, array.items))


def _array_gather(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [_rows(inputs[0], inputs[1].reshape(-1).tolist(), attrs["element_shape"])]


def _array_pack(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [_rows(inputs[0], range(len(inputs[0].items)), attrs["element_shape"])]


def _array_scatter(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    array, places, rows = inputs[:3]
    for place, row in zip(places.reshape(-1).tolist(), rows, strict=True):
        array.write(place, row)
    return [FLOW]


def _array_unpack(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    for place, row in enumerate(inputs[1]):
        inputs[0].write(place, row)
    return [FLOW]


def _array_concat(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    array = inputs[0]
    items = [array.read(place) for place in range(len(array.items))]
    lengths = np.array([len(item) for item in items], dtype=np.int64)
    rest = attrs["element_shape_except0"]
    if not items:
        element = zeros(array.dtype, rest, [])
        return [np.zeros((0, *element.shape), dtype=element.dtype), lengths]
    return [np.concatenate(items), lengths]


def _array_split(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    array, value, lengths = inputs[:3]
    for place, part in enumerate(_parts(value, lengths)):
        array.write(place, part)
    return [FLOW]


def _parts(value: Array, lengths: Array) -> list[Array]:
    if lengths.min(initial=0) < 0 or int(lengths.sum()) != len(value):
        raise RunError(f"{len(value)} rows cannot be split into parts of {lengths.tolist()}")
    return np.split(value, np.cumsum(lengths)[:-1]) if lengths.size else []


def _array_size(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [np.array(len(inputs[0].items), dtype=np.int32)]


def _nothing(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return []


# TensorList ------------------------------------------------------------------------------------------------------


def _shape(array: Array) -> Shape:
    """An element's shape as operators are given it: a vector, or the scalar -1 for unknown."""
    if array.ndim == 0:
        return UNKNOWN_SHAPE
    return Shape(None if dim < 0 else int(dim) for dim in array)


def _list_empty(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [TensorList(attrs["element_dtype"], _shape(inputs[0]), [])]


def _list_reserve(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [TensorList(attrs["element_dtype"], _shape(inputs[0]), [None] * _count(inputs[1]))]


def _list_from_tensor(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [TensorList(attrs["element_dtype"], _shape(inputs[1]), list(inputs[0]))]


def _list_push(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [inputs[0].replaced([*inputs[0].items, inputs[1]])]


def _list_pop(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    popped = inputs[0].get(len(inputs[0].items) - 1, _shape(inputs[1]))
    return [inputs[0].replaced(inputs[0].items[:-1]), popped]


def _list_get(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [inputs[0].get(int(inputs[1]), _shape(inputs[2]))]


def _list_set(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    held, index, item = inputs
    items, place = list(held.items), int(index)
    if place >= len(items) and attrs["resize_if_index_out_of_bounds"]:
        items += [None] * (_count(index) + 1 - len(items))
    if not 0 <= place < len(items):
        raise RunError(f"a list of {len(items)} has no element {place}")
    items[place] = item
    return [held.replaced(items)]


def _list_length(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [np.array(len(inputs[0].items), dtype=np.int32)]


def _list_resize(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    count = _count(inputs[1])
    items = list(inputs[0].items[:count])
    return [inputs[0].replaced(items + [None] * (count - len(items)))]


def _list_rows(held: TensorList, places: Sequence[int], shape: Array) -> Array:
    element = _shape(shape)
    return _stacked([held.get(place, element) for place in places], lambda: held.zeros(element))


def _list_stack(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    held = inputs[0]
    if attrs["num_elements"] not in (-1, len(held.items)):
        raise RunError(f"a list of {len(held.items)} elements is read as one of {attrs['num_elements']}")
    return [_list_rows(held, range(len(held.items)), inputs[1])]


def _list_gather(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [_list_rows(inputs[0], inputs[1].reshape(-1).tolist(), inputs[2])]


def _list_concat(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    held = inputs[0]
    element = _shape(inputs[1]) if len(inputs) > 1 else attrs["element_shape"]
    items = [held.get(place, element) for place in range(len(held.items))]
    lengths = np.array([len(item) for item in items], dtype=np.int64)
    if items:
        return [np.concatenate(items), lengths]
    known = held.shape_with(element)
    none = zeros(held.dtype, UNKNOWN_SHAPE if not known.dims else Shape(known.dims[1:]), [])
    return [np.zeros((0, *none.shape), dtype=none.dtype), lengths]


def _list_scatter(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    """`TensorListScatter` and, with a number of elements that may be -1, `TensorListScatterV2`."""
    rows, places = inputs[0], inputs[1].reshape(-1).tolist()
    count = max(places, default=-1) + 1
    if len(inputs) > 3 and int(inputs[3]) >= 0:
        count = _count(inputs[3])
    return [_scattered(TensorList(attrs["element_dtype"], _shape(inputs[2]), [None] * count), rows, places)]


def _list_scatter_into(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [_scattered(inputs[0], inputs[1], inputs[2].reshape(-1).tolist())]


def _scattered(held: TensorList, rows: Array, places: Sequence[int]) -> TensorList:
    items = list(held.items)
    items += [None] * (max(places, default=-1) + 1 - len(items))
    for place, row in zip(places, rows, strict=True):
        if place < 0:
            raise RunError(f"a list has no element {place}")
        items[place] = row
    return held.replaced(items)


def _list_split(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [TensorList(attrs["element_dtype"], _shape(inputs[1]), _parts(inputs[0], inputs[2]))]


def _list_join(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [inputs[0].replaced([*inputs[0].items, *inputs[1].items])]


def _list_element_shape(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    dims, dtype = inputs[0].element_shape.dims, attrs["shape_type"].numpy
    if dims is None:
        return [np.array(-1, dtype=dtype)]
    return [np.array([-1 if dim is None else dim for dim in dims], dtype=dtype)]


# Stacks and optionals --------------------------------------------------------------------------------------------


def _stack(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [[]]


def _stack_push(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    inputs[0].append(inputs[1])
    return [inputs[1]]


def _stack_pop(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    if not inputs[0]:
        raise RunError("the stack is empty")
    return [inputs[0].pop()]


class Absent:
    """The optional without a value."""


def _optional(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [tuple(inputs)]


def _optional_none(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [Absent()]


def _optional_has(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [np.array(isinstance(inputs[0], tuple))]


def _optional_get(node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    if not isinstance(inputs[0], tuple):
        raise RunError("the optional holds no value")
    return inputs[0]


def _all_versions(name: str, handler: Handler) -> dict[str, Handler]:
    return {f"tf.TensorArray{name}{suffix}": handler for suffix in ("", "V2", "V3")}


HANDLERS: dict[str, Handler] = {
    **_all_versions("", _array),
    **_all_versions("Write", _array_write),
    **_all_versions("Read", _array_read),
    **_all_versions("Gather", _array_gather),
    **_all_versions("Scatter", _array_scatter),
    **_all_versions("Concat", _array_concat),
    **_all_versions("Split", _array_split),
    **_all_versions("Size", _array_size),
    **_all_versions("Close", _nothing),
    "tf.TensorArrayPack": _array_pack,
    "tf.TensorArrayUnpack": _array_unpack,
    "tf.EmptyTensorList": _list_empty,
    "tf.TensorListReserve": _list_reserve,
    "tf.TensorListFromTensor": _list_from_tensor,
    "tf.TensorListPushBack": _list_push,
    "tf.TensorListPopBack": _list_pop,
    "tf.TensorListGetItem": _list_get,
    "tf.TensorListSetItem": _list_set,
    "tf.TensorListLength": _list_length,
    "tf.TensorListResize": _list_resize,
    "tf.TensorListStack": _list_stack,
    "tf.TensorListGather": _list_gather,
    "tf.TensorListConcat": _list_concat,
    "tf.TensorListConcatV2": _list_concat,
    "tf.TensorListScatter": _list_scatter,
    "tf.TensorListScatterV2": _list_scatter,
    "tf.TensorListScatterIntoExistingList": _list_scatter_into,
    "tf.TensorListSplit": _list_split,
    "tf.TensorListConcatLists": _list_join,
    "tf.TensorListElementShape": _list_element_shape,
    "tf.Stack": _stack,
    "tf.StackV2": _stack,
    "tf.StackPush": _stack_push,
    "tf.StackPushV2": _stack_push,
    "tf.StackPop": _stack_pop,
    "tf.StackPopV2": _stack_pop,
    "tf.StackClose": _nothing,
    "tf.StackCloseV2": _nothing,
    "tf.OptionalFromValue": _optional,
    "tf.OptionalNone": _optional_none,
    "tf.OptionalHasValue": _optional_has,
    "tf.OptionalGetValue": _optional_get,
}
