"""What rules of several families build with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.backends.legalization import Lowering, shaped
from graphopt.ir.types import INT32, INT64, DType, Shape, TensorType
from graphopt.ir.value import Value

NO_ACTIVATION = b"NONE"


def cast(op: Lowering, value: Value, dtype: DType) -> Value:
    """`value` as another element type; itself where it has that type."""
    if value.dtype is dtype:
        return value
    return op.emit(
        "CAST", value, type=TensorType(dtype, value.shape), name=f"{op.node.name}/cast",
        in_data_type=value.dtype, out_data_type=dtype,
    )  # fmt: skip


def as_int32(op: Lowering, value: Value) -> Value:
    """A tensor of indices or sizes as int32: a constant stays one."""
    if value.dtype is INT32:
        return value
    from graphopt.ir.known import known_array

    array = known_array(value)
    if array is not None:
        limits = np.iinfo(np.int32)
        return op.constant(np.clip(array, limits.min, limits.max).astype(np.int32), name=f"{value.node.name}/int32")
    if value.node.op == "tfl.CAST" and value.node.input(0).dtype is INT32:
        return value.node.input(0)
    return cast(op, value, INT32) if value.dtype is INT64 else value


def transpose(op: Lowering, value: Value, permutation: Sequence[int], name: str = "transpose") -> Value:
    """`value` with its axes permuted."""
    if list(permutation) == list(range(len(permutation))):
        return value
    dims = value.shape.dims
    made = Shape(None) if dims is None else Shape(dims[axis] for axis in permutation)
    perm = op.integers(list(permutation), name=f"{op.node.name}/{name}/perm")
    return op.emit("TRANSPOSE", value, perm, type=TensorType(value.dtype, made), name=f"{op.node.name}/{name}")


def reshape(op: Lowering, value: Value, dims: Sequence[int | None], name: str = "reshape") -> Value:
    """`value` in another shape, of which at most one dimension is not known."""
    wanted = [-1 if dim is None else dim for dim in dims]
    shape = op.integers(wanted, name=f"{op.node.name}/{name}/shape")
    made = shaped(value.dtype, [None if dim == -1 else dim for dim in wanted])
    return op.emit("RESHAPE", value, shape, type=made, name=f"{op.node.name}/{name}")
