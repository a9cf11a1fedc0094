"""Lowering to a target, and asking beforehand what would not lower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphopt.backends.base import Finding, Lowered, find_backend
from graphopt.discovery import Names
from graphopt.ir.errors import UnsupportedError
from graphopt.ir.model import Model
from graphopt.passes.manager import PassManager
from graphopt.passes.report import RunReport

XLA = "xla"


def lower(source: Any, target: str, *, inputs: Names = None, outputs: Names = None, **options: Any) -> Lowered:
    """Express the model that `source` holds by the operators of `target`: `tflite`, or a plugin's.

    `source` is what `load` takes, a SavedModel's folder above all, and stays as it is. `options` are the target's. The
    result is written by `save(lowered.model, path)`.

    Raises `UnloweredError`, an `UnsupportedError` with a finding for each node that has no form there, and
    `UsageError` for a target or an option that there is not.
    """
    backend = find_backend(target)
    with _held():
        model = read_for_lowering(source, inputs, outputs)
        return backend.lower(model, **options) if model.format != XLA else _program(model, target, options)


def check(source: Any, target: str, *, inputs: Names = None, outputs: Names = None, **options: Any) -> list[Finding]:
    """Every node of the model that `target` cannot express, with its origin, the reason and what helps."""
    backend = find_backend(target)
    with _held():
        return backend.check(read_for_lowering(source, inputs, outputs), **options)


def _program(model: Model, target: str, options: Mapping[str, Any]) -> Lowered:
    """A model that is a program of XLA is lowered to XLA already, and has no operators for anything else."""
    if target == XLA and not options:
        return Lowered(model, RunReport(), ["the model is lowered to XLA already"])
    from graphopt.importers.stablehlo.exports import REASON

    reason = model.metadata.get(REASON, "it was lowered")
    raise UnsupportedError(f"the model is a program of XLA, without operators to lower: {reason}")


def read_for_lowering(source: Any, inputs: Names = None, outputs: Names = None) -> Model:
    """A copy of the model that `source` holds, with what its signatures need and nothing else.

    What a model of TFLite does besides, such as assigning to variables, hangs on no output: it stays whole.
    """
    from graphopt import sources

    model = sources.read(source, inputs=inputs, outputs=outputs, saves=False).model
    if model.format != "tflite":
        PassManager("strip-unused,remove-unused-functions", verify_each=False).run(model)
    return model


def _held() -> Any:
    from graphopt.api import garbage_held

    return garbage_held()
