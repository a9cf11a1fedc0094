"""Shapes: reshaping, permuting axes, asking for sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import as_int32, transpose
from graphopt.backends.tflite.rules.kernels import move
from graphopt.backends.tflite.table import RULES
from graphopt.ir import dimensions
from graphopt.ir.dimensions import Dim
from graphopt.ir.types import INT32, Shape, TensorType
from graphopt.ir.value import Value

FAST_RANK = 6  # axes beyond which a permutation is worth two reshapes


def constant_shape(dims: Sequence[Dim] | None) -> list[int] | None:
    """Dimensions as a constant shape for RESHAPE, with -1 for the one that is not known; None where more are not."""
    if dims is None:
        return None
    numbers = [dim if isinstance(dim, int) else -1 for dim in dims]
    unknown = numbers.count(-1)
    return None if unknown > 1 or (unknown and 0 in numbers) else numbers


def reshaped(op: Lowering, value: Value, dims: Sequence[Dim] | None, name: str | None = None) -> Value | None:
    """`value` in another shape; itself where it has it, None where the shape cannot be a constant."""
    numbers = constant_shape(dims)
    if numbers is None or dims is None:
        return None
    if value.shape.static is not None and value.shape.static == tuple(dims):
        return value
    shape = op.integers(numbers, name=f"{name or op.node.name}/shape")
    made = TensorType(value.dtype, Shape(dims))
    return op.emit("RESHAPE", value, shape, type=made, name=name)


@RULES.legalize("tf.Reshape")
def reshape_elements(op: Lowering) -> Value:
    """The same elements in another shape, a constant one where no more than one dimension is unknown."""
    dims = op.type.shape.dims
    held = op.known(1)
    if constant_shape(dims) is None and held is not None:
        numbers = held.astype(np.int64).reshape(-1).tolist()
        known = dims or (None,) * len(numbers)
        shape = op.integers(numbers, name=f"{op.node.name}/shape")
        made = TensorType(op.type.dtype, Shape(None if n < 0 else n for n in numbers) if dims is None else Shape(known))
        return op.emit("RESHAPE", op.input(0), shape, type=made)
    found = reshaped(op, op.input(0), dims)
    return op.emit("RESHAPE", op.input(0), as_int32(op, op.input(1))) if found is None else found


@RULES.legalize("tf.ExpandDims")
def expand_dims(op: Lowering) -> Value:
    """A new axis of size one: a reshape where no more than one dimension is unknown."""
    found = reshaped(op, op.input(0), op.type.shape.dims)
    return move(op, "EXPAND_DIMS", op.input(0), as_int32(op, op.input(1))) if found is None else found


@RULES.legalize("tf.Squeeze")
def squeeze(op: Lowering) -> Value:
    """Axes of size one left out: a reshape where no more than one dimension is unknown."""
    found = reshaped(op, op.input(0), op.type.shape.dims)
    if found is not None:
        return found
    return op.emit("SQUEEZE", op.input(0), squeeze_dims=tuple(op.attr("squeeze_dims") or ()))


@RULES.legalize("tf.ConjugateTranspose")
def conjugate_transpose(op: Lowering) -> Value:
    """Axes in another order; real numbers are their own conjugates."""
    if op.type.dtype.kind == "complex":
        op.refuse("LiteRT takes no conjugates of complex numbers")
    return op.step("Transpose", op.input(0), op.input(1))


@RULES.legalize("tf.Transpose")
def permute(op: Lowering) -> Value:
    """Axes in another order. Axes of size one that move make a reshape; of more than six axes, those that stay
    together are made one first."""
    value, order = op.input(0), op.known(1)
    if order is None:
        return move(op, "TRANSPOSE", value, as_int32(op, op.input(1)))
    rank = order.size
    axes = [int(axis) % rank for axis in order.reshape(-1)]
    dims = value.shape.dims
    if axes == sorted(axes):
        return value
    if dims is not None:
        moving = [axis for axis in axes if dims[axis] != 1]
        if moving == sorted(moving):
            found = reshaped(op, value, op.type.shape.dims)
            if found is not None:
                return found
        if rank > FAST_RANK:
            merged = _merged(op, value, axes, dims)
            if merged is not None:
                return merged
    perm = op.integers(axes, name=f"{op.node.name}/perm")
    return move(op, "TRANSPOSE", value, perm)


def _merged(op: Lowering, value: Value, axes: list[int], dims: Sequence[Dim]) -> Value | None:
    """The permutation of groups of axes that stay together, between two reshapes; None where that helps nothing."""
    groups: list[list[int]] = []
    for axis in axes:
        if groups and (groups[-1][-1] + 1 == axis):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    ordered = sorted(groups)
    if len(groups) == len(axes):
        return None
    sizes = [dimensions.product(dims[axis] for axis in group) for group in ordered]
    joined = reshaped(op, value, sizes, name=f"{op.node.name}/joined")
    if joined is None or constant_shape(op.type.shape.dims) is None:
        return None
    permuted = transpose(op, joined, [ordered.index(group) for group in groups], name="groups")
    return reshaped(op, permuted, op.type.shape.dims)


@RULES.legalize("tf.Shape")
def shape_of(op: Lowering) -> Value:
    """The sizes of all dimensions."""
    return op.emit("SHAPE", op.input(0), out_type=op.type.dtype)


@RULES.legalize("tf.ShapeN")
def shapes_of(op: Lowering) -> list[Value]:
    """The sizes of all dimensions, of each operand."""
    return [
        op.emit("SHAPE", value, type=made.type, name=f"{op.node.name}/{place}", out_type=made.dtype)
        for place, (value, made) in enumerate(zip(op.inputs, op.node.outputs, strict=True))
    ]


@RULES.legalize("tf.Rank")
def rank_of(op: Lowering) -> Value:
    """The number of dimensions."""
    return op.emit("RANK", op.input(0))


@RULES.legalize("tf.Size")
def size_of(op: Lowering) -> Value:
    """The number of elements: the product of the shape."""
    value = op.input(0)
    shape = op.emit(
        "SHAPE", value, type=TensorType(op.type.dtype, Shape([value.shape.rank])), name=f"{op.node.name}/shape",
        out_type=op.type.dtype,
    )  # fmt: skip
    return op.emit("REDUCE_PROD", shape, op.integers([0], name=f"{op.node.name}/axes"), keep_dims=False)


@RULES.legalize("tf.InvertPermutation")
def inverse_permutation(op: Lowering) -> Value:
    """Each number goes to the place that it names."""
    order = as_int32(op, op.input(0))
    size = order.shape.static
    if size is None:
        op.refuse("its length is not known", "give the inputs shapes (set-shapes)")
    places = reshaped(op, order, (*size, 1), name=f"{op.node.name}/places")
    counted = op.integers(np.arange(size[0]), name=f"{op.node.name}/range")
    made = TensorType(INT32, Shape(size))
    found = op.emit("SCATTER_ND", places, counted, op.integers(list(size), name=f"{op.node.name}/shape"), type=made)
    if op.type.dtype is INT32:
        return found
    return op.source("tf.Cast", found, SrcT=INT32, DstT=op.type.dtype, Truncate=False)
