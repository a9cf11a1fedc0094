"""Operators of TensorFlow that put diagonals into matrices, take them out and replace them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.dimensions import Dim, add, maximum, minimum
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_elementwise import Array
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

OLD_ALIGNMENT = b"LEFT_LEFT"  # of the operators without an attribute for it


class Band(NamedTuple):
    """The diagonals from `lower` to `upper`; 0 is the main one, those below it are negative."""

    lower: int
    upper: int

    @property
    def size(self) -> int:
        """How many diagonals."""
        return self.upper - self.lower + 1


MAIN = Band(0, 0)


def band_of(numbers: Sequence[int]) -> Band:
    """The diagonals that input `k` names: one, or the lowest and the highest. Raises `InferenceError` for others."""
    if not 1 <= len(numbers) <= 2:
        raise InferenceError(f"diagonals are named by one or two numbers, not {len(numbers)}")
    band = Band(int(numbers[0]), int(numbers[-1]))
    if band.size < 1:
        raise InferenceError(f"the lower diagonal {band.lower} is above the upper one {band.upper}")
    return band


def _check_band(band: Band, rows: Dim, columns: Dim) -> None:
    for index in band:
        below = isinstance(rows, int) and index <= -rows
        above = isinstance(columns, int) and index >= columns
        if index and (below or above):
            raise InferenceError(f"a matrix of {rows} rows and {columns} columns has no diagonal {index}")


def _longest(band: Band, rows: Dim, columns: Dim) -> Dim:
    """Length of the longest diagonal of the band."""
    return minimum(add(rows, min(band.upper, 0)), add(columns, -max(band.lower, 0)))


class Place(NamedTuple):
    """Where one diagonal is: elements of the matrix, row of the packed diagonals and columns of that row."""

    rows: Array
    columns: Array
    packed_row: int
    packed_columns: slice


def _places(band: Band, rows: int, columns: int, alignment: bytes) -> Iterator[Place]:
    """Every diagonal of the band, from the uppermost down."""
    longest = min(rows + min(band.upper, 0), columns - max(band.lower, 0))
    above, _, below = alignment.partition(b"_")
    for number, index in enumerate(range(band.upper, band.lower - 1, -1)):
        length = min(rows + min(index, 0), columns - max(index, 0))
        along = np.arange(length)
        start = longest - length if (above if index >= 0 else below) == b"RIGHT" else 0
        yield Place(along + max(-index, 0), along + max(index, 0), number, slice(start, start + length))


def _check_matrix(array: Array) -> None:
    if array.ndim < 2:
        raise ValueError(f"an array of shape {array.shape} is no matrix")


# Taking out ---------------------------------------------------------------------------------------------------


def _diagonals(array: Array, band: Band, padding: Array, alignment: bytes) -> Array:
    _check_matrix(array)
    rows, columns = array.shape[-2:]
    _check_band(band, rows, columns)
    longest = min(rows + min(band.upper, 0), columns - max(band.lower, 0))
    result = np.empty((*array.shape[:-2], band.size, longest), array.dtype)
    result[...] = padding
    for place in _places(band, rows, columns, alignment):
        result[..., place.packed_row, place.packed_columns] = array[..., place.rows, place.columns]
    return result[..., 0, :] if band.size == 1 else result


def _part(attrs: Any, array: Array, k: Array | None = None, padding: Array | None = None) -> Array:
    if k is None or padding is None:
        return _diagonals(array, MAIN, np.zeros((), array.dtype), OLD_ALIGNMENT)
    return _diagonals(array, band_of(k.reshape(-1).tolist()), padding, attrs.get("align", OLD_ALIGNMENT))


def _known_band(context: InferenceContext, index: int) -> Band | None:
    if context.input_count <= index:
        return MAIN
    numbers = context.constant_ints(index)
    return None if numbers is None else band_of(numbers)


def _part_shape(context: InferenceContext) -> Sequence[Shape]:
    shape, band = context.shape(0), _known_band(context, 1)
    if shape.dims is None or band is None:
        return [UNKNOWN_SHAPE]
    if len(shape.dims) < 2:
        raise InferenceError(f"{shape} is not the shape of a matrix")
    return [Shape((*shape.dims[:-2], *_packed_dims(band, *shape.dims[-2:])))]


def _packed_dims(band: Band, rows: Dim, columns: Dim) -> tuple[Dim, ...]:
    _check_band(band, rows, columns)
    longest = _longest(band, rows, columns)
    return (longest,) if band.size == 1 else (band.size, longest)


# Putting in ---------------------------------------------------------------------------------------------------


def _sides(band: Band, longest: Dim, rows: int, columns: int) -> tuple[Dim, Dim]:
    """Rows and columns of the matrix that diagonals of length `longest` make, where -1 says to find out."""
    least_rows, least_columns = add(longest, -min(band.upper, 0)), add(longest, max(band.lower, 0))
    if rows == -1 and columns == -1:
        side = maximum(least_rows, least_columns)
        return side, side
    found_rows = least_rows if rows == -1 else rows
    found_columns = least_columns if columns == -1 else columns
    known = [d for d in (found_rows, least_rows, found_columns, least_columns) if isinstance(d, int)]
    if len(known) == 4 and (
        known[0] < known[1] or known[2] < known[3] or (known[0] != known[1] and known[2] != known[3])
    ):
        raise InferenceError(f"{rows} rows and {columns} columns do not fit diagonals of length {longest}")
    return found_rows, found_columns


def _check_packed(dims: Sequence[Dim], band: Band) -> None:
    if len(dims) < (1 if band.size == 1 else 2):
        raise InferenceError(f"{Shape(dims)} cannot hold {band.size} diagonals")
    if band.size > 1 and isinstance(dims[-2], int) and dims[-2] != band.size:
        raise InferenceError(f"{Shape(dims)} does not hold {band.size} diagonals")


def _diagonal_matrix(
    attrs: Any,
    packed: Array,
    k: Array | None = None,
    rows: Array | None = None,
    columns: Array | None = None,
    padding: Array | None = None,
) -> Array:
    band = MAIN if k is None else band_of(k.reshape(-1).tolist())
    _check_packed(packed.shape, band)
    wanted = (-1, -1) if rows is None or columns is None else (int(rows), int(columns))
    height, width = (int(str(side)) for side in _sides(band, packed.shape[-1], *wanted))
    batch = packed.shape[: -1 if band.size == 1 else -2]
    result = np.empty((*batch, height, width), packed.dtype)
    result[...] = np.zeros((), packed.dtype) if padding is None else padding
    _place_diagonals(result, packed, band, attrs.get("align", OLD_ALIGNMENT))
    return result


def _place_diagonals(target: Array, packed: Array, band: Band, alignment: bytes) -> None:
    many = packed.reshape(*packed.shape[:-1], 1, packed.shape[-1]) if band.size == 1 else packed
    rows, columns = target.shape[-2:]
    for place in _places(band, rows, columns, alignment):
        target[..., place.rows, place.columns] = many[..., place.packed_row, place.packed_columns]


def _diagonal_matrix_shape(context: InferenceContext) -> Sequence[Shape]:
    packed, band = context.shape(0), _known_band(context, 1)
    if packed.dims is None or band is None:
        return [UNKNOWN_SHAPE]
    _check_packed(packed.dims, band)
    batch = packed.dims[: -1 if band.size == 1 else -2]
    wanted: list[int | None] = [-1, -1]
    if context.input_count > 2:
        wanted = [context.constant_int(2), context.constant_int(3)]
    rows, columns = wanted
    if rows is None or columns is None:
        return [Shape((*batch, None, None))]
    return [Shape((*batch, *_sides(band, packed.dims[-1], rows, columns)))]


# Replacing ----------------------------------------------------------------------------------------------------


def _set_diagonal(attrs: Any, array: Array, packed: Array, k: Array | None = None) -> Array:
    _check_matrix(array)
    band = MAIN if k is None else band_of(k.reshape(-1).tolist())
    expected = (*array.shape[:-2], *_packed_dims(band, *array.shape[-2:]))
    if packed.shape != expected:
        raise ValueError(f"diagonals of shape {packed.shape} are not of shape {expected}")
    result = array.copy()
    _place_diagonals(result, packed, band, attrs.get("align", OLD_ALIGNMENT))
    return result


def _set_diagonal_shape(context: InferenceContext) -> Sequence[Shape]:
    shape, band = context.shape(0), _known_band(context, 2)
    if shape.dims is None:
        return [shape]
    if len(shape.dims) < 2:
        raise InferenceError(f"{shape} is not the shape of a matrix")
    if band is not None:
        expected = Shape((*shape.dims[:-2], *_packed_dims(band, *shape.dims[-2:])))
        if expected.merged(context.shape(1)) is None:
            raise InferenceError(f"diagonals of shape {context.shape(1)} are not of shape {expected}")
    return [shape]


# Bands, and diagonals of any rank ------------------------------------------------------------------------------


def _band_part(attrs: Any, array: Array, lower: Array, upper: Array) -> Array:
    _check_matrix(array)
    if lower.ndim or upper.ndim:
        raise ValueError("the numbers of diagonals must be scalars")
    rows, columns = array.shape[-2:]
    below, above = int(lower), int(upper)
    if below > rows or above > columns:
        raise ValueError(f"a matrix of {rows} rows and {columns} columns has fewer diagonals than {below} and {above}")
    offset = np.arange(columns) - np.arange(rows)[:, None]
    kept = ((below < 0) | (-offset <= below)) & ((above < 0) | (offset <= above))
    return np.where(kept, array, np.zeros((), array.dtype))


def _band_part_shape(context: InferenceContext) -> Sequence[Shape]:
    shape = context.shape(0)
    if shape.rank is not None and shape.rank < 2:
        raise InferenceError(f"{shape} is not the shape of a matrix")
    return [shape]


def _tensor_diagonal(attrs: Any, array: Array) -> Array:
    if not array.ndim:
        raise ValueError("a scalar is no diagonal")
    result = np.zeros((array.size, array.size), array.dtype)
    np.fill_diagonal(result, array.reshape(-1))
    return result.reshape(array.shape * 2)


def _tensor_diagonal_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = context.shape(0).dims
    if dims is not None and not dims:
        raise InferenceError("a scalar is no diagonal")
    return [UNKNOWN_SHAPE if dims is None else Shape((*dims, *dims))]


def _tensor_diagonal_part(attrs: Any, array: Array) -> Array:
    half = array.ndim // 2
    if array.ndim % 2 or array.shape[:half] != array.shape[half:]:
        raise ValueError(f"an array of shape {array.shape} has no diagonal")
    size = int(np.prod(array.shape[:half]))
    return np.array(np.diagonal(array.reshape(size, size))).reshape(array.shape[:half])


def _tensor_diagonal_part_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = context.shape(0).dims
    if dims is None:
        return [UNKNOWN_SHAPE]
    half = len(dims) // 2
    both = Shape(dims[:half]).merged(Shape(dims[half:]))
    if both is None:
        raise InferenceError(f"{Shape(dims)} is not the shape of a tensor with a diagonal")
    return [both]


def _register() -> None:
    register(("tf.MatrixDiagPart", "tf.BatchMatrixDiagPart"), shape=_part_shape, evaluate=_part)
    register(("tf.MatrixDiagPartV2", "tf.MatrixDiagPartV3"), shape=_part_shape, evaluate=_part)
    names = ("tf.MatrixDiag", "tf.BatchMatrixDiag", "tf.MatrixDiagV2", "tf.MatrixDiagV3")
    register(names, shape=_diagonal_matrix_shape, evaluate=_diagonal_matrix)
    names = ("tf.MatrixSetDiag", "tf.BatchMatrixSetDiag", "tf.MatrixSetDiagV2", "tf.MatrixSetDiagV3")
    register(names, shape=_set_diagonal_shape, evaluate=_set_diagonal)
    register(("tf.MatrixBandPart", "tf.BatchMatrixBandPart"), shape=_band_part_shape, evaluate=_band_part)
    register("tf.Diag", shape=_tensor_diagonal_shape, evaluate=_tensor_diagonal)
    register("tf.DiagPart", shape=_tensor_diagonal_part_shape, evaluate=_tensor_diagonal_part)


_register()
