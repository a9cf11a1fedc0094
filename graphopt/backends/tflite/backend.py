"""The backend: prepare the model with passes, lower it by rules, tidy up, and say what did not fit."""

from __future__ import annotations

from typing import Any

from graphopt.backends.base import Finding, Lowered, UnloweredError, make_options
from graphopt.backends.ends import drop_idle_targets, guard_outputs, plain_outputs
from graphopt.backends.signatures import chosen_signatures, distinct_signatures
from graphopt.backends.tables import drop_tables, hold_contents
from graphopt.backends.tflite.adoption import adopt, shorten_names
from graphopt.backends.tflite.conversion import tell_origin
from graphopt.backends.tflite.findings import leftovers
from graphopt.backends.tflite.legalize import COMPLEX, Legalize, LegalizeFirst
from graphopt.backends.tflite.options import TFLiteOptions
from graphopt.backends.tflite.passthrough import custom_notes, pass_through
from graphopt.backends.tflite.pictures import INLINE, loop_over_pictures
from graphopt.backends.tflite.signatures import join, signature_model
from graphopt.backends.tflite.tables import fill_tables
from graphopt.backends.tflite.variables import changing_variables, has_state, initialise, lower_handles, order_effects
from graphopt.ir.model import Model
from graphopt.ir.tensors import Tensor
from graphopt.passes.manager import PassManager
from graphopt.passes.report import RunReport

# What makes a frozen graph plain: one form for each computation, everything known folded, no lists of tensors.
PREPARE = (
    "strip-unused,sort{canonical=true},raise-control-flow,nest-cases,inline-functions{always=true},"
    "take-constant-branches,remove-nodes{dropout=true,assertions=true,defaults=true},"
    "remove-control-dependencies,infer-shapes,fold-constants,simplify,fold-batch-norms,merge-loop-variables,"
    "specialise-functions,plain-tensor-arrays{dynamic=true},plain-tensor-lists{dynamic=true},channels-last,merge-duplicates,"
    "strip-unused,remove-unused-functions"
)
UNROLL = "unroll-loops,"
UNORDER = "remove-control-dependencies,"
# Operators of TFLite for what several of TensorFlow's compute together, before each is lowered by itself.
RECOGNISE = "recognise-gelu"
FUSE_LSTM = "fuse-lstm,merge-duplicates,strip-unused,remove-unused-functions"
# What is worth doing to operators of TFLite.
FINISH = (
    "recognise-softmax,factor-sums,move-scales,cancel-transposes,recognise-activations,merge-reshapes,fuse-bias,"
    "fuse-dilation,fuse-padding,fuse-activations,merge-duplicates"
)
ROUNDS = 8


class TFLiteBackend:
    """Lowers to LiteRT's builtin operators."""

    name = "tflite"

    def check(self, model: Model, **options: Any) -> list[Finding]:
        """Every node that has no builtin form, in the order of the graph; nothing is changed."""
        return self._lower(model, make_options(TFLiteOptions, self.name, options))[1]

    def lower(self, model: Model, **options: Any) -> Lowered:
        """A model of TFLite's dialect. Raises `UnloweredError` where some node has no builtin form."""
        chosen = make_options(TFLiteOptions, self.name, options)
        lowered, findings = self._lower(model, chosen)
        if findings:
            raise UnloweredError("TFLite", findings)
        if chosen.conversion_metadata:
            tell_origin(lowered.model, model.format, chosen.allow_custom_ops, chosen.allow_flex)
        return lowered

    def _lower(self, model: Model, options: TFLiteOptions) -> tuple[Lowered, list[Finding]]:
        groups = chosen_signatures(distinct_signatures(model), options.signatures)
        parts: list[Model] = []
        findings: list[Finding] = []
        report = RunReport()
        values: dict[str, Tensor | None] = {}
        changed = changing_variables(model, groups)
        for group in groups:
            part = signature_model(model, group, len(groups) == 1, changed)
            self._lower_part(part, options, report, findings)
            parts.append(part)
            values.update((name, variable.value) for name, variable in part.variables.items())
        joined = join(parts)
        notes: list[str] = []
        if not findings:
            notes = initialise(joined, values)
            fill_tables(joined)
        adopt(joined)
        if not findings:
            _run(FINISH, joined, report, rounds=ROUNDS)
            shorten_names(joined)
        return Lowered(joined, report, custom_notes(joined) + notes), list(dict.fromkeys(findings))

    def _lower_part(self, part: Model, options: TFLiteOptions, report: RunReport, findings: list[Finding]) -> None:
        part.metadata = {}  # what a SavedModel keeps for being loaded, functions among it
        hold_contents(part)
        drop_idle_targets(part)
        order_effects(part)
        guard_outputs(part)
        prepare = PREPARE.replace(UNORDER, "") if has_state(part) else PREPARE
        _run(prepare, part, report, rounds=ROUNDS)
        if options.unroll:  # by now lists are tensors, whose sizes follow from what loops are given
            _run(UNROLL + prepare, part, report, rounds=ROUNDS)
        if loop_over_pictures(part):
            _run(INLINE, part, report)
        plain_outputs(part)
        if options.fuse_lstm:
            _run(FUSE_LSTM, part, report)
        _run(RECOGNISE, part, report)
        guard_outputs(part)
        if any(node.op in COMPLEX for graph in part.graphs for node in graph):
            _run(LegalizeFirst(options), part, report)
        legalize = Legalize(options)
        _run(legalize, part, report)
        plain_outputs(part)
        lower_handles(part)
        drop_tables(part)
        pass_through(part, options)
        findings += leftovers(part, legalize.refusals, options)


def _run(passes: Any, model: Model, report: RunReport, rounds: int = 1) -> None:
    done = PassManager(passes, verify_each=False, rounds=rounds).run(model)
    report.passes += done.passes
    report.seconds += done.seconds
