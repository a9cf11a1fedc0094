"""Dimensions of a shape: a number, a symbolic expression, or unknown.

A symbolic dimension is a sum of products over *atoms*; an atom is a name (`batch`) or an opaque operation
on dimensions (`floordiv`, `max`). Two expressions that simplify to the same sum are equal, so `batch` stays
recognisable through a network: `(n + 1) - 1 == n`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Union

Atom = tuple[Any, ...]  # ("name", str) or (operation, operand, operand), operands int or SymbolicDim
Monomial = tuple[Atom, ...]  # of atoms, sorted by `_order`; () is the constant term


class SymbolicDim:
    """An integer expression over named sizes, at least one of them unknown.

    Build with `symbol` and arithmetic; results that are plain numbers come back as `int`.
    """

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]):
        self.terms = terms
        self._hash = hash(terms)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SymbolicDim) and self._hash == other._hash and self.terms == other.terms

    def __add__(self, other: KnownDim) -> KnownDim:
        return _collect([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> KnownDim:
        return self * -1

    def __sub__(self, other: KnownDim) -> KnownDim:
        return self + (other * -1)

    def __rsub__(self, other: int) -> KnownDim:
        return (self * -1) + other

    def __mul__(self, other: KnownDim) -> KnownDim:
        return _collect(
            (tuple(sorted(left + right, key=_order)), a * b) for left, a in self.terms for right, b in _terms(other)
        )

    __rmul__ = __mul__

    def __floordiv__(self, other: KnownDim) -> KnownDim:
        return floordiv(self, other)

    def __rfloordiv__(self, other: int) -> KnownDim:
        return floordiv(other, self)

    def __mod__(self, other: KnownDim) -> KnownDim:
        return self - floordiv(self, other) * other

    def __str__(self) -> str:
        return "".join(_term_text(term, place) for place, term in enumerate(self.terms))

    def __repr__(self) -> str:
        return f"SymbolicDim({self})"

    @property
    def names(self) -> frozenset[str]:
        """Names the expression depends on."""
        found: set[str] = set()
        pending: list[SymbolicDim] = [self]
        while pending:
            for monomial, _ in pending.pop().terms:
                for atom in monomial:
                    if atom[0] == "name":
                        found.add(atom[1])
                    else:
                        pending += [operand for operand in atom[1:] if isinstance(operand, SymbolicDim)]
        return frozenset(found)

    def substitute(self, values: Mapping[str, int]) -> KnownDim:
        """The expression with named sizes replaced by numbers."""
        total: KnownDim = 0
        for monomial, factor in self.terms:
            product: KnownDim = factor
            for atom in monomial:
                product = product * _substitute_atom(atom, values)
            total = total + product
        return total


KnownDim = Union[int, SymbolicDim]  # noqa: UP007 (evaluated at run time on Python 3.10 as well)
Dim = Union[int, SymbolicDim, None]  # None: nothing is known  # noqa: UP007

_DEPTH_LIMIT = 64  # terms or nesting beyond which an expression gives up and becomes a name of its own


def symbol(name: str) -> SymbolicDim:
    """The size called `name`."""
    return SymbolicDim((((("name", name),), 1),))


def add(left: Dim, right: Dim) -> Dim:
    """`left + right`, unknown if either is."""
    return None if left is None or right is None else _bounded(left + right)


def subtract(left: Dim, right: Dim) -> Dim:
    """`left - right`, unknown if either is."""
    return None if left is None or right is None else _bounded(left - right)


def multiply(left: Dim, right: Dim) -> Dim:
    """`left * right`; zero wins over the unknown."""
    if left == 0 or right == 0:
        return 0
    return None if left is None or right is None else _bounded(left * right)


def divide(left: Dim, right: Dim) -> Dim:
    """`left // right` rounded down, unknown if either is or the divisor is zero."""
    if left is None or right is None or right == 0:
        return None
    return _bounded(floordiv(left, right))


def ceil_divide(left: Dim, right: Dim) -> Dim:
    """`left / right` rounded up."""
    negated = multiply(left, -1)
    quotient = divide(negated, right)
    return multiply(quotient, -1)


def product(dims: Iterable[Dim]) -> Dim:
    """Product of all `dims`; 1 for none."""
    total: Dim = 1
    for dim in dims:
        total = multiply(total, dim)
    return total


def maximum(left: Dim, right: Dim) -> Dim:
    """The larger of two, kept symbolic where it cannot be told."""
    return _extreme("max", left, right, max)


def minimum(left: Dim, right: Dim) -> Dim:
    """The smaller of two, kept symbolic where it cannot be told."""
    return _extreme("min", left, right, min)


def floordiv(left: KnownDim, right: KnownDim) -> KnownDim:
    """`left // right` with exact division of every term where possible."""
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    if right == 1:
        return left
    if left == right:
        return 1
    if isinstance(left, SymbolicDim) and isinstance(right, int):
        whole = [(m, c) for m, c in left.terms if c % right == 0]
        rest = _collect((m, c) for m, c in left.terms if c % right)
        if whole:
            outside = _collect((m, c // right) for m, c in whole)
            return outside + floordiv(rest, right)
    if isinstance(left, SymbolicDim) and isinstance(right, SymbolicDim):
        exact = _divide_monomials(left, right)
        if exact is not None:
            return exact
    return SymbolicDim((((("floordiv", left, right),), 1),))


def _divide_monomials(left: SymbolicDim, right: SymbolicDim) -> KnownDim | None:
    """`left / right` where `right` is one product that divides every term of `left`."""
    if len(right.terms) != 1:
        return None
    divisor, factor = right.terms[0]
    quotient = []
    for monomial, count in left.terms:
        remaining = list(monomial)
        for atom in divisor:
            if atom not in remaining:
                return None
            remaining.remove(atom)
        if count % factor:
            return None
        quotient.append((tuple(remaining), count // factor))
    return _collect(quotient)


def _extreme(name: str, left: Dim, right: Dim, choose: Callable[[int, int], int]) -> Dim:
    if left is None or right is None:
        return None
    difference = left - right
    if isinstance(difference, int):
        return left if (difference >= 0) == (choose is max) else right
    operands = sorted((left, right), key=str)
    return _bounded(SymbolicDim(((((name, *operands),), 1),)))


def _bounded(dim: KnownDim) -> Dim:
    """`dim`, or unknown when the expression has grown past what is worth keeping."""
    if isinstance(dim, SymbolicDim) and (len(dim.terms) > 16 or _nesting(dim) > 8):
        return None
    return dim


def _nesting(dim: SymbolicDim) -> int:
    """Depth of operations within operations, counted up to 9."""
    level: list[SymbolicDim] = [dim]
    for depth in range(9):
        level = [
            operand
            for item in level
            for monomial, _ in item.terms
            for atom in monomial
            for operand in atom[1:]
            if isinstance(operand, SymbolicDim)
        ]
        if not level:
            return depth
        if len(level) > _DEPTH_LIMIT:
            return 9
    return 9


def _terms(dim: KnownDim) -> Iterable[tuple[Monomial, int]]:
    return dim.terms if isinstance(dim, SymbolicDim) else ((((), dim),) if dim else ())


def _collect(terms: Iterable[tuple[Monomial, int]]) -> KnownDim:
    sums: dict[Monomial, int] = {}
    for monomial, factor in terms:
        sums[monomial] = sums.get(monomial, 0) + factor
    kept = sorted(((m, c) for m, c in sums.items() if c), key=lambda term: (-len(term[0]), _monomial_order(term[0])))
    if not kept:
        return 0
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    return SymbolicDim(tuple(kept))


def _order(atom: Atom) -> str:
    return _atom_text(atom)


def _monomial_order(monomial: Monomial) -> tuple[str, ...]:
    return tuple(_order(atom) for atom in monomial)


def _atom_text(atom: Atom) -> str:
    if atom[0] == "name":
        return str(atom[1])
    return f"{atom[0]}({atom[1]}, {atom[2]})"


def _term_text(term: tuple[Monomial, int], place: int) -> str:
    monomial, factor = term
    sign = "-" if factor < 0 else ("" if place == 0 else "+")
    parts = [_atom_text(atom) for atom in monomial]
    if abs(factor) != 1 or not parts:
        parts.insert(0, str(abs(factor)))
    return sign + "*".join(parts)


def _substitute_atom(atom: Atom, values: Mapping[str, int]) -> KnownDim:
    if atom[0] == "name":
        return values[atom[1]] if atom[1] in values else SymbolicDim((((atom,), 1),))
    left, right = (o.substitute(values) if isinstance(o, SymbolicDim) else o for o in atom[1:])
    if atom[0] == "floordiv":
        return floordiv(left, right) if right != 0 else SymbolicDim((((atom,), 1),))
    result = _extreme(atom[0], left, right, max if atom[0] == "max" else min)
    return result if result is not None else SymbolicDim((((atom,), 1),))
