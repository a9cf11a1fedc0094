"""From samples to what is quantized: calibrate once, then choose by measuring where there is something to choose."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphopt.ir.errors import UsageError
from graphopt.ir.model import Model
from graphopt.passes.quantize.arithmetic import quantize
from graphopt.passes.quantize.delegates import Delegate
from graphopt.passes.quantize.plan import Supports
from graphopt.passes.quantize.recipe import Recipe
from graphopt.passes.quantize.statistics import Statistics
from graphopt.passes.quantize.trained import has_trained_ranges
from graphopt.passes.quantize.weights import Rounding
from graphopt.tuning.choosing import Chooser, Chosen, Report
from graphopt.tuning.measuring import Bench, measurable
from graphopt.tuning.watching import Halves, Keeper

FEWEST = 4  # samples that can be divided


@dataclass
class Prepared:
    """A float model ready to be quantized: `ranges` to quantize it with, `statistics` as they were gathered."""

    model: Model
    ranges: Statistics
    statistics: Statistics
    rounding: Rounding = quantize
    chosen: Chosen | None = None
    notes: list[str] = field(default_factory=list)


def prepare(
    model: Model, recipe: Recipe, data: Any, effort: str, supports: Supports, delegate: Delegate | None,
    progress: Report | None = None, check: bool = True, origin: Model | None = None,
) -> Prepared:  # fmt: skip
    """Calibrate `model` on `data`, and choose how to quantize it with as much effort as asked for.

    With `check` off, what is wrong with the samples is noted instead of raised. `origin` is what `model` was lowered
    from.
    """
    from graphopt.calibration import calibrate

    methods = recipe.range_methods
    reason = "" if effort == "fast" else _why_not(model, recipe, data)
    if effort == "fast" or reason:
        statistics = calibrate(
            model, data, method=methods[0] if methods else "minmax", also=methods[1:], progress=progress,
            check=check, origin=origin,
        )  # fmt: skip
        return Prepared(model, statistics, statistics, notes=[*statistics.notes, *[reason] * bool(reason)])
    seen = gather(model, data, progress, check, origin)
    chosen = seen.chooser(recipe, supports, delegate).choose(effort, progress)
    note = (
        f"of {len(chosen.trials)} ways tried, {chosen.way} is the best: {chosen.measured.accuracy.snr:.1f} dB "
        f"(plain minmax: {chosen.plain.accuracy.snr:.1f} dB) on {chosen.samples} samples"
    )
    return Prepared(
        chosen.model, chosen.statistics, seen.statistics, chosen.rounding, chosen, [*seen.statistics.notes, note]
    )


class Seen:
    """What a calibration has shown of a model: `statistics`, those of halves, and the bench that the samples make."""

    def __init__(self, model: Model, halves: Halves, keeper: Keeper):
        self.model, self.half, self.keeper = model, halves.parts[0], keeper
        self.statistics = halves.whole()
        self.bench = Bench(model, keeper.samples, keeper.outputs)

    def chooser(self, recipe: Recipe, supports: Supports, delegate: Delegate | None) -> Chooser:
        """To try ways to quantize it."""
        half = self.half if len(self.bench.samples) >= FEWEST else None
        return Chooser(self.model, recipe, self.statistics, self.keeper, self.bench, supports, delegate, half)


def gather(
    model: Model, data: Any, progress: Report | None = None, check: bool = True, origin: Model | None = None
) -> Seen:
    """Run `model` on `data`, see what choosing needs. Raises `UsageError` where nothing can be measured."""
    from graphopt.calibration import calibrate

    measurable(model)
    keeper, halves = Keeper(model), Halves()
    calibrate(model, data, channels=True, watcher=keeper, into=halves, progress=progress, check=check, origin=origin)
    return Seen(model, halves, keeper)


def _why_not(model: Model, recipe: Recipe, data: Any) -> str:
    """Why nothing is tried; empty where something is."""
    if not any(rule.mode == "int8" for rule in recipe.rules):
        return "nothing is tried: no rule computes in int8"
    if any(map(has_trained_ranges, model.graphs)):
        return "nothing is tried: training has chosen the model's ranges"
    if any(rule.calibration is not None for rule in recipe.rules if rule.is_static):
        return "nothing is tried: the recipe says how to choose ranges"
    if isinstance(data, Mapping) and data and set(data) <= set(model.signatures):
        return "nothing is tried: the data are for several signatures"
    if importlib.util.find_spec("ai_edge_litert") is None:
        return "nothing is tried: LiteRT is not installed"
    try:
        measurable(model)
    except UsageError as error:
        return f"nothing is tried: {error}"
    return ""
