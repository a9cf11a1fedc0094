"""Operators of TensorFlow that write at indices: ScatterNd, TensorScatterUpdate and kin, InplaceUpdate and kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.attributes import Attributes
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.shapes import merged
from graphopt.ir.ops.tf_fill import shape_operand, sizes_of, zero_of
from graphopt.ir.ops.tf_indexing import rows_of
from graphopt.ir.types import Shape

Array = np.ndarray[Any, Any]
Combine = Callable[[Array, tuple[Any, ...], Array], None]


def _check_updates(target: Shape, indices: Shape, updates: Shape) -> None:
    """Raises `InferenceError` unless rows of `indices` point to slices of `target` that are shaped as in `updates`."""
    if indices.dims is None or not indices.dims or target.dims is None or updates.dims is None:
        return
    depth = indices.dims[-1]
    if not isinstance(depth, int):
        return
    if depth > len(target.dims):
        raise InferenceError(f"indices of shape {indices} are too deep for shape {target}")
    merged((updates, Shape((*indices.dims[:-1], *target.dims[depth:]))))


def _assign(target: Array, index: tuple[Any, ...], updates: Array) -> None:
    target[index] = updates


def _add(target: Array, index: tuple[Any, ...], updates: Array) -> None:
    np.add.at(target, index, updates)


def _subtract(target: Array, index: tuple[Any, ...], updates: Array) -> None:
    np.subtract.at(target, index, updates)


def _minimum(target: Array, index: tuple[Any, ...], updates: Array) -> None:
    _extreme(target, index, updates, np.less)


def _maximum(target: Array, index: tuple[Any, ...], updates: Array) -> None:
    _extreme(target, index, updates, np.greater)


def _extreme(target: Array, index: tuple[Any, ...], updates: Array, better: Callable[[Array, Array], Array]) -> None:
    """One row after another, since what NumPy and TensorFlow make of NaN differs."""
    places = [np.asarray(column).reshape(-1) for column in index if column is not Ellipsis]
    rows = updates.reshape(
        (places[0].size if places else 1, *updates.shape[updates.ndim - target.ndim + len(places) :])
    )
    for row, place in enumerate(zip(*places, strict=True)):
        held = target[(*place, ...)]
        held[...] = np.where(better(rows[row], held), rows[row], held)


def _scattered(target: Array, indices: Array, updates: Array, combine: Combine) -> Array:
    """Write into `target`, which is this function's to change. Raises `ValueError` for indices outside it."""
    # TensorFlow reads a vector of indices as one row when it infers shapes, as many when it runs, so refuses both.
    if indices.ndim < 2 or not indices.shape[-1]:
        raise ValueError("indices must have rank 2 at least and name a dimension at least")
    depth = indices.shape[-1]
    columns = rows_of(indices, target.shape)
    if updates.shape != (*indices.shape[:-1], *target.shape[depth:]):
        raise ValueError(f"updates of shape {list(updates.shape)} do not fit indices of shape {list(indices.shape)}")
    counts = target.size, indices.size, updates.size
    if not all(counts):
        if counts[1] or counts[2]:
            raise ValueError("indices and updates must be empty where nothing can be written")
        return target
    with np.errstate(all="ignore"):
        combine(target, (*columns, ...), updates)
    return target


# ScatterNd ----------------------------------------------------------------------------------------------------


def _scatter_nd_shape(context: InferenceContext) -> Sequence[Shape]:
    result = shape_operand(context, 2)
    _check_updates(result, context.shape(0), context.shape(1))
    return [result]


def _scatter_nd(attrs: Attributes, indices: Array, updates: Array, shape: Array) -> Array:
    if shape.ndim != 1:
        raise ValueError("a shape must be a vector")
    target = np.full(sizes_of(shape), zero_of(updates.dtype), updates.dtype)
    return _scattered(target, indices, updates, _add)


register("tf.ScatterNd", shape=_scatter_nd_shape, evaluate=_scatter_nd)


# TensorScatter*, ScatterNdNonAliasingAdd ----------------------------------------------------------------------


def _tensor_scatter_shape(context: InferenceContext) -> Sequence[Shape]:
    target = context.shape(0)
    _check_updates(target, context.shape(1), context.shape(2))
    return [target]


def _tensor_scatter(combine: Combine) -> Callable[..., Array]:
    def evaluate(attrs: Attributes, target: Array, indices: Array, updates: Array) -> Array:
        if attrs.get("bad_indices_policy", b"") not in (b"", b"DEFAULT", b"ERROR"):
            raise ValueError("only the default policy for bad indices is evaluated")
        if target.ndim < 1:
            raise ValueError("a scalar cannot be updated by indices")
        return _scattered(target.copy(), indices, updates, combine)

    return evaluate


for _name, _combine in (
    ("tf.TensorScatterUpdate", _assign),
    ("tf.TensorScatterAdd", _add),
    ("tf.TensorScatterSub", _subtract),
    ("tf.TensorScatterMin", _minimum),
    ("tf.TensorScatterMax", _maximum),
    ("tf.ScatterNdNonAliasingAdd", _add),
):
    register(_name, shape=_tensor_scatter_shape, evaluate=_tensor_scatter(_combine))


# InplaceUpdate, InplaceAdd, InplaceSub ------------------------------------------------------------------------


def _inplace_shape(context: InferenceContext) -> Sequence[Shape]:
    return [context.shape(0)]


def _inplace(combine: Combine) -> Callable[..., Array]:
    """Rows count modulo the first dimension, as TensorFlow's kernels have it."""

    def evaluate(attrs: Attributes, target: Array, rows: Array, updates: Array) -> Array:
        if rows.ndim != 1 or target.ndim < 1 or updates.shape != (rows.size, *target.shape[1:]):
            raise ValueError(
                f"updates of shape {list(updates.shape)} do not fit an array of shape {list(target.shape)}"
            )
        if not target.size or not rows.size:
            return target
        result = target.copy()
        with np.errstate(all="ignore"):
            combine(result, (rows.astype(np.intp) % target.shape[0], ...), updates)
        return result

    return evaluate


register("tf.InplaceUpdate", shape=_inplace_shape, evaluate=_inplace(_assign))
register("tf.InplaceAdd", shape=_inplace_shape, evaluate=_inplace(_add))
register("tf.InplaceSub", shape=_inplace_shape, evaluate=_inplace(_subtract))
