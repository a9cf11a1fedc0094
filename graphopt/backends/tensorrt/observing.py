"""Statistics of the tensors of an ONNX model: gathered by ONNX Runtime, or those of a file, found by their names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt.backends.observed import Observed, given_statistics
from graphopt.backends.tensorrt.channel_means import ChannelMeans
from graphopt.backends.tensorrt.layers import KEEPING
from graphopt.ir.errors import UsageError
from graphopt.ir.model import Model

if TYPE_CHECKING:
    from graphopt.backends.tensorrt.options import TensorRTOptions
    from graphopt.calibration import Watcher


@dataclass
class Calibrated:
    """What is known of a model from samples: statistics, and means where there were samples. `rounded` holds weights
    that were rounded once for all the ways that are tried. With `is_plain`, weights are rounded to the nearest.
    """

    observed: Observed | None = None
    means: ChannelMeans | None = None
    rounded: dict[Any, Any] = field(default_factory=dict)
    is_plain: bool = False


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

    recipe = options.chosen_recipe
    method, *also = (*options.methods, *(recipe.range_methods if recipe is not None else ()))
    statistics = calibrate(
        model, options.data, method=method, also=also, runtime="onnxruntime", watcher=watcher,
        check=not options.no_check,
    )  # fmt: skip
    return Observed(statistics, KEEPING)
