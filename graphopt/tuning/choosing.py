"""Choosing how to quantize by measuring: a few ways that have proved good are tried, and the best is taken.

No single method of choosing ranges, scaling channels or correcting biases is the best for every model; which is, can be
measured in a fraction of a second each. Ranges that fit the samples too well clip others: a way is tried with ranges
from every other sample, and measured on all. Then, with effort `high`, ranges are chosen anew for one part of the model
after another. Last, biases of the outputs are corrected by the error that was measured. The order of trials is fixed,
so the same model and samples give the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np

from graphopt.ir.model import Model
from graphopt.ir.value import Value
from graphopt.passes.quantize.channels import LAYERS, layer_weights
from graphopt.passes.quantize.correction import correct_biases, correct_output, restore_bias
from graphopt.passes.quantize.delegates import Delegate
from graphopt.passes.quantize.equalization import equalize
from graphopt.passes.quantize.histogram import BUCKETS, add_to_histogram
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.plan import Decision, Plan, Supports, make_plan
from graphopt.passes.quantize.quantize import quantize_model
from graphopt.passes.quantize.ranges import range_of
from graphopt.passes.quantize.recipe import Recipe
from graphopt.passes.quantize.rounding import round_adaptively
from graphopt.passes.quantize.schemes import INT8_WEIGHT
from graphopt.passes.quantize.statistics import Statistics, TensorKey, TensorStatistics, key_of
from graphopt.tuning.measuring import Bench, Measured
from graphopt.tuning.ranged import Ranged, Rounder, copied
from graphopt.tuning.watching import Keeper
from graphopt.tuning.ways import FIRST, OTHERS, PLAIN, THEN, Way, many, named

Array = np.ndarray[Any, Any]
Report = Callable[[int, int, str], None]


class Chosen(NamedTuple):
    """What was found best: a float model and statistics to quantize it with, and how good that is, beside the plain
    way, on `samples` samples. `trials` has what every way counted by, in the order of trying."""

    model: Model
    statistics: Statistics
    rounding: Rounder
    way: Way
    measured: Measured
    plain: Measured
    samples: int
    trials: list[tuple[Way, float]]


class Chooser:
    """Tries ways to quantize one float model. Neither `model` nor `statistics` change.

    `half` are the statistics of every other sample, None where there are too few to be divided.
    """

    def __init__(
        self, model: Model, recipe: Recipe, statistics: Statistics, keeper: Keeper, bench: Bench, supports: Supports,
        delegate: Delegate | None, half: Statistics | None = None,
    ):  # fmt: skip
        self.bench = bench
        self._recipe = msgspec.structs.replace(recipe, input_type="float32", output_type="float32")
        self._statistics, self._keeper, self._half = statistics, keeper, half
        self._supports, self._delegate = supports, delegate
        self._plans: dict[Recipe, list[dict[str, Decision]]] = {}
        self._wide = frozenset(
            key_of(value)
            for node, decision in self._plan(model, self._recipe).decisions.items()
            if decision.compute == "int16"  # whose ranges need no choosing
            for value in node.outputs
        )
        self._models: dict[tuple[float, bool, bool], tuple[Model, Rounder]] = {(0.0, False, False): (model, Rounder())}
        self._scaled: dict[float, tuple[Statistics, dict[TensorKey, Array]]] = {0.0: (statistics, {})}
        self._scaled_half: dict[float, Statistics | None] = {0.0: half}
        self._ranges: dict[tuple[float, RangeMethod, TensorKey, bool], TensorStatistics | None] = {}

    def choose(self, effort: str, progress: Report | None = None) -> Chosen:
        """The best of the ways that go with `effort`; never worse than the plain way on the samples measured."""
        first, final = self._benches(effort)
        tried = self._try(effort, first, progress)
        plain = measured = final.measure(self.quantized(PLAIN, self.ranged(PLAIN))[0])
        way, least = PLAIN, math.inf
        for place, finalist in enumerate(sorted(tried, key=tried.__getitem__)):
            if place >= FINALISTS and way is not PLAIN:
                break
            found = final.measure(self.quantized(finalist, self.ranged(finalist))[0])
            noise = tried[finalist] * found.noise
            if found.noise <= plain.noise and noise < least:
                way, measured, least = finalist, found, noise
        statistics = self.ranged(way)
        if effort == "high":
            statistics, measured = self._refine(way, final, measured, progress)
        model, measured = self._centred(way, statistics, final, measured)
        return Chosen(
            model, statistics, self._model(way)[1], way, measured, plain, len(final.samples), list(tried.items())
        )

    def _benches(self, effort: str) -> tuple[Bench, Bench]:
        """To try ways on, and to measure the best of them on: few samples where a model computes much."""
        if effort == "high":
            return self.bench, self.bench
        count = affordable(self._models[0.0, False, False][0])
        return self.bench.part(count), self.bench.part(LONGER * count)

    def _try(self, effort: str, few: Bench, progress: Report | None) -> dict[Way, float]:
        """What ways count by: their noise on all samples, with ranges from every other one."""
        tried: dict[Way, float] = {}
        total = len(FIRST) + len(THEN) if effort != "high" else len(many())

        def count(ways: Iterable[Way]) -> Way:
            for way in ways:
                if progress is not None:
                    progress(len(tried), total, f"trying {way}")
                ranges = self.ranged(way, is_half=self._half is not None)
                tried[way] = few.measure(self.quantized(way, ranges)[0]).noise
            return min(tried, key=tried.__getitem__)

        if effort == "high":
            count(many())
        else:
            best = count(FIRST)
            count(best._replace(method=method) for method in THEN)
        return tried

    def _centred(self, way: Way, statistics: Statistics, few: Bench, measured: Measured) -> tuple[Model, Measured]:
        """The float model as `way` has it, and mean errors of the outputs taken off them where that helps."""
        model, better = (self.prepared(way, self._recipe) for _ in range(2))
        values = next(iter(better.signatures.values())).output_values()
        if sum(correct_output(values[name], shift) for name, shift in measured.shifts.items()):
            found = few.measure(self._made(better.clone(), way, statistics, self._recipe)[0])
            if found.noise < measured.noise and found.accuracy.snr > measured.accuracy.snr:
                return better, found
        return model, measured

    def quantized(self, way: Way, statistics: Statistics, recipe: Recipe | None = None) -> tuple[Model, Plan]:
        """A quantized copy, floats at its borders; by another recipe if given."""
        chosen = recipe or self._recipe
        return self._made(self.prepared(way, chosen), way, statistics, chosen)

    def _made(self, model: Model, way: Way, statistics: Statistics, recipe: Recipe) -> tuple[Model, Plan]:
        """`model`, quantized in place."""
        plan = quantize_model(
            model, recipe, statistics, self._supports, delegate=self._delegate, rounding=self._model(way)[1],
            plan=self._plan(model, recipe),
        )  # fmt: skip
        return model, plan

    def prepared(self, way: Way, recipe: Recipe) -> Model:
        """A copy of the float model as a way has it, biases corrected where the recipe has weights in int8."""
        model, source = self._model(way)[0].clone(), self._models[way.strength, False, False][0]
        if way.corrected:
            decisions = self._plan(model, recipe).decisions
            for graph, original in zip(model.graphs, source.graphs, strict=True):
                twins = {node.name: node for node in original if node.op in LAYERS}
                for node in [node for node in graph if node.op in LAYERS]:
                    if not any(spec.scheme is INT8_WEIGHT for spec in decisions[node].weights.values()):
                        restore_bias(node, twins[node.name])
        return model

    def _plan(self, model: Model, recipe: Recipe) -> Plan:
        """The plan for `model`, the float one or a copy of it: what is decided is the same for all."""
        known = self._plans.get(recipe)
        if known is None:
            plan = make_plan(model, recipe, self._supports, self._delegate)
            self._plans[recipe] = [
                {node.name: plan.decisions[node] for node in graph if node in plan.decisions} for graph in model.graphs
            ]
            return plan
        pairs = zip(model.graphs, known, strict=True)
        return Plan({node: found[node.name] for graph, found in pairs for node in graph if node.name in found})

    def model_of(self, way: Way) -> Model:
        """The float model that a way quantizes, without corrections: it computes what the original does."""
        self._model(way)
        return self._models[way.strength, False, False][0]

    # What a way needs -----------------------------------------------------------------------------------------

    def _model(self, way: Way) -> tuple[Model, Rounder]:
        key = (way.strength, way.corrected, way.rounded)
        if key not in self._models:
            source, plain = self._equalized(way.strength)
            if key in self._models:
                return self._models[key]
            model, rounder = source.clone(), Rounder() if way.rounded else plain
            for graph in model.graphs:
                statistics, factors = self._scaled[way.strength]
                codes = round_adaptively(graph, self._rows(factors)) if way.rounded else {}
                if way.corrected:
                    correct_biases(graph, statistics, {node: found[1] for node, found in codes.items()})
                for weights, found in codes.values():
                    rounder.prescribe(weights, found)
            self._models[key] = model, rounder
        return self._models[key]

    def _equalized(self, strength: float) -> tuple[Model, Rounder]:
        key = (strength, False, False)
        if key not in self._models:
            model = self._models[0.0, False, False][0].clone()
            statistics = copied(self._statistics)
            half = None if self._half is None else copied(self._half)
            factors: dict[TensorKey, Array] = {}
            for graph in model.graphs:
                for value, scaled in equalize(graph, statistics, strength).items():
                    factors[key_of(value)] = scaled
                    if half is not None:
                        half.scale(value, scaled)
            self._models[key] = model, Rounder()
            self._scaled[strength], self._scaled_half[strength] = (statistics, factors), half
        return self._models[key]

    def _rows(self, factors: dict[TensorKey, Array]) -> Callable[[Value], Array | None]:
        """A few places of a tensor, all its channels, as equalization has left them."""

        def rows(value: Value) -> Array | None:
            key = key_of(value)
            kept = self._keeper.rows_of(key)
            if not kept or len({part.shape[1] for part in kept}) > 1:
                return None
            joined = np.concatenate(kept)
            scaled = factors.get(key)
            return joined if scaled is None else joined * scaled

        return rows

    # Ranges ---------------------------------------------------------------------------------------------------

    def ranged(self, way: Way, *, is_half: bool = False) -> Statistics:
        """Statistics whose smallest and largest values are the ranges that the way's method chooses; of every other
        sample only."""
        self._model(way)
        return Ranged(lambda key: self._range(way.strength, way.method, key, is_half))

    def _range(
        self, strength: float, method: RangeMethod, key: TensorKey, is_half: bool = False
    ) -> TensorStatistics | None:
        memory = (strength, method, key, is_half)
        if memory not in self._ranges:
            statistics, factors = self._scaled[strength]
            half = self._scaled_half[strength]
            known = (half if is_half and half is not None else statistics).tensors.get(key)
            found = None if known is None else self._found_range(known, factors.get(key), method, key, is_half)
            self._ranges[memory] = found
        return self._ranges[memory]

    def _found_range(
        self, known: TensorStatistics, factors: Array | None, method: RangeMethod, key: TensorKey, is_half: bool
    ) -> TensorStatistics:
        kept = self._keeper.rows_of(key, is_half) if method.needs_histogram and key not in self._wide else []
        if known.is_empty or not kept:
            return known
        seen = TensorStatistics()
        seen.histogram = np.zeros(BUCKETS, np.int64)
        for rows in kept:
            fits = factors is None or factors.size == rows.shape[1]
            add_to_histogram(seen.histogram, rows * factors if factors is not None and fits else rows)
        seen.histogram *= self._keeper.shares[key]
        for ends in (known.channel_minimum, known.channel_maximum):  # the few kept show nothing of the ends
            if ends is not None:
                add_to_histogram(seen.histogram, ends)
        seen.count, seen.minimum, seen.maximum = int(seen.histogram.sum()), known.minimum, known.maximum
        found = range_of(seen, method) if seen.count else None
        if found is None:
            return known
        result = TensorStatistics()
        result.count, result.samples = known.count, known.samples
        result.minimum, result.maximum = found
        return result

    # Refining -------------------------------------------------------------------------------------------------

    def _refine(self, way: Way, few: Bench, measured: Measured, progress: Report | None) -> tuple[Statistics, Measured]:
        """Ranges by other methods, for one part of the model after another; kept where they make the noise less."""
        parts = list(_parts(self._model(way)[0], PARTS))
        chosen: dict[TensorKey, RangeMethod] = {}
        statistics = self.ranged(way)
        others = [method for method in OTHERS if method != way.method]
        total = len(parts) * len(others)
        for place, part in enumerate(parts):
            for turn, method in enumerate(others):
                if progress is not None:
                    progress(place * len(others) + turn, total, f"trying {named(method)} on part {place + 1}")
                tried = {**chosen, **dict.fromkeys(part, method)}
                trial = Ranged(partial(self._refined, way, tried))
                result = few.measure(self.quantized(way, trial)[0])
                if result.noise < measured.noise:
                    statistics, measured, chosen = trial, result, tried
        return statistics, measured

    def _refined(self, way: Way, methods: Mapping[TensorKey, RangeMethod], key: TensorKey) -> TensorStatistics | None:
        return self._range(way.strength, methods.get(key, way.method), key)


PRODUCTS = 6.5e9  # of numbers, in one trial: samples beyond what this allows are left out
LEAST = 6  # samples of a trial


def affordable(model: Model) -> int:
    """How many samples to measure a trial with: fewer where a model computes much, the same on every machine."""
    products = 1.0
    for node in (node for graph in model.graphs for node in graph if node.op in LAYERS):
        weights, dims = layer_weights(node), node.output.shape.dims or ()
        if weights is not None:
            places = math.prod(dim for dim in dims[:-1] if isinstance(dim, int))
            products += float(places) * weights.size
    return max(LEAST, int(PRODUCTS / products))


LONGER = 2  # times as many samples for the best
FINALISTS = 2  # at least, of which what all samples say counts as much as what half of them say
PARTS = 12  # that a model is divided into for refining


def _parts(model: Model, count: int) -> Iterator[list[TensorKey]]:
    """Tensors in the order they are computed, divided into parts."""
    keys = [key_of(value) for graph in model.graphs for node in graph.topological_order() for value in node.outputs]
    size = max(1, -(-len(keys) // count))
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
