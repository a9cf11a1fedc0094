"""What rules of several families build with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.backends.legalization import Lowering, shaped
from graphopt.ir.known import known_array
from graphopt.ir.types import INT64, DType, Shape, TensorType
from graphopt.ir.value import Value


def cast(op: Lowering, value: Value, dtype: DType) -> Value:
    """`value` as another element type; itself where it has that type."""
    if value.dtype is dtype:
        return value
    return op.emit("Cast", value, type=TensorType(dtype, value.shape), name=f"{op.node.name}/cast", to=dtype)


def as_int64(op: Lowering, value: Value) -> Value:
    """A tensor of indices or sizes as int64, ONNX's type for them: a constant stays one."""
    array = known_array(value)
    if array is not None:
        return op.constant(array.astype(np.int64), name=f"{value.node.name}/int64")
    return cast(op, value, INT64)


def longs(op: Lowering, numbers: Sequence[int], name: str) -> Value:
    """A constant vector of int64."""
    return op.constant(np.array(numbers, np.int64), name=f"{op.node.name}/{name}")


def transpose(op: Lowering, value: Value, permutation: Sequence[int], name: str = "transpose") -> Value:
    """`value` with its axes permuted."""
    if list(permutation) == list(range(len(permutation))):
        return value
    dims = value.shape.dims
    made = Shape(None) if dims is None else Shape(dims[axis] for axis in permutation)
    return op.emit(
        "Transpose", value, type=TensorType(value.dtype, made), name=f"{op.node.name}/{name}", perm=tuple(permutation)
    )


def reshape(op: Lowering, value: Value, dims: Sequence[int | None], name: str = "reshape") -> Value:
    """`value` in another shape, of which at most one dimension is not known."""
    wanted = [-1 if dim is None else dim for dim in dims]
    made = shaped(value.dtype, [None if dim == -1 else dim for dim in wanted])
    return op.emit("Reshape", value, longs(op, wanted, f"{name}/shape"), type=made, name=f"{op.node.name}/{name}")


def channels_first(op: Lowering, index: int = 0) -> Value:
    """The input with channels first: as it is where the data format says so, else transposed."""
    value = op.input(index)
    if op.text("data_format", "NHWC").startswith("NC"):
        return value
    rank = op.rank(value)
    return transpose(op, value, (0, rank - 1, *range(1, rank - 1)), "channels_first")


def back(op: Lowering, value: Value) -> Value:
    """The result in the node's own data format."""
    if op.text("data_format", "NHWC").startswith("NC"):
        return value
    rank = len(value.shape.dims or ())
    return transpose(op, value, (0, *range(2, rank), 1), "channels_last")


def first_type(op: Lowering) -> TensorType:
    """The type of the result with channels first."""
    dims = op.type.shape.dims
    if dims is None or op.text("data_format", "NHWC").startswith("NC"):
        return op.type
    return shaped(op.type.dtype, (dims[0], dims[-1], *dims[1:-1]))


def spatial(op: Lowering, name: str) -> list[int]:
    """The numbers for height and width (and depth) of an attribute with one for each dimension."""
    numbers = list(op.attr(name) or ())
    return numbers[2:] if op.text("data_format", "NHWC").startswith("NC") else numbers[1:-1]


def same_pads(sizes: Sequence[int | None], kernel: Sequence[int], strides: Sequence[int]) -> list[int] | None:
    """TensorFlow's SAME as explicit pads, begin and end; None where a size that matters is not known."""
    begins, ends = [], []
    for size, window, stride in zip(sizes, kernel, strides, strict=True):
        if size is None and stride != 1:
            return None
        covered = 0 if size is None else size % stride
        total = max(window - (covered or stride), 0) if size is not None else window - 1
        begins.append(total // 2)
        ends.append(total - total // 2)
    return begins + ends
