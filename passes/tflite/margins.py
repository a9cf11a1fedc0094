"""Margins of an image, zeros around it or what is cut off, as far as they are known.

Where the size of an image is computed, so is how many zeros make it a whole number of blocks, and as many elements of
the result are cut off again. Both are sums of a known number and of the same computed one.
"""

from __future__ import annotations

from typing import NamedTuple

from graphopt.ir.known import known_array
from graphopt.ir.value import Node, Value
from graphopt.passes.tflite.layers import NO_ACTIVATION, activation

Pairs = list[list[int]]


class Term(NamedTuple):
    """A number: a known part, and the element of a computed vector (None: there is none) that is added."""

    known: int
    computed: Value | None = None
    element: int = 0

    @property
    def rest(self) -> tuple[Value | None, int]:
        """What is not known of it."""
        return self.computed, self.element


def around(paddings: Value, crops: Value) -> Pairs | None:
    """Zeros that remain around the image once what is cut off the result is not computed; None if that may be more."""
    return _difference(_terms(paddings), _terms(crops))


def _difference(paddings: list[list[Term]] | None, crops: list[list[Term]] | None) -> Pairs | None:
    if paddings is None or crops is None or len(paddings) != len(crops):
        return None
    left: Pairs = []
    for pair, crop in zip(paddings, crops, strict=True):
        if len(pair) != 2 or len(crop) != 2 or any(a.rest != b.rest for a, b in zip(pair, crop, strict=True)):
            return None
        before, after = (a.known - b.known for a, b in zip(pair, crop, strict=True))
        if before < 0 or after < 0:
            return None
        left.append([before, after])
    return left


def _terms(value: Value) -> list[list[Term]] | None:
    """The pairs that `value` holds, each number as a term."""
    held = known_array(value)
    if held is not None:
        return [[Term(int(item)) for item in row] for row in held] if held.ndim == 2 else None
    node = value.node
    if not _is_pack(node):
        return None
    rows = []
    for place in range(node.input_count):
        row = node.input(place)
        known, made = known_array(row), row.node
        if known is not None:
            rows.append([Term(int(item)) for item in known])
        elif _is_pack(made):
            rows.append([_term(made.input(item)) for item in range(made.input_count)])
        else:
            return None
    return rows


def _is_pack(node: Node) -> bool:
    return node.op == "tfl.PACK" and not node.attrs.get("axis", 0)


def _term(value: Value) -> Term:
    """A scalar as a term."""
    held = known_array(value)
    if held is not None:
        return Term(int(held.reshape(-1)[0]))
    node = value.node
    if node.op != "tfl.STRIDED_SLICE" or node.attrs.get("shrink_axis_mask") != 1 or node.input(0).shape.rank != 1:
        return _sum(value, 0)
    begin, stride = known_array(node.input(1)), known_array(node.input(3))
    if node.attrs.get("begin_mask"):
        return Term(0, value)
    if begin is None or stride is None or begin.size != 1 or stride.tolist() != [1] or begin[0] < 0:
        return Term(0, value)
    return _sum(node.input(0), int(begin[0]))


def _sum(value: Value, element: int) -> Term:
    """An element of a vector, or a scalar, that may be a sum with something known."""
    node = value.node
    for one, other in ((0, 1), (1, 0)) if node.op == "tfl.ADD" and activation(node) == NO_ACTIVATION else ():
        held = known_array(node.input(one))
        if held is not None and held.ndim <= 1:
            number = int(held.reshape(-1)[element if held.size > 1 else 0])
            return Term(number, node.input(other), element)
    return Term(0, value, element)
