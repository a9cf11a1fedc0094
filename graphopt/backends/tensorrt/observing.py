"""Statistics of the tensors of an ONNX model: gathered by ONNX Runtime, or those of a file, found by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.backends.observed import Observed, given_statistics
from graphopt.backends.tensorrt.layers import KEEPING
from graphopt.ir.errors import UsageError
from graphopt.ir.model import Model

if TYPE_CHECKING:
    from graphopt.backends.tensorrt.options import TensorRTOptions
    from graphopt.calibration import Watcher


def observe(model: Model, options: TensorRTOptions, watcher: Watcher | None = None) -> Observed:
    """Run `model` on the samples in `options`, or take the statistics that are there.

    Raises `UsageError` where samples do not fit, or where no tensor of the model has statistics.
    """
    if options.statistics is not None:
        observed = Observed(given_statistics(options.statistics), KEEPING)
        values = [value for node in model.graph for value in node.outputs if node.op_type != "Initializer"]
        if not any(observed.of(value) is not None for value in values):
            raise UsageError("the statistics know no tensor of this model: calibrate it (graphopt calibrate)")
        return observed
    from graphopt.calibration import calibrate

    methods = options.methods
    statistics = calibrate(
        model, options.data, method=methods[0], also=methods[1:], runtime="onnxruntime", watcher=watcher
    )
    return Observed(statistics, KEEPING)
