"""Operators of TensorFlow that look up: Gather, GatherNd, Where, LowerBound, UpperBound, Bucketize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir.attributes import Attributes
from graphopt.ir.ops.inference import InferenceContext, InferenceError, normalized_axis, same_as
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.shapes import at_least_rank, concatenated, merged, unknown_of_rank
from graphopt.ir.ops.tf_array import taken
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]


def check_indices(indices: Array, size: int) -> None:
    """Raises `ValueError` unless every index counts an element of `size`, from the front."""
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise ValueError(f"indices must lie between 0 and {size - 1}")


# Gather -------------------------------------------------------------------------------------------------------


def gathered_shape(params: Shape, indices: Shape, axis: int | None, batch_dims: int = 0) -> Shape:
    """The shape of what `Gather` looks up along `axis`; both have `batch_dims` leading dimensions in common.

    Raises `InferenceError` where they do not fit together.
    """
    batch = batch_dims
    if indices.dims is not None:
        if not -len(indices.dims) <= batch <= len(indices.dims):
            raise InferenceError(f"{batch} batch dimensions do not fit indices of shape {indices}")
        batch = batch if batch >= 0 else batch + len(indices.dims)
    if params.dims is None or indices.dims is None:
        return UNKNOWN_SHAPE
    if not params.dims:
        raise InferenceError("a scalar cannot be looked up")
    rank = len(params.dims) + len(indices.dims) - 1 - batch
    if axis is None:
        return unknown_of_rank(rank)
    place = normalized_axis(axis, len(params.dims))
    if batch > place:
        raise InferenceError(f"axis {axis} lies within the {batch} batch dimensions")
    common = merged((Shape(params.dims[:batch]), Shape(indices.dims[:batch]))).dims
    assert common is not None
    return concatenated(common, params.dims[batch:place], indices.dims[batch:], params.dims[place + 1 :])


def _gather_shape(context: InferenceContext) -> Sequence[Shape]:
    return [gathered_shape(context.shape(0), context.shape(1), 0)]


def _gather_v2_shape(context: InferenceContext) -> Sequence[Shape]:
    axis = context.constant_int(2)
    return [gathered_shape(context.shape(0), context.shape(1), axis, context.attrs["batch_dims"])]


def _gather(attrs: Attributes, params: Array, indices: Array) -> Array:
    return _gather_v2({"batch_dims": 0}, params, indices, np.array(0))


def _gather_v2(attrs: Attributes, params: Array, indices: Array, axis: Array) -> Array:
    if axis.size != 1 or axis.ndim > 1:
        raise ValueError("an axis must be a scalar")
    if params.ndim == 0:
        raise ValueError("a scalar cannot be looked up")
    place = normalized_axis(int(axis.reshape(())), params.ndim)
    batch = attrs["batch_dims"]
    shape = gathered_shape(Shape(params.shape), Shape(indices.shape), place, batch).static
    batch = batch if batch >= 0 else batch + indices.ndim
    if shape is not None and 0 in shape:
        return np.empty(shape, params.dtype)
    check_indices(indices, params.shape[place])
    places = indices.astype(np.intp, copy=False)
    if not batch:
        return taken(params, [*[slice(None)] * place, places])
    batch_shape = params.shape[:batch]
    count = int(np.prod(batch_shape, dtype=np.int64))
    moved = np.moveaxis(params, place, batch)
    flat = moved.reshape((count, *moved.shape[batch:]))
    rows = flat[np.arange(count)[:, None], places.reshape((count, -1))]
    result = rows.reshape((*indices.shape, *moved.shape[batch + 1 :]))
    inner = list(range(batch, indices.ndim))
    return np.moveaxis(result, inner, [axis + place - batch for axis in inner])


def variable_shape(context: InferenceContext, index: int) -> Shape:
    """Shape of the variable whose handle input `index` is, where the handle's producer says it."""
    value = context.node.inputs[index]
    if value is None:
        return UNKNOWN_SHAPE
    attrs = value.node.attrs
    declared = attrs.get("shape") if value.node.op == "tf.VarHandleOp" else attrs.get("_handle_shapes")
    if isinstance(declared, tuple) and len(declared) == 1:
        declared = declared[0]
    return declared if isinstance(declared, Shape) else UNKNOWN_SHAPE


def _resource_gather_shape(context: InferenceContext) -> Sequence[Shape]:
    batch = context.attrs["batch_dims"]
    return [gathered_shape(variable_shape(context, 0), context.shape(1), batch, batch)]


def _resource_gather_nd_shape(context: InferenceContext) -> Sequence[Shape]:
    return [gathered_nd_shape(variable_shape(context, 0), context.shape(1))]


register("tf.Gather", shape=_gather_shape, evaluate=_gather)
register("tf.GatherV2", shape=_gather_v2_shape, evaluate=_gather_v2)
register("tf.ResourceGather", shape=_resource_gather_shape)


# GatherNd -----------------------------------------------------------------------------------------------------


def gathered_nd_shape(params: Shape, indices: Shape) -> Shape:
    """The shape of what rows of `indices` look up. Raises `InferenceError` where a row is longer than the rank."""
    if indices.dims is None:
        return UNKNOWN_SHAPE
    if not indices.dims:
        raise InferenceError("indices must have rank 1 at least")
    depth = indices.dims[-1]
    if params.dims is None or not isinstance(depth, int):
        return UNKNOWN_SHAPE
    if depth > len(params.dims):
        raise InferenceError(f"indices of shape {indices} are too deep for shape {params}")
    return concatenated(indices.dims[:-1], params.dims[depth:])


