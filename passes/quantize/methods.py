"""The ways to choose a range from statistics, as plain data."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from graphopt.ir.errors import UsageError, printable

MethodName = Literal["minmax", "ema", "percentile", "mse", "entropy"]
METHODS: tuple[MethodName, ...] = ("minmax", "ema", "percentile", "mse", "entropy")
Decay = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Penalty = Annotated[float, msgspec.Meta(gt=0, le=1e12)]
Percentage = Annotated[float, msgspec.Meta(gt=0, le=100)]


class RangeMethod(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to choose the range of a tensor of activations.

    `minmax` takes all that was seen; `ema` the moving average of each sample's range, with `decay`; `percentile` the
    middle `percentile` percent of the elements; `mse` the range with the least squared error of quantization, errors of
    clipping counting `clipping` times; `entropy` the one whose quantized distribution diverges least from the real one.
    `graphopt.passes.quantize.ranges` says each in full.
    """

    name: MethodName = "minmax"
    decay: Decay = 0.95
    percentile: Percentage = 99.999
    clipping: Penalty = 1.0

    @property
    def needs_histogram(self) -> bool:
        """Statistics must have been collected with a histogram."""
        return self.name in ("percentile", "mse", "entropy")

    @property
    def needs_recent(self) -> bool:
        """Statistics must have been collected with the range of each recent sample."""
        return self.name == "ema"


def range_method(
    method: str | RangeMethod, *, decay: float | None = None, percentile: float | None = None
) -> RangeMethod:
    """The method called so. Raises `UsageError` for an unknown name or an option out of bounds."""
    if isinstance(method, str):
        if method not in METHODS:
            raise UsageError(f"there is no calibration method '{printable(method)}'; there are {', '.join(METHODS)}")
        method = RangeMethod(method)
    changes = {name: value for name, value in (("decay", decay), ("percentile", percentile)) if value is not None}
    method = msgspec.structs.replace(method, **changes)
    if not 0 <= method.decay < 1:
        raise UsageError(f"a decay is a number from 0 to below 1, not {method.decay}")
    if not 0 < method.percentile <= 100:
        raise UsageError(f"a percentile is a number above 0 and up to 100, not {method.percentile}")
    return method
