"""Operators of TensorFlow on sparse tensors: indices of shape (count, rank), values of (count), and a dense shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.attributes import Attributes
from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError, normalized_axis
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.shapes import merged, merged_dim, of_rank, unknown_of_rank, vector_length
from graphopt.ir.ops.tf_array import reshaped
from graphopt.ir.ops.tf_fill import shape_operand, sizes_of
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]
VECTOR = Shape((None,))


def sparse_parts(context: InferenceContext, start: int, step: int = 1) -> tuple[Dim, Dim]:
    """Count and rank of the sparse tensor whose indices, values and shape stand at `start`, `step` apart."""
    indices, values = context.shape(start), context.shape(start + step)
    count, rank = merged((indices, Shape((None, None)))).dims or (None, None)
    count = merged_dim(count, (merged((values, VECTOR)).dims or (None,))[0])
    return count, merged_dim(rank, vector_length(context, start + 2 * step))


def check_sparse(indices: Array, values: Array, shape: Array) -> None:
    """Raises `ValueError` unless the three make a sparse tensor whose indices lie within its shape."""
    if indices.ndim != 2 or values.ndim != 1 or shape.ndim != 1:
        raise ValueError("indices must be a matrix, values and the shape vectors")
    if indices.shape != (values.size, shape.size):
        raise ValueError(f"indices of shape {list(indices.shape)} do not fit {values.size} values of rank {shape.size}")
    if indices.size and ((indices < 0).any() or (indices >= shape).any()):
        raise ValueError(f"indices lie outside the shape {shape.tolist()}")


def _in_order(indices: Array) -> Array:
    """The places of the rows of `indices` in ascending order; equal ones keep theirs."""
    return np.lexsort(indices.T[::-1]) if indices.shape[1] else np.arange(len(indices))


# SparseToDense ------------------------------------------------------------------------------------------------


def _sparse_to_dense_shape(context: InferenceContext) -> Sequence[Shape]:
    return [shape_operand(context, 1)]


def _sparse_to_dense(attrs: Attributes, indices: Array, shape: Array, values: Array, default: Array) -> Array:
    sizes = sizes_of(shape)
    if indices.ndim > 2 or shape.ndim != 1 or default.ndim:
        raise ValueError("indices must be a matrix at most, the shape a vector and the default a scalar")
    rows = indices.reshape(-1, 1) if indices.ndim < 2 else indices
    if rows.shape[1] != len(sizes) or (values.ndim and values.shape != (len(rows),)) or not sizes:
        raise ValueError(f"{len(rows)} rows of {rows.shape[1]} indices do not fit shape {list(sizes)}")
    if rows.size and ((rows < 0).any() or (rows >= shape).any()):
        raise ValueError(f"indices lie outside the shape {list(sizes)}")
    if attrs["validate_indices"] and not _is_ascending(rows):
        raise ValueError("indices must be ascending, each once")
    dense = np.full(sizes, default[()], values.dtype)
    dense[tuple(rows.T)] = values
    return dense


def _is_ascending(rows: Array) -> bool:
    listed = rows.tolist()
    return all(before < after for before, after in pairwise(listed))


register("tf.SparseToDense", traits=Trait.DECOMPRESS, shape=_sparse_to_dense_shape, evaluate=_sparse_to_dense)


# SparseReshape, SparseReorder, SparseSlice, SparseConcat ------------------------------------------------------


def _sparse_reshape_shape(context: InferenceContext) -> Sequence[Shape]:
    count = of_rank(context, 0, 2)[0]
    rank = vector_length(context, 2)
    return [Shape((count, rank)), Shape((rank,))]


def _sparse_reshape(attrs: Attributes, indices: Array, shape: Array, wanted: Array) -> list[Array]:
    if indices.ndim != 2 or shape.ndim != 1 or wanted.ndim != 1 or indices.shape[1] != shape.size:
        raise ValueError("indices must be a matrix, shapes vectors, and their sizes must fit")
    sizes = reshaped(Shape(sizes_of(shape)), wanted.tolist()).static
    if sizes is None:
        raise ValueError(f"an array of shape {shape.tolist()} cannot be reshaped to {wanted.tolist()}")
    if tuple(shape.tolist()) == sizes or not len(indices):
        kept = indices if indices.shape[1] == len(sizes) else np.zeros((0, len(sizes)), np.int64)
        return [kept, np.array(sizes, np.int64)]
    if (indices < 0).any() or (indices >= shape).any():
        raise ValueError(f"indices lie outside the shape {shape.tolist()}")
    flat = np.ravel_multi_index(tuple(indices.T), tuple(shape.tolist()))
    moved = np.stack(np.unravel_index(flat, sizes), axis=1)
    return [moved.astype(np.int64, copy=False), np.array(sizes, np.int64)]


def _sparse_reorder_shape(context: InferenceContext) -> Sequence[Shape]:
    count, rank = sparse_parts(context, 0)
    return [Shape((count, rank)), Shape((count,))]


def _sparse_reorder(attrs: Attributes, indices: Array, values: Array, shape: Array) -> list[Array]:
    check_sparse(indices, values, shape)
    order = _in_order(indices)
    return [indices[order], values[order]]


def _sparse_slice_shape(context: InferenceContext) -> Sequence[Shape]:
    _, rank = sparse_parts(context, 0)
    return [Shape((None, rank)), VECTOR, Shape((rank,))]


def _sparse_slice(
    attrs: Attributes, indices: Array, values: Array, shape: Array, start: Array, size: Array
) -> list[Array]:
    check_sparse(indices, values, shape)
    if start.shape != shape.shape or size.shape != shape.shape or (start < 0).any() or (size < 0).any():
        raise ValueError("start and size must be vectors of the rank, not negative")
    length = np.maximum(np.minimum(size, shape - start), 0)
    inside = ((indices >= start) & (indices < start + length)).all(axis=1)
    return [indices[inside] - start, values[inside], length]


def _sparse_concat_shape(context: InferenceContext) -> Sequence[Shape]:
    number = context.input_count // 3
    total: Dim = 0
    rank: Dim = None
    for place in range(number):
        count, own = sparse_parts(context, place, number)
        total, rank = dimensions.add(total, count), merged_dim(rank, own)
    return [Shape((total, rank)), Shape((total,)), Shape((rank,))]


def _sparse_concat(attrs: Attributes, *operands: Array) -> list[Array]:
    number = len(operands) // 3
    parts = list(zip(operands[:number], operands[number : 2 * number], operands[2 * number :], strict=True))
    first = parts[0][2]
    axis = normalized_axis(attrs["concat_dim"], first.size)
    offset, moved = 0, []
    for indices, values, shape in parts:
        check_sparse(indices, values, shape)
        if shape.size != first.size or not np.array_equal(np.delete(shape, axis), np.delete(first, axis)):
            raise ValueError(f"shapes {first.tolist()} and {shape.tolist()} differ beyond axis {axis}")
        shifted = indices.copy()
        shifted[:, axis] += offset
        moved.append(shifted)
        offset += int(shape[axis])
    joined, values = np.concatenate(moved), np.concatenate(operands[number : 2 * number])
    order = _in_order(joined)
    result = first.copy()
    result[axis] = offset
    return [joined[order], values[order], result]


register("tf.SparseReshape", shape=_sparse_reshape_shape, evaluate=_sparse_reshape)
register("tf.SparseReorder", shape=_sparse_reorder_shape, evaluate=_sparse_reorder)
register("tf.SparseSlice", shape=_sparse_slice_shape, evaluate=_sparse_slice)
register("tf.SparseConcat", shape=_sparse_concat_shape, evaluate=_sparse_concat)


# SparseFillEmptyRows ------------------------------------------------------------------------------------------


def _fill_empty_rows_shape(context: InferenceContext) -> Sequence[Shape]:
    count, rank = sparse_parts(context, 0)
    sizes = context.partial(2)
    rows = sizes[0] if sizes else None
    return [Shape((None, rank)), VECTOR, Shape((rows,)), Shape((count,))]


def _fill_empty_rows(attrs: Attributes, indices: Array, values: Array, shape: Array, default: Array) -> list[Array]:
    if indices.ndim != 2 or values.shape != (len(indices),) or shape.ndim != 1 or not shape.size or default.ndim:
        raise ValueError("indices must be a matrix, values and the shape vectors, and the default a scalar")
    rows, number = indices[:, 0], int(shape[0])
    if indices.shape[1] != shape.size or (len(rows) and (rows.min() < 0 or rows.max() >= number)):
        raise ValueError(f"indices lie outside the shape {shape.tolist()}")
    empty = np.bincount(rows, minlength=number) == 0
    missing = np.zeros((int(empty.sum()), shape.size), np.int64)
    missing[:, 0] = np.nonzero(empty)[0]
    filled = np.concatenate([indices, missing])
    order = np.argsort(filled[:, 0], kind="stable")
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    every = np.concatenate([values, np.full(len(missing), default[()], values.dtype)])
    return [filled[order], every[order], empty, places[: len(indices)]]


def _fill_empty_rows_grad_shape(context: InferenceContext) -> Sequence[Shape]:
    return [merged((context.shape(0), VECTOR)), SCALAR]


register("tf.SparseFillEmptyRows", shape=_fill_empty_rows_shape, evaluate=_fill_empty_rows)
register("tf.SparseFillEmptyRowsGrad", shape=_fill_empty_rows_grad_shape)


# With dense operands ------------------------------------------------------------------------------------------


def _dense_mat_mul_shape(context: InferenceContext) -> Sequence[Shape]:
    left: Sequence[Dim] = context.partial(2) or (None, None)
    right = of_rank(context, 3, 2)
    if len(left) != 2:
        raise InferenceError(f"a sparse tensor of rank {len(left)} is no matrix")
    rows, inner = reversed(left) if context.attrs["adjoint_a"] else left
    inner_too, columns = reversed(right) if context.attrs["adjoint_b"] else right
    merged_dim(inner, inner_too)
    return [Shape((rows, columns))]


def _dense_mat_mul(attrs: Attributes, indices: Array, values: Array, shape: Array, dense: Array) -> Array:
    check_sparse(indices, values, shape)
    if shape.size != 2 or dense.ndim != 2:
        raise ValueError("both operands must be matrices")
    rows, columns = indices.T
    height, width = shape.tolist()
    right = dense
    if attrs["adjoint_a"]:
        rows, columns, height, width, values = columns, rows, width, height, np.conjugate(values)
    if attrs["adjoint_b"]:
        right = np.conjugate(dense.T)
    if right.shape[0] != width:
        raise ValueError(f"a matrix of {width} columns cannot multiply one of {right.shape[0]} rows")
    result = np.zeros((height, right.shape[1]), dense.dtype)
    with np.errstate(all="ignore"):
        np.add.at(result, rows, values[:, None] * right[columns])
    return result


def _dense_add_shape(context: InferenceContext) -> Sequence[Shape]:
    return [merged((context.shape(3), shape_operand(context, 2)))]


def _dense_add(attrs: Attributes, indices: Array, values: Array, shape: Array, dense: Array) -> Array:
    check_sparse(indices, values, shape)
    if dense.shape != tuple(shape.tolist()):
        raise ValueError(f"shapes {shape.tolist()} and {list(dense.shape)} must be equal")
    result = dense.copy()
    with np.errstate(all="ignore"):
        np.add.at(result, tuple(indices.T), values)
    return result


def _sparse_values_shape(context: InferenceContext) -> Sequence[Shape]:
    return [Shape((sparse_parts(context, 0)[0],))]


def _dense_elementwise(compute: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def evaluate(attrs: Attributes, indices: Array, values: Array, shape: Array, dense: Array) -> Array:
        check_sparse(indices, values, shape)
        wide = np.broadcast_to(dense, tuple(shape.tolist()))
        with np.errstate(all="ignore"):
            return compute(values, wide[tuple(indices.T)])

    return evaluate


register("tf.SparseTensorDenseMatMul", shape=_dense_mat_mul_shape, evaluate=_dense_mat_mul)
register("tf.SparseTensorDenseAdd", shape=_dense_add_shape, evaluate=_dense_add)
register("tf.SparseDenseCwiseAdd", shape=_sparse_values_shape, evaluate=_dense_elementwise(np.add))
register("tf.SparseDenseCwiseMul", shape=_sparse_values_shape, evaluate=_dense_elementwise(np.multiply))
register(("tf.SparseDenseCwiseDiv", "tf.SparseSoftmax"), shape=_sparse_values_shape)


# Shapes only --------------------------------------------------------------------------------------------------


def _triple(rank: Dim = None) -> list[Shape]:
    return [Shape((None, rank)), VECTOR, Shape((rank,))]


def _sparse_add_shape(context: InferenceContext) -> Sequence[Shape]:
    return _triple(merged_dim(sparse_parts(context, 0)[1], sparse_parts(context, 3)[1]))


def _sparse_extreme_shape(context: InferenceContext) -> Sequence[Shape]:
    return _sparse_add_shape(context)[:2]


def _sparse_split_shape(context: InferenceContext) -> Sequence[Shape]:
    count = context.output_count // 3
    _, rank = sparse_parts(context, 1)
    return [Shape((None, rank))] * count + [VECTOR] * count + [Shape((rank,))] * count


def _reduced_shape(context: InferenceContext) -> Sequence[Shape]:
    sizes, axes = context.partial(2), context.constant_ints(3)
    if sizes is None or axes is None:
        return [UNKNOWN_SHAPE]
    places = {normalized_axis(axis, len(sizes)) for axis in axes}
    if not axes:
        return [Shape((1,) * len(sizes)) if context.attrs["keep_dims"] else SCALAR]
    if context.attrs["keep_dims"]:
        return [Shape(1 if place in places else dim for place, dim in enumerate(sizes))]
    return [Shape(dim for place, dim in enumerate(sizes) if place not in places)]


def _sparse_cross_shape(context: InferenceContext) -> Sequence[Shape]:
    return [Shape((None, 2)), VECTOR, Shape((2,))]


register("tf.SparseAdd", shape=_sparse_add_shape)
register(("tf.SparseSparseMaximum", "tf.SparseSparseMinimum"), shape=_sparse_extreme_shape)
register("tf.SparseSplit", shape=_sparse_split_shape)
register(("tf.SparseReduceSum", "tf.SparseReduceMax"), shape=_reduced_shape)
register(("tf.SparseReduceSumSparse", "tf.SparseReduceMaxSparse"), shape=lambda context: _triple())
register(("tf.SparseCross", "tf.SparseCrossV2", "tf.SparseCrossHashed"), shape=_sparse_cross_shape)
register("tf.SerializeSparse", shape=lambda context: [Shape((3,))])
register("tf.SerializeManySparse", shape=lambda context: [Shape((None, 3))])
register(("tf.DeserializeSparse", "tf.DeserializeManySparse"), shape=lambda context: _triple())


def _edit_distance_shape(context: InferenceContext) -> Sequence[Shape]:
    left, right = context.partial(2), context.partial(5)
    if left is None or right is None:
        known = left or right
        return [unknown_of_rank(len(known) - 1 if known else None)]
    if len(left) != len(right) or not left:
        raise InferenceError(f"sequences of ranks {len(left)} and {len(right)} have no distance")
    pairs = zip(left[:-1], right[:-1], strict=True)
    return [Shape(dimensions.maximum(one, other) for one, other in pairs)]


register("tf.EditDistance", shape=_edit_distance_shape)
