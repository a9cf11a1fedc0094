"""Functions that JAX writes out as polynomials when it exports, found again: by their location, then by trying them.

All operations that one function was written out as have its location, such as `jit(f)/erfc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.backends.legalization import CannotLowerError
from graphopt.importers.stablehlo.attributes import dims_of, dtype_of, location_name
from graphopt.importers.stablehlo.bodies import evaluated, scratch
from graphopt.importers.stablehlo.rules.elementwise import CHLO_UNARY
from graphopt.importers.stablehlo.scope import Scope
from graphopt.ir.errors import UnsupportedError
from graphopt.ir.ops import find
from graphopt.ir.types import FLOAT32, FLOAT64

FEWEST, MOST = 8, 400  # operations that a function is written out as
SAMPLES = np.concatenate([np.linspace(-6, 6, 61), [0.0, 30.0, -30.0]])
TOLERANCE = 1e-4


class Expansion(NamedTuple):
    """`operations` compute `chlo.` `name` of `input`, which is `output`."""

    name: str
    operations: list[Any]
    input: Any
    output: Any


def find_expansion(operations: Sequence[Any], start: int, scope: Scope, translator: Any) -> Expansion | None:
    """The function written out from the operation at `start` on, or None."""
    first = operations[start]
    name = location_name(first.location).rpartition("/")[2]
    if name not in CHLO_UNARY or first.name == "stablehlo.constant" or first.name == f"chlo.{name}":
        return None
    end = start
    while end < len(operations) and end - start < MOST and operations[end].location == first.location:
        end += 1
    group = list(operations[start:end])
    if len(group) < FEWEST:
        return None
    ends = _ends(group, scope)
    if ends is None or ends[0].type != ends[1].type or dtype_of(ends[0].type) not in (FLOAT32, FLOAT64):
        return None
    found = Expansion(name, group, *ends)
    return found if _is_right(found, scope, translator) else None


def _ends(group: Sequence[Any], scope: Scope) -> tuple[Any, Any] | None:
    """The one value that operations take from outside, constants aside, and the one of theirs that is read outside."""
    inside = dict.fromkeys(result for operation in group for result in operation.results)
    taken: dict[Any, None] = {}
    for operation in group:
        if list(operation.regions):
            return None
        for value in operation.operands:
            if value not in inside and scope.find(value).number is None:
                taken[value] = None
    last = [
        result for operation in group for result in operation.results
        if any(use.owner.operation not in group for use in result.uses)
    ]  # fmt: skip
    return (next(iter(taken)), last[0]) if len(taken) == 1 and len(last) == 1 else None


def _is_right(expansion: Expansion, scope: Scope, translator: Any) -> bool:
    """The operations yield what the function does, for samples."""
    operator = find(f"tf.{CHLO_UNARY[expansion.name]}")
    if operator is None or operator.evaluate is None:
        return False
    dtype = dtype_of(expansion.input.type)
    inner, known = scratch(scope, [expansion.input], [SAMPLES.astype(dtype.numpy)], dims_of(expansion.input.type))
    try:
        for operation in expansion.operations:
            translator.translate(operation, inner)
        (found,) = evaluated(inner, [inner.find(expansion.output)], known)
    except (CannotLowerError, UnsupportedError):
        return False
    with np.errstate(all="ignore"):
        wanted = operator.evaluate({"T": dtype}, SAMPLES.astype(dtype.numpy))
    return bool(np.allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE / 10, equal_nan=True))
