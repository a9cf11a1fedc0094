"""Quantizing a TFLite model: the recipe decides, statistics give ranges, edits are made graph by graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.known import known_array
from graphopt.ir.model import Model
from graphopt.ir.tensors import Tensor
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.arithmetic import quantize
from graphopt.passes.quantize.boundary import set_boundary
from graphopt.passes.quantize.delegates import CLAMPS, Delegate
from graphopt.passes.quantize.integers import IntegerEdits, requantize_clamps, with_ranges
from graphopt.passes.quantize.kernels import PER_TENSOR
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.plan import Plan, Supports, make_plan
from graphopt.passes.quantize.ranges import Range, range_of
from graphopt.passes.quantize.recipe import Recipe
from graphopt.passes.quantize.schemes import Scheme
from graphopt.passes.quantize.statistics import TensorStatistics
from graphopt.passes.quantize.storage import StorageEdits
from graphopt.passes.quantize.trained import (
    Trained,
    fold_trained_weights,
    merge_requantizations,
    take_trained_ranges,
    trained_magnitudes,
)
from graphopt.passes.quantize.weights import Rounding, WeightQuantizer
from graphopt.passes.removal import remove_dead


class Known(Protocol):
    """What knows statistics of tensors, as `Statistics` does."""

    @property
    def method(self) -> RangeMethod:
        """How ranges are chosen unless the recipe says otherwise."""
        ...

    def of(self, value: Value) -> TensorStatistics | None:
        """What is known of a value, if anything is."""
        ...


def quantize_model(
    model: Model,
    recipe: Recipe,
    statistics: Known | None,
    supports: Supports,
    *,
    magnitudes: Mapping[Node, np.ndarray[Any, Any]] | None = None,
    delegate: Delegate | None = None,
    rounding: Rounding = quantize,
    plan: Plan | None = None,
) -> Plan:
    """Quantize `model`, of TFLite's dialect, in place; returns the plan as it was carried out.

    `magnitudes` are limits to clip weights at, by constant, as `weight_parameters` takes them. `delegate` is what the
    target computes most with, as `make_plan` takes it, and `rounding` what makes weights integers. `plan` is what
    `make_plan` says of these, where it was asked before.

    Raises `UsageError` where the recipe quantizes activations, there are no statistics, and training chose no ranges.
    """
    trained = _trained(model, recipe)
    plan = make_plan(model, recipe, supports, delegate) if plan is None else plan
    if statistics is None and not trained and any(item.activation for item in plan.decisions.values()):
        raise UsageError("the recipe quantizes activations ahead of time: calibrate first, or give data")
    if trained:
        magnitudes = {**_trained_limits(plan), **(magnitudes or {})}
    ranges = _Ranges(plan, statistics, trained)
    tensors: dict[Any, Tensor] = {}
    lost: dict[Node, str] = {}
    for graph in model.graphs:
        quantizer = WeightQuantizer(magnitudes, rounding, tensors)
        decisions = {node: plan.decisions[node] for node in graph if node in plan.decisions}
        wanted = {node: item.activation for node, item in decisions.items() if item.activation is not None}
        chosen, scales, left = with_ranges(wanted, ranges)
        lost.update(left)
        for node, reason in left.items():
            plan.demote(node, reason)
        specs = {node: decisions[node].weights for node in chosen}
        edits = IntegerEdits(graph, chosen, scales, specs, quantizer)
        edits.apply()
        if delegate is not None and recipe.islands:
            requantize_clamps(chosen, CLAMPS)
        storage = StorageEdits(graph, quantizer)
        for node, decision in decisions.items():
            if decision.activation is None and decision.mode != "float":
                storage.apply(node, decision)
        merge_requantizations(graph)
        remove_dead(graph, [node for node in graph if not node.has_uses])
    if lost:
        node, reason = next(iter(lost.items()))
        plan.notes.append(f"{len(lost)} operators stay float after all, '{printable(node.name)}' first: {reason}")
    plan.notes += set_boundary(model, recipe, ranges)
    return plan


def _trained(model: Model, recipe: Recipe) -> Trained:
    """Ranges that training chose; weights become what it made of them."""
    found: Trained = {}
    for graph in model.graphs:
        fold_trained_weights(graph)
        if recipe.needs_statistics:
            found.update(take_trained_ranges(graph))
    return found


def _trained_limits(plan: Plan) -> dict[Node, np.ndarray[Any, Any]]:
    """For constants that the plan makes integers: the limits that keep the steps of training."""
    found: dict[Node, np.ndarray[Any, Any]] = {}
    for node, decision in plan.decisions.items():
        for index, spec in decision.weights.items():
            value = node.input(index)
            array = known_array(value)
            if array is not None and array.size and not spec.block_size and not spec.clip:
                axis = None if spec.axis == PER_TENSOR else spec.axis
                found[value.node] = trained_magnitudes(array, axis, spec.scheme.highest)
    return found


class _Ranges:
    """Ranges of activations: those that training chose, or by the recipe of the operator that yields them."""

    def __init__(self, plan: Plan, statistics: Known | None, trained: Trained):
        self._plan, self._statistics, self._trained = plan, statistics, trained

    def __call__(self, value: Value, scheme: Scheme) -> Range | None:
        if value in self._trained:
            return self._trained[value]
        if self._statistics is None:
            return None
        found = self._statistics.of(value)
        if found is None:
            return None
        decision = self._plan.decisions.get(value.node)
        method = decision.recipe.calibration if decision is not None else None
        return range_of(found, method or self._statistics.method, bits=scheme.dtype.bits, symmetric=scheme.symmetric)
