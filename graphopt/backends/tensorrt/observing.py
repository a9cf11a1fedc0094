"""Statistics of every float tensor of an ONNX model on samples, by ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir.errors import UsageError
from graphopt.ir.formats.onnx.elements import INITIALIZER
from graphopt.ir.model import Model
from graphopt.passes.quantize.methods import range_method
from graphopt.passes.quantize.statistics import Collected, Statistics

if TYPE_CHECKING:
    from graphopt.backends.tensorrt.options import TensorRTOptions


def observe(model: Model, options: TensorRTOptions) -> Statistics:
    """Run `model` on the samples in `options`. Raises `UsageError` where these do not fit, or there are none."""
    from graphopt.names import tensor_name
    from graphopt.runtimes.onnxruntime import OnnxRuntime
    from graphopt.sample_streams import stream_samples

    method = range_method(options.method)
    statistics = Statistics(method, Collected.for_methods(method))
    runtime = OnnxRuntime()
    values = {tensor_name(v): v for node in model.graph if node.op != INITIALIZER for v in node.outputs}
    number = -1
    for number, sample in enumerate(stream_samples(options.data, model).samples):
        statistics.begin_sample(number)
        for name, array in runtime.run_all(model, sample).items():
            if name in values and array.dtype.kind == "f":
                statistics.observe(values[name], array)
    if number < 0:
        raise UsageError("there are no samples to calibrate with")
    return statistics
