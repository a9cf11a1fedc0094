"""Statistics of the tensors of an ONNX model: gathered by ONNX Runtime, or those of a file, found by their names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from graphopt.backends.tensorrt.layers import KEEPING
from graphopt.ir.errors import UsageError
from graphopt.ir.model import Model
from graphopt.ir.value import Value
from graphopt.names import tensor_name, without_calls
from graphopt.passes.quantize.statistics import Statistics, TensorStatistics

if TYPE_CHECKING:
    from graphopt.backends.tensorrt.options import TensorRTOptions
    from graphopt.calibration import Watcher

FAR = 8  # operators that only move elements, between a tensor that statistics know and one that they do not


class Observed:
    """Statistics, asked for a value of a lowered model.

    Those of the model that it was lowered from serve as well: ranges of a whole tensor are the same in any layout, and
    tensors are found by the names of their nodes, with or without the functions that they were inlined from.
    """

    def __init__(self, statistics: Statistics):
        self.statistics = statistics
        self._named: dict[str, TensorStatistics | None] = {}
        for key, held in statistics.tensors.items():
            for name in dict.fromkeys((key.tensor, without_calls(key.tensor))):
                known = name in self._named and self._named[name] is not held
                self._named[name] = None if known and name != key.tensor else held

    def of(self, value: Value) -> TensorStatistics | None:
        """What is known of a value, or of one with the same elements; None where nothing is."""
        before: Value | None = value
        for _ in range(FAR):
            if before is None:
                break
            found = self._own(before)
            if found is not None:
                return found
            before = before.node.inputs[0] if before.node.op_type in KEEPING else None
        behind = value
        for _ in range(FAR):
            moved = next((user.outputs[0] for user in behind.users if user.op_type in KEEPING), None)
            if moved is None or moved.node.inputs[0] is not behind:
                return None
            behind, found = moved, self._own(moved)
            if found is not None:
                return found
        return None

    def _own(self, value: Value) -> TensorStatistics | None:
        found = self.statistics.of(value)
        if found is None:
            found = self._named.get(without_calls(tensor_name(value)))
        return found if found is not None else self._named.get(f"{value.name}:0")


def observe(model: Model, options: TensorRTOptions, watcher: Watcher | None = None) -> Observed:
    """Run `model` on the samples in `options`, or take the statistics that are there.

    Raises `UsageError` where samples do not fit, or where no tensor of the model has statistics.
    """
    if options.statistics is not None:
        observed = Observed(_given(options.statistics))
        values = [value for node in model.graph for value in node.outputs if node.op_type != "Initializer"]
        if not any(observed.of(value) is not None for value in values):
            raise UsageError("the statistics know no tensor of this model: calibrate it (graphopt calibrate)")
        return observed
    from graphopt.calibration import calibrate

    methods = options.methods
    return Observed(
        calibrate(model, options.data, method=methods[0], also=methods[1:], runtime="onnxruntime", watcher=watcher)
    )


def _given(statistics: Statistics | str | os.PathLike[str]) -> Statistics:
    if isinstance(statistics, Statistics):
        return statistics
    from graphopt.passes.quantize.statistics_file import load_statistics

    return load_statistics(statistics)
