"""Helpers of shape functions: ranks, axes and dimensions that must agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphopt.ir.dimensions import Dim, SymbolicDim
from graphopt.ir.ops.inference import InferenceContext, InferenceError, normalized_axis
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

RANK_LIMIT = 254  # TensorFlow's own limit
VECTOR_LIMIT = 1 << 16  # elements beyond which a vector is no list of sizes or places


def of_rank(context: InferenceContext, index: int, rank: int) -> list[Dim]:
    """Dimensions of input `index`, which must have `rank`; all unknown where its shape is."""
    dims = context.shape(index).dims
    if dims is None:
        return [None] * rank
    if len(dims) != rank:
        raise InferenceError(f"input {index} must have rank {rank}, not {len(dims)}")
    return list(dims)


def at_least_rank(context: InferenceContext, index: int, rank: int) -> list[Dim] | None:
    """Dimensions of input `index`, which must have `rank` at least; None where its shape is unknown."""
    dims = context.shape(index).dims
    if dims is None:
        return None
    if len(dims) < rank:
        raise InferenceError(f"input {index} must have rank {rank} at least, not {len(dims)}")
    return list(dims)


def unknown_of_rank(rank: int | None) -> Shape:
    """A shape of which at most the rank is known."""
    return UNKNOWN_SHAPE if rank is None or rank > RANK_LIMIT else Shape([None] * rank)


def merged_dim(left: Dim, right: Dim) -> Dim:
    """What both say of one dimension. Raises `InferenceError` where two numbers differ."""
    if left is None or right is None:
        return right if left is None else left
    if isinstance(left, int):
        if isinstance(right, int) and left != right:
            raise InferenceError(f"dimensions {left} and {right} must be equal")
        return left
    return right if isinstance(right, int) else left


def merged(shapes: Iterable[Shape]) -> Shape:
    """What all `shapes` say together. Raises `InferenceError` where they contradict one another."""
    result = UNKNOWN_SHAPE
    for shape in shapes:
        both = result.merged(shape)
        if both is None:
            raise InferenceError(f"shapes {result} and {shape} must be equal")
        result = both
    return result


def vector_length(context: InferenceContext, index: int) -> int | None:
    """Number of elements of the vector that input `index` is, if it is known and not absurd."""
    shape = context.shape(index)
    if shape.rank == 1:
        return shape[0] if isinstance(shape[0], int) and shape[0] <= VECTOR_LIMIT else None
    known = context.partial(index)
    return None if known is None else len(known)


def known_axis(context: InferenceContext, index: int, rank: int) -> int | None:
    """Input `index` read as an axis of `rank` dimensions, counted from the front; None where it is not known."""
    axis = context.constant_int(index)
    return None if axis is None else normalized_axis(axis, rank)


def is_non_negative(dim: Dim) -> bool:
    """`dim` is certainly at least zero: sizes are, and so are their sums, products, quotients and extremes."""
    if not isinstance(dim, SymbolicDim):
        return dim is not None and dim >= 0
    return all(factor > 0 and all(map(_atom_is_non_negative, monomial)) for monomial, factor in dim.terms)


def _atom_is_non_negative(atom: tuple[object, ...]) -> bool:
    if atom[0] == "name":
        return True
    left, right = (is_non_negative(operand) for operand in atom[1:])  # type: ignore[arg-type]
    return (left or right) if atom[0] == "max" else (left and right)


def concatenated(*parts: Sequence[Dim]) -> Shape:
    """The shape whose dimensions are those of all `parts` in a row."""
    return Shape(dim for part in parts for dim in part)
