"""Statistics of a model's tensors, found for the tensors of what it was lowered to."""

from __future__ import annotations

import os
from collections.abc import Collection

from graphopt.ir.value import Value
from graphopt.names import tensor_name, without_calls
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.statistics import Statistics, TensorStatistics

COMPUTED = "/computed"  # behind the name of what the layout passes compute in another layout
FAR = 8  # operators that only move elements, between a tensor that statistics know and one that they do not


class Observed:
    """Statistics, asked for a value of a lowered model.

    Those of the model that it was lowered from serve as well: ranges of a whole tensor are the same in any layout, and
    tensors are found by the names of their nodes, with or without the functions that they were inlined from. `keeping`
    are the types of operators that only move elements.
    """

    def __init__(self, statistics: Statistics, keeping: Collection[str]):
        self.statistics, self.keeping = statistics, keeping
        self._named: dict[str, TensorStatistics | None] = {}
        for key, held in statistics.tensors.items():
            for name in dict.fromkeys((key.tensor, without_calls(key.tensor))):
                known = name in self._named and self._named[name] is not held
                self._named[name] = None if known and name != key.tensor else held

    @property
    def method(self) -> RangeMethod:
        """How ranges are chosen unless a recipe says otherwise."""
        return self.statistics.method

    def of(self, value: Value) -> TensorStatistics | None:
        """What is known of a value, or of one with the same elements; None where nothing is."""
        before: Value | None = value
        for _ in range(FAR):
            if before is None:
                break
            found = self._own(before)
            if found is not None:
                return found
            before = before.node.inputs[0] if before.node.op_type in self.keeping else None
        behind = value
        for _ in range(FAR):
            moved = next((user.outputs[0] for user in behind.users if user.op_type in self.keeping), None)
            if moved is None or moved.node.inputs[0] is not behind:
                return None
            behind, found = moved, self._own(moved)
            if found is not None:
                return found
        return None

    def _own(self, value: Value) -> TensorStatistics | None:
        found = self.statistics.of(value)
        name = without_calls(tensor_name(value))
        for known in (name, name.replace(f"{COMPUTED}:", ":"), f"{value.name}:0"):
            if found is None:
                found = self._named.get(known)
        return found


def given_statistics(statistics: Statistics | str | os.PathLike[str]) -> Statistics:
    """Statistics, or those of a file. Raises `MalformedError` for a file that is none."""
    if isinstance(statistics, Statistics):
        return statistics
    from graphopt.passes.quantize.statistics_file import load_statistics

    return load_statistics(statistics)
