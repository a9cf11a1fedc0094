"""Einsum: a product that sums over what the result does not name."""

from __future__ import annotations

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand, joined
from graphopt.backends.xla.rules.products import product
from graphopt.backends.xla.table import RULES

ELLIPSIS = "..."
SPARE = "0123456789"  # names for the dimensions that an ellipsis stands for


@RULES.lower("tf.Einsum")
def einsum(op: Emission) -> Operand:
    """One or two operands; an ellipsis stands for the dimensions that are left."""
    terms, result = _labels(op)
    if any(len(set(labels)) != len(labels) for labels in terms):
        op.refuse("it takes a diagonal", "take it with tf.linalg.diag_part before")
    if len(terms) == 1:
        labels = terms[0]
        summed = [axis for axis, label in enumerate(labels) if label not in result]
        made = op.build.reduce("add", op.input(0), summed)
        kept = [label for label in labels if label in result]
        return op.build.transpose(made, [kept.index(label) for label in result])
    if len(terms) != 2:
        op.refuse(f"it has {len(terms)} operands", "write it as products of two")
    free = [label for label in terms[1] if label in result and label not in terms[0]]
    axis = result.index(free[-1]) if free else 0
    return product(op, op.input(0), lambda x, y: _product(op, x, y, terms, result), axis)


def _labels(op: Emission) -> tuple[list[str], str]:
    equation = op.text("equation").replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    ranks = [value.shape.rank for value in op.node.inputs if value is not None]
    if not arrow or len(terms) != len(ranks) or None in ranks:
        op.refuse(f"its equation '{equation}' does not fit its operands")
    widths = [(rank or 0) - len(term.replace(ELLIPSIS, "")) for term, rank in zip(terms, ranks, strict=True)]
    wide = max([width for term, width in zip(terms, widths, strict=True) if ELLIPSIS in term], default=0)
    if wide > len(SPARE):
        op.refuse("its ellipsis stands for too many dimensions")
    named = [
        term.replace(ELLIPSIS, SPARE[wide - width : wide] if ELLIPSIS in term else "")
        for term, width in zip(terms, widths, strict=True)
    ]
    return named, result.replace(ELLIPSIS, SPARE[:wide])


def _product(op: Emission, x: Operand, y: Operand, terms: list[str], result: str) -> Operand:
    b = op.build
    left, right = terms
    only = [label for label in left if label not in right and label not in result]
    x, left = b.reduce("add", x, [left.index(label) for label in only]), _without(left, only)
    only = [label for label in right if label not in left and label not in result]
    y, right = b.reduce("add", y, [right.index(label) for label in only]), _without(right, only)
    shared = [label for label in left if label in right]
    for label in shared:
        dim = joined(x.dims[left.index(label)], y.dims[right.index(label)])
        x = b.broadcast(
            x, [dim if name == label else old for name, old in zip(left, x.dims, strict=True)], range(x.rank)
        )
        y = b.broadcast(
            y, [dim if name == label else old for name, old in zip(right, y.dims, strict=True)], range(y.rank)
        )
    batch = [label for label in shared if label in result]
    summed = [label for label in shared if label not in result]
    made = b.dot_general(
        x, y,
        ([left.index(label) for label in batch], [right.index(label) for label in batch]),
        ([left.index(label) for label in summed], [right.index(label) for label in summed]),
    )  # fmt: skip
    order = [*batch, *(label for label in left if label not in shared), *(n for n in right if n not in shared)]
    return b.transpose(made, [order.index(label) for label in result])


def _without(labels: str, dropped: list[str]) -> str:
    return "".join(label for label in labels if label not in dropped)
