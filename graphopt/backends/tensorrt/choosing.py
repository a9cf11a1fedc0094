"""Ways that are tried where there are samples, and judged by what ONNX Runtime makes of the first of them.

For integers, several ways to choose ranges. For float16, how many of the first nodes stay in float32: what is rounded
early goes through all layers, and some networks make much of it.
"""

from __future__ import annotations

import math

from graphopt.accuracy import OutputError, Tolerance, compare_samples
from graphopt.backends.observed import Observed
from graphopt.backends.tensorrt.channel_means import ChannelMeans
from graphopt.backends.tensorrt.integers import quantize
from graphopt.backends.tensorrt.observing import Calibrated, observe
from graphopt.backends.tensorrt.options import TensorRTOptions
from graphopt.backends.tensorrt.outcome import Outcome
from graphopt.backends.tensorrt.precision import BODIES, PARTS, narrow
from graphopt.ir.model import Model
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.runtimes.base import RunError

PERFECT = 200.0  # decibels, where there is no noise
CHANCE = 0.5  # decibels
BOUND = 0.9e-2  # of an output's scale, which float16 is to keep within
SHARES = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2)  # of the nodes, first ones first, that stay in float32


def choose_types(model: Model, options: TensorRTOptions) -> tuple[Model, Outcome]:
    """A copy of `model` that computes in what is asked for, and what the user should know of it.

    Raises `UsageError` where samples, statistics or the recipe do not fit.
    """
    if options.chosen_recipe is None and options.body not in BODIES:
        return model, Outcome()
    seen = ChannelMeans(model) if options.data is not None else None
    known = Calibrated(observe(model, options, seen) if options.has_samples else None, seen)
    if options.chosen_recipe is None:
        return _narrow_within(model, options, known)
    made, outcome = _quantize_best(model, options, known)
    if options.body in BODIES:
        outcome.add(narrow(made, options, known))
    return made, outcome


def _narrow_within(model: Model, options: TensorRTOptions, known: Calibrated) -> tuple[Model, Outcome]:
    """A copy that computes in a narrower body; in float16, and with samples, within `BOUND` on them."""
    seen = known.means
    if seen is None or options.body != "fp16" or options.effort == "fast":
        made = model.clone()
        return made, narrow(made, options, known)
    judge = _Judge(model, seen)
    order = [node.name for node in model.graph.topological_order() if node.op_type not in PARTS]
    best: tuple[float, Model, Outcome] | None = None
    for share in SHARES:
        made, early = model.clone(), frozenset(order[: int(share * len(order))])
        outcome = narrow(made, options, known, early)
        error = judge.error(made)
        if best is None or error < best[0]:
            best = error, made, outcome
        if error <= BOUND:
            break
    assert best is not None
    best[2].notes.append(f"outputs are off by {best[0]:.1e} of their scale on {len(seen.samples)} samples")
    return best[1:]


def _quantize_best(model: Model, options: TensorRTOptions, known: Calibrated) -> tuple[Model, Outcome]:
    """A quantized copy, by the method that leaves the most signal to noise where several are tried."""
    recipe, seen = options.chosen_recipe, known.means
    assert recipe is not None
    methods = _methods(options, known.observed)
    if seen is None or len(methods) == 1 or not recipe.needs_statistics:
        return _quantized(model, options, known, methods[0])
    judge, tried = _Judge(model, seen), list[tuple[float, RangeMethod, Model, Outcome]]()

    def attempt(method: RangeMethod, known: Calibrated) -> None:
        made, outcome = _quantized(model, options, known, method)
        tried.append((judge.decibels(made), method, made, outcome))

    for method in methods:
        attempt(method, known)
    attempt(_best(tried)[1], Calibrated(known.observed, is_plain=True))
    decibels, method, made, outcome = _best(tried)
    outcome.notes.append(f"ranges by {_shown(method)}: {decibels:.1f} dB on {len(seen.samples)} samples")
    return made, outcome


def _best(tried: list[tuple[float, RangeMethod, Model, Outcome]]) -> tuple[float, RangeMethod, Model, Outcome]:
    """The first of those that are better than the ones before by more than what a few samples tell by chance."""
    best = tried[0]
    for item in tried[1:]:
        if item[0] > best[0] + CHANCE:
            best = item
    return best


def _quantized(model: Model, options: TensorRTOptions, known: Calibrated, method: RangeMethod) -> tuple[Model, Outcome]:
    made = model.clone()
    return made, quantize(made, options, known, method)


def _methods(options: TensorRTOptions, observed: Observed | None) -> tuple[RangeMethod, ...]:
    if options.statistics is not None and observed is not None and not options.method:
        return (observed.statistics.method,)
    return options.methods


def _shown(method: RangeMethod) -> str:
    more = {"mse": f", clipping {method.clipping:g}", "percentile": f" {method.percentile:g}"}.get(method.name, "")
    return f"{method.name}{more}"


class _Judge:
    """Compares outputs with the float model's, on the first samples."""

    def __init__(self, model: Model, seen: ChannelMeans):
        from graphopt.runtimes.onnxruntime import OnnxRuntime

        self._runtime, self._samples = OnnxRuntime(), seen.samples
        self._wanted = [self._runtime.run(model, sample) for sample in self._samples]

    def decibels(self, model: Model) -> float:
        """Signal to noise of the worst output; as little as can be where ONNX Runtime cannot run the model."""
        compared = self._compared(model)
        if compared is None:
            return -PERFECT
        return min((output.snr_db for output in compared if output.snr_db is not None), default=PERFECT)

    def error(self, model: Model) -> float:
        """The largest error of an output over its scale; infinite where ONNX Runtime cannot run the model."""
        compared = self._compared(model)
        if compared is None or any(output.problem or output.mismatches for output in compared if output.scale):
            return math.inf
        return max((output.relative_error for output in compared), default=0.0)

    def _compared(self, model: Model) -> list[OutputError] | None:
        try:
            found = [self._runtime.run(model, sample) for sample in self._samples]
        except RunError:
            return None
        return compare_samples(self._wanted, found, Tolerance())
