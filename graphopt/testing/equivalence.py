"""The oracle: whether two models compute the same, within what is stated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.model import Model, Signature
from graphopt.ir.types import DType, dtype_of
from graphopt.ir.value import Value
from graphopt.runtimes.base import Runtime, get_runtime
from graphopt.testing.random_models import random_feeds

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Any]

# Largest error allowed, as a part of the output's scale: its largest finite magnitude before the change.
REASSOCIATING: Mapping[str, float] = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
APPROXIMATE: Mapping[str, float] = {"float64": 1e-6, "float32": 1e-3, "float16": 1e-2, "bfloat16": 6e-2}
TOLERANCES: Mapping[str, Mapping[str, float]] = {
    "exact": {},
    "reassociating": {**REASSOCIATING, "complex64": 1e-5, "complex128": 1e-12},
    "approximate": {**APPROXIMATE, "complex64": 1e-3, "complex128": 1e-6},
}
FLAT = 1e-4  # part of an output's scale by which it must vary for the comparison to mean something


def assert_equivalent(
    before: Model,
    after: Model,
    feeds: Feeds | Sequence[Feeds] | None = None,
    *,
    runtime: str | Runtime = "tensorflow",
    exactness: Any = "exact",
    rtol: float | None = None,
    atol: float | None = None,
    signature: str | None = None,
    seed: int = 0,
    allow_flat: bool = False,
) -> None:
    """Raise `AssertionError` unless `after` keeps the contract of `before` and computes the same outputs.

    `feeds` are inputs by name, or several of them; without, three random ones are made from `seed`, the last with
    another size for the dimensions that are not known. `exactness` is a class of rewrites, by name or as
    `passes.base.Exactness`: *exact* asks for the same bits (NaN for NaN), *reassociating* and *approximate* allow
    floats an error of `TOLERANCES` times the output's scale; `rtol` (of the scale) and `atol` replace that. Integers,
    strings and booleans, dtypes, shapes, and the places of NaN and Inf are always compared exactly.

    Where every output stays the same over the feeds, the comparison would prove nothing: that is an error too, unless
    `allow_flat` or the model has no inputs.
    """
    assert_contract_kept(before, after)
    runner = get_runtime(runtime) if isinstance(runtime, str) else runtime
    samples = _samples(before, feeds, signature, seed)
    results = [(runner.run(before, f, None, signature), runner.run(after, f, None, signature)) for f in samples]
    for number, (expected, actual) in enumerate(results):
        found = difference(expected, actual, exactness, rtol=rtol, atol=atol)
        if found is not None:
            raise AssertionError(f"{found} (feed {number + 1} of {len(samples)})")
    if not allow_flat and any(samples) and _is_flat([expected for expected, _ in results]):
        names = ", ".join(f"'{printable(name)}'" for name in results[0][0])
        raise AssertionError(f"the comparison proves nothing: no output ({names}) varies over the feeds")


def _samples(model: Model, feeds: Feeds | Sequence[Feeds] | None, signature: str | None, seed: int) -> list[Feeds]:
    if feeds is None:
        sizes = ((seed, 2), (seed + 1, 2), (seed + 2, 3))
        return [random_feeds(model, each, signature=signature, unknown=unknown) for each, unknown in sizes]
    samples = [feeds] if isinstance(feeds, Mapping) else list(feeds)
    if not samples:
        raise ValueError("feeds are given, and there are none of them")
    return samples


# The contract -------------------------------------------------------------------------------------------------


def assert_contract_kept(before: Model, after: Model) -> None:
    """Raise `AssertionError` unless signatures, names, order and dtypes of inputs and outputs are what they were.

    Shapes may become better known and must not contradict; a model without signatures is judged by its graph.
    """
    if list(before.signatures) != list(after.signatures):
        raise AssertionError(f"signatures {list(before.signatures)} became {list(after.signatures)}")
    for name, signature in before.signatures.items():
        other = after.signatures[name]
        where = f"of signature '{printable(name)}'"
        _compare_interface(f"inputs {where}", signature.input_values(), other.input_values())
        _compare_interface(f"outputs {where}", signature.output_values(), other.output_values())
        _compare_places(where, signature, other)
    for what in ("inputs", "outputs"):
        values = [{value.name: value for value in getattr(model.graph, what)} for model in (before, after)]
        _compare_interface(f"{what} of the graph", *values)
    targets = [[node.name for node in model.graph.targets] for model in (before, after)]
    if targets[0] != targets[1]:
        raise AssertionError(f"targets of the graph {targets[0]} became {targets[1]}")


def _compare_interface(what: str, before: Mapping[str, Value], after: Mapping[str, Value]) -> None:
    if list(before) != list(after):
        raise AssertionError(f"{what}: {list(before)} became {list(after)}")
    for name, value in before.items():
        old, new = value.type, after[name].type
        if old.dtype is not new.dtype and old.dtype.code:
            raise AssertionError(f"{what}: '{printable(name)}' was {old} and became {new}")
        if old.shape.merged(new.shape) is None:
            raise AssertionError(f"{what}: the shape of '{printable(name)}' was {old} and became {new}")


def _compare_places(where: str, before: Signature, after: Signature) -> None:
    for what in ("input_values", "output_values"):
        tensors = [[value.name for value in getattr(signature, what)().values()] for signature in (before, after)]
        if tensors[0] != tensors[1]:
            raise AssertionError(f"tensors {where}: {tensors[0]} became {tensors[1]}")


# Values -------------------------------------------------------------------------------------------------------


def difference(
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    exactness: Any = "exact",
    *,
    rtol: float | None = None,
    atol: float | None = None,
) -> str | None:
    """What differs first and worst between two runs' outputs, or None. Arguments as for `assert_equivalent`."""
    if list(expected) != list(actual):
        return f"outputs {list(expected)} became {list(actual)}"
    for name, one in expected.items():
        found = _array_difference(np.asarray(one), np.asarray(actual[name]), exactness, rtol, atol)
        if found is not None:
            return f"output '{printable(name)}' {found}"
    return None


