"""The backend: prepare each signature with passes, emit it as StableHLO, and say what has no form there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphopt.backends.base import Finding, Lowered, UnloweredError, make_options
from graphopt.backends.signatures import chosen_signatures, distinct_signatures
from graphopt.backends.xla.bindings import bindings, make_context
from graphopt.backends.xla.emitter import Emitted, Emitter
from graphopt.backends.xla.layer import Layer
from graphopt.backends.xla.options import INTEGER, XlaOptions
from graphopt.backends.xla.preparation import Prepared, prepared
from graphopt.backends.xla.program import Program, model_of
from graphopt.backends.xla.serialization import serialized
from graphopt.ir.errors import UnsupportedError
from graphopt.ir.model import Model
from graphopt.ir.value import Node
from graphopt.passes.report import RunReport


class XlaBackend:
    """Lowers to StableHLO, which JAX runs and XLA compiles."""

    name = "xla"

    def check(self, model: Model, **options: Any) -> list[Finding]:
        """Every node that has no rule, or whose rule refuses it, in the order of the graph; nothing is changed."""
        settings = make_options(XlaOptions, self.name, options)
        found: dict[tuple[str, str], Finding] = {}
        for group in chosen_signatures(distinct_signatures(model), settings.signatures):
            try:
                findings = self._emit(model, group[0], settings, RunReport())[1].findings
            except UnloweredError as error:  # before anything could be emitted
                findings = list(error.findings)
            for finding in findings:
                found.setdefault((finding.graph, finding.node), finding)
        return list(found.values())

    def lower(self, model: Model, **options: Any) -> Lowered:
        """A model that holds a StableHLO program for each signature.

        Raises `UnloweredError` where some node has no form there and TensorFlow is not to lower the graph instead.
        """
        settings = make_options(XlaOptions, self.name, options)
        report, notes = RunReport(), list[str]()
        programs = []
        for group in chosen_signatures(distinct_signatures(model), settings.signatures):
            part, emitted = self._emit(model, group[0], settings, report, notes)
            if not emitted.findings:
                code = serialized(emitted.module, settings.minimum_version)
                programs.append(Program.of(part.model.signatures[group[0]], group, code, settings, emitted))
                programs[-1].state = part.state
                continue
            if not settings.fallback:
                raise UnloweredError("XLA", emitted.findings)
            programs.append(_fallen_back(part.model, group, settings, emitted.findings, notes))
            programs[-1].state = part.state
        return Lowered(model_of(programs, settings), report, notes)

    def _emit(
        self, model: Model, name: str, options: XlaOptions, report: RunReport, notes: list[str] | None = None
    ) -> tuple[Prepared, Emitted]:
        """The prepared part of a model that a signature needs, and what it becomes; `check` wants no notes."""
        bindings()
        part = prepared(model, name, options, report)
        layers: Mapping[Node, Layer] = {}
        if notes is not None and options.precision in INTEGER:
            from graphopt.backends.xla.integers import plan_integers

            plan = plan_integers(part.model, options)
            layers = plan.layers
            notes += plan.notes
        with make_context(), bindings().ir.Location.unknown():
            return part, Emitter(part.model, options, layers).emit(part.model.signatures[name])


def _fallen_back(
    part: Model, group: tuple[str, ...], options: XlaOptions, findings: list[Finding], notes: list[str]
) -> Program:
    """TensorFlow's own lowering of the whole graph. Raises `UnloweredError` where that fails too."""
    from graphopt.backends.xla.fallback import lower_with_tensorflow

    operators = ", ".join(dict.fromkeys(finding.operator.partition(".")[2] for finding in findings))
    try:
        code = lower_with_tensorflow(part, group[0], options)
    except UnsupportedError as error:
        raise UnloweredError("XLA", findings) from error
    notes.append(f"'{group[0]}' was lowered by TensorFlow as a whole, because of {operators}")
    return Program.of(part.signatures[group[0]], group, code, options, producer="tensorflow")
