"""Operators of TensorFlow on matrices: products, solutions, inverses, determinants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim
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


def matrix_dims(shape: Shape, swap: bool) -> tuple[Sequence[Dim] | None, Dim, Dim]:
    """Batch dimensions, rows and columns; all unknown where the rank is. Raises below rank 2."""
    if shape.dims is None:
        return None, None, None
    if len(shape.dims) < 2:
        raise InferenceError(f"{shape} is not the shape of a matrix")
    rows, columns = shape.dims[-2:]
    return shape.dims[:-2], columns if swap else rows, rows if swap else columns


def check_equal(left: Dim, right: Dim, what: str) -> None:
    """Raise where two dimensions, called `what`, are known to differ."""
    if isinstance(left, int) and isinstance(right, int) and left != right:
        raise InferenceError(f"{what} differ: {left} and {right}")


@settled("transpose_a", "transpose_b")
def _matmul_shape(context: InferenceContext) -> Sequence[Shape]:
    for index in (0, 1):
        if context.shape(index).rank not in (None, 2):
            raise InferenceError(f"{context.shape(index)} is not the shape of a matrix")
    _, rows, inner_left = matrix_dims(context.shape(0), context.attrs["transpose_a"])
    _, inner_right, columns = matrix_dims(context.shape(1), context.attrs["transpose_b"])
    check_equal(inner_left, inner_right, "inner dimensions")
    return [Shape((rows, columns))]


def _batch_matmul_shape(broadcasts: bool) -> Callable[[InferenceContext], Sequence[Shape]]:
    @settled("adj_x", "adj_y")
    def infer(context: InferenceContext) -> Sequence[Shape]:
        left, rows, inner_left = matrix_dims(context.shape(0), context.attrs["adj_x"])
        right, inner_right, columns = matrix_dims(context.shape(1), context.attrs["adj_y"])
        check_equal(inner_left, inner_right, "inner dimensions")
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


def check_square(array: Array) -> None:
    """Raise where `array` holds no square matrices."""
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise ValueError(f"an array of shape {array.shape} is not a square matrix")


def in_double(array: Array) -> Array:
    """`array` in double precision, complex if it is."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _inverse(attrs: Any, array: Array) -> Array:
    check_square(array)
    with np.errstate(all="ignore"):
        source = transposed(array, conjugate=True) if attrs["adjoint"] else array
        return np.linalg.inv(in_double(source)).astype(array.dtype)


def _cholesky(attrs: Any, array: Array) -> Array:
    check_square(array)
    return np.linalg.cholesky(in_double(array)).astype(array.dtype)


def _determinant(attrs: Any, array: Array) -> Array:
    check_square(array)
    with np.errstate(all="ignore"):
        return np.asarray(np.linalg.det(in_double(array))).astype(array.dtype)


def _log_determinant(attrs: Any, array: Array) -> list[Array]:
    check_square(array)
    with np.errstate(all="ignore"):
        sign, logarithm = np.linalg.slogdet(in_double(array))
        return [np.asarray(sign).astype(array.dtype), np.asarray(logarithm).astype(array.dtype)]


def _solve(attrs: Any, matrix: Array, right: Array) -> Array:
    check_square(matrix)
    if matrix.shape[:-1] != right.shape[:-1] or right.ndim < 2:
        raise ValueError(f"arrays of shapes {matrix.shape} and {right.shape} make no system of equations")
    source = transposed(matrix, conjugate=True) if attrs["adjoint"] else matrix
    return np.linalg.solve(in_double(source), in_double(right)).astype(matrix.dtype)


