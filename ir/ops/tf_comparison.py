"""Operators of TensorFlow that compare, select, clip, and work on truth values and bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.ops.inference import (
    InferenceContext,
    InferenceError,
    broadcast,
    broadcast_shapes,
    same_as,
)
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_elementwise import (
    COMMUTATIVE,
    ELEMENTWISE,
    INVOLUTION,
    Array,
    evaluation,
    merged_shapes,
)
from graphopt.ir.ops.tf_windows import settled
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, Shape

# Comparisons --------------------------------------------------------------------------------------------------


def _equality(compare: Callable[..., Any], mismatched: bool) -> Callable[..., Array]:
    """`Equal` and `NotEqual`; shapes that do not broadcast give the answer `mismatched` if the attribute allows it."""

    def evaluate(attrs: Any, x: Array, y: Array) -> Array:
        if not attrs["incompatible_shape_error"]:
            try:
                np.broadcast_shapes(x.shape, y.shape)
            except ValueError:
                return np.asarray(mismatched)
        with np.errstate(all="ignore"):
            return np.asarray(compare(x, y), np.bool_)

    return evaluate


@settled("incompatible_shape_error")
def _equality_shape(context: InferenceContext) -> Sequence[Shape]:
    if context.attrs["incompatible_shape_error"]:
        return broadcast(context)
    x, y = context.shape(0), context.shape(1)
    try:
        result = broadcast_shapes([x, y])
    except InferenceError:
        return [SCALAR]
    return [result if x.is_static and y.is_static else UNKNOWN_SHAPE]


def _approximately_equal(attrs: Any, x: Array, y: Array) -> Array:
    if x.shape != y.shape:
        raise ValueError("the arrays compared must be shaped alike")
    with np.errstate(all="ignore"):
        return np.asarray(np.abs(x - y) < x.dtype.type(attrs["tolerance"]))


# Bits ---------------------------------------------------------------------------------------------------------


def _within_width(y: Array) -> Array:
    """Shift distances as TensorFlow takes them: at least 0 and at most one less than the width."""
    return np.clip(y, 0, y.dtype.itemsize * 8 - 1)


def _left_shift(x: Array, y: Array) -> Any:
    return np.left_shift(x, _within_width(y))


def _right_shift(x: Array, y: Array) -> Any:
    return np.right_shift(x, _within_width(y))


def _population_count(x: Array) -> Any:
    octets = np.ascontiguousarray(x).reshape(x.size, 1).view(np.uint8)
    counts = np.unpackbits(octets, axis=1).sum(axis=1, dtype=np.uint8) if x.size else np.zeros(0, np.uint8)
    return counts.reshape(x.shape)


# Selection ----------------------------------------------------------------------------------------------------


def _select(attrs: Any, condition: Array, x: Array, y: Array) -> Array:
    """`Select`: the condition is shaped like the others, or scalar, or a vector that chooses rows."""
    if x.shape != y.shape:
        raise ValueError(f"cannot select between arrays of shapes {x.shape} and {y.shape}")
    if condition.ndim and condition.shape != x.shape:
        if condition.ndim != 1 or x.ndim < 1 or condition.shape[0] != x.shape[0]:
            raise ValueError(f"a condition of shape {condition.shape} cannot select from arrays of shape {x.shape}")
        condition = condition.reshape(condition.shape + (1,) * (x.ndim - 1))
    return np.where(condition, x, y)


def _select_shape(context: InferenceContext) -> Sequence[Shape]:
    condition, x, y = (context.shape(i) for i in range(3))
    merged = x.merged(y)
    if merged is None:
        raise InferenceError(f"cannot select between inputs of shapes {x} and {y}")
    if condition.rank is None or condition.rank == 0:
        return [merged]
    if merged.dims is None:
        return [condition if condition.rank > 1 else UNKNOWN_SHAPE]
    rows = condition.rank == 1 and len(merged.dims) > 1
    wanted = Shape(merged.dims[:1]) if rows else merged
    both = wanted.merged(condition)
    if both is None:
        raise InferenceError(f"a condition of shape {condition} cannot select from inputs of shape {merged}")
    return [Shape((both[0], *merged.dims[1:])) if rows else both]


def _select_broadcasting(attrs: Any, condition: Array, x: Array, y: Array) -> Array:
    return np.where(condition, x, y)


def _clip(x: Array, low: Array, high: Array) -> Any:
    """`max(min(x, high), low)`, where a bound that is NaN does not bind."""
    for bound in (low, high):
        if bound.ndim and bound.shape != x.shape:
            raise ValueError(f"a bound of shape {bound.shape} cannot clip an array of shape {x.shape}")
    least = np.where(high < x, high, x)
    return np.where(least < low, low, least)


def _clip_shape(context: InferenceContext) -> Sequence[Shape]:
    shape = context.shape(0)
    for index in (1, 2):
        bound = context.shape(index)
        if bound.rank is None or bound.rank == 0:
            continue
        both = shape.merged(bound)
        if both is None:
            raise InferenceError(f"a bound of shape {bound} cannot clip an input of shape {shape}")
        shape = both
    return [shape]


def _register() -> None:
    comparisons: dict[str, Callable[..., Any]] = {
        "Less": np.less,
        "LessEqual": np.less_equal,
        "Greater": np.greater,
        "GreaterEqual": np.greater_equal,
    }
    for name, compare in comparisons.items():
        register(f"tf.{name}", traits=ELEMENTWISE, shape=broadcast, evaluate=evaluation(compare))
    for name, compare, mismatched in (("Equal", np.equal, False), ("NotEqual", np.not_equal, True)):
        evaluate = _equality(compare, mismatched)
        register(f"tf.{name}", traits=COMMUTATIVE, shape=_equality_shape, evaluate=evaluate)
    register("tf.ApproximateEqual", traits=COMMUTATIVE, shape=merged_shapes, evaluate=_approximately_equal)

    # float8 and the like have no `isfinite` everywhere; all of them are exact in single precision.
    tests: dict[str, Callable[..., Any]] = {"IsNan": np.isnan, "IsInf": np.isinf, "IsFinite": np.isfinite}
    for name, test in tests.items():
        register(f"tf.{name}", traits=ELEMENTWISE, shape=same_as(), evaluate=evaluation(test))

    binary: dict[str, tuple[Trait, Callable[..., Any]]] = {
        "LogicalAnd": (COMMUTATIVE, np.logical_and),
        "LogicalOr": (COMMUTATIVE, np.logical_or),
        "BitwiseAnd": (COMMUTATIVE, np.bitwise_and),
        "BitwiseOr": (COMMUTATIVE, np.bitwise_or),
        "BitwiseXor": (COMMUTATIVE, np.bitwise_xor),
        "LeftShift": (ELEMENTWISE, _left_shift),
        "RightShift": (ELEMENTWISE, _right_shift),
    }
    for name, (traits, function) in binary.items():
        register(f"tf.{name}", traits=traits, shape=broadcast, evaluate=evaluation(function))
    unary: dict[str, tuple[Trait, Callable[..., Any]]] = {
        "LogicalNot": (INVOLUTION, np.logical_not),
        "Invert": (INVOLUTION, np.invert),
        "PopulationCount": (ELEMENTWISE, _population_count),
    }
    for name, (traits, function) in unary.items():
        register(f"tf.{name}", traits=traits, shape=same_as(), evaluate=evaluation(function))

    # A vector condition of `Select` chooses rows, so an element does not depend on one element alone.
    register("tf.Select", shape=_select_shape, evaluate=_select)
    register("tf.SelectV2", traits=ELEMENTWISE, shape=broadcast, evaluate=_select_broadcasting)
    register("tf.ClipByValue", traits=ELEMENTWISE, shape=_clip_shape, evaluate=evaluation(_clip))


_register()
