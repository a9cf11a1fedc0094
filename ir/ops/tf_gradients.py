"""Operators of TensorFlow: gradients of elementwise operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import divide, subtract
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import Evaluation, register
from graphopt.ir.ops.tf_windows import widened
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import Shape

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]
SELU_SCALE = 1.0507009873554804934193349852946
SELU_SCALE_ALPHA = 1.7580993408473768599402175208123


def _alike(context: InferenceContext) -> Sequence[Shape]:
    """Both inputs and the output have one shape."""
    merged = context.shape(0).merged(context.shape(1))
    if merged is None:
        raise InferenceError(f"shapes {context.shape(0)} and {context.shape(1)} differ")
    return [merged]


def _mirror_pad_shape(context: InferenceContext) -> Sequence[Shape]:
    """The padding comes off again."""
    shape, paddings = context.shape(0), context.constant_ints(1)
    if shape.dims is None or paddings is None:
        return [shape if shape.dims is None else Shape((None,) * len(shape.dims))]
    if len(paddings) != 2 * len(shape.dims):
        raise InferenceError(f"{len(paddings)} paddings do not fit shape {shape}")
    pads = [paddings[2 * axis] + paddings[2 * axis + 1] for axis in range(len(shape.dims))]
    return [Shape(subtract(dim, pad) for dim, pad in zip(shape.dims, pads, strict=True))]


def _tile_shape(context: InferenceContext) -> Sequence[Shape]:
    """One of the tiles."""
    shape, multiples = context.shape(0), context.constant_ints(1)
    if shape.dims is None or multiples is None:
        return [shape if shape.dims is None else Shape((None,) * len(shape.dims))]
    if len(multiples) != len(shape.dims):
        raise InferenceError(f"{len(multiples)} multiples do not fit shape {shape}")
    return [Shape(divide(dim, many) for dim, many in zip(shape.dims, multiples, strict=True))]


def _elementwise(function: Callable[[Attrs, Array, Array], Array]) -> Evaluation:
    """`function` in at least 32 bits, on two arrays of one shape."""

    def evaluate(attrs: Attrs, left: Array, right: Array) -> Array:
        if left.shape != right.shape:
            raise ValueError(f"shapes {list(left.shape)} and {list(right.shape)} differ")
        with np.errstate(all="ignore"):
            return np.asarray(function(attrs, widened(left), widened(right))).astype(left.dtype)

    return evaluate


def _logistic(values: Array) -> Array:
    tail = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1, tail) / (1 + tail))


def _conjugated(values: Array) -> Array:
    return np.conj(values) if values.dtype.kind == "c" else values


# Given the operator's output `y` and the gradient `dy`. Not all of them conjugate: so TensorFlow computes them.
FROM_OUTPUT: Mapping[str, Callable[[Attrs, Array, Array], Array]] = {
    "SigmoidGrad": lambda attrs, y, dy: dy * y * (1 - y),
    "TanhGrad": lambda attrs, y, dy: dy * (1 - y * y),
    "RsqrtGrad": lambda attrs, y, dy: dy * _conjugated(y) ** 3 * y.dtype.type(-0.5),
    "SqrtGrad": lambda attrs, y, dy: dy * y.dtype.type(0.5) / _conjugated(y),
    "InvGrad": lambda attrs, y, dy: -dy * _conjugated(y) * _conjugated(y),
    "ReciprocalGrad": lambda attrs, y, dy: -dy * _conjugated(y) * _conjugated(y),
}
# Given the gradient `dy` and the operator's input `x` (for Elu and Selu its output).
FROM_GRADIENT: Mapping[str, Callable[[Attrs, Array, Array], Array]] = {
    "ReluGrad": lambda attrs, dy, x: dy * (x > 0),
    "Relu6Grad": lambda attrs, dy, x: dy * ((x > 0) & (x < 6)),
    "LeakyReluGrad": lambda attrs, dy, x: np.where(x > 0, dy, dy * dy.dtype.type(attrs["alpha"])),
    "EluGrad": lambda attrs, dy, y: np.where(y < 0, (y + 1) * dy, dy),
    "SeluGrad": lambda attrs, dy, y: np.where(
        y < 0, dy * (y + y.dtype.type(SELU_SCALE_ALPHA)), dy * y.dtype.type(SELU_SCALE)
    ),
    "SoftplusGrad": lambda attrs, dy, x: dy * _logistic(x),
    "SoftsignGrad": lambda attrs, dy, x: dy / np.square(1 + np.abs(x)),
}

for _table in (FROM_OUTPUT, FROM_GRADIENT):
    for _name, _function in _table.items():
        register(
            f"tf.{_name}",
            traits=Trait.ELEMENTWISE | Trait.TRAINING,
            shape=_alike,
            evaluate=_elementwise(_function),
        )

register("tf.MirrorPadGrad", traits=Trait.TRAINING, shape=_mirror_pad_shape)
register("tf.TileGrad", traits=Trait.TRAINING, shape=_tile_shape)
