"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.backends.legalization import Lowering, shaped
from graphopt.backends.tflite.rules.common import NO_ACTIVATION, transpose
from graphopt.backends.tflite.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.types import FLOAT32, INT32, INT64, Shape, TensorType
from graphopt.ir.value import Value

BATCH_RANK = 5  # dimensions that LiteRT's batched product takes
SPREAD = 1 << 22  # elements of the products that an integer matrix product may write down before it sums them
INTEGERS = (INT32, INT64)


@RULES.legalize("tf.MatMul", "tf.SparseMatMul")
def matmul(op: Lowering) -> Value:
    """With constant weights a fully connected layer, whose weights are laid out by output channel; otherwise a product
    of two matrices."""
    return _product(op, bool(op.attr("transpose_a")), bool(op.attr("transpose_b")))


@RULES.legalize("tf.BatchMatMul", "tf.BatchMatMulV2", "tf.BatchMatMulV3")
def batch_matmul(op: Lowering) -> Value:
    """A batch of products; one matrix of constant weights for the whole batch makes it a fully connected layer."""
    return _product(op, bool(op.attr("adj_x")), bool(op.attr("adj_y")))


def _product(op: Lowering, flip_a: bool, flip_b: bool) -> Value:
    a, b = op.input(0), op.input(1)
    if a.dtype is not b.dtype or a.dtype is not op.type.dtype:
        op.refuse(f"it multiplies {a.dtype.name} by {b.dtype.name} into {op.type.dtype.name}")
    rank_a, rank_b = op.rank(a), op.rank(b)
    if min(rank_a, rank_b) < 2:
        op.refuse("its operands are no matrices")
    if flip_a:
        a = transpose(op, a, _swapped(rank_a), "transpose_a")
    if a.dtype in INTEGERS:
        return _summed_product(op, a, transpose(op, b, _swapped(rank_b), "transpose_b") if flip_b else b)
    weights = _weights(b, flip_b) if rank_a >= max(rank_b, 2) and a.dtype is FLOAT32 else None
    if weights is not None:
        return fully_connected(op, a, op.constant(weights, name=b.node.name))
    return _batched(op, a, b, flip_b)


def _swapped(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def _weights(value: Value, flipped: bool) -> np.ndarray[Any, Any] | None:
    """Constant weights that are one matrix, by output channel; None for others."""
    dims = value.shape.static
    if dims is None or any(dim != 1 for dim in dims[:-2]):
        return None
    held = known_array(value)
    if held is None:
        return None
    matrix = held.reshape(dims[-2:])
    return matrix if flipped else matrix.T


def fully_connected(op: Lowering, a: Value, weights: Value, type: TensorType | None = None) -> Value:
    """The last axis of `a` times `weights`, which are laid out by output channel; the other axes stay."""
    return op.emit(
        "FULLY_CONNECTED", a, weights, None, type=type, fused_activation_function=NO_ACTIVATION,
        weights_format=b"DEFAULT", keep_num_dims=op.rank(a) > 2, asymmetric_quantize_inputs=False,
    )  # fmt: skip


def _batched(op: Lowering, a: Value, b: Value, flip_b: bool) -> Value:
    """A batched product; more axes of the batch than LiteRT takes are joined where both operands have the same."""
    dims_a, dims_b = a.shape.dims or (), b.shape.dims or ()
    rank = max(len(dims_a), len(dims_b))
    attrs: dict[str, Any] = {"adj_x": False, "adj_y": flip_b, "asymmetric_quantize_inputs": False}
    if rank <= BATCH_RANK:
        return op.emit("BATCH_MATMUL", a, b, **attrs)
    if dims_a[:-2] != dims_b[:-2] or None in dims_a[:-2]:
        op.refuse(f"its operands have {rank} dimensions, of which LiteRT takes {BATCH_RANK}")
    joined = [_joined(op, value) for value in (a, b)]
    rows, columns = op.type.shape.dims[-2:] if op.type.shape.dims is not None else (None, None)
    made = op.emit("BATCH_MATMUL", *joined, type=shaped(a.dtype, [joined[0].shape[0], rows, columns]), **attrs)
    shape = [dim if isinstance(dim, int) else -1 for dim in op.type.shape.dims or ()]
    if shape.count(-1) > 1:
        op.refuse("more than one of its dimensions is not known")
    return op.emit("RESHAPE", made, op.integers(shape), new_shape=tuple(shape))


def _joined(op: Lowering, value: Value) -> Value:
    """`value` with all axes of its batch as one."""
    dims = value.shape.dims or ()
    kept = [dim if isinstance(dim, int) else None for dim in dims[-2:]]
    if None in kept:
        op.refuse("a matrix of its batch has unknown dimensions", "give the inputs shapes (set-shapes)")
    batch: Any = 1
    for dim in dims[:-2]:
        batch = batch * dim
    wanted = (-1, *kept)
    made = TensorType(value.dtype, Shape([batch, *kept]))
    return op.emit("RESHAPE", value, op.integers(wanted), type=made, name=f"{op.node.name}/join", new_shape=wanted)


# Integers ------------------------------------------------------------------------------------------------------


def _summed_product(op: Lowering, a: Value, b: Value) -> Value:
    """All products of elements, then their sums: LiteRT multiplies matrices of integers no other way."""
    static = op.type.shape.static
    inner = (a.shape.dims or (None,))[-1]
    if static is None or not isinstance(inner, int) or int(np.prod(static, dtype=object)) * inner > SPREAD:
        op.refuse("LiteRT multiplies no matrices of integers of this size", "compute with float32")
    left = _with_axis(op, a, op.rank(a), "left")
    right = _with_axis(op, b, op.rank(b) - 2, "right")
    spread = TensorType(a.dtype, Shape([*static[:-1], inner, static[-1]]))
    products = op.emit("MUL", left, right, type=spread, name=f"{op.node.name}/products",
                       fused_activation_function=NO_ACTIVATION)  # fmt: skip
    return op.emit("SUM", products, op.integers([len(static) - 1], name=f"{op.node.name}/axis"), keep_dims=False)


def _with_axis(op: Lowering, value: Value, axis: int, name: str) -> Value:
    dims: Sequence[Any] = value.shape.dims or ()
    made = TensorType(value.dtype, Shape([*dims[:axis], 1, *dims[axis:]]))
    return op.emit("EXPAND_DIMS", value, op.integers(axis, name=f"{op.node.name}/{name}/axis"), type=made,
                   name=f"{op.node.name}/{name}")  # fmt: skip
