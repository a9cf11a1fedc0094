"""Symbolic dimensions compute as integers do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.dimensions import (
    Dim,
    SymbolicDim,
    add,
    ceil_divide,
    divide,
    floordiv,
    maximum,
    minimum,
    multiply,
    product,
    subtract,
    symbol,
)

n, m = symbol("n"), symbol("m")


def test_equal_sums_are_equal() -> None:
    assert (n + 1) - 1 == n
    assert n + m == m + n
    assert n * (m + 2) == 2 * n + m * n
    assert hash(n * m) == hash(m * n)
    assert n - n == 0
    assert type(n - n) is int
    assert 3 - (3 - n) == n
    assert n != m
    assert n != "n"
    negative = -n
    assert -negative == n


def test_exact_divisions_are_carried_out() -> None:
    assert (4 * n) // 2 == 2 * n
    assert (4 * n + 3) // 2 == 2 * n + 1
    assert (n * m) // n == m
    assert (6 * n * m + 2 * n) // (2 * n) == 3 * m + 1
    assert n // 1 == n
    assert n // n == 1
    assert (4 * n) % 2 == 0
    assert 7 // (n - n + 2) == 3


def test_text() -> None:
    assert str(2 * n * m - 3 * n + 1) == "2*m*n-3*n+1"
    assert str(-n) == "-n"
    assert str(n // 2) == "floordiv(n, 2)"
    assert str(maximum(n, m)) == "max(m, n)"
    assert repr(n + 1) == "SymbolicDim(n+1)"


def test_names() -> None:
    assert (n * (m // 2) + maximum(symbol("k"), 3)).names == {"n", "m", "k"}


def test_the_unknown_stays_unknown() -> None:
    for operation in (add, subtract, divide, maximum, minimum, multiply):
        assert operation(n, None) is None
        assert operation(None, 3) is None
    assert multiply(None, 0) == 0
    assert multiply(0, None) == 0
    assert divide(n, 0) is None
    assert ceil_divide(None, 2) is None
    assert product([2, None, 0]) == 0
    assert product([]) == 1
    assert product([2, n, 3]) == 6 * n


def test_extremes_that_can_be_told() -> None:
    assert maximum(n + 2, n) == n + 2
    assert minimum(n + 2, n) == n
    assert maximum(3, 5) == 5
    assert maximum(n, m) == maximum(m, n)


def test_expressions_that_grow_too_far_become_unknown() -> None:
    dim: Dim = n
    for count in range(20):
        dim = maximum(dim, symbol(f"s{count}"))
        if dim is None:
            break
    assert dim is None
    total: Dim = 0
    for count in range(20):
        total = add(total, symbol(f"s{count}"))
    assert total is None


def test_partial_substitution() -> None:
    dim = n * m + n // 2
    partial = dim.substitute({"n": 6})
    assert partial == 6 * m + 3
    assert isinstance(partial, SymbolicDim)
    assert partial.substitute({"m": 2}) == 15
    assert dim.substitute({}) == dim


def test_a_division_by_zero_is_kept_because_no_number_is_right() -> None:
    kept = (n // m).substitute({"n": 4, "m": 0})
    assert isinstance(kept, SymbolicDim)


OPERATIONS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[int, int], int]]] = {
    "add": (add, lambda a, b: a + b),
    "subtract": (subtract, lambda a, b: a - b),
    "multiply": (multiply, lambda a, b: a * b),
    "divide": (divide, lambda a, b: a // b),
    "ceil_divide": (ceil_divide, lambda a, b: -(-a // b)),
    "maximum": (maximum, max),
    "minimum": (minimum, min),
    "raw add": (lambda a, b: a + b, lambda a, b: a + b),
    "raw subtract": (lambda a, b: a - b, lambda a, b: a - b),
    "raw multiply": (lambda a, b: a * b, lambda a, b: a * b),
    "raw modulo": (lambda a, b: a - floordiv(a, b) * b if b != 0 else a, lambda a, b: a % b if b else a),
}
leaves = st.integers(-4, 9) | st.sampled_from(["n", "m", "k"])
trees = st.recursive(leaves, lambda inner: st.tuples(st.sampled_from(sorted(OPERATIONS)), inner, inner), max_leaves=8)


def symbolic(tree: Any) -> Any:
    if isinstance(tree, tuple):
        left, right = symbolic(tree[1]), symbolic(tree[2])
        if tree[0].startswith("raw") and (left is None or right is None):
            return None
        return OPERATIONS[tree[0]][0](left, right)
    return symbol(tree) if isinstance(tree, str) else tree


def concrete(tree: Any, values: dict[str, int]) -> int:
    if isinstance(tree, tuple):
        return OPERATIONS[tree[0]][1](concrete(tree[1], values), concrete(tree[2], values))
    return values[tree] if isinstance(tree, str) else tree


@given(trees, st.fixed_dictionaries({name: st.integers(1, 7) for name in "nmk"}))
def test_arithmetic_agrees_with_integers(tree: Any, values: dict[str, int]) -> None:
    dim = symbolic(tree)
    if dim is None:
        return
    try:
        expected = concrete(tree, values)
    except ZeroDivisionError:
        return
    found = dim.substitute(values) if isinstance(dim, SymbolicDim) else dim
    assert found == expected


@given(trees, trees)
def test_equal_text_means_equal(left: Any, right: Any) -> None:
    one, other = symbolic(left), symbolic(right)
    if isinstance(one, SymbolicDim) and isinstance(other, SymbolicDim):
        assert (one == other) == (str(one) == str(other))
        assert one != other or hash(one) == hash(other)


@pytest.mark.parametrize("operation", [lambda: n // 0, lambda: 5 // (n - n)])
def test_division_by_zero_is_pythons(operation: Callable[[], Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        operation()
