"""What trials share: ranges found when they are asked for, weights rounded once, statistics that may be scaled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphopt.ir.value import Value
from graphopt.passes.quantize.arithmetic import quantize
from graphopt.passes.quantize.parameters import Parameters
from graphopt.passes.quantize.statistics import Statistics, TensorKey, TensorStatistics, key_of

Array = np.ndarray[Any, Any]


class Ranged(Statistics):
    """Statistics with ranges in place of what was seen, each found when it is asked for."""

    def __init__(self, find: Callable[[TensorKey], TensorStatistics | None]):
        super().__init__()
        self._find = find

    def of(self, value: Value) -> TensorStatistics | None:
        """See `Statistics.of`."""
        return self._find(key_of(value))


class Rounder:
    """Makes weights integers: once for each constant and scale, and as a search found where it did."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bytes], tuple[Array, Array]] = {}
        self._found: dict[int, tuple[Array, Array]] = {}

    def prescribe(self, weights: Array, codes: Array) -> None:
        """`codes` are the integers for `weights`, with the scales that go with all of their range."""
        self._found[_place(weights)] = weights, codes

    def __call__(self, weights: Array, parameters: Parameters) -> Array:
        found = self._found.get(_place(weights))
        if found is not None and found[1].shape == weights.shape:
            return found[1]
        key = (_place(weights), parameters.scale.tobytes())
        if key not in self._known:
            self._known[key] = weights, quantize(weights, parameters)
        return self._known[key][1]


def _place(array: Array) -> int:
    place: int = array.__array_interface__["data"][0]
    return place


def copied(statistics: Statistics) -> Statistics:
    """Statistics that can be scaled without changing these."""
    result = Statistics(statistics.method, statistics.collected)
    result.spans = list(statistics.spans)
    for key, found in statistics.tensors.items():
        other = TensorStatistics()
        for name in TensorStatistics.__slots__:
            setattr(other, name, getattr(found, name))
        result.tensors[key] = other
    return result
