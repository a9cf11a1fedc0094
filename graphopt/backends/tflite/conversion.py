"""Conversion metadata: what a model was converted from, by what, how, and which runtime it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphopt.ir.errors import MalformedError
from graphopt.ir.formats.tflite.metadata import attach_conversion_metadata, read_conversion_metadata, state_runtime
from graphopt.ir.formats.tflite.metadata_types import ConversionMetadata, ConversionOptions, Environment
from graphopt.ir.model import Model
from graphopt.passes.quantize.plan import Plan

API_VERSION = 2  # of the converter's interface
KINDS: Mapping[str, str] = {"savedmodel": "TF_SAVED_MODEL", "graphdef": "TF_GRAPH_DEF", "metagraph": "TF_GRAPH_DEF"}
MODES: Mapping[str, str] = {
    "float16": "PTQ_FLOAT16", "dynamic": "PTQ_DYNAMIC_RANGE", "weight-only": "PTQ_DYNAMIC_RANGE",
    "int8": "PTQ_FULL_INTEGER", "int16x8": "PTQ_INT16",
}  # fmt: skip


def tell_origin(model: Model, format: str, allow_custom_ops: bool, allow_flex: bool) -> None:
    """Say in a lowered model that it was converted from one of `format`."""
    from graphopt import __version__

    made = Environment(f"graphopt {__version__}", API_VERSION, KINDS.get(format, "NONE"))
    attach_conversion_metadata(model, ConversionMetadata(made, ConversionOptions((), allow_custom_ops, allow_flex)))
    state_runtime(model)


def tell_kind(model: Model, kind: str) -> None:
    """Say what kind of model it was converted from, as the schema names them, where it says anything of that."""
    held = read_conversion_metadata(model)
    if held is not None and held.environment is not None:
        attach_conversion_metadata(model, replace(held, environment=replace(held.environment, model_type=kind)))


def tell_modes(model: Model, plan: Plan) -> None:
    """Say how a model was quantized, beside how it was before, where it says anything of its conversion."""
    try:
        held = read_conversion_metadata(model)
    except MalformedError:  # of another converter: what it says stays
        return
    if held is None:
        return
    options = held.options or ConversionOptions()
    told = (MODES[decision.mode] for decision in plan.decisions.values() if decision.mode in MODES)
    modes = dict.fromkeys((*options.model_optimization_modes, *told))
    options = replace(options, model_optimization_modes=tuple(modes))
    attach_conversion_metadata(model, replace(held, options=options))
