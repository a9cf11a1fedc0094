"""What the rules of simplify rest on: traits of operators, what types hold, predicates on tensors."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from graphopt.ir.ops import Trait, declared_with, find
from graphopt.ir.tensors import ArrayTensor, RepeatedTensor, tensor
from graphopt.ir.types import DTYPES, DType
from graphopt.passes.rules.arithmetic import is_every
from graphopt.passes.rules.reshaping import holds_every

SPECIAL = np.array([0.0, -0.0, 1.5, -2.5, np.nan, np.inf, -np.inf, 1e-40, 3e38, -7.0, 0.5, 6.5], np.float32)


@pytest.mark.parametrize("trait", [Trait.INVOLUTION, Trait.IDEMPOTENT])
def test_traits_hold_on_special_values(trait: Trait) -> None:
    checked = 0
    for name in declared_with(trait):
        operator = find(name)
        if (
            operator is None
            or operator.evaluate is None
            or operator.interface is None
            or len(operator.interface.inputs) != 1
        ):
            continue
        for array in (SPECIAL, np.array([0, 1, -1, 2**31 - 1, -(2**31)], np.int32), np.array([True, False])):
            once = _applied(operator.evaluate, operator.interface.defaults, array)
            if once is None or once.dtype != array.dtype or once.shape != array.shape:
                continue
            twice = _applied(operator.evaluate, operator.interface.defaults, once)
            assert twice is not None
            np.testing.assert_array_equal(twice, array if trait == Trait.INVOLUTION else once, err_msg=name)
            checked += 1
    assert checked > 3


def _applied(evaluate: Callable[..., Any], defaults: Any, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    try:
        with np.errstate(all="ignore"):
            return np.asarray(evaluate(defaults, array))
    except (TypeError, ValueError, KeyError, AttributeError):  # not defined on this element type
        return None


NUMERIC = [
    dtype
    for dtype in DTYPES.values()
    if dtype.code < 100 and dtype.numpy is not None and (dtype.is_numeric or dtype.kind == "bool")
]


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_types_hold_what_they_are_said_to_hold() -> None:
    """Exhaustive for 16 bits and less, at the edges beyond."""
    for narrow, wide in product(NUMERIC, NUMERIC):
        if not holds_every(narrow, wide):
            continue
        values = _values_of(narrow)
        with np.errstate(all="ignore"):
            back = _cast(_cast(values, wide), narrow)
            same = (back == values) | ((back != back) & (values != values))
        assert bool(np.all(same)), (narrow, wide)


def _cast(values: np.ndarray[Any, Any], dtype: DType) -> np.ndarray[Any, Any]:
    packed = values.dtype.itemsize == 1 and values.dtype.kind not in "biu"  # ml_dtypes casts some of them only by way
    return (values.astype(np.float32) if packed else values).astype(dtype.numpy)


def _values_of(dtype: DType) -> np.ndarray[Any, Any]:
    if dtype.kind in ("int", "uint"):
        low, high = int(ml_dtypes.iinfo(dtype.numpy).min), int(ml_dtypes.iinfo(dtype.numpy).max)
        edges = [low, low + 1, -1, 0, 1, high - 1, high, high // 2 + 1, (1 << 24) + 1, (1 << 53) + 1]
        return np.array([v for v in edges if low <= v <= high], object).astype(dtype.numpy)
    if dtype.kind == "float" and dtype.bits <= 16:
        codes = np.arange(1 << dtype.bits, dtype=np.uint16 if dtype.bits == 16 else np.uint8)
        return codes.view(dtype.numpy)
    if dtype.kind == "bool":
        return np.array([False, True])
    return np.array([0, 1 / 3, -1e30, np.inf, 16777217, 1e-40]).astype(dtype.numpy)


def test_no_complex_type_holds_every_integer() -> None:
    assert not holds_every(DTYPES["int32"], DTYPES["complex64"])
    assert not holds_every(DTYPES["float64"], DTYPES["complex64"])
    assert holds_every(DTYPES["complex64"], DTYPES["complex128"])


def test_predicates_on_whole_tensors() -> None:
    assert is_every(1)(tensor(np.ones((2, 2), np.float16)))
    assert is_every(1)(RepeatedTensor(np.ones(1, np.float32), DTYPES["float32"], (1 << 40,)))
    assert not is_every(1)(ArrayTensor(np.array([1.0, 1.5], np.float32)))
    assert not is_every(1)(tensor(np.ones((0,), np.float32)))
    assert not is_every(1)(tensor([True]))
    assert not is_every(0.0, signed=True)(tensor(np.float32(-0.0)))
    assert not is_every(0)(tensor(np.float32(np.nan)))
