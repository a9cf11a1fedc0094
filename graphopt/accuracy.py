"""How far arrays are from what they should be, and how far they may be."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.types import dtype_of
from graphopt.passes.base import Exactness

# Largest error relative to the scale of the reference, by element type. Rounding of a deep network stays far below.
RTOL: Mapping[str, float] = {
    "float64": 1e-8, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2, "complex128": 1e-8, "complex64": 1e-4,
}  # fmt: skip
RTOL_OTHERWISE = 0.2  # float8 and below
# What a pass may add, as a multiple of RTOL. Even an exact rewrite may let a runtime pick another kernel.
ALLOWANCE: Mapping[Exactness, float] = {
    Exactness.EXACT: 0.05,
    Exactness.REASSOCIATING: 1.0,
    Exactness.APPROXIMATE: 100.0,
}


class Tolerance(NamedTuple):
    """`atol + rtol * scale`; `rtol` follows from the element type where None, `atol` is zero where None."""

    rtol: float | None = None
    atol: float | None = None
    allowance: float = 1.0

    @classmethod
    def of(cls, exactness: Exactness) -> Tolerance:
        """What a rewrite of this class may add."""
        return cls(allowance=ALLOWANCE[exactness])

    def relative(self, dtype: str) -> float:
        """The relative tolerance for an element type."""
        return RTOL.get(dtype, RTOL_OTHERWISE) * self.allowance if self.rtol is None else self.rtol


@dataclass
class OutputError:
    """One output, or one tensor within, over all samples.

    `max_error` is the largest absolute error, `scale` the largest finite magnitude of the reference, `relative_error`
    their quotient and `snr_db` the ratio of signal to noise (None where there is no noise or no signal). `mismatches`
    counts elements of types that must be equal, and non-finite ones in the wrong places. `problem` says what is wrong
    beyond numbers.
    """

    name: str
    dtype: str
    shape: list[int]
    max_error: float = 0.0
    scale: float = 0.0
    relative_error: float = 0.0
    snr_db: float | None = None
    mismatches: int = 0
    bound: float = 0.0
    holds: bool = True
    is_flat: bool = False
    problem: str = ""

    @property
    def sentence(self) -> str:
        """What is wrong, or how right it is."""
        name = f"'{printable(self.name)}'"
        if self.problem:
            return f"output {name} {self.problem}"
        if self.mismatches:
            return f"output {name} differs in {self.mismatches} of its elements"
        return f"output {name} is off by {self.max_error:.3g} at a scale of {self.scale:.3g} (allowed {self.bound:.3g})"


Outputs = Sequence[Mapping[str, Any]]


def compare_samples(expected: Outputs, actual: Outputs, tolerance: Tolerance) -> list[OutputError]:
    """One `OutputError` for each output of the first sample, over all samples."""
    return [
        compare(name, [sample[name] for sample in expected], [sample[name] for sample in actual], tolerance)
        for name in (expected[0] if expected else ())
    ]


def compare(name: str, expected: Sequence[Any], actual: Sequence[Any], tolerance: Tolerance) -> OutputError:
    """Compare the arrays of one output, sample by sample."""
    wanted, got = [np.asarray(a) for a in expected], [np.asarray(a) for a in actual]
    result = OutputError(name, _dtype_name(wanted[0]), list(wanted[0].shape))
    result.is_flat = _is_flat(wanted)
    for left, right in zip(wanted, got, strict=True):
        if _dtype_name(left) != _dtype_name(right):
            result.problem = f"is {_dtype_name(right)}, not {_dtype_name(left)}"
        elif left.shape != right.shape:
            result.problem = f"has shape {list(right.shape)}, not {list(left.shape)}"
    if result.problem:
        result.holds = False
    elif _is_inexact(wanted[0]):
        _compare_inexact(result, wanted, got, tolerance)
    else:
        result.mismatches = sum(int(np.sum(left != right)) for left, right in zip(wanted, got, strict=True))
        result.holds = result.mismatches == 0
    return result


def _compare_inexact(result: OutputError, wanted: Sequence[Any], got: Sequence[Any], tolerance: Tolerance) -> None:
    signal = noise = 0.0
    for left, right in zip(wanted, got, strict=True):
        left, right = _wide(left), _wide(right)
        finite = np.isfinite(left) & np.isfinite(right)
        result.mismatches += int(np.sum(~finite & ~_same_non_finite(left, right)))
        left, right = left[finite], right[finite]
        if left.size:
            with np.errstate(over="ignore"):
                error, magnitude = np.abs(left - right), np.abs(left)
                signal += float(np.square(magnitude).sum())
                noise += float(np.square(error).sum())
            result.max_error = max(result.max_error, min(float(error.max()), sys.float_info.max))
            result.scale = max(result.scale, min(float(magnitude.max()), sys.float_info.max))
    result.relative_error = result.max_error / result.scale if result.scale else result.max_error
    result.snr_db = 10 * math.log10(signal / noise) if signal and noise and math.isfinite(signal / noise) else None
    result.bound = (tolerance.atol or 0.0) + tolerance.relative(result.dtype) * result.scale
    result.holds = result.max_error <= result.bound and not result.mismatches


def _same_non_finite(left: Any, right: Any) -> Any:
    return (np.isnan(left) & np.isnan(right)) | (left == right)


def _wide(array: Any) -> Any:
    """The array in a type that loses nothing when differences are taken."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _is_inexact(array: Any) -> bool:
    name = _dtype_name(array)
    return "float" in name or name.startswith("complex")


def _is_flat(arrays: Sequence[Any]) -> bool:
    """More than one element in all, and every one the same."""
    if sum(array.size for array in arrays) < 2:
        return False
    first = next(array for array in arrays if array.size).reshape(-1)[0]
    return all(bool(np.all((array == first) | ((array != array) & (first != first)))) for array in arrays)


def _dtype_name(array: Any) -> str:
    return dtype_of(array).name
