"""Quantizing a model: from a float `.tflite`, or from a TensorFlow model that is lowered first."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt.discovery import Names
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.model import Model
from graphopt.lowering import read_for_lowering
from graphopt.passes.quantize.delegates import XNNPACK, Delegate
from graphopt.passes.quantize.plan import Plan, Supports, make_plan, types_around
from graphopt.passes.quantize.quantize import quantize_model
from graphopt.passes.quantize.recipe import MODES, PRESETS, Recipe, load_recipe, preset
from graphopt.passes.quantize.statistics import Statistics
from graphopt.runtimes.observation import is_seen

if TYPE_CHECKING:
    from graphopt.backends.observed import Observed
    from graphopt.samples import Samples
    from graphopt.tuning.choosing import Chosen, Report

PROFILES = ("litert", "micro", "integer")
INTEGER = "integer"
KEEPING = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE"})
"""Operators that keep the elements of a tensor as they are."""
EFFORTS = ("fast", "default", "high")


@dataclass
class Quantized:
    """A quantized model, what was decided for each operator, the statistics gathered, notes for the user, and where
    ways to quantize were tried, which were and how good they are."""

    model: Model
    plan: Plan
    statistics: Statistics | None = None
    notes: list[str] = field(default_factory=list)
    chosen: Chosen | None = None


def quantize(
    source: Any,
    recipe: Recipe | str | os.PathLike[str] = "int8",
    *,
    data: Samples | str | os.PathLike[str] | None = None,
    calibration: Statistics | str | os.PathLike[str] | None = None,
    input_type: str | None = None,
    output_type: str | None = None,
    profile: str = "litert",
    effort: str = "default",
    inputs: Names = None,
    outputs: Names = None,
    check: bool = True,
    progress: Report | None = None,
) -> Quantized:
    """Quantize a copy of the model that `source` holds, for LiteRT.

    `source` is a float `.tflite`, or whatever `lower` takes to TFLite. `recipe` is a mode (`int8`, `int16x8`,
    `dynamic`, `weight-only`, `float16`), a `Recipe`, or the path of one. Modes that quantize activations ahead of time
    need `calibration`, statistics or a file of them, or `data` to gather them from: the path of an `.npz`, or samples.
    `input_type` and `output_type` (float32, int8, uint8, int16) overrule the recipe's. `profile` names the kernels
    that the model must run on. `effort` says how hard to try for accuracy in int8, given data: `fast` takes the ranges
    seen, `default` measures a few ways and takes the best, `high` many, which takes some fifty times as long. With
    `check` off, what is wrong with the samples is noted instead of raised.

    Raises `UsageError` for what is missing or unknown, `UnsupportedError` where the model cannot be lowered.
    """
    from graphopt.backends.tflite.conversion import tell_modes

    chosen = with_types(read_recipe(recipe), input_type, output_type)
    supports, delegate = kernels_of(profile), delegate_of(profile)
    if effort not in EFFORTS:
        raise UsageError(f"there is no effort '{printable(effort)}'; there are {', '.join(EFFORTS)}")
    origin = read_for_lowering(source, inputs, outputs)
    model, notes = _lowered(origin)
    if profile != PROFILES[0]:
        _refuse_missing(make_plan(model, chosen, supports, delegate), supports, profile)
    if data is None or calibration is not None or not chosen.needs_statistics:
        known = (
            None if calibration is None else _known(model, calibration, make_plan(model, chosen, supports, delegate))
        )
        result = Quantized(model, Plan(), None if known is None else known.statistics, notes)
        result.plan = quantize_model(model, chosen, known, supports, delegate=delegate)
    else:
        from graphopt.tuning.flow import prepare

        found = prepare(model, chosen, data, effort, supports, delegate, progress, check, origin)
        result = Quantized(found.model, Plan(), found.statistics, [*notes, *found.notes], found.chosen)
        result.plan = quantize_model(
            found.model, chosen, found.ranges, supports, delegate=delegate, rounding=found.rounding
        )
    if profile == INTEGER:  # of a tensor no range may be known
        refuse_floats(result.plan, "the profile 'integer'")
    result.notes += result.plan.notes
    tell_modes(result.model, result.plan)
    return result


def plan_of(
    source: Any,
    recipe: Recipe | str | os.PathLike[str] = "int8",
    *,
    profile: str = "litert",
    inputs: Names = None,
    outputs: Names = None,
) -> Plan:
    """What `quantize` would decide for each operator, without statistics and without changing anything."""
    model, _ = tflite_model(source, inputs, outputs)
    return make_plan(model, read_recipe(recipe), kernels_of(profile), delegate_of(profile))


def read_recipe(recipe: Recipe | str | os.PathLike[str]) -> Recipe:
    """A recipe as it is, that of a mode, or that in a file. Raises `UsageError` for a name that is none of them."""
    if isinstance(recipe, Recipe):
        return recipe
    name = os.fspath(recipe)
    if name in PRESETS:
        return preset(name)
    if name.endswith(".json") or os.path.isfile(name):
        return load_recipe(name)
    raise UsageError(f"'{printable(name)}' is neither a mode ({', '.join(MODES[1:])}) nor the path of a recipe")


def with_types(recipe: Recipe, input_type: str | None, output_type: str | None) -> Recipe:
    """The recipe with other types at the model's borders. Raises `UsageError` for a type that cannot be one."""
    import msgspec

    for given in (input_type, output_type):
        if given not in (None, "float32", "int8", "uint8", "int16"):
            raise UsageError(f"a model's inputs and outputs are float32, int8, uint8 or int16, not {printable(given)}")
    changes = {"input_type": input_type, "output_type": output_type}
    return msgspec.structs.replace(recipe, **{name: value for name, value in changes.items() if value is not None})