def tolerance(dtype: DType, exactness: Any, scale: float, rtol: float | None, atol: float | None) -> float:
    """The largest error allowed of an output of this type and scale."""
    if rtol is None and atol is None:
        return _class_tolerance(dtype, exactness) * scale
    return (rtol or 0.0) * scale + (atol or 0.0)


def _class_tolerance(dtype: DType, exactness: Any) -> float:
    name = str(getattr(exactness, "name", exactness)).lower()
    if name not in TOLERANCES:
        raise ValueError(f"exactness is one of {', '.join(TOLERANCES)}, not '{name}'")
    if name == "exact":
        return 0.0
    return TOLERANCES[name].get(dtype.name, 0.125 if name == "reassociating" else 0.25)  # 8-bit floats have 2 or 3 bits


def _array_difference(
    expected: Array, actual: Array, exactness: Any, rtol: float | None, atol: float | None
) -> str | None:
    if expected.dtype != actual.dtype:
        return f"was {expected.dtype} and became {actual.dtype}"
    if expected.shape != actual.shape:
        return f"had shape {list(expected.shape)} and has {list(actual.shape)}"
    dtype = dtype_of(expected)
    if not (dtype.is_float or dtype.kind == "complex"):
        return _exact_difference(expected, actual, expected != actual)
    wide = np.complex128 if dtype.kind == "complex" else np.float64
    one, other = expected.astype(wide), actual.astype(wide)
    finite = np.isfinite(one) & np.isfinite(other)
    odd = ~finite & ~((one == other) | (np.isnan(one) & np.isnan(other)))
    if odd.any():
        return _exact_difference(expected, actual, odd)
    scale = float(np.abs(one[finite]).max(initial=0.0))
    allowed = tolerance(dtype, exactness, scale, rtol, atol)
    error = np.zeros(one.shape)
    error[finite] = np.abs(one[finite] - other[finite])
    if dtype.is_float and rtol is None and atol is None and not _class_tolerance(dtype, exactness):
        return _exact_difference(
            expected, actual, (one != other) & finite | (np.signbit(one) != np.signbit(other)) & finite
        )
    wrong = error > allowed
    if not wrong.any():
        return None
    worst = np.unravel_index(int(np.argmax(error)), error.shape)
    return (
        f"differs at {_place(worst)}: {expected[worst]} before, {actual[worst]} after, an error of {error[worst]:.3g} "
        f"where {allowed:.3g} is allowed; {_count(wrong)}"
    )


def _exact_difference(expected: Array, actual: Array, wrong: Any) -> str | None:
    wrong = np.asarray(wrong, dtype=np.bool_)
    if not wrong.any():
        return None
    first = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return f"differs at {_place(first)}: {expected[first]!r} before, {actual[first]!r} after; {_count(wrong)}"


def _place(index: Iterable[Any]) -> list[int]:
    return [int(place) for place in index]


def _count(wrong: Array) -> str:
    return f"{int(wrong.sum())} of {wrong.size} elements differ"


def _is_flat(runs: Sequence[Mapping[str, Array]]) -> bool:
    """No output varies: over the runs, or, where there is but one, over its elements."""
    for name, first in runs[0].items():
        others = [np.asarray(run[name]) for run in runs[1:]]
        if not others and _varies(np.asarray(first).reshape(-1)):
            return False
        for other in others:
            if other.shape != np.shape(first) or _varies(np.stack([np.asarray(first), other])):
                return False
    return True


def _varies(rows: Array) -> bool:
    """The rows along the first axis differ by a noticeable part of their scale."""
    if rows.dtype.kind not in "fc" and rows.dtype.name not in ("bfloat16",):
        return bool((rows != rows[:1]).any())
    wide = rows.astype(np.complex128 if rows.dtype.kind == "c" else np.float64)
    finite = np.abs(wide[np.isfinite(wide)])
    spread = np.abs(wide - wide[:1])
    return bool((spread[np.isfinite(spread)] > FLAT * finite.max(initial=0.0)).any())
