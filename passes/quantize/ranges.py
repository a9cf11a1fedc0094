"""Ranges from statistics: which part of what a tensor takes on an integer type is to stand for.

- `minmax`: all of it.
- `ema`: average the ranges of the samples, each new one weighing 1 - decay (Jacob et al., "Quantization and Training of
  Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, section 3.1).
- `percentile`: leave out the same share of elements at both ends (Wu et al., "Integer Quantization for Deep Learning
  Inference", 2020, section 5.2).
- `mse`: the ends at which the squared errors of rounding and clipping add up to the least (Nagel et al., "A White Paper
  on Neural Network Quantization", 2021, section 3.1).
- `entropy`: the ends at which the quantized distribution diverges least, in the sense of Kullback and Leibler, from the
  one of the elements clipped to it (Migacz, "8-bit Inference with TensorRT", 2017).

All are deterministic, and none reaches beyond what was seen. `ranges_mse` and `ranges_entropy` hold the searches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphopt.ir.errors import UsageError
from graphopt.passes.quantize.histogram import Buckets, buckets_of
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.ranges_entropy import least_divergence
from graphopt.passes.quantize.ranges_mse import least_squares
from graphopt.passes.quantize.statistics import TensorStatistics


class Range(NamedTuple):
    """The smallest and largest real number that is to be told from its neighbours."""

    minimum: float
    maximum: float


def range_of(
    statistics: TensorStatistics, method: RangeMethod, *, bits: int = 8, symmetric: bool = False
) -> Range | None:
    """The range of a tensor by `method`, for integers of `bits` bits; None where no finite element was seen.

    Raises `UsageError` where the statistics lack what `method` needs.
    """
    if statistics.is_empty:
        return None
    whole = Range(statistics.minimum, statistics.maximum)
    if method.needs_recent:
        return _moving_average(statistics, method.decay)
    if not method.needs_histogram or whole.minimum == whole.maximum:
        return whole
    if statistics.histogram is None:
        raise _lacking(method)
    buckets = buckets_of(statistics.histogram, *whole)
    if method.name == "percentile":
        return _percentile(buckets, method.percentile)
    if method.name == "mse":
        return Range(*least_squares(buckets, bits, symmetric, method.clipping))
    return Range(*least_divergence(buckets, bits, symmetric))


def _moving_average(statistics: TensorStatistics, decay: float) -> Range:
    """In the order of the samples' numbers, starting with the first."""
    if statistics.recent is None:
        raise _lacking(RangeMethod("ema"))
    ranges = [statistics.recent[sample] for sample in sorted(statistics.recent)]
    low, high = ranges[0]
    for minimum, maximum in ranges[1:]:
        low = decay * low + (1 - decay) * minimum
        high = decay * high + (1 - decay) * maximum
    return Range(low, high)


def _percentile(buckets: Buckets, percentile: float) -> Range:
    """The outer edges of the buckets in which the first and the last element lie that are not left out."""
    total = int(buckets.counts.sum())
    left_out = int(total * (100 - percentile) / 200 + 1e-6)  # 100 - 99.9 is a little below 0.1
    below, above = np.cumsum(buckets.counts), np.cumsum(buckets.counts[::-1])
    first = int(np.searchsorted(below, left_out, side="right"))
    last = buckets.counts.size - 1 - int(np.searchsorted(above, left_out, side="right"))
    first, last = min(first, last), max(first, last)
    return Range(float(buckets.lower[first]), float(buckets.upper[last]))


def _lacking(method: RangeMethod) -> UsageError:
    what = "the ranges of single samples" if method.needs_recent else "histograms"
    name = method.name
    return UsageError(f"the statistics hold no {what}, which method '{name}' needs: calibrate with --method {name}")