def _gather_nd_shape(context: InferenceContext) -> Sequence[Shape]:
    at_least_rank(context, 0, 1)
    return [gathered_nd_shape(context.shape(0), context.shape(1))]


def rows_of(indices: Array, shape: tuple[int, ...]) -> tuple[Array, ...]:
    """Index arrays, one for each column of `indices`, checked against `shape`. Raises `ValueError` outside it."""
    if indices.ndim < 1 or indices.shape[-1] > len(shape):
        raise ValueError(f"indices of shape {list(indices.shape)} are too deep for shape {list(shape)}")
    columns = []
    for place in range(indices.shape[-1]):
        column = indices[..., place]
        check_indices(column, shape[place])
        columns.append(column.astype(np.intp, copy=False))
    return tuple(columns)


def _gather_nd(attrs: Attributes, params: Array, indices: Array) -> Array:
    if params.ndim < 1:
        raise ValueError("a scalar cannot be looked up")
    if attrs.get("bad_indices_policy", b"") not in (b"", b"DEFAULT", b"ERROR"):
        raise ValueError("only the default policy for bad indices is evaluated")
    columns = rows_of(indices, params.shape)
    if not params.size and np.prod(indices.shape[:-1], dtype=np.int64):
        raise ValueError("nothing can be looked up in an empty array")
    if not columns:
        return np.broadcast_to(params, (*indices.shape[:-1], *params.shape))
    return taken(params, columns)


register("tf.GatherNd", shape=_gather_nd_shape, evaluate=_gather_nd)
register("tf.ResourceGatherNd", shape=_resource_gather_nd_shape)


# Where --------------------------------------------------------------------------------------------------------


def _where_shape(context: InferenceContext) -> Sequence[Shape]:
    constant = context.constant(0)
    count = None if constant is None else int(np.count_nonzero(constant))
    return [Shape((count, context.shape(0).rank))]


def _where(attrs: Attributes, condition: Array) -> Array:
    if not condition.ndim:
        raise ValueError("a scalar has no places to list")
    return np.argwhere(condition).astype(np.int64, copy=False)


register("tf.Where", shape=_where_shape, evaluate=_where)


# LowerBound, UpperBound, Bucketize ----------------------------------------------------------------------------


def _bound_shape(context: InferenceContext) -> Sequence[Shape]:
    rows, values = context.shape(0), context.shape(1)
    merged((rows, Shape((None, None))))
    values = merged((values, Shape((rows[0] if rows.dims is not None else None, None))))
    return [values]


def _bound(attrs: Attributes, rows: Array, values: Array, side: str) -> Array:
    if rows.ndim != 2 or values.ndim != 2 or rows.shape[0] != values.shape[0]:
        raise ValueError(f"rows of shape {list(rows.shape)} do not fit values of shape {list(values.shape)}")
    result = np.zeros(values.shape, attrs["out_type"].numpy)
    for place, (row, wanted) in enumerate(zip(rows, values, strict=True)):
        result[place] = np.searchsorted(row, wanted, "left" if side == "lower" else "right")
    if side == "lower" and values.dtype.kind not in "iubO":
        result[np.isnan(values)] = 0  # No element is less than NaN, so the search ends where it began.
    return result


def _bucketize(attrs: Attributes, value: Array) -> Array:
    boundaries = np.array(attrs["boundaries"], np.float32)
    if np.any(boundaries[1:] < boundaries[:-1]):
        raise ValueError("boundaries must be sorted")
    compared = value if value.dtype == np.float64 else value.astype(np.float32)
    return np.searchsorted(boundaries, compared, "right").astype(np.int32)


register("tf.LowerBound", shape=_bound_shape, evaluate=lambda attrs, rows, x: _bound(attrs, rows, x, "lower"))
register("tf.UpperBound", shape=_bound_shape, evaluate=lambda attrs, rows, x: _bound(attrs, rows, x, "upper"))


def _tree_buckets_shape(context: InferenceContext) -> Sequence[Shape]:
    return context.shapes(0, context.output_count)


register("tf.Bucketize", traits=Trait.ELEMENTWISE, shape=same_as(), evaluate=_bucketize)
register("tf.BoostedTreesBucketize", shape=_tree_buckets_shape)


# UnravelIndex -------------------------------------------------------------------------------------------------


def _unravel(attrs: Attributes, places: Array, dims: Array) -> Array:
    if dims.ndim != 1 or places.ndim > 1 or not dims.all():
        raise ValueError(f"places of shape {list(places.shape)} among dimensions {dims.tolist()} make no sense")
    return np.stack(np.unravel_index(places, dims.tolist())).astype(places.dtype)


def _unravel_shape(context: InferenceContext) -> Sequence[Shape]:
    places, dims = context.shape(0), context.shape(1)
    if places.dims is None or dims.dims is None:
        return [UNKNOWN_SHAPE]
    if len(places.dims) > 1 or len(dims.dims) != 1:
        raise InferenceError(f"places of shape {places} among dimensions of shape {dims} make no sense")
    return [Shape((*dims.dims, *places.dims))]


register("tf.UnravelIndex", shape=_unravel_shape, evaluate=_unravel)
