"""Decompositions, solutions, determinants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

MATRICES = np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32)


def test_elimination(agrees: Callable[..., Any]) -> None:
    """A pivot of zero needs rows to change places."""
    x = MATRICES.copy()
    x[0, 0, 0] = 0
    x[1] = np.eye(4)[[1, 0, 3, 2]]
    body = (
        "%i = tf.MatrixInverse(%x)\n%a = tf.MatrixInverse(%x) {adjoint = true}\n%s = tf.MatrixSolve(%x, %r)\n"
        "%d = tf.MatrixDeterminant(%x)\n%l = tf.LogMatrixDeterminant(%x)"
    )
    data = {"x": x, "r": MATRICES[..., :2]}
    agrees(body, "%x: float32[2, 4, 4], %r: float32[2, 4, 2]", "%i, %a, %s, %d, %l, %l:1", data, rtol=1e-4)


def test_triangles(agrees: Callable[..., Any]) -> None:
    positive = MATRICES @ MATRICES.transpose(0, 2, 1) + np.eye(4, dtype=np.float32)
    body = (
        "%c = tf.Cholesky(%x)\n%s = tf.MatrixTriangularSolve(%c, %r)\n"
        "%a = tf.MatrixTriangularSolve(%c, %r) {adjoint = true}\n%u = tf.MatrixTriangularSolve(%x, %r) {lower = false}"
    )
    data = {"x": positive, "r": MATRICES[..., :3]}
    agrees(body, "%x: float32[2, 4, 4], %r: float32[2, 4, 3]", "%c, %s, %a, %u", data, rtol=1e-4)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
@pytest.mark.parametrize("is_full", ["true", "false"])
def test_orthogonal_and_triangular(shape: tuple[int, int], is_full: str) -> None:
    """The product is the matrix, one factor orthogonal, the other a triangle."""
    from graphopt.backends.xla.backend import XlaBackend
    from graphopt.runtimes.xla import XlaRuntime
    from graphopt.testing import text_model

    rows, columns = shape
    model = text_model(
        f"%y = tf.Qr(%x) {{full_matrices = {is_full}}}", f"%x: float32[2, {rows}, {columns}]", "%y, %y:1"
    )
    x = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    left, right = XlaRuntime().run(XlaBackend().lower(model, fallback=False).model, {"x": x}).values()
    np.testing.assert_allclose(left @ right, x, atol=1e-5)
    unit = np.broadcast_to(np.eye(left.shape[-1]), (2, left.shape[-1], left.shape[-1]))
    np.testing.assert_allclose(left.transpose(0, 2, 1) @ left, unit, atol=1e-5)
    np.testing.assert_array_equal(np.tril(right, -1), 0)


def test_products(agrees: Callable[..., Any]) -> None:
    agrees("%y = tf.Cross(%x, %z)", "%x: float32[4, 3], %z: float32[4, 3]")
    agrees("%y = tf.SparseMatMul(%x, %z) {transpose_a = true}", "%x: float32[4, 3], %z: float32[4, 2]")


def test_other_decompositions_are_refused(refusal: Callable[..., Any]) -> None:
    finding = refusal("%y = tf.Svd(%x)", "%x: float32[3, 3]", "%y, %y:1, %y:2")
    assert "decomposition" in finding.reason
    assert finding.remedy
