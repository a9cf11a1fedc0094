"""Operators of TensorFlow that are Fourier transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_elementwise import Array
from graphopt.ir.types import UNKNOWN_SHAPE, Shape


def _inner_axes(array: Array, rank: int) -> tuple[int, ...]:
    if array.ndim < rank:
        raise ValueError(f"a transform of {rank} dimensions needs as many, not an array of shape {array.shape}")
    return tuple(range(-rank, 0))


def _transform(rank: int, inverse: bool) -> Callable[..., Array]:
    """The transform of the last `rank` axes of a complex array."""

    def evaluate(attrs: Any, array: Array) -> Array:
        axes = _inner_axes(array, rank)
        if not array.size:
            return array.copy()
        with np.errstate(all="ignore"):
            transform = np.fft.ifftn if inverse else np.fft.fftn
            return np.asarray(transform(array.astype(np.complex128), axes=axes)).astype(array.dtype)

    return evaluate


def _lengths(length: Array, rank: int) -> list[int]:
    if length.shape != (rank,):
        raise ValueError(f"the length of the transform must be a vector of {rank} numbers")
    lengths = [int(n) for n in length]
    if min(lengths) <= 0:
        raise ValueError(f"a transform of length {lengths} is not defined")
    return lengths


def _real_transform(rank: int) -> Callable[..., Array]:
    def evaluate(attrs: Any, array: Array, length: Array) -> Array:
        axes, lengths = _inner_axes(array, rank), _lengths(length, rank)
        _check_sizes(array.shape[-rank:], lengths)
        with np.errstate(all="ignore"):
            result = np.fft.rfftn(array.astype(np.float64), s=lengths, axes=axes)
        return result.astype(attrs["Tcomplex"].numpy)

    return evaluate


def _real_inverse(rank: int) -> Callable[..., Array]:
    def evaluate(attrs: Any, array: Array, length: Array) -> Array:
        axes, lengths = _inner_axes(array, rank), _lengths(length, rank)
        _check_sizes(array.shape[-rank:], [*lengths[:-1], lengths[-1] // 2 + 1])
        with np.errstate(all="ignore"):
            result = np.fft.irfftn(array.astype(np.complex128), s=lengths, axes=axes)
        return result.astype(attrs["Treal"].numpy)

    return evaluate


def _check_sizes(sizes: Sequence[int], needed: Sequence[int]) -> None:
    for size, least in zip(sizes, needed, strict=True):
        if size < least:
            raise ValueError(f"a dimension of {size} is too small for the transform, which needs {least}")


def _complex_shape(rank: int) -> Callable[[InferenceContext], Sequence[Shape]]:
    def infer(context: InferenceContext) -> Sequence[Shape]:
        return [_checked(context.shape(0), rank)]

    return infer


def _checked(shape: Shape, rank: int) -> Shape:
    if shape.rank is not None and shape.rank < rank:
        raise InferenceError(f"a transform of {rank} dimensions needs as many, not {shape}")
    return shape


def _real_shape(rank: int, inverse: bool) -> Callable[[InferenceContext], Sequence[Shape]]:
    """The last `rank` dimensions become the lengths; the last one only half of it going forth."""

    def infer(context: InferenceContext) -> Sequence[Shape]:
        shape, lengths = _checked(context.shape(0), rank), context.partial(1)
        if context.shape(1).rank not in (None, 1):
            raise InferenceError("the length of the transform must be a vector")
        if shape.dims is None:
            return [UNKNOWN_SHAPE]
        if lengths is None:
            lengths = [None] * rank
        if len(lengths) != rank:
            raise InferenceError(f"the length of the transform must be a vector of {rank} numbers")
        last: Dim = lengths[-1]
        if not inverse and last is not None:
            last = 0 if last == 0 else last // 2 + 1
        return [Shape((*shape.dims[: len(shape.dims) - rank], *lengths[:-1], last))]

    return infer


def _register() -> None:
    for suffix, rank in (("", 1), ("2D", 2), ("3D", 3)):
        for name, inverse in (("FFT", False), ("IFFT", True)):
            names = (f"tf.{name}{suffix}", f"tf.Batch{name}{suffix}")
            register(names, shape=_complex_shape(rank), evaluate=_transform(rank, inverse))
        register(f"tf.RFFT{suffix}", shape=_real_shape(rank, False), evaluate=_real_transform(rank))
        register(f"tf.IRFFT{suffix}", shape=_real_shape(rank, True), evaluate=_real_inverse(rank))


_register()
