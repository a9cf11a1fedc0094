"""Statistics as a file: JSON of schema `graphopt.statistics/1`, the same bytes for the same statistics.

    {"schema": "graphopt.statistics/1", "method": {"name": "mse"}, "collected": ["histogram"], "spans": [[0, 20]],
     "tensors": [{"tensor": "conv/Relu:0", "count": 2000, "samples": 20, "minimum": 0.0, "maximum": 6.0,
                  "histogram": [[0, 900], [15000, 3, 5, 1092]]}]}

A run of a histogram is its first bucket and the counts from there on; `recent` holds numbers of samples and their
smallest and largest values. Numbers are written so that they read back exactly.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import numpy as np

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats.atomic import write_atomically
from graphopt.passes.quantize.histogram import decode, encode
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.statistics import RECENT, Collected, Statistics, TensorKey, TensorStatistics

SCHEMA = "graphopt.statistics/1"
_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 62) - 1)]
_Sum = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]
_Kind = Literal["histogram", "recent", "channels"]


class _Recent(msgspec.Struct, forbid_unknown_fields=True):
    samples: list[_Count]
    minimum: list[float]
    maximum: list[float]


class _Channels(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Ranges of channels, null for one without finite elements; sums of their means over `observations`."""

    minimum: list[float | None]
    maximum: list[float | None]
    sum: list[_Sum] | None = None
    observations: _Count = 0


