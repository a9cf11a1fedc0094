"""Operators of TensorFlow that take matrices apart, and functions of matrices.

Signs and order of vectors are those of Eigen's algorithms, which TensorFlow runs: reflections that give the first
element of a vector the other sign, and Jacobi's rotations for small singular value decompositions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import add, minimum
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_elementwise import Array
from graphopt.ir.ops.tf_linalg import (
    check_equal,
    check_square,
    in_double,
    matrix_dims,
    square_dims,
    square_shape,
    transposed,
)
from graphopt.ir.ops.tf_windows import settled
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

ROTATED = 16  # columns from which Eigen divides and conquers, whose signs are others
MOST_SWEEPS = 100


def _each(function: Callable[[Array], Sequence[Array]], array: Array) -> list[Array]:
    """What `function` makes of every matrix, as many arrays as it returns, in double precision."""
    matrices = in_double(array).reshape(-1, *array.shape[-2:])
    results = zip(*map(function, matrices), strict=True)
    return [np.stack(parts).reshape(*array.shape[:-2], *parts[0].shape) for parts in results]


def _check_matrices(array: Array) -> None:
    if array.ndim < 2 or not array.size:
        raise ValueError(f"an array of shape {array.shape} holds no matrices")
    if array.dtype.kind == "c":
        raise ValueError("complex matrices are not taken apart")


# Singular values ----------------------------------------------------------------------------------------------


def _singular_values(attrs: Any, array: Array) -> list[Array]:
    _check_matrices(array)
    nothing = np.zeros((), array.dtype)
    if not attrs["compute_uv"]:
        values = np.linalg.svd(in_double(array), compute_uv=False)
        return [values.astype(array.dtype), nothing, nothing]
    if array.shape[-1] >= ROTATED:
        raise ValueError(f"the signs of vectors of matrices with {array.shape[-1]} columns are not known")
    full = attrs["full_matrices"]
    return [part.astype(array.dtype) for part in _each(lambda matrix: _jacobi(matrix, full), array)]


def _orthogonal(matrix: Array, full: bool) -> tuple[Array, Array]:
    """Orthogonal columns and a triangle; `full` asks for as many columns as there are rows."""
    made = np.linalg.qr(matrix, mode="complete") if full else np.linalg.qr(matrix)
    return made[0], made[1]


def _jacobi(matrix: Array, full: bool) -> tuple[Array, Array, Array]:
    """Singular values, left and right vectors: rotations from both sides until nothing is left off the diagonal."""
    scale = np.abs(matrix).max() or 1.0
    core, left, right = _square_core(matrix / scale, full)
    for _ in range(MOST_SWEEPS):
        if not _sweep(core, left, right):
            break
    values = np.diagonal(core).copy()
    count = len(values)
    left[:, :count] = np.where(values < 0, -left[:, :count], left[:, :count])
    values = np.abs(values)
    for place in range(count):  # a selection, for the order of those that are not sorted yet
        best = place + int(np.argmax(values[place:]))
        for vectors in (left, right):
            vectors[:, [place, best]] = vectors[:, [best, place]]
        values[[place, best]] = values[[best, place]]
    return values * scale, left, right


def _square_core(matrix: Array, full: bool) -> tuple[Array, Array, Array]:
    """A square matrix, and what it is multiplied with from the left and the right to give `matrix`."""
    rows, columns = matrix.shape
    if rows == columns:
        return matrix.copy(), np.eye(rows), np.eye(columns)
    if rows < columns:
        core, left, right = _square_core(matrix.T, full)
        return core.T.copy(), right, left
    order = _pivots(matrix)
    left, triangle = _orthogonal(matrix[:, order], full)
    return triangle[:columns].copy(), left.copy(), np.eye(columns)[:, order]


def _pivots(matrix: Array) -> list[int]:
    """The order in which columns are taken: always the one of which most is left."""
    rest = matrix.copy()
    order: list[int] = []
    for _ in range(matrix.shape[1]):
        sizes = np.square(rest).sum(axis=0)
        sizes[order] = -1
        chosen = int(np.argmax(sizes))
        order.append(chosen)
        direction = rest[:, chosen] / (math.sqrt(max(sizes[chosen], 0)) or 1.0)
        rest = rest - np.outer(direction, direction @ rest)
    return order


def _sweep(core: Array, left: Array, right: Array) -> bool:
    """Rotate every pair of rows and columns that needs it; whether one did."""
    rotated = False
    for p in range(1, len(core)):
        for q in range(p):
            threshold = 4 * np.finfo(np.float64).eps * np.abs(np.diagonal(core)).max()
            if max(abs(core[p, q]), abs(core[q, p])) <= threshold:
                continue
            rotated = True
            (c, s), (d, t) = _rotations(core[p, p], core[p, q], core[q, p], core[q, q])
            rows, columns = np.array([[c, s], [-s, c]]), np.array([[d, t], [-t, d]])
            core[[p, q]] = rows @ core[[p, q]]
            core[:, [p, q]] = core[:, [p, q]] @ columns
            left[:, [p, q]] = left[:, [p, q]] @ rows.T
            right[:, [p, q]] = right[:, [p, q]] @ columns
    return rotated


def _rotations(a: float, b: float, c: float, d: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Cosine and sine of the rotations from the left and from the right that make a matrix of two rows diagonal."""
    length = math.hypot(a + d, c - b)
    cosine, sine = ((a + d) / length, (c - b) / length) if c != b else (1.0, 0.0)
    if sine < 0:
        cosine, sine = -cosine, -sine
    a, b, d = cosine * a + sine * c, cosine * b + sine * d, -sine * b + cosine * d  # symmetric now
    if b == 0:
        return (cosine, sine), (1.0, 0.0)
    slope = (a - d) / (2 * abs(b))
    tangent = 1 / (slope + math.copysign(math.hypot(slope, 1), slope if slope else -1.0))
    near = 1 / math.hypot(tangent, 1)
    far = -math.copysign(1, tangent) * math.copysign(1, b) * abs(tangent) * near
    return (cosine * near + sine * far, sine * near - cosine * far), (near, far)


