"""Tensors kept in slices, put together when their values are asked for; and parts of whole tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphopt.ir.errors import MalformedError, ResourceError
from graphopt.ir.formats.bundle_proto import Slice, slice_shape
from graphopt.ir.tensors import EXPANSION_LIMIT, FileTensor, Tensor
from graphopt.ir.types import DType

PAIR_LIMIT = 2048  # slices of one tensor up to which any arrangement is checked

Part = tuple[Slice, Tensor]


class SlicedTensor(Tensor):
    """A tensor whose `parts` together cover it, each once; `numpy()` builds the whole anew at each call."""

    __slots__ = ("parts",)

    def __init__(self, dtype: DType, shape: Sequence[int], parts: Sequence[Part]):
        super().__init__(dtype, shape)
        self.parts = tuple(parts)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for _, part in self.parts)

    def numpy(self) -> np.ndarray[Any, Any]:
        array = np.empty(self.shape, self.dtype.numpy)
        for extents, part in self.parts:
            array[indices(extents)] = part.numpy()
        return array


class PartTensor(Tensor):
    """A rectangular part of another tensor."""

    __slots__ = ("extents", "whole")

    def __init__(self, whole: Tensor, extents: Slice):
        super().__init__(whole.dtype, slice_shape(extents, whole.shape))
        self.whole, self.extents = whole, extents

    def numpy(self) -> np.ndarray[Any, Any]:
        return np.ascontiguousarray(self.whole.numpy()[indices(self.extents)])


def indices(extents: Slice) -> tuple[slice, ...]:
    """NumPy's index of a slice."""
    return tuple(slice(None) if length < 0 else slice(first, first + length) for first, length in extents)


def part_of(whole: Tensor, extents: Slice) -> Tensor:
    """The part of `whole` that `extents` describe; a view of the file where that is one run of bytes."""
    shape = slice_shape(extents, whole.shape)
    if shape == whole.shape:
        return whole
    if isinstance(whole, FileTensor) and shape[1:] == whole.shape[1:]:
        offset = whole.offset + extents[0][0] * math.prod(whole.shape[1:]) * whole.dtype.itemsize
        return FileTensor(whole.mapping, offset, whole.dtype, shape)
    return PartTensor(whole, extents)


def assembled(dtype: DType, shape: tuple[int, ...], parts: Sequence[Part]) -> Tensor:
    """The tensor that consists of `parts`. Raises `MalformedError` unless they cover it, each element once."""
    if len(parts) == 1 and parts[0][1].shape == shape:
        return parts[0][1]
    size = math.prod(shape)
    if sum(part.size for _, part in parts) != size or _overlap([extents for extents, _ in parts], shape):
        raise MalformedError(f"its {len(parts)} slices do not cover the shape {list(shape)} exactly")
    if size > EXPANSION_LIMIT:
        raise ResourceError(f"a tensor of shape {list(shape)} in {len(parts)} slices is too large to put together")
    return SlicedTensor(dtype, shape, parts)


def _overlap(slices: Sequence[Slice], shape: tuple[int, ...]) -> bool:
    """Two of the slices have an element in common."""
    spans = sorted(
        tuple((first, dim if length < 0 else first + length) for (first, length), dim in zip(item, shape, strict=True))
        for item in slices
    )
    varying = [axis for axis in range(len(shape)) if len({span[axis] for span in spans}) > 1]
    if len(varying) == 1:  # partitioned along one axis, as nearly always
        axis = varying[0]
        return any(left[axis][1] > right[axis][0] for left, right in pairwise(spans))
    if len(spans) > PAIR_LIMIT:
        raise ResourceError(f"a tensor in {len(spans)} slices along several axes")
    return any(
        all(a[0] < b[1] and b[0] < a[1] for a, b in zip(left, right, strict=True))
        for place, left in enumerate(spans)
        for right in spans[place + 1 :]
    )