class _Tensor(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    tensor: str
    count: _Count
    samples: _Count
    graph: str = ""
    minimum: float | None = None
    maximum: float | None = None
    nans: _Count = 0
    infinities: _Count = 0
    histogram: list[list[_Count]] | None = None
    recent: _Recent | None = None
    channels: _Channels | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    schema: str
    method: RangeMethod
    collected: list[_Kind]
    spans: list[tuple[_Count, _Count]]
    tensors: list[_Tensor]


def statistics_bytes(statistics: Statistics) -> bytes:
    """`statistics` as JSON, tensors sorted by function and name, one a line."""
    collected: list[_Kind] = [
        name for name in ("histogram", "recent", "channels") if getattr(statistics.collected, name)
    ]
    tensors = [_written(key, statistics.tensors[key]) for key in sorted(statistics.tensors)]
    head = _File(SCHEMA, statistics.method, collected, statistics.spans, [])
    lines = b",\n".join(msgspec.json.encode(tensor) for tensor in tensors)
    return msgspec.json.encode(head).removesuffix(b"]}") + b"\n" + lines + b"\n]}\n"


def save_statistics(statistics: Statistics, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
    """Write `statistics` to `path`, atomically. Raises `UsageError` if it exists and `overwrite` is off."""
    write_atomically(path, [statistics_bytes(statistics)], overwrite=overwrite)


def load_statistics(path: str | os.PathLike[str]) -> Statistics:
    """The statistics in a file. Raises `MalformedError` for one that cannot be read or contradicts itself."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read()
    except OSError as error:
        raise MalformedError(f"cannot be read: {printable(error.strerror or str(error))}", source=name) from None
    return read_statistics(data, source=name)


def read_statistics(data: bytes, *, source: str = "statistics") -> Statistics:
    """The inverse of `statistics_bytes`. Raises `MalformedError` naming the field."""
    file = _decoded(data, source)
    collected = Collected(**{name: name in file.collected for name in Collected._fields})
    statistics = Statistics(file.method, collected)
    statistics.spans = _checked_spans(file.spans, source)
    for place, tensor in enumerate(file.tensors):
        key = TensorKey(tensor.graph, tensor.tensor)
        try:
            if key in statistics.tensors:
                raise ValueError("the tensor is listed twice")
            statistics.tensors[key] = _read(tensor, collected)
        except ValueError as error:
            raise MalformedError(f"{error} ({printable(str(key))})", source=source, field=f"tensors[{place}]") from None
    return statistics


def _decoded(data: bytes, source: str) -> _File:
    try:
        head = msgspec.json.decode(data)
        schema = head.get("schema") if isinstance(head, Mapping) else None
        if schema != SCHEMA:
            shown = f"schema {printable(repr(schema), 80)}" if schema is not None else "no schema"
            raise MalformedError(f"this is not a file of statistics: it has {shown}, not '{SCHEMA}'", source=source)
        return msgspec.convert(head, _File)
    except msgspec.ValidationError as error:
        reason, _, field = str(error).partition(" - at ")
        raise MalformedError(printable(reason, 400), source=source, field=printable(field.strip("`$."))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"this is not a file of statistics: {printable(str(error), 400)}", source=source) from None


def _checked_spans(spans: list[tuple[int, int]], source: str) -> list[tuple[int, int]]:
    free = 0
    for start, end in spans:
        if not free <= start < end:
            raise MalformedError(f"the samples {start} to {end} are not in order", source=source, field="spans")
        free = end
    return spans


# One tensor ---------------------------------------------------------------------------------------------------


def _written(key: TensorKey, found: TensorStatistics) -> _Tensor:
    tensor = _Tensor(key.tensor, found.count, found.samples, key.graph, nans=found.nans, infinities=found.infinities)
    if not found.is_empty:
        tensor.minimum, tensor.maximum = found.minimum, found.maximum
    if found.histogram is not None:
        tensor.histogram = encode(found.histogram)
    if found.recent is not None:
        samples = sorted(found.recent)
        ranges = [found.recent[sample] for sample in samples]
        tensor.recent = _Recent(samples, [low for low, _ in ranges], [high for _, high in ranges])
    if found.channel_minimum is not None and found.channel_maximum is not None:
        sides = (found.channel_minimum, found.channel_maximum)
        low, high = ([x if math.isfinite(x) else None for x in side.tolist()] for side in sides)
        tensor.channels = _Channels(low, high)
        if found.channel_sum is not None:
            tensor.channels.sum, tensor.channels.observations = found.channel_sum.tolist(), found.observations
    return tensor


def _read(tensor: _Tensor, collected: Collected) -> TensorStatistics:
    """Raises `ValueError` for what contradicts itself."""
    found = TensorStatistics(collected)
    found.count, found.samples = tensor.count, tensor.samples
    found.nans, found.infinities = tensor.nans, tensor.infinities
    if (tensor.minimum is None) != (tensor.count == 0) or (tensor.maximum is None) != (tensor.count == 0):
        raise ValueError("a tensor has a minimum and a maximum if it has elements, and only then")
    if tensor.minimum is not None and tensor.maximum is not None:
        if not tensor.minimum <= tensor.maximum:
            raise ValueError("the minimum is above the maximum")
        found.minimum, found.maximum = tensor.minimum, tensor.maximum
    if collected.histogram != (tensor.histogram is not None) or collected.recent != (tensor.recent is not None):
        raise ValueError("the tensor does not have what 'collected' says")
    if tensor.histogram is not None:
        found.histogram = decode(tensor.histogram)
        if int(found.histogram.sum()) != tensor.count:
            raise ValueError("the counts of the histogram do not add up to the count of elements")
    if tensor.recent is not None:
        found.recent = _read_recent(tensor.recent)
        found.last_sample = max(found.recent, default=-1)
    if tensor.channels is not None:
        _read_channels(tensor.channels, found)
    return found


def _read_recent(recent: _Recent) -> dict[int, tuple[float, float]]:
    lengths = {len(recent.samples), len(recent.minimum), len(recent.maximum)}
    if len(lengths) > 1 or len(recent.samples) > RECENT or len(set(recent.samples)) < len(recent.samples):
        raise ValueError(f"'recent' needs the minimum and maximum of at most {RECENT} samples, each once")
    ranges = zip(recent.samples, recent.minimum, recent.maximum, strict=True)
    found = {sample: (low, high) for sample, low, high in ranges if low <= high}
    if len(found) < len(recent.samples):
        raise ValueError("a minimum of 'recent' is above its maximum")
    return found


def _read_channels(channels: _Channels, found: TensorStatistics) -> None:
    if len(channels.minimum) != len(channels.maximum):
        raise ValueError("'channels' has more minima than maxima, or fewer")
    low = np.array([np.inf if end is None else end for end in channels.minimum], np.float64)
    high = np.array([-np.inf if end is None else end for end in channels.maximum], np.float64)
    if (np.abs(low[np.isfinite(low)]) > np.finfo(np.float32).max).any() or ((low > high) & np.isfinite(low)).any():
        raise ValueError("'channels' has ranges that are none")
    found.channel_minimum, found.channel_maximum = low.astype(np.float32), high.astype(np.float32)
    if channels.sum is not None:
        found.channel_sum, found.observations = np.array(channels.sum, np.int64), channels.observations
