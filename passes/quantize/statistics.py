"""Statistics of tensors, gathered sample by sample, in any number of places, and merged exactly.

Everything kept is an integer that is added, a smallest or largest number, or a range under the number of its sample,
so shards observed apart and merged give, bit for bit, what one run over all samples gives, in whatever order they are
merged. Where shards number their samples alike, the second's follow the first's.

    statistics = Statistics(RangeMethod("mse"))
    statistics.begin_sample(0)
    statistics.observe(value, array)
    statistics.of(value).maximum
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.errors import UsageError
from graphopt.ir.model import Function
from graphopt.ir.value import Value
from graphopt.passes.quantize.histogram import BUCKETS, add_to_histogram
from graphopt.passes.quantize.methods import RangeMethod

Array = np.ndarray[Any, Any]
RECENT = 1024  # samples whose ranges are kept; for a decay of 0.965 what is older weighs less than float64 can tell


_MEAN_STEPS = 1 << 24  # to one, for sums of means
_WIDE = 1024  # elements of a row that is reduced fast
_MEAN_LIMIT = float(1 << 38)  # of a mean of one sample in steps: 2**24 samples add up within int64


class Collected(NamedTuple):
    """What is gathered besides minimum, maximum and counts, which cost next to nothing.

    `histogram` is what percentile, MSE and entropy ranges need, `recent` the range of each of the last 1,024 samples,
    which moving averages need, `channels` the range and the mean of each channel, along the last axis.
    """

    histogram: bool = False
    recent: bool = False
    channels: bool = False

    @classmethod
    def for_methods(cls, *methods: RangeMethod, channels: bool = False) -> Collected:
        """What all of `methods` need."""
        histogram, recent = any(m.needs_histogram for m in methods), any(m.needs_recent for m in methods)
        return cls(histogram, recent, channels)


class TensorKey(NamedTuple):
    """A tensor of a model: the function it is in (empty for the main graph) and its name, port included."""

    graph: str
    tensor: str

    def __str__(self) -> str:
        return f"{self.graph}/{self.tensor}" if self.graph else self.tensor


def key_of(value: Value) -> TensorKey:
    """The key of a value of a graph."""
    graph = value.node.graph
    return TensorKey(graph.name if isinstance(graph, Function) else "", f"{value.node.name}:{value.index}")


class TensorStatistics:
    """What is known of one tensor.

    `minimum` and `maximum` are those of its `count` finite elements; inf and -inf without any.
    `channel_minimum` and `channel_maximum` are float32 arrays along the last axis; None where they were not asked
    for, empty where the number of channels changed. `channel_sum` (int64) is what `channel_mean` comes from: the sum
    over all `observations` of each channel's mean, in steps of 2**-24, so that it adds up exactly. `histogram` is
    int64[65536], or None. `recent` maps numbers of samples to (minimum, maximum), or is None. `samples` counts the
    samples in which the tensor was computed.
    """

    __slots__ = (
        "channel_maximum", "channel_minimum", "channel_sum", "count", "histogram", "infinities", "last_sample",
        "maximum", "minimum", "nans", "observations", "recent", "samples",
    )  # fmt: skip

    def __init__(self, collected: Collected = Collected()):  # noqa: B008, a tuple of constants
        self.count = self.nans = self.infinities = self.samples = 0
        self.minimum, self.maximum = float("inf"), float("-inf")
        self.last_sample = -1
        self.histogram: Array | None = np.zeros(BUCKETS, np.int64) if collected.histogram else None
        self.recent: dict[int, tuple[float, float]] | None = {} if collected.recent else None
        self.channel_minimum: Array | None = None
        self.channel_maximum: Array | None = None
        self.channel_sum: Array | None = None
        self.observations = 0

    @property
    def is_empty(self) -> bool:
        """No finite element was seen: the tensor has no range."""
        return self.count == 0

    @property
    def channel_magnitude(self) -> Array | None:
        """The largest absolute value of each channel, float32; None where it is not known."""
        if self.channel_minimum is None or self.channel_maximum is None or not self.channel_minimum.size:
            return None
        return np.maximum(-self.channel_minimum, self.channel_maximum)

    @property
    def channel_mean(self) -> Array | None:
        """The mean of each channel, float64; None where it is not known, as for one that held NaN or Inf."""
        if self.channel_sum is None or not self.channel_sum.size or self.nans + self.infinities:
            return None
        return self.channel_sum * (1 / _MEAN_STEPS / self.observations)

    def observe(self, array: Array, sample: int, channels: bool = False) -> None:
        """Take in float values of sample number `sample`; a tensor within a loop is observed many times a sample."""
        values = np.asarray(array, np.float32)
        low, high = _extremes(self, values) if channels else _range(values)
        if not (np.isfinite(low) and np.isfinite(high)):
            low, high = self._leave_out(values, channels)
        else:
            if self.histogram is not None:
                add_to_histogram(self.histogram, values)
            if channels and values.ndim and values.size:
                self._sum(_fixed_means(values), 1)
        self.count += values.size
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        if sample != self.last_sample:
            self.samples += 1
            self.last_sample = sample
        if self.recent is not None and low <= high:
            self._note(sample, low, high)

    def _leave_out(self, values: Array, channels: bool) -> tuple[float, float]:
        """Count NaN and Inf, which take part in nothing else; returns the range of the rest."""
        finite = np.isfinite(values)
        kept = values[finite]
        nans = int(np.isnan(values).sum())
        self.nans += nans
        self.infinities += values.size - kept.size - nans
        self.count -= values.size - kept.size
        if self.histogram is not None:
            add_to_histogram(self.histogram, kept)
        if channels and values.ndim and values.size:
            ends = (np.where(finite, values, np.float32(end)) for end in (np.inf, -np.inf))
            self._widen(*(_by_channel(end, pick) for end, pick in zip(ends, (np.minimum, np.maximum), strict=True)))
        return _range(kept)

    def _note(self, sample: int, low: float, high: float) -> None:
        recent = self.recent
        assert recent is not None
        known = recent.get(sample)
        recent[sample] = (low, high) if known is None else (min(known[0], low), max(known[1], high))
        if len(recent) > RECENT:
            del recent[min(recent)]

    def _widen(self, minimum: Array, maximum: Array) -> None:
        """Take in ranges of channels."""
        if self.channel_minimum is None or self.channel_maximum is None:
            self.channel_minimum, self.channel_maximum = minimum + np.float32(0), maximum + np.float32(0)
        elif self.channel_minimum.shape != minimum.shape:
            self.channel_minimum = self.channel_maximum = np.zeros(0, np.float32)
        else:
            self.channel_minimum = np.minimum(self.channel_minimum, minimum) + np.float32(0)
            self.channel_maximum = np.maximum(self.channel_maximum, maximum) + np.float32(0)

    def _sum(self, sums: Array, observations: int) -> None:
        """Take in means of channels."""
        self.observations += observations
        if self.channel_sum is None:
            self.channel_sum = sums
        elif self.channel_sum.shape != sums.shape:
            self.channel_sum = np.zeros(0, np.int64)
        else:
            self.channel_sum = self.channel_sum + sums

    def merge(self, other: TensorStatistics, shift: int = 0) -> None:
        """Take in what `other` has seen; its samples are numbered `shift` higher."""
        self.count += other.count
        self.nans += other.nans
        self.infinities += other.infinities
        self.samples += other.samples
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self.last_sample = max(self.last_sample, other.last_sample + shift)
        if self.histogram is not None and other.histogram is not None:
            filled = np.flatnonzero(
                other.histogram
            )  # the rest of a histogram takes no memory, as long as nobody writes
            self.histogram[filled] += other.histogram[filled]
        if self.recent is not None and other.recent is not None:
            both = {**self.recent, **{sample + shift: ends for sample, ends in other.recent.items()}}
            self.recent = {sample: both[sample] for sample in sorted(both)[-RECENT:]}
        if other.channel_minimum is not None and other.channel_maximum is not None:
            self._widen(other.channel_minimum, other.channel_maximum)
        if other.channel_sum is not None:
            self._sum(other.channel_sum, other.observations)


class Statistics:
    """Statistics of the tensors of a model.

    `method` is how ranges are to be chosen from them unless somebody says otherwise, `collected` what was gathered:
    what `method` needs if not given. `spans` are the numbers of the samples seen, as (first, behind the last). `notes`
    is what whoever gathered them wants to be known; it is not saved.
    """

    def __init__(self, method: RangeMethod = RangeMethod(), collected: Collected | None = None):  # noqa: B008
        self.method = method
        self.collected = Collected.for_methods(method) if collected is None else collected
        self.spans: list[tuple[int, int]] = []
        self.tensors: dict[TensorKey, TensorStatistics] = {}
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self.tensors)

    def __repr__(self) -> str:
        return f"<Statistics of {len(self.tensors)} tensors over {self.samples} samples>"

    @property
    def samples(self) -> int:
        """How many samples were seen."""
        return sum(end - start for start, end in self.spans)

    def begin_sample(self, number: int) -> None:
        """What is observed from now on is of sample `number`; numbers must go up."""
        if self.spans and self.spans[-1][1] == number:
            self.spans[-1] = (self.spans[-1][0], number + 1)
        else:
            self.spans.append((number, number + 1))

    def observe(self, value: Value | TensorKey, array: Array) -> None:
        """Take in the values, any floats of any shape, that a tensor has in the current sample."""
        key = value if isinstance(value, TensorKey) else key_of(value)
        found = self.tensors.get(key)
        if found is None:
            found = self.tensors[key] = TensorStatistics(self.collected)
        found.observe(array, self.spans[-1][1] - 1, self.collected.channels)

    def of(self, value: Value) -> TensorStatistics | None:
        """What is known of a value; None where it was never computed, or is no float."""
        return self.tensors.get(key_of(value))

    def scale(self, value: Value, factors: Array) -> None:
        """Let the channels of a value, last axis first to last, be what they were times `factors`, all positive.

        Of a histogram and of the ranges of single samples, which tell no channels apart, nothing is left.
        """
        found = self.of(value)
        if found is None or found.channel_minimum is None or found.channel_maximum is None:
            return
        found.channel_minimum, found.channel_maximum = found.channel_minimum * factors, found.channel_maximum * factors
        found.minimum, found.maximum = float(found.channel_minimum.min()), float(found.channel_maximum.max())
        if found.channel_sum is not None and found.channel_sum.size == factors.size:
            found.channel_sum = np.rint(found.channel_sum * factors).astype(np.int64)
        if (factors != 1).any():
            found.histogram = found.recent = None

    def find(self, tensor: str, graph: str = "") -> TensorStatistics | None:
        """What is known of the tensor called so, with or without its port; None if nothing is."""
        exact = self.tensors.get(TensorKey(graph, tensor))
        return exact if exact is not None else self.tensors.get(TensorKey(graph, f"{tensor}:0"))


def merge(shards: Iterable[Statistics]) -> Statistics:
    """The statistics of all `shards`, which stay as they are.

    Samples keep their numbers, so the order of the shards does not matter. Where two shards have samples of one number,
    as files do that all start with sample 0, the later in the order given is taken to follow the others. Raises
    `UsageError` where the shards do not hold the same kinds of statistics.
    """
    listed = list(shards)
    if not listed:
        raise UsageError("there are no statistics to merge")
    result = Statistics(listed[0].method, listed[0].collected)
    for shard in listed:
        if (shard.collected, shard.method) != (result.collected, result.method):
            raise UsageError(
                f"statistics of different kinds cannot be merged ({_kind(result)}, and {_kind(shard)}): calibrate all "
                "shards with the same method"
            )
        shift = _shift(result.spans, shard.spans)
        result.spans = _joined([*result.spans, *((start + shift, end + shift) for start, end in shard.spans)])
        for key, found in shard.tensors.items():
            result.tensors.setdefault(key, TensorStatistics(result.collected)).merge(found, shift)
    return result


def _shift(taken: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> int:
    """What to add to the numbers of `spans` for them to be free."""
    overlaps = any(start < other_end and other < end for start, end in spans for other, other_end in taken)
    return taken[-1][1] - spans[0][0] if overlaps else 0


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _kind(statistics: Statistics) -> str:
    kinds = ["minimum and maximum", *(name for name, on in statistics.collected._asdict().items() if on)]
    return f"{' with '.join(kinds)} for {statistics.method.name}"


def _range(values: Array) -> tuple[float, float]:
    """Smallest and largest value; zero is never negative, so that the order of merging cannot show."""
    if not values.size:
        return float("inf"), float("-inf")
    return float(values.min()) + 0.0, float(values.max()) + 0.0


def _extremes(found: TensorStatistics, values: Array) -> tuple[float, float]:
    """The same, by way of the ranges of the channels, which `found` takes in where all are finite."""
    if not values.size or not values.ndim:
        return _range(values)
    lows, highs = _by_channel(values, np.minimum), _by_channel(values, np.maximum)
    low, high = _range(lows)[0], _range(highs)[1]
    if np.isfinite(low) and np.isfinite(high):
        found._widen(lows, highs)
    return low, high


def _by_channel(values: Array, pick: np.ufunc) -> Array:
    reduced: Array = pick.reduce(pick.reduce(_wide_rows(values), axis=0).reshape(-1, values.shape[-1]), axis=0)
    return reduced


def _wide_rows(values: Array) -> Array:
    """A matrix each of whose rows holds a few rows of channels: numpy reduces short rows many times slower."""
    channels = values.shape[-1]
    count = values.size // channels
    folded = count & -count  # the largest power of two that divides it
    while folded > 1 and folded * channels > _WIDE:
        folded //= 2
    return values.reshape(-1, folded * channels)


def _fixed_means(values: Array) -> Array:
    """The mean of each channel in whole steps."""
    channels = values.shape[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.add.reduce(_wide_rows(values), axis=0, dtype=np.float32).astype(np.float64)
        means = sums.reshape(-1, channels).sum(0) * (_MEAN_STEPS * channels / values.size)
    np.clip(means, -_MEAN_LIMIT, _MEAN_LIMIT, out=means)
    means[np.isnan(means)] = 0  # of sums beyond float32's range
    fixed: Array = np.rint(means).astype(np.int64)
    return fixed
