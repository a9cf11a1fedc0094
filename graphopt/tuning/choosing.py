"""Choosing how to quantize by measuring: a few ways that have proved good are tried, and the best is taken.

No single method of choosing ranges, scaling channels or correcting biases is the best for every model; which is, can be
measured in a fraction of a second each. What ranges of one half of the samples do to the other half counts as much as
what all do to all, since ranges that fit the samples too well clip others. Then, with effort `high`, ranges are chosen
anew for one part of the model after another. The order of trials is fixed, so the same model and samples give the same
result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np

from graphopt.ir.model import Model
from graphopt.ir.value import Value
from graphopt.passes.quantize.arithmetic import quantize
from graphopt.passes.quantize.channels import LAYERS, layer_weights
from graphopt.passes.quantize.correction import correct_biases, restore_bias
from graphopt.passes.quantize.delegates import Delegate
from graphopt.passes.quantize.equalization import equalize
from graphopt.passes.quantize.histogram import BUCKETS, add_to_histogram
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.parameters import Parameters
from graphopt.passes.quantize.plan import Plan, Supports, make_plan
from graphopt.passes.quantize.quantize import quantize_model
from graphopt.passes.quantize.ranges import range_of
from graphopt.passes.quantize.recipe import Recipe
from graphopt.passes.quantize.rounding import round_adaptively
from graphopt.passes.quantize.schemes import INT8_WEIGHT
from graphopt.passes.quantize.statistics import Statistics, TensorKey, TensorStatistics, key_of
from graphopt.tuning.measuring import Bench, Measured
from graphopt.tuning.watching import Keeper

Array = np.ndarray[Any, Any]
Report = Callable[[int, int, str], None]
MINMAX = RangeMethod("minmax")
PERCENTILE = RangeMethod("percentile", percentile=99.999)
MSE = RangeMethod("mse")


class Way(NamedTuple):
    """One way to quantize: the strength of equalization, whether biases are corrected, whether weights are rounded
    adaptively, and the method for ranges."""

    strength: float = 0.0
    corrected: bool = False
    rounded: bool = False
    method: RangeMethod = MINMAX

    def __str__(self) -> str:
        parts = [_named(self.method)]
        parts += [f"equalization {self.strength:g}"] * bool(self.strength)
        parts += ["bias correction"] * self.corrected + ["adaptive rounding"] * self.rounded
        return ", ".join(parts)


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


def ways(effort: str) -> list[Way]:
    """What is tried, the plain way first."""
    tried = [
        Way(), Way(0, True), Way(0, True, method=MSE), Way(0.5, True), Way(0.5, True, method=MSE),
        Way(0.5, True, method=_mse(100)),
    ]  # fmt: skip
    if effort == "high":
        methods = (MINMAX, PERCENTILE, MSE, _mse(10), _mse(100))
        tried += [Way(0, method=MSE), Way(0.25, True), Way(0.5), Way(0.5, True, method=_mse(10))]
        tried += [Way(strength, True, True, method) for strength in (0, 0.5) for method in methods]
    return tried


def _mse(clipping: float) -> RangeMethod:
    return RangeMethod("mse", clipping=clipping)


def _percentile(percentile: float) -> RangeMethod:
    return RangeMethod("percentile", percentile=percentile)


def _named(method: RangeMethod) -> str:
    if method.name == "percentile":
        return f"percentile {method.percentile:g}"
    return f"mse with clipping times {method.clipping:g}" if method.clipping != 1 else method.name


class Chooser:
    """Tries ways to quantize one float model. Neither `model` nor `statistics` change.

    `halves` are the statistics of every other sample, from the first and from the second on.
    """

    def __init__(
        self, model: Model, recipe: Recipe, statistics: Statistics, keeper: Keeper, bench: Bench, supports: Supports,
        delegate: Delegate | None, halves: Sequence[Statistics] = (),
    ):  # fmt: skip
        self.bench = bench
        self._recipe = msgspec.structs.replace(recipe, input_type="float32", output_type="float32")
        self._statistics, self._keeper, self._halves = statistics, keeper, halves
        self._supports, self._delegate = supports, delegate
        self._wide = _wide(model, self._recipe, supports, delegate)
        self._models: dict[tuple[float, bool, bool], tuple[Model, Rounder]] = {(0.0, False, False): (model, Rounder())}
        self._scaled: dict[float, tuple[Statistics, dict[TensorKey, Array]]] = {0.0: (statistics, {})}
        self._scaled_halves: dict[float, list[Statistics]] = {0.0: list(halves)}
        self._ranges: dict[tuple[float, RangeMethod, TensorKey, int | None], TensorStatistics | None] = {}

    def choose(self, effort: str, progress: Report | None = None) -> Chosen:
        """The best of the ways that go with `effort`.

        A way counts by its noise on samples that its ranges come from, times that on a second half of them with the
        ranges of the first: ranges that fit what was seen too well lose there. The best is not worse on the former than
        the plain way.
        """
        trials: list[tuple[Way, float]] = []
        seen: dict[Way, Measured] = {}
        listed, few = ways(effort), self.bench
        if effort != "high":
            few = few.part(affordable(self._models[0.0, False, False][0]))
        for place, way in enumerate(listed):
            if progress is not None:
                progress(place, len(listed), f"trying {way}")
            seen[way] = few.measure(self.quantized(way, self.ranged(way))[0])
            noise = seen[way].noise
            if self._halves:
                unseen = few.part(max(1, len(few.samples) // 2), 1)
                noise = math.sqrt(noise * unseen.measure(self.quantized(way, self.ranged(way, 0))[0]).noise)
            trials.append((way, noise))
        plain = seen[listed[0]]
        good = [(noise, place) for place, (way, noise) in enumerate(trials) if seen[way].noise <= plain.noise]
        way = listed[min(good)[1]]
        measured = seen[way]
        statistics = self.ranged(way)
        if effort == "high":
            statistics, measured = self._refine(way, few, measured, progress)
        model = self.prepared(way, self._recipe)
        return Chosen(model, statistics, self._model(way)[1], way, measured, plain, len(few.samples), trials)

    def quantized(self, way: Way, statistics: Statistics, recipe: Recipe | None = None) -> tuple[Model, Plan]:
        """A quantized copy, floats at its borders; by another recipe if given."""
        chosen = recipe or self._recipe
        copy = self.prepared(way, chosen)
        plan = quantize_model(
            copy, chosen, statistics, self._supports, delegate=self._delegate, rounding=self._model(way)[1]
        )
        return copy, plan

    def prepared(self, way: Way, recipe: Recipe) -> Model:
        """A copy of the float model as a way has it, biases corrected where the recipe has weights in int8."""
        model, source = self._model(way)[0].clone(), self._models[way.strength, False, False][0]
        if way.corrected:
            decisions = make_plan(model, recipe, self._supports, self._delegate).decisions
            for graph, original in zip(model.graphs, source.graphs, strict=True):
                twins = {node.name: node for node in original if node.op in LAYERS}
                for node in [node for node in graph if node.op in LAYERS]:
                    if not any(spec.scheme is INT8_WEIGHT for spec in decisions[node].weights.values()):
                        restore_bias(node, twins[node.name])
        return model

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
            halves = [copied(half) for half in self._halves]
            factors: dict[TensorKey, Array] = {}
            for graph in model.graphs:
                for value, scaled in equalize(graph, statistics, strength).items():
                    factors[key_of(value)] = scaled
                    for half in halves:
                        half.scale(value, scaled)
            self._models[key] = model, Rounder()
            self._scaled[strength], self._scaled_halves[strength] = (statistics, factors), halves
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

    def ranged(self, way: Way, half: int | None = None) -> Statistics:
        """Statistics whose smallest and largest values are the ranges that the way's method chooses; of a half only."""
        self._model(way)
        return Ranged(lambda key: self._range(way.strength, way.method, key, half))

    def _range(
        self, strength: float, method: RangeMethod, key: TensorKey, half: int | None = None
    ) -> TensorStatistics | None:
        memory = (strength, method, key, half)
        if memory not in self._ranges:
            statistics, factors = self._scaled[strength]
            seen = statistics if half is None else self._scaled_halves[strength][half]
            known = seen.tensors.get(key)
            found = None if known is None else self._found_range(known, factors.get(key), method, key, half)
            self._ranges[memory] = found
        return self._ranges[memory]

    def _found_range(
        self, known: TensorStatistics, factors: Array | None, method: RangeMethod, key: TensorKey, half: int | None
    ) -> TensorStatistics:
        kept = self._keeper.rows_of(key, half) if method.needs_histogram and key not in self._wide else []
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
        others = [method for method in (MINMAX, PERCENTILE, MSE, _mse(10)) if method != way.method]
        total = len(parts) * len(others)
        for place, part in enumerate(parts):
            for turn, method in enumerate(others):
                if progress is not None:
                    progress(place * len(others) + turn, total, f"trying {_named(method)} on part {place + 1}")
                tried = {**chosen, **dict.fromkeys(part, method)}
                trial = Ranged(partial(self._refined, way, tried))
                result = few.measure(self.quantized(way, trial)[0])
                if result.noise < measured.noise:
                    statistics, measured, chosen = trial, result, tried
        return statistics, measured

    def _refined(self, way: Way, methods: Mapping[TensorKey, RangeMethod], key: TensorKey) -> TensorStatistics | None:
        return self._range(way.strength, methods.get(key, way.method), key)


def _wide(model: Model, recipe: Recipe, supports: Supports, delegate: Delegate | None) -> frozenset[TensorKey]:
    """Tensors of 16 bits, whose ranges need no choosing."""
    decisions = make_plan(model, recipe, supports, delegate).decisions.items()
    return frozenset(
        key_of(value) for node, decision in decisions if decision.compute == "int16" for value in node.outputs
    )


class Ranged(Statistics):
    """Statistics with ranges in place of what was seen, each found when it is asked for."""

    def __init__(self, find: Callable[[TensorKey], TensorStatistics | None]):
        super().__init__(MINMAX)
        self._find = find

    def of(self, value: Value) -> TensorStatistics | None:
        """See `Statistics.of`."""
        return self._find(key_of(value))


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


PARTS = 12  # that a model is divided into for refining


def _parts(model: Model, count: int) -> Iterator[list[TensorKey]]:
    """Tensors in the order they are computed, divided into parts."""
    keys = [key_of(value) for graph in model.graphs for node in graph.topological_order() for value in node.outputs]
    size = max(1, -(-len(keys) // count))
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


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