def _triangular_solve(attrs: Any, matrix: Array, right: Array) -> Array:
    check_square(matrix)
    if right.ndim < 2 or right.shape[-2] != matrix.shape[-1]:
        raise ValueError(f"arrays of shapes {matrix.shape} and {right.shape} make no system of equations")
    lower = attrs["lower"] != attrs["adjoint"]
    source = in_double(transposed(matrix, conjugate=True) if attrs["adjoint"] else matrix)
    size, batch = matrix.shape[-1], np.broadcast_shapes(matrix.shape[:-2], right.shape[:-2])
    solution = np.array(np.broadcast_to(in_double(right), (*batch, *right.shape[-2:])))
    with np.errstate(all="ignore"):
        for step in range(size):
            row = step if lower else size - 1 - step
            solution[..., row, :] /= source[..., row, row, None]
            rest = slice(row + 1, None) if lower else slice(0, row)
            solution[..., rest, :] -= source[..., rest, row, None] * solution[..., row, None, :]
        return solution.astype(matrix.dtype)


def square_dims(shape: Shape) -> tuple[Sequence[Dim], Dim] | None:
    """Batch dimensions and size of a square matrix; None where the rank is unknown. Raises where it is not square."""
    batch, rows, columns = matrix_dims(shape, swap=False)
    check_equal(rows, columns, "the sides of a square matrix")
    return None if batch is None else (batch, rows if isinstance(rows, int) else columns or rows)


def square_shape(context: InferenceContext) -> Sequence[Shape]:
    """The shape of the first input, square matrices."""
    found = square_dims(context.shape(0))
    return [UNKNOWN_SHAPE if found is None else Shape((*found[0], found[1], found[1]))]


def _batch_shape(context: InferenceContext) -> Sequence[Shape]:
    found = square_dims(context.shape(0))
    return [UNKNOWN_SHAPE if found is None else Shape(found[0])] * context.output_count


def _solve_shape(broadcasts: bool) -> Callable[[InferenceContext], Sequence[Shape]]:
    def infer(context: InferenceContext) -> Sequence[Shape]:
        found = square_dims(context.shape(0))
        right, rows, columns = matrix_dims(context.shape(1), swap=False)
        if found is None or right is None:
            return [UNKNOWN_SHAPE]
        check_equal(found[1], rows, "numbers of equations")
        left = Shape(found[0])
        batch = broadcast_shapes([left, Shape(right)]) if broadcasts else left.merged(Shape(right))
        if batch is None or batch.dims is None:
            raise InferenceError(f"batches of shapes {left} and {Shape(right)} differ")
        return [Shape((*batch.dims, found[1] if isinstance(found[1], int) else rows or found[1], columns))]

    return infer


def _register() -> None:
    register("tf.MatMul", shape=_matmul_shape, evaluate=_matmul)
    register("tf.SparseMatMul", shape=_matmul_shape, evaluate=_sparse_matmul)
    register("tf.BatchMatMul", shape=_batch_matmul_shape(False), evaluate=_batch_matmul(False))
    register(("tf.BatchMatMulV2", "tf.BatchMatMulV3"), shape=_batch_matmul_shape(True), evaluate=_batch_matmul(True))
    register("tf.Cross", shape=_cross_shape, evaluate=evaluation(_cross))

    register(("tf.MatrixInverse", "tf.BatchMatrixInverse"), shape=square_shape, evaluate=_inverse)
    register(("tf.Cholesky", "tf.BatchCholesky"), shape=square_shape, evaluate=_cholesky)
    register(("tf.MatrixDeterminant", "tf.BatchMatrixDeterminant"), shape=_batch_shape, evaluate=_determinant)
    register("tf.LogMatrixDeterminant", shape=_batch_shape, evaluate=_log_determinant)
    register(("tf.MatrixSolve", "tf.BatchMatrixSolve"), shape=_solve_shape(False), evaluate=_solve)
    names = ("tf.MatrixTriangularSolve", "tf.BatchMatrixTriangularSolve")
    register(names, shape=_solve_shape(True), evaluate=_triangular_solve)

    register(("tf.CholeskyGrad", "tf.BatchCholeskyGrad"), traits=Trait.TRAINING, shape=same_as())


_register()