@settled("compute_uv", "full_matrices")
def _singular_values_shape(context: InferenceContext) -> Sequence[Shape]:
    batch, rows, columns = matrix_dims(context.shape(0), swap=False)
    if batch is None:
        return [UNKNOWN_SHAPE] * 3
    small = minimum(rows, columns)
    values = Shape((*batch, small))
    if not context.attrs["compute_uv"]:
        return [values, UNKNOWN_SHAPE, UNKNOWN_SHAPE]
    if context.attrs["full_matrices"]:
        return [values, Shape((*batch, rows, rows)), Shape((*batch, columns, columns))]
    return [values, Shape((*batch, rows, small)), Shape((*batch, columns, small))]


# Eigenvalues --------------------------------------------------------------------------------------------------


def _eigenvalues(attrs: Any, array: Array) -> list[Array]:
    check_square(array)
    if attrs["compute_v"]:
        raise ValueError("the signs of eigenvectors are not known")
    return [np.linalg.eigvalsh(in_double(array)).astype(array.dtype), np.zeros((), array.dtype)]


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


# Factors ------------------------------------------------------------------------------------------------------


def _qr(attrs: Any, array: Array) -> list[Array]:
    _check_matrices(array)
    full = attrs["full_matrices"]
    return [part.astype(array.dtype) for part in _each(lambda matrix: _orthogonal(matrix, full), array)]


@settled("full_matrices")
def _qr_shape(context: InferenceContext) -> Sequence[Shape]:
    batch, rows, columns = matrix_dims(context.shape(0), swap=False)
    if batch is None:
        return [UNKNOWN_SHAPE] * 2
    inner = rows if context.attrs["full_matrices"] else minimum(rows, columns)
    return [Shape((*batch, rows, inner)), Shape((*batch, inner, columns))]


def _lu(attrs: Any, array: Array) -> list[Array]:
    check_square(array)
    if not array.size:
        raise ValueError(f"an array of shape {array.shape} holds no matrices")
    factors, order = _each(_triangles, array)
    return [factors.astype(array.dtype), order.astype(attrs["output_idx_type"].numpy)]


