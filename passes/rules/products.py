"""Powers and matrix products that a plainer operator computes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from graphopt.ir.known import PASS_THROUGH, known_scalar
from graphopt.ir.value import Value
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Either, Pattern, Wildcard, known
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.rules.arithmetic import broadcasts_into, is_every

DEPTH = 6  # operators looked back through for the sign of a value
_POSITIVE = frozenset({"tf.Abs", "tf.Exp", "tf.Sigmoid", "tf.Softmax", "tf.Softplus", "tf.Square"})  # or 0.0 or NaN
_KEEPING_SIGN = PASS_THROUGH | {"tf.ExpandDims", "tf.Mean", "tf.Reshape", "tf.Squeeze", "tf.Sum", "tf.Transpose"}


class SquareByPower(Rule):
    """`x ** 2` is the square of `x`."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tf: Dialect, x: Wildcard, exponent: Wildcard) -> Pattern:
        """A known exponent, everywhere two."""
        return tf.Pow(x, known(exponent, is_every(2)))

    def check(self, match: Match) -> str | None:
        """The exponent does not widen the shape."""
        if match.x.dtype.kind == "complex":
            return "it is a power of complex numbers"
        if not broadcasts_into(match.exponent, match.x):
            return f"'{match.exponent.name}' may widen the shape {match.x.shape}"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A square."""
        return edit.value("tf.Square", match.x)


class RootByPower(Rule):
    """`x ** 0.5` is the square root of `x`, `x ** -0.5` its inverse, where `x` is never negative."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tf: Dialect, x: Wildcard, exponent: Wildcard) -> Pattern:
        """A known exponent, everywhere one half or minus one half."""
        return Either((tf.Pow(x, known(exponent, is_every(0.5))), tf.Pow(x, known(exponent, is_every(-0.5)))))

    def check(self, match: Match) -> str | None:
        """The power of -Inf is Inf, its root NaN; and the inverse roots of both zeros differ."""
        if not match.x.dtype.is_float:
            return f"it is a power of {match.x.dtype.name}"
        if not broadcasts_into(match.exponent, match.x):
            return f"'{match.exponent.name}' may widen the shape {match.x.shape}"
        return None if is_positive(match.x) else f"'{match.x.name}' may be negative"

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One operator."""
        return edit.value("tf.Sqrt" if match.array("exponent").flat[0] > 0 else "tf.Rsqrt", match.x)


def is_positive(value: Value) -> bool:
    """No element of `value` is negative, -0.0 included; by the operators that compute it."""
    pending = [value]
    for _ in range(DEPTH):
        if not pending:
            break
        item = pending.pop()
        node = item.node
        if item.is_input or not node.outputs:
            return False
        number = known_scalar(item)
        if node.op in _POSITIVE or (isinstance(number, float) and not np.signbit(number)):
            continue
        if node.op in _KEEPING_SIGN:
            operands = [node.inputs[0]]
        elif node.op in ("tf.Add", "tf.AddV2"):
            operands = list(node.inputs)
        else:
            return False
        pending.extend(operand for operand in operands if operand is not None)
    return not pending


class TransposeIntoProduct(Rule):
    """A matrix product of a transposed matrix transposes it itself."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tf: Dialect, a: Wildcard, b: Wildcard, perm: Wildcard) -> Pattern:
        """Either operand is transposed."""
        product = tf.any_of("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
        return Either(
            (
                product(a, tf.Transpose(b, known(perm), attributes=ANY), attributes=ANY),
                product(tf.Transpose(a, known(perm), attributes=ANY), b, attributes=ANY),
            )
        )

    def check(self, match: Match) -> str | None:
        """Only the last two axes change places, and no number is complex."""
        perm = match.array("perm").tolist()
        rank = len(perm)
        if rank < 2 or [*range(rank - 2), rank - 1, rank - 2] != perm:
            return f"it permutes by {perm}"
        if match.a.dtype.kind == "complex" or match.b.dtype.kind == "complex":
            return "the product would take the complex conjugate too"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The product of what was transposed."""
        root = match.root
        names = ("transpose_a", "transpose_b") if root.op == "tf.MatMul" else ("adj_x", "adj_y")
        name = names[0] if match.b is root.input(1) else names[1]
        return edit.node(root.op, (match.a, match.b), {name: not root.attr(name, False)}, like=root).output


PRODUCT_RULES: tuple[type[Rule], ...] = (SquareByPower, RootByPower, TransposeIntoProduct)
