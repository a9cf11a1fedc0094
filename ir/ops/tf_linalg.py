"""Operators of TensorFlow on matrices: products, solutions, inverses, determinants, decompositions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim, add, minimum
from graphopt.ir.ops.inference import InferenceContext, InferenceError, broadcast_shapes, same_as
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_elementwise import Array, evaluation, is_narrow, merged_shapes
from graphopt.ir.ops.tf_windows import settled
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

# Products -----------------------------------------------------------------------------------------------------


def transposed(array: Array, conjugate: bool = False) -> Array:
    """`array` with its last two axes swapped, and conjugated if it is complex and `conjugate`."""
    swapped = np.swapaxes(array, -1, -2)
    return np.conj(swapped) if conjugate and array.dtype.kind == "c" else swapped


def product(x: Array, y: Array, target: np.dtype[Any]) -> Array:
    """Matrix product in `target`; narrow floats add up in single precision."""
    accumulator = np.dtype(np.float32) if is_narrow(np.empty(0, target)) else target
    with np.errstate(all="ignore"):
        total = np.matmul(x.astype(accumulator, copy=False), y.astype(accumulator, copy=False))
        return np.asarray(total).astype(target, copy=False)


def _matmul(attrs: Any, x: Array, y: Array) -> Array:
    if x.ndim != 2 or y.ndim != 2:
        raise ValueError(f"arrays of shapes {x.shape} and {y.shape} are not both matrices")
    x = transposed(x) if attrs["transpose_a"] else x
    y = transposed(y) if attrs["transpose_b"] else y
    return product(x, y, x.dtype)


def _sparse_matmul(attrs: Any, x: Array, y: Array) -> Array:
    return _matmul(attrs, x.astype(np.float32), y.astype(np.float32))


def _batch_matmul(broadcasts: bool) -> Callable[..., Array]:
    def evaluate(attrs: Any, x: Array, y: Array) -> Array:
        if x.ndim < 2 or y.ndim < 2:
            raise ValueError(f"arrays of shapes {x.shape} and {y.shape} are not both matrices")
        if not broadcasts and x.shape[:-2] != y.shape[:-2]:
            raise ValueError(f"batches of shapes {x.shape[:-2]} and {y.shape[:-2]} differ")
        x = transposed(x, conjugate=True) if attrs["adj_x"] else x
        y = transposed(y, conjugate=True) if attrs["adj_y"] else y
        return product(x, y, attrs["Tout"].numpy if "Tout" in attrs else x.dtype)

    return evaluate


def _matrix_dims(shape: Shape, swap: bool) -> tuple[Sequence[Dim] | None, Dim, Dim]:
    """Batch dimensions, rows and columns; all unknown where the rank is. Raises below rank 2."""
    if shape.dims is None:
        return None, None, None
    if len(shape.dims) < 2:
        raise InferenceError(f"{shape} is not the shape of a matrix")
    rows, columns = shape.dims[-2:]
    return shape.dims[:-2], columns if swap else rows, rows if swap else columns


def _check_equal(left: Dim, right: Dim, what: str) -> None:
    if isinstance(left, int) and isinstance(right, int) and left != right:
        raise InferenceError(f"{what} differ: {left} and {right}")


@settled("transpose_a", "transpose_b")
def _matmul_shape(context: InferenceContext) -> Sequence[Shape]:
    for index in (0, 1):
        if context.shape(index).rank not in (None, 2):
            raise InferenceError(f"{context.shape(index)} is not the shape of a matrix")
    _, rows, inner_left = _matrix_dims(context.shape(0), context.attrs["transpose_a"])
    _, inner_right, columns = _matrix_dims(context.shape(1), context.attrs["transpose_b"])
    _check_equal(inner_left, inner_right, "inner dimensions")
    return [Shape((rows, columns))]


def _batch_matmul_shape(broadcasts: bool) -> Callable[[InferenceContext], Sequence[Shape]]:
    @settled("adj_x", "adj_y")
    def infer(context: InferenceContext) -> Sequence[Shape]:
        left, rows, inner_left = _matrix_dims(context.shape(0), context.attrs["adj_x"])
        right, inner_right, columns = _matrix_dims(context.shape(1), context.attrs["adj_y"])
        _check_equal(inner_left, inner_right, "inner dimensions")
        if broadcasts:
            if left is None or right is None:
                return [UNKNOWN_SHAPE]
            batch: Shape | None = broadcast_shapes([Shape(left), Shape(right)])
        else:
            batch = Shape(left).merged(Shape(right))
        if batch is None:
            raise InferenceError(f"batches of shapes {Shape(left)} and {Shape(right)} differ")
        return [UNKNOWN_SHAPE if batch.dims is None else Shape((*batch.dims, rows, columns))]

    return infer


# Cross products -----------------------------------------------------------------------------------------------


def _cross(x: Array, y: Array) -> Any:
    if x.shape != y.shape or not x.ndim or x.shape[-1] != 3:
        raise ValueError(f"no cross product of arrays of shapes {x.shape} and {y.shape}")
    a, b, c = x[..., 0], x[..., 1], x[..., 2]
    p, q, r = y[..., 0], y[..., 1], y[..., 2]
    return np.stack([b * r - c * q, c * p - a * r, a * q - b * p], axis=-1)


def _cross_shape(context: InferenceContext) -> Sequence[Shape]:
    (merged,) = merged_shapes(context)
    if merged.dims is not None and Shape(merged.dims[-1:]).merged(Shape([3])) is None:
        raise InferenceError(f"cross products need vectors of 3 elements, not {merged}")
    return [merged]


# Square matrices ----------------------------------------------------------------------------------------------


def _check_square(array: Array) -> None:
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise ValueError(f"an array of shape {array.shape} is not a square matrix")


def _in_double(array: Array) -> Array:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _inverse(attrs: Any, array: Array) -> Array:
    _check_square(array)
    with np.errstate(all="ignore"):
        source = transposed(array, conjugate=True) if attrs["adjoint"] else array
        return np.linalg.inv(_in_double(source)).astype(array.dtype)


def _cholesky(attrs: Any, array: Array) -> Array:
    _check_square(array)
    return np.linalg.cholesky(_in_double(array)).astype(array.dtype)


def _determinant(attrs: Any, array: Array) -> Array:
    _check_square(array)
    with np.errstate(all="ignore"):
        return np.asarray(np.linalg.det(_in_double(array))).astype(array.dtype)


def _log_determinant(attrs: Any, array: Array) -> list[Array]:
    _check_square(array)
    with np.errstate(all="ignore"):
        sign, logarithm = np.linalg.slogdet(_in_double(array))
        return [np.asarray(sign).astype(array.dtype), np.asarray(logarithm).astype(array.dtype)]


def _solve(attrs: Any, matrix: Array, right: Array) -> Array:
    _check_square(matrix)
    if matrix.shape[:-1] != right.shape[:-1] or right.ndim < 2:
        raise ValueError(f"arrays of shapes {matrix.shape} and {right.shape} make no system of equations")
    source = transposed(matrix, conjugate=True) if attrs["adjoint"] else matrix
    return np.linalg.solve(_in_double(source), _in_double(right)).astype(matrix.dtype)


def _triangular_solve(attrs: Any, matrix: Array, right: Array) -> Array:
    _check_square(matrix)
    if right.ndim < 2 or right.shape[-2] != matrix.shape[-1]:
        raise ValueError(f"arrays of shapes {matrix.shape} and {right.shape} make no system of equations")
    lower = attrs["lower"] != attrs["adjoint"]
    source = _in_double(transposed(matrix, conjugate=True) if attrs["adjoint"] else matrix)
    size, batch = matrix.shape[-1], np.broadcast_shapes(matrix.shape[:-2], right.shape[:-2])
    solution = np.array(np.broadcast_to(_in_double(right), (*batch, *right.shape[-2:])))
    with np.errstate(all="ignore"):
        for step in range(size):
            row = step if lower else size - 1 - step
            solution[..., row, :] /= source[..., row, row, None]
            rest = slice(row + 1, None) if lower else slice(0, row)
            solution[..., rest, :] -= source[..., rest, row, None] * solution[..., row, None, :]
        return solution.astype(matrix.dtype)


def square_dims(shape: Shape) -> tuple[Sequence[Dim], Dim] | None:
    """Batch dimensions and size of a square matrix; None where the rank is unknown. Raises where it is not square."""
    batch, rows, columns = _matrix_dims(shape, swap=False)
    _check_equal(rows, columns, "the sides of a square matrix")
    return None if batch is None else (batch, rows if isinstance(rows, int) else columns or rows)


def _square_shape(context: InferenceContext) -> Sequence[Shape]:
    found = square_dims(context.shape(0))
    return [UNKNOWN_SHAPE if found is None else Shape((*found[0], found[1], found[1]))]


def _batch_shape(context: InferenceContext) -> Sequence[Shape]:
    found = square_dims(context.shape(0))
    return [UNKNOWN_SHAPE if found is None else Shape(found[0])] * context.output_count


def _solve_shape(broadcasts: bool) -> Callable[[InferenceContext], Sequence[Shape]]:
    def infer(context: InferenceContext) -> Sequence[Shape]:
        found = square_dims(context.shape(0))
        right, rows, columns = _matrix_dims(context.shape(1), swap=False)
        if found is None or right is None:
            return [UNKNOWN_SHAPE]
        _check_equal(found[1], rows, "numbers of equations")
        left = Shape(found[0])
        batch = broadcast_shapes([left, Shape(right)]) if broadcasts else left.merged(Shape(right))
        if batch is None or batch.dims is None:
            raise InferenceError(f"batches of shapes {left} and {Shape(right)} differ")
        return [Shape((*batch.dims, found[1] if isinstance(found[1], int) else rows or found[1], columns))]

    return infer


# Decompositions: no evaluation, for the signs and the order of their results are anyone's choice ---------------


@settled("compute_uv", "full_matrices")
def _singular_values_shape(context: InferenceContext) -> Sequence[Shape]:
    batch, rows, columns = _matrix_dims(context.shape(0), swap=False)
    if batch is None:
        return [UNKNOWN_SHAPE] * 3
    small = minimum(rows, columns)
    values = Shape((*batch, small))
    if not context.attrs["compute_uv"]:
        return [values, UNKNOWN_SHAPE, UNKNOWN_SHAPE]
    if context.attrs["full_matrices"]:
        return [values, Shape((*batch, rows, rows)), Shape((*batch, columns, columns))]
    return [values, Shape((*batch, rows, small)), Shape((*batch, columns, small))]


@settled("compute_v")
def _eigen_shape(context: InferenceContext) -> Sequence[Shape]:
    found = square_dims(context.shape(0))
    if found is None:
        return [UNKNOWN_SHAPE] * 2
    batch, size = found
    return [Shape((*batch, size)), Shape((*batch, size, size)) if context.attrs["compute_v"] else UNKNOWN_SHAPE]


def _eigen_of_old_shape(context: InferenceContext) -> Sequence[Shape]:
    found = square_dims(context.shape(0))
    return [UNKNOWN_SHAPE if found is None else Shape((*found[0], add(found[1], 1), found[1]))]


@settled("full_matrices")
def _qr_shape(context: InferenceContext) -> Sequence[Shape]:
    batch, rows, columns = _matrix_dims(context.shape(0), swap=False)
    if batch is None:
        return [UNKNOWN_SHAPE] * 2
    inner = rows if context.attrs["full_matrices"] else minimum(rows, columns)
    return [Shape((*batch, rows, inner)), Shape((*batch, inner, columns))]


def _lu_shape(context: InferenceContext) -> Sequence[Shape]:
    found = square_dims(context.shape(0))
    if found is None:
        return [UNKNOWN_SHAPE] * 2
    return [Shape((*found[0], found[1], found[1])), Shape((*found[0], found[1]))]


def _least_squares_shape(context: InferenceContext) -> Sequence[Shape]:
    batch, rows, columns = _matrix_dims(context.shape(0), swap=False)
    right, equations, results = _matrix_dims(context.shape(1), swap=False)
    _check_equal(rows, equations, "numbers of equations")
    if batch is None or right is None:
        return [UNKNOWN_SHAPE]
    both = Shape(batch).merged(Shape(right))
    if both is None or both.dims is None:
        raise InferenceError(f"batches of shapes {Shape(batch)} and {Shape(right)} differ")
    return [Shape((*both.dims, columns, results))]


def _register() -> None:
    register("tf.MatMul", shape=_matmul_shape, evaluate=_matmul)
    register("tf.SparseMatMul", shape=_matmul_shape, evaluate=_sparse_matmul)
    register("tf.BatchMatMul", shape=_batch_matmul_shape(False), evaluate=_batch_matmul(False))
    register(("tf.BatchMatMulV2", "tf.BatchMatMulV3"), shape=_batch_matmul_shape(True), evaluate=_batch_matmul(True))
    register("tf.Cross", shape=_cross_shape, evaluate=evaluation(_cross))

    register(("tf.MatrixInverse", "tf.BatchMatrixInverse"), shape=_square_shape, evaluate=_inverse)
    register(("tf.Cholesky", "tf.BatchCholesky"), shape=_square_shape, evaluate=_cholesky)
    register(("tf.MatrixDeterminant", "tf.BatchMatrixDeterminant"), shape=_batch_shape, evaluate=_determinant)
    register("tf.LogMatrixDeterminant", shape=_batch_shape, evaluate=_log_determinant)
    register(("tf.MatrixSolve", "tf.BatchMatrixSolve"), shape=_solve_shape(False), evaluate=_solve)
    names = ("tf.MatrixTriangularSolve", "tf.BatchMatrixTriangularSolve")
    register(names, shape=_solve_shape(True), evaluate=_triangular_solve)

    register(("tf.MatrixExponential", "tf.MatrixLogarithm", "tf.MatrixSquareRoot"), shape=_square_shape)
    register(("tf.MatrixSolveLs", "tf.BatchMatrixSolveLs"), shape=_least_squares_shape)
    register(("tf.Svd", "tf.BatchSvd"), shape=_singular_values_shape)
    register(("tf.SelfAdjointEigV2", "tf.BatchSelfAdjointEigV2", "tf.Eig"), shape=_eigen_shape)
    register(("tf.SelfAdjointEig", "tf.BatchSelfAdjointEig"), shape=_eigen_of_old_shape)
    register("tf.Qr", shape=_qr_shape)
    register("tf.Lu", shape=_lu_shape)
    register(("tf.CholeskyGrad", "tf.BatchCholeskyGrad"), traits=Trait.TRAINING, shape=same_as())


_register()