def _triangles(matrix: Array) -> tuple[Array, Array]:
    """Both triangles in one matrix, and the order of rows: the largest element left in a column comes first."""
    work, order = matrix.copy(), np.arange(len(matrix))
    for step in range(len(work)):
        best = step + int(np.argmax(np.abs(work[step:, step])))
        for rows in (work, order):
            rows[[step, best]] = rows[[best, step]]
        if work[step, step] == 0:
            raise ValueError("the matrix is singular")
        work[step + 1 :, step] /= work[step, step]
        work[step + 1 :, step + 1 :] -= np.outer(work[step + 1 :, step], work[step, step + 1 :])
    return work, order


def _lu_shape(context: InferenceContext) -> Sequence[Shape]:
    found = square_dims(context.shape(0))
    if found is None:
        return [UNKNOWN_SHAPE] * 2
    return [Shape((*found[0], found[1], found[1])), Shape((*found[0], found[1]))]


# Systems of equations -----------------------------------------------------------------------------------------


def _least_squares(attrs: Any, matrix: Array, right: Array, regularizer: Array) -> Array:
    if matrix.ndim < 2 or matrix.shape[:-1] != right.shape[:-1] or right.ndim < 2:
        raise ValueError(f"arrays of shapes {matrix.shape} and {right.shape} make no system of equations")
    a, b = in_double(matrix), in_double(right)
    if not attrs["fast"]:
        return np.asarray(np.linalg.pinv(a) @ b, matrix.dtype)
    adjoint, damping = transposed(a, conjugate=True), float(regularizer) * np.eye(min(a.shape[-2:]))
    if a.shape[-2] >= a.shape[-1]:
        return np.asarray(np.linalg.solve(adjoint @ a + damping, adjoint @ b), matrix.dtype)
    return np.asarray(adjoint @ np.linalg.solve(a @ adjoint + damping, b), matrix.dtype)


def _least_squares_shape(context: InferenceContext) -> Sequence[Shape]:
    batch, rows, columns = matrix_dims(context.shape(0), swap=False)
    right, equations, results = matrix_dims(context.shape(1), swap=False)
    check_equal(rows, equations, "numbers of equations")
    if batch is None or right is None:
        return [UNKNOWN_SHAPE]
    both = Shape(batch).merged(Shape(right))
    if both is None or both.dims is None:
        raise InferenceError(f"batches of shapes {Shape(batch)} and {Shape(right)} differ")
    return [Shape((*both.dims, columns, results))]


# Functions of matrices ----------------------------------------------------------------------------------------


def _square_root(matrix: Array) -> tuple[Array]:
    """The principal root, by the iteration of Denman and Beavers."""
    root, inverse = matrix, np.eye(len(matrix), dtype=matrix.dtype)
    for _ in range(MOST_SWEEPS):
        following = (root + np.linalg.inv(inverse)) / 2, (inverse + np.linalg.inv(root)) / 2
        change, (root, inverse) = np.abs(following[0] - root).max(), following
        if change <= 1e-14 * np.abs(root).max():
            return (root,)
    raise ValueError("the square root of the matrix is not found")


def _square_roots(attrs: Any, array: Array) -> Array:
    check_square(array)
    return _each(_square_root, array)[0].astype(array.dtype) if array.size else array


def _register() -> None:
    register("tf.MatrixSquareRoot", shape=square_shape, evaluate=_square_roots)
    register(("tf.MatrixExponential", "tf.MatrixLogarithm"), shape=square_shape)
    register(("tf.MatrixSolveLs", "tf.BatchMatrixSolveLs"), shape=_least_squares_shape, evaluate=_least_squares)
    register(("tf.Svd", "tf.BatchSvd"), shape=_singular_values_shape, evaluate=_singular_values)
    register(("tf.SelfAdjointEigV2", "tf.BatchSelfAdjointEigV2"), shape=_eigen_shape, evaluate=_eigenvalues)
    register("tf.Eig", shape=_eigen_shape)
    register(("tf.SelfAdjointEig", "tf.BatchSelfAdjointEig"), shape=_eigen_of_old_shape)
    register("tf.Qr", shape=_qr_shape, evaluate=_qr)
    register("tf.Lu", shape=_lu_shape, evaluate=_lu)


_register()
