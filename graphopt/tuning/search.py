"""The fewest bytes in higher precision that meet an accuracy: which parts of a model to keep from int8.

The errors of parts that lie apart add up, nearly. So the model is divided into parts along the order of computing, each
is quantized alone to learn its share of the noise, and parts are kept in higher precision in the order of noise saved
for each byte added. How many must be is found by bisection; then those that turn out not to be needed are given
back. Weights stay in int8 for longer than activations do: `weight-only` is tried before, and beside, the others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.model import Model
from graphopt.ir.value import Node
from graphopt.passes.quantize.plan import Plan
from graphopt.passes.quantize.recipe import Mode, Recipe
from graphopt.tuning.choosing import Report
from graphopt.tuning.laboratory import Laboratory, Trial, Unit, unit_of
from graphopt.tuning.measuring import Accuracy

STORED: Mode = "weight-only"  # adds no bytes, so that the rest may be in it too
PARTS = 32  # at most, that a model is divided into
HIGHER: tuple[Mode, ...] = ("weight-only", "float16", "float", "int16x8")
_CLOSE = 0.02  # of the bytes: time saved counts more than less than this
_OPERATOR = 64  # bytes that an operator in higher precision is counted as, for the time it takes


@dataclass
class Point:
    """One recipe that was measured: `kept` names the operators in higher precision, `precision` says which, `rest` what
    all others are in: int8, or weight-only where that alone was not enough."""

    accuracy: Accuracy
    bytes: int
    precision: str
    kept: tuple[str, ...]
    rest: str
    recipe: Recipe


@dataclass
class Found:
    """The best that was found: quantized `model`, its `recipe`, and `points`, those that no other beats in both
    accuracy and bytes, from small to large. `meets` says whether the budget is met; it is not where it cannot be, or
    where the time was up before."""

    model: Model
    plan: Plan
    recipe: Recipe
    best: Point
    meets: bool
    points: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def search(
    source: Any,
    data: Any,
    *,
    snr: float | None = None,
    centred: float | None = None,
    max_error: float | None = None,
    recipe: Any = "int8",
    precisions: Sequence[str] = ("weight-only", "float16"),
    profile: str = "litert",
    effort: str = "default",
    seconds: float | None = 600.0,
    state: str | os.PathLike[str] | None = None,
    progress: Report | None = None,
) -> Found:
    """Quantize so that a budget is met, keeping the fewest bytes in higher precision.

    The budget is any of: a least ratio of signal to noise in dB (`snr`, or `centred`: without what is common to all
    samples), and a largest absolute error (`max_error`) of the outputs. `precisions` are what operators may be kept in:
    `weight-only` (int8 weights, float computing), `float16` (weights of half precision, float computing), `float`,
    `int16x8`. `source`, `data`, `recipe`, `profile` and `effort` are as `quantize` takes them. After `seconds` the
    best so far is returned. With `state`, a file, a search that was interrupted goes on.

    Raises `UsageError` for no budget or an unknown precision, and where nothing can be measured.
    """
    budget = _Budget(snr, centred, max_error)
    modes = [mode for name in precisions for mode in HIGHER if mode == name]
    if len(modes) != len(precisions) or not modes:
        unknown = next((name for name in precisions if name not in HIGHER), "")
        raise UsageError(f"there is no precision '{printable(unknown)}' to keep; there are {', '.join(HIGHER)}")
    laboratory = Laboratory(source, data, recipe, profile, effort, seconds, state, progress)
    seeker = _Seeker(laboratory, budget, progress)
    seeker.run(modes)
    best = seeker.best()
    model, plan = laboratory.quantized(best.recipe)
    notes = [*laboratory.notes, *plan.notes]
    meets = budget.holds(best.accuracy)
    if not meets:
        why = "the time was up" if laboratory.is_late else "no recipe tried meets it"
        notes.append(f"the budget is not met ({why}): the most accurate recipe found is returned")
    return Found(model, plan, best.recipe, best, meets, seeker.pareto(), notes)


class _Budget:
    """What the outputs must hold."""

    def __init__(self, snr: float | None, centred: float | None, max_error: float | None):
        if snr is None and centred is None and max_error is None:
            raise UsageError("a search needs a budget: snr or centred, in dB, or max_error")
        self._snr, self._centred, self._max_error = snr, centred, max_error

    def holds(self, found: Accuracy) -> bool:
        return (
            (self._snr is None or found.snr >= self._snr)
            and (self._centred is None or found.centred >= self._centred)
            and (self._max_error is None or found.max_error <= self._max_error)
        )


class _Seeker:
    """One search."""

    def __init__(self, laboratory: Laboratory, budget: _Budget, progress: Report | None):
        self._laboratory, self._budget, self._progress = laboratory, budget, progress
        self._points: dict[tuple[str, str, tuple[str, ...]], Point] = {}
        self._units = _divided(laboratory.integer_nodes())

    def run(self, modes: Sequence[Mode]) -> None:
        """Fill the list of points."""
        if self._holds([], modes[0]) or self._laboratory.is_late:
            return
        alone: list[float] = []
        for place, unit in enumerate(self._units):
            if self._laboratory.is_late:
                return
            self._say(place, f"part {place + 1} alone")
            alone.append(self._laboratory.measure(self._laboratory.alone(unit)).noise)
        for mode in modes:
            self._seek(mode, alone)
            if mode != STORED and STORED in modes:
                self._seek(mode, alone, STORED)

    def _seek(self, mode: Mode, alone: Sequence[float], rest: Mode = "int8") -> None:
        growth = {"float16": 1, "float": 3}.get(mode, 0)
        gain = [noise / (unit.weights * growth + _OPERATOR * len(unit.names))
                for noise, unit in zip(alone, self._units, strict=True)]  # fmt: skip
        order = sorted(range(len(gain)), key=lambda place: -gain[place])
        if not self._holds(order, mode, rest):
            return
        few, many = 0, len(order)
        while many - few > 1 and not self._laboratory.is_late:
            middle = (few + many) // 2
            if self._holds(order[:middle], mode, rest):
                many = middle
            else:
                few = middle
        kept = order[:many]
        for place in sorted(kept, key=lambda item: gain[item]):
            if self._laboratory.is_late:
                return
            fewer = [item for item in kept if item != place]
            if self._holds(fewer, mode, rest):
                kept = fewer

    def _holds(self, places: Sequence[int], mode: Mode, rest: Mode = "int8") -> bool:
        """Measure with these parts kept in higher precision."""
        if not places and rest != "int8":
            return self._holds(range(len(self._units)), rest)
        units = [self._units[place] for place in sorted(places)]
        self._say(0, f"{len(units)} of {len(self._units)} parts in {mode}, {rest} beside")
        others = [unit for unit in self._units if unit not in units] if rest != "int8" else []
        recipe = self._laboratory.kept({rest: others, mode: units})
        trial: Trial = self._laboratory.measure(recipe)
        names = tuple(name for unit in units for name in unit.names)
        precision = mode if names else rest
        self._points[mode, rest, names] = Point(trial.accuracy, trial.bytes, precision, names, rest, recipe)
        return self._budget.holds(trial.accuracy)

    def _say(self, place: int, what: str) -> None:
        if self._progress is not None:
            self._progress(place, len(self._units), what)

    def best(self) -> Point:
        """The cheapest that meets the budget; the most accurate where none does."""
        points = list(self._points.values())
        good = [point for point in points if self._budget.holds(point.accuracy)]
        if good:
            return cheapest(good, sum(len(unit.names) for unit in self._units))
        return max(points, key=lambda point: (point.accuracy.snr, -point.bytes))

    def pareto(self) -> list[Point]:
        """Points that no other beats in both, from small to large."""
        found: list[Point] = []
        for point in sorted(self._points.values(), key=lambda point: (point.bytes, -point.accuracy.snr)):
            if not found or point.accuracy.snr > found[-1].accuracy.snr:
                found.append(point)
        return found


def cheapest(points: Sequence[Point], operators: int) -> Point:
    """The fewest operators that do not compute in int8, out of so many, among points with about the fewest bytes."""
    least = min(point.bytes for point in points)

    def cost(point: Point) -> tuple[int, int, float]:
        return len(point.kept) if point.rest == "int8" else operators, point.bytes, -point.accuracy.snr

    return min((point for point in points if point.bytes <= least * (1 + _CLOSE)), key=cost)


def _divided(nodes: Sequence[Node]) -> list[Unit]:
    """Operators in parts of about as many each."""
    size = max(1, -(-len(nodes) // PARTS))
    return [unit_of(nodes[start : start + size]) for start in range(0, len(nodes), size)]


def points_as_rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """For files and tables."""
    return [
        {
            **{name: round(value, 6) for name, value in point.accuracy._asdict().items()},
            "bytes": point.bytes, "precision": point.precision, "rest": point.rest, "kept": list(point.kept),
            "recipe": msgspec.to_builtins(point.recipe),
        }
        for point in points
    ]  # fmt: skip
