"""Products of matrices, einsums, and their precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphopt.ir.tensors import tensor
from graphopt.testing.lowering import assert_lowers, text_model


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ("%y = tf.MatMul(%x, %z) {transpose_a = true}", "%x: float32[3, 2], %z: float32[3, 4]"),
        ("%y = tf.MatMul(%x, %z) {transpose_b = true}", "%x: float32[2, 3], %z: float32[4, 3]"),
        ("%y = tf.BatchMatMulV2(%x, %z) {adj_x = true}", "%x: float32[2, 3, 2], %z: float32[3, 4]"),
        ("%y = tf.BatchMatMulV2(%x, %z) {adj_y = true}", "%x: float32[2, 1, 2, 3], %z: float32[5, 4, 3]"),
        ('%y = tf.Einsum(%x, %z) {equation = "...ij,...kj->...ik"}', "%x: float32[2, 3, 4], %z: float32[5, 4]"),
        ('%y = tf.Einsum(%x, %z) {equation = "abc,cde->abde"}', "%x: float32[2, 3, 4], %z: float32[4, 2, 3]"),
        ('%y = tf.Einsum(%x, %z) {equation = "bij,bjk->kbi"}', "%x: float32[2, 3, 4], %z: float32[2, 4, 5]"),
    ],
)
def test_products(agrees: Callable[..., Any], body: str, inputs: str) -> None:
    agrees(body, inputs)


@pytest.mark.parametrize(("precision", "rtol"), [("bfloat16", 2**-7), ("float16", 2**-10)])
def test_products_in_another_precision(precision: str, rtol: float) -> None:
    """Operands of products are narrow and so are their weights; sums and softmax stay float32. Within two roundings."""
    rng = np.random.default_rng(0)
    model = text_model(
        "%k = tf.Const() {value = float32[3, 3, 8, 64] splat 0.1}\n"
        "%w = tf.Const() {value = float32[64, 9] splat 0.3}\n"
        "%s = tf.Const() {value = int32[2] [1, 64]}\n"
        '%c = tf.Conv2D(%x, %k) {strides = [1, 1, 1, 1], padding = "VALID"}\n'
        "%f = tf.Reshape(%c, %s)\n%m = tf.MatMul(%f, %w)\n%y = tf.Softmax(%m)",
        "%x: float32[1, 3, 3, 8]",
        "%c, %m, %y",
    )
    for name in ("k", "w"):
        node = model.graph.node(name)
        shape = node.attrs["value"].shape
        node.attrs["value"] = tensor(rng.normal(size=shape).astype(np.float32))
    lowered = assert_lowers(
        model, target="xla", reference="reference", random=1, rtol=rtol, fallback=False, precision=precision
    ).model
    stored = {node.attrs["value"].dtype.name for node in lowered.graph if node.op == "xla.WEIGHT"}
    assert stored == {precision}
    assert [value.dtype.name for value in lowered.graph.outputs] == ["float32"] * 3
