"""Matrix products."""

from __future__ import annotations

from string import ascii_lowercase

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import transpose
from graphopt.backends.onnx.table import RULES
from graphopt.ir.value import Value


def _operand(op: Lowering, index: int, is_transposed: bool) -> Value:
    """An operand with its last two axes exchanged where the product says so; a constant is laid out anew."""
    value = op.input(index)
    if not is_transposed:
        return value
    array = op.known(index)
    if array is not None:
        return op.constant(np.swapaxes(array, -1, -2), name=value.node.name)
    rank = op.rank(value)
    return transpose(op, value, (*range(rank - 2), rank - 1, rank - 2), f"operand_{index}")


@RULES.legalize("tf.MatMul")
def matmul(op: Lowering) -> Value:
    """A product of matrices."""
    a, b = _operand(op, 0, bool(op.attr("transpose_a"))), _operand(op, 1, bool(op.attr("transpose_b")))
    return op.emit("MatMul", a, b)


@RULES.legalize("tf.BatchMatMul", "tf.BatchMatMulV2", "tf.BatchMatMulV3")
def batch_matmul(op: Lowering) -> Value:
    """Products of matrices, with broadcasting over the axes before them."""
    a, b = _operand(op, 0, bool(op.attr("adj_x"))), _operand(op, 1, bool(op.attr("adj_y")))
    return op.emit("MatMul", a, b)


@RULES.legalize("tf.Einsum")
def einsum(op: Lowering) -> Value:
    """A sum of products in Einstein's notation, which ONNX has with small letters only."""
    equation = op.text("equation").replace(" ", "")
    letters = dict(zip(dict.fromkeys(filter(str.isalpha, equation)), ascii_lowercase, strict=False))
    if any(letter.isalpha() and letter not in letters for letter in equation):
        op.refuse(f"its equation has more than {len(ascii_lowercase)} different letters")
    return op.emit("Einsum", *op.inputs, equation="".join(letters.get(c, c) for c in equation).encode())
