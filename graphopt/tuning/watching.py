"""What choosing needs to know beyond statistics, seen while a model is calibrated: samples, outputs, a few elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.ir.model import Model
from graphopt.ir.value import Value
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.statistics import Collected, Statistics, TensorKey, key_of, merge

Array = np.ndarray[Any, Any]
SAMPLES = 32  # that are kept to measure with; more make measuring slow and hardly surer
MEMORY = 1 << 29  # bytes of samples that are kept; at least one is
ELEMENTS = 8192  # of a tensor that are kept of each of these samples


class Halves(Statistics):
    """Statistics of every other sample, apart: what one half chooses can be tried on the other."""

    def __init__(self) -> None:
        super().__init__(RangeMethod(), Collected(channels=True))
        self.parts = [Statistics(self.method, self.collected) for _ in range(2)]
        self._part = self.parts[0]

    def begin_sample(self, number: int) -> None:
        """See `Statistics.begin_sample`."""
        self._part = self.parts[number % 2]
        self._part.begin_sample(number)

    def observe(self, value: Value | TensorKey, array: Array) -> None:
        """See `Statistics.observe`."""
        self._part.observe(value, array)

    def whole(self) -> Statistics:
        """Those of all samples."""
        found = merge([part for part in self.parts if part.samples])
        found.notes = self.notes
        return found


class Keeper:
    """Watches a calibration. `samples` and `outputs` are by name, `rows` a few places of each tensor, all channels,
    with the number of the sample; each stands for `shares` as many."""

    def __init__(self, model: Model):
        signature = next(iter(model.signatures.values()))
        self._names: dict[Value, list[str]] = {}
        for name, value in signature.output_values().items():
            self._names.setdefault(value, []).append(name)
        self.samples: list[dict[str, Array]] = []
        self.outputs: list[dict[str, Array]] = []
        self.rows: dict[TensorKey, list[tuple[int, Array]]] = {}
        self.shares: dict[TensorKey, int] = {}
        self._keeps, self._bytes = True, 0

    def sample(self, sample: dict[str, Array]) -> None:
        """What goes in comes next."""
        self._bytes += sum(array.nbytes for array in sample.values())
        self._keeps = not self.samples or (len(self.samples) < SAMPLES and self._bytes <= MEMORY)
        if self._keeps:
            self.samples.append({name: np.array(array) for name, array in sample.items()})
            self.outputs.append({})

    def see(self, value: Value, array: Array) -> None:
        """A float tensor."""
        if not self._keeps:
            return
        for name in self._names.get(value, ()):
            self.outputs[-1][name] = np.array(array)
        if array.ndim and array.size:
            rows = array.reshape(-1, array.shape[-1])
            step = (array.size // ELEMENTS) | 1  # odd, so as not to keep step with a picture's width
            key = key_of(value)
            self.shares[key] = max(self.shares.get(key, 1), step)
            self.rows.setdefault(key, []).append((len(self.samples) - 1, np.array(rows[::step])))

    def rows_of(self, key: TensorKey, is_half: bool = False) -> list[Array]:
        """Those of every other sample, from the first on, or of all."""
        return [rows for number, rows in self.rows.get(key, ()) if not (is_half and number % 2)]
