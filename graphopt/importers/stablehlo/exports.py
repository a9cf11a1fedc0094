"""Functions that JAX exported, as graphs; those that have no form in TensorFlow's operators, as programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphopt.backends.xla.blob import deserialized, program_model, type_of
from graphopt.importers.stablehlo.reading import read_module
from graphopt.importers.stablehlo.translation import ImportRefusal
from graphopt.ir.model import Model

REASON = "stablehlo_refusal"  # key of `Model.metadata`: why a program stayed one


def read_export(data: bytes, source: str) -> Model:
    """The model of what `jax.export.Exported.serialize` gives: inputs `x0`, `x1` and so on, outputs `y0` and so on.

    They are in the order of JAX's flattened arguments and results. Where an operation has no form in TensorFlow's
    operators, the model is the whole program, which only JAX runs, and its metadata have the reason. Raises
    `MalformedError`, and `UsageError` where JAX is not installed.
    """
    found = deserialized(data, source)
    try:
        return graph_of(found, source)
    except ImportRefusal as refusal:
        model = program_model(found, data, source)
        model.metadata[REASON] = str(refusal)
        return model


def graph_of(found: Any, source: str, names: Sequence[str] = (), *, trusted: bool = False) -> Model:
    """The graph of a `jax.export.Exported`. `names` are those of the inputs. Raises `ImportRefusal`."""
    kinds = [type_of(aval, source) for aval in found.in_avals]
    given = [(names[place] if place < len(names) else f"x{place}", kind) for place, kind in enumerate(kinds)]
    return read_module(
        bytes(found.mlir_module_serialized), source, inputs=given, kept=sorted(found.module_kept_var_idx),
        platforms=tuple(found.platforms), trusted=trusted,
    )  # fmt: skip
