"""What holds of a value that comes from one of several places: the join of shapes and types."""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.ir.types import UNKNOWN_SHAPE, Shape, TensorType


def join_shapes(shapes: Iterable[Shape]) -> Shape:
    """The most precise shape that covers all of `shapes`; unknown for none."""
    joined: Shape | None = None
    for shape in shapes:
        joined = shape if joined is None else _join(joined, shape)
        if joined.dims is None:
            return UNKNOWN_SHAPE
    return UNKNOWN_SHAPE if joined is None else joined


def join_types(left: TensorType, right: TensorType) -> TensorType:
    """`left` widened until it covers `right`; the element type stays that of `left`."""
    if left is right:
        return left
    shape = _join(left.shape, right.shape)
    return left if shape == left.shape else left.with_shape(shape)


def _join(left: Shape, right: Shape) -> Shape:
    if left is right or left.dims == right.dims:
        return left
    if left.dims is None or right.dims is None or len(left.dims) != len(right.dims):
        return UNKNOWN_SHAPE
    return Shape(a if a == b else None for a, b in zip(left.dims, right.dims, strict=True))
