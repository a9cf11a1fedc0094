"""How operators compute with integers of which only some are known: one rule for each operator.

A rule gets the node, its attributes with defaults and one array an input (None where nothing is known), and returns
an array, or one for each output. Elements of arrays of objects are `int`, `SymbolicDim` or None, the unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.dimensions import Dim
from graphopt.ir.types import Shape
from graphopt.ir.value import Node

Array = np.ndarray[Any, Any]
Rule = Callable[[Node, Mapping[str, Any], "list[Array | None]"], "Array | Sequence[Array | None] | None"]
RANGE_LIMIT = 1024


def object_array(items: Sequence[Any], shape: Sequence[int]) -> Array:
    """An array of objects with these items in row-major order."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(tuple(shape))


def object_result(found: Any) -> Array:
    """What NumPy made of arrays of objects, an array again where it is a single element."""
    return found if isinstance(found, np.ndarray) else object_array([found], ())


def _objects(array: Array) -> Array:
    return array if array.dtype == object else array.astype(object)


def _input_shape(node: Node, index: int) -> Shape | None:
    value = node._inputs[index] if index < len(node._inputs) else None
    return None if value is None or value.type.shape.dims is None else value.type.shape


# Shapes of tensors -----------------------------------------------------------------------------------------------


def _shape(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Sequence[Array | None]:
    shapes = [_input_shape(node, index) for index in range(len(node._inputs))]
    return [None if s is None or s.dims is None else object_array(s.dims, (len(s.dims),)) for s in shapes]


def _size(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    shape = _input_shape(node, 0)
    return None if shape is None else object_array([shape.size], ())


def _rank(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    shape = _input_shape(node, 0)
    return None if shape is None else object_array([shape.rank], ())


# Moving elements -------------------------------------------------------------------------------------------------


def _first(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Sequence[Array | None]:
    return [operands[0]] * len(node.outputs)


def _each(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Sequence[Array | None]:
    return operands


def _cast(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    """Between integers; what does not fit the target is found unknown by the caller."""
    array = operands[0]
    if array is None or (array.dtype != object and array.dtype.kind not in "iu"):
        return None
    return _objects(array)


def _together(operands: Sequence[Array | None]) -> list[Array] | None:
    """All operands as arrays of one kind; None if one of them is quite unknown."""
    arrays = [array for array in operands if array is not None]
    if len(arrays) != len(operands):
        return None
    if any(array.dtype == object for array in arrays):
        return [_objects(array) for array in arrays]
    return arrays


def _pack(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    arrays = _together(operands)
    return None if not arrays else np.stack(arrays, axis=attrs["axis"])


def _concat(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    first_is_axis = node.op == "tf.Concat"
    axis = operands[0] if first_is_axis else operands[-1]
    arrays = _together(operands[1:] if first_is_axis else operands[:-1])
    numbers = _numbers(axis)
    return None if not arrays or numbers is None else np.concatenate(arrays, axis=numbers[0])


def _numbers(array: Array | None) -> list[int] | None:
    """The elements if all of them are known integers."""
    if array is None:
        return None
    if array.dtype != object:
        return [int(item) for item in array.reshape(-1)] if array.dtype.kind in "iu" else None
    items = list(array.reshape(-1))
    return items if all(type(item) is int for item in items) else None


def _strided_slice(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    array, begin, end, strides = operands
    steps = _numbers(strides)
    if array is None or begin is None or end is None or steps is None:
        return None
    starts, stops = list(_objects(begin).reshape(-1)), list(_objects(end).reshape(-1))
    index: list[Any] = []
    for place, step in enumerate(steps):
        bit = 1 << place
        if attrs["ellipsis_mask"] & bit:
            index.append(Ellipsis)
        elif attrs["new_axis_mask"] & bit:
            index.append(None)
        elif attrs["shrink_axis_mask"] & bit:
            index.append(starts[place])
            if type(starts[place]) is not int:
                return None
        else:
            start = None if attrs["begin_mask"] & bit else starts[place]
            stop = None if attrs["end_mask"] & bit else stops[place]
            known = (attrs["begin_mask"] & bit or type(start) is int) and (attrs["end_mask"] & bit or type(stop) is int)
            if not known:
                return None
            index.append(slice(start, stop, step))
    return _indexed(array, tuple(index))


def _indexed(array: Array, index: tuple[Any, ...]) -> Array:
    """`array[index]`, an array even where it is a single element."""
    found: Array = array[index if Ellipsis in index else (*index, Ellipsis)]
    return found


def _slice(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    array, starts, sizes = operands[0], _numbers(operands[1]), _numbers(operands[2])
    if array is None or starts is None or sizes is None or min(starts, default=0) < 0:
        return None
    index = [slice(s, None if n == -1 else s + n) for s, n in zip(starts, sizes, strict=True)]
    return _indexed(array, tuple(index))


def _gather(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    array, indices = operands[0], operands[1]
    axis = _numbers(operands[2]) if len(operands) > 2 else [0]
    if array is None or axis is None or attrs.get("batch_dims", 0) or _numbers(indices) is None:
        return None
    assert indices is not None
    places = np.array(_numbers(indices), dtype=np.int64).reshape(indices.shape)
    if places.size and (places.min() < 0 or places.max() >= array.shape[axis[0]]):
        return None
    return object_result(np.take(_objects(array), places, axis=axis[0]))


def _squeeze(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    array = operands[0]
    return None if array is None else np.squeeze(array, axis=attrs["squeeze_dims"] or None)


def _expand_dims(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    array, axis = operands[0], _numbers(operands[1])
    return None if array is None or axis is None else np.expand_dims(array, axis[0])


def _reshape(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    array, shape = operands[0], _numbers(operands[1])
    return None if array is None or shape is None else array.reshape(shape)


def _transpose(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    array, order = operands[0], _numbers(operands[1])
    return None if array is None or order is None else array.transpose(order)


def _reverse(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    array, axes = operands[0], _numbers(operands[1])
    return None if array is None or axes is None else np.flip(array, tuple(axes))


def _fill(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    shape, item = _numbers(operands[0]), operands[1]
    if shape is None or item is None or not _fits(shape):
        return None
    return np.broadcast_to(item.reshape(()), shape)


def _fits(shape: Sequence[int]) -> bool:
    """Small enough, so that an absurd shape costs no memory."""
    return min(shape, default=1) >= 0 and dimensions.product(shape) in range(RANGE_LIMIT + 1)


def _tile(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    array, times = operands[0], _numbers(operands[1])
    if array is None or times is None or not _fits([array.size, *times]):
        return None
    return np.tile(array, times)


def _broadcast_to(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    array, shape = operands[0], _numbers(operands[1])
    return None if array is None or shape is None or not _fits(shape) else np.broadcast_to(array, shape)


def _range(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    numbers = [_numbers(operand) for operand in operands]
    if any(number is None for number in numbers):
        return None
    places = range(*(number[0] for number in numbers if number))
    return object_array(list(places), (len(places),)) if len(places) <= RANGE_LIMIT else None


def _unpack(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Sequence[Array] | None:
    array = operands[0]
    if array is None:
        return None
    rows = np.moveaxis(array, attrs["axis"], 0)
    return [rows[(place, ...)] for place in range(len(rows))]


def _split(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Sequence[Array] | None:
    axis, array = _numbers(operands[0]), operands[1]
    return None if array is None or axis is None else np.split(array, attrs["num_split"], axis[0])


def _split_v(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Sequence[Array] | None:
    array, sizes, axis = operands[0], _numbers(operands[1]), _numbers(operands[2])
    if array is None or sizes is None or axis is None or min(sizes, default=0) < 0:
        return None
    return np.split(array, list(np.cumsum(sizes))[:-1], axis[0])


def _select(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    condition = operands[0]
    chosen = _together(operands[1:])
    if condition is None or chosen is None or condition.dtype != np.bool_:
        return None
    if node.op == "tf.Select" and condition.ndim == 1 and chosen[0].ndim > 1:
        condition = condition.reshape(-1, *[1] * (chosen[0].ndim - 1))
    return np.where(condition, chosen[0], chosen[1])


# Arithmetic ------------------------------------------------------------------------------------------------------


def _modulo(left: Dim, right: Dim) -> Dim:
    return dimensions.subtract(left, dimensions.multiply(dimensions.divide(left, right), right))


def _elementwise(operation: Callable[..., Dim], count: int = 2) -> Rule:
    """A rule that applies `operation` element by element, broadcasting."""
    function = np.frompyfunc(operation, count, 1)

    def rule(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
        arrays = [array for array in operands if array is not None]
        if len(arrays) != count or any(array.dtype != object and array.dtype.kind not in "iu" for array in arrays):
            return None
        return object_result(function(*(_objects(array) for array in arrays)))

    return rule


def _reduction(operation: Callable[[Dim, Dim], Dim], start: int | None) -> Rule:
    """A rule that folds `operation` over axes; over nothing it gives `start`."""

    def rule(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
        array, axes = operands[0], _numbers(operands[1])
        if array is None or axes is None or (array.dtype != object and array.dtype.kind not in "iu"):
            return None
        places = sorted({axis % array.ndim for axis in axes}) if array.ndim else []
        kept = [axis for axis in range(array.ndim) if axis not in places]
        rows = _objects(array).transpose(kept + places).reshape(*(array.shape[axis] for axis in kept), -1)
        found = np.empty(rows.shape[:-1], dtype=object)
        for index in np.ndindex(found.shape):
            total: Dim = start
            for place, item in enumerate(rows[index]):
                total = item if place == 0 else operation(total, item)
            found[index] = total
        return np.expand_dims(found, places) if attrs["keep_dims"] else found

    return rule


def _negated(item: Dim) -> Dim:
    return dimensions.multiply(item, -1)


def _broadcast_args(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Array | None:
    arrays = _together(operands)
    if arrays is None:
        return None
    left, right = (list(_objects(array).reshape(-1)) for array in arrays)
    rank = max(len(left), len(right))
    left, right = ([1] * (rank - len(dims)) + dims for dims in (left, right))
    return object_array([_broadcast(a, b) for a, b in zip(left, right, strict=True)], (rank,))


def _broadcast(left: Dim, right: Dim) -> Dim:
    if left == 1 or left == right:
        return right
    if right == 1 or isinstance(left, int):
        return left
    return right if isinstance(right, int) else None


# v1 control flow -------------------------------------------------------------------------------------------------


def merge_join(node: Node, attrs: Mapping[str, Any], operands: list[Array | None]) -> Sequence[Array | None] | None:
    """What holds whichever input arrives."""
    arrays = _together(operands)
    if not arrays or any(array.shape != arrays[0].shape for array in arrays):
        return None
    if any(array.dtype != object and array.dtype.kind not in "iu" for array in arrays):
        return None
    rows = zip(*(_objects(array).reshape(-1) for array in arrays), strict=True)
    items = [row[0] if all(item == row[0] for item in row) else None for row in rows]
    return [object_array(items, arrays[0].shape), None]


SHAPE_SOURCES: Mapping[str, Rule] = {"tf.Shape": _shape, "tf.ShapeN": _shape, "tf.Size": _size, "tf.Rank": _rank}

RULES: Mapping[str, Rule] = {
    **SHAPE_SOURCES,
    **dict.fromkeys(
        (
            "tf.Identity", "tf.Snapshot", "tf.StopGradient", "tf.PreventGradient", "tf.EnsureShape", "tf.Enter",
            "tf.Exit", "tf.Switch", "tf.GuaranteeConst", "tf._SwitchN",
        ),
        _first,
    ),
    "tf.IdentityN": _each,
    "tf.Merge": merge_join,
    "tf.Cast": _cast,
    "tf.Pack": _pack,
    "tf.Concat": _concat,
    "tf.ConcatV2": _concat,
    "tf.StridedSlice": _strided_slice,
    "tf.Slice": _slice,
    "tf.Gather": _gather,
    "tf.GatherV2": _gather,
    "tf.Squeeze": _squeeze,
    "tf.ExpandDims": _expand_dims,
    "tf.Reshape": _reshape,
    "tf.Transpose": _transpose,
    "tf.ReverseV2": _reverse,
    "tf.Fill": _fill,
    "tf.Tile": _tile,
    "tf.BroadcastTo": _broadcast_to,
    "tf.Range": _range,
    "tf.Unpack": _unpack,
    "tf.Split": _split,
    "tf.SplitV": _split_v,
    "tf.Select": _select,
    "tf.SelectV2": _select,
    "tf.Add": _elementwise(dimensions.add),
    "tf.AddV2": _elementwise(dimensions.add),
    "tf.Sub": _elementwise(dimensions.subtract),
    "tf.Mul": _elementwise(dimensions.multiply),
    "tf.FloorDiv": _elementwise(dimensions.divide),
    "tf.FloorMod": _elementwise(_modulo),
    "tf.Maximum": _elementwise(dimensions.maximum),
    "tf.Minimum": _elementwise(dimensions.minimum),
    "tf.Neg": _elementwise(_negated, 1),
    "tf.Prod": _reduction(dimensions.multiply, 1),
    "tf.Sum": _reduction(dimensions.add, 0),
    "tf.Max": _reduction(dimensions.maximum, None),
    "tf.Min": _reduction(dimensions.minimum, None),
    "tf.BroadcastArgs": _broadcast_args,
}  # fmt: skip