def kernels_of(profile: str) -> Supports:
    """What the kernels of a target profile take. Raises `UsageError` for an unknown one."""
    if profile not in PROFILES:
        raise UsageError(f"there is no profile '{printable(profile)}'; there are {', '.join(PROFILES)}")
    from graphopt.backends.tflite.profiles import PROFILE_KERNELS

    return PROFILE_KERNELS[profile]


def delegate_of(profile: str) -> Delegate | None:
    """What a target profile computes most with; None where all is computed by the same kernels."""
    return XNNPACK if profile == "litert" else None


def tflite_model(source: Any, inputs: Names, outputs: Names) -> tuple[Model, list[str]]:
    """A copy of the model in TFLite's dialect, lowered where it is TensorFlow's; and notes."""
    return _lowered(read_for_lowering(source, inputs, outputs))


def _lowered(model: Model) -> tuple[Model, list[str]]:
    if model.format == "tflite":
        return model, []
    from graphopt.backends.base import find_backend

    lowered = find_backend("tflite").lower(model)
    return lowered.model, lowered.notes


def _refuse_missing(plan: Plan, supports: Supports, profile: str) -> None:
    """Raise `UnloweredError` naming what no kernel of the profile computes, before any work is done."""
    if profile == INTEGER:
        refuse_floats(plan, "the profile 'integer'")
        return
    from graphopt.backends.base import Finding, UnloweredError

    findings = []
    for node, decision in plan.decisions.items():
        reason = None if decision.activation is not None else supports(node.op_type, *types_around(node), node.attrs)
        if reason is not None:
            findings.append(Finding(node.name, node.op, node.source_names, reason, "choose another profile"))
    if findings:
        raise UnloweredError(f"the profile '{profile}'", findings)


def refuse_floats(plan: Plan, target: str) -> None:
    """Raise `UnloweredError` naming the operators that would compute with floats, which `target` does not have."""
    from graphopt.backends.base import Finding, UnloweredError

    findings = [
        Finding(node.name, node.op, node.source_names, decision.reason, "quantize it, or choose another profile")
        for node, decision in plan.decisions.items()
        if decision.activation is None and any(value.dtype.is_float for value in node.outputs)
    ]
    if findings:
        raise UnloweredError(target, findings)


def _known(model: Model, calibration: Any, plan: Plan) -> Observed:
    """Given statistics, of this model or of the one it was lowered from.

    Raises `UsageError` where the plan needs some and they know no tensor of the model.
    """
    from graphopt.backends.observed import Observed, given_statistics

    known = Observed(given_statistics(calibration), KEEPING)
    floats = [value for graph in model.graphs for node in graph for value in node.outputs if is_seen(value)]
    is_needed = any(decision.activation is not None for decision in plan.decisions.values())
    if is_needed and not any(known.of(value) is not None for value in floats):
        raise UsageError("the statistics know no tensor of this model: calibrate it (graphopt calibrate)")
    return known
