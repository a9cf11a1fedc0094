"""The backend: prepare the model with passes, lower it by rules, and say what did not fit."""

from __future__ import annotations

from typing import Any

from graphopt.backends.base import Finding, Lowered, UnloweredError, make_options
from graphopt.backends.ends import drop_idle_targets, guard_outputs, plain_outputs
from graphopt.backends.onnx.adoption import ADOPTED, adopt
from graphopt.backends.onnx.legalize import Legalize, LegalizeFirst
from graphopt.backends.onnx.loops import own_outputs, restructure
from graphopt.backends.onnx.options import OnnxOptions
from graphopt.backends.onnx.rules.spectra import COMPLEX
from graphopt.backends.onnx.table import all_rules
from graphopt.backends.signatures import chosen_signatures, distinct_signatures
from graphopt.backends.tables import drop_tables, hold_contents
from graphopt.freezing import freeze_model
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.formats.onnx.elements import NUMBERS
from graphopt.ir.model import Model
from graphopt.ir.value import Node
from graphopt.passes.manager import PassManager
from graphopt.passes.report import RunReport

# What makes a frozen graph plain, channels first: one form for each computation, everything known folded.
PREPARE = (
    "strip-unused,sort{canonical=true},raise-control-flow,nest-cases,inline-functions{always=true},"
    "take-constant-branches,remove-nodes{dropout=true,assertions=true,defaults=true},"
    "remove-control-dependencies,infer-shapes,fold-constants,simplify,fold-batch-norms,merge-loop-variables,"
    "specialise-functions,plain-tensor-arrays,plain-tensor-lists{dynamic=true},merge-duplicates,strip-unused,"
    "remove-unused-functions"
)
RECURRENT = "fuse-recurrent,strip-unused,remove-unused-functions"
LAYOUT = (
    "fuse-dilations,recognise-upsampling,channels-first,infer-shapes,fold-constants,simplify,merge-duplicates,strip-unused,"
    "recognise-gelu{target=onnx}"
)
FINISH = (
    "push-transposes,drop-reshapes,fuse-layers,recognise-normalization,recognise-hard-swish,merge-duplicates,"
    "strip-unused"
)
WIDEN = "widen-types,merge-duplicates"
ROUNDS = 8


class OnnxBackend:
    """Lowers to ONNX's operators."""

    name = "onnx"

    def check(self, model: Model, **options: Any) -> list[Finding]:
        """Every node that has no form in ONNX, in the order of the graph; nothing is changed."""
        return self._lower(model, make_options(OnnxOptions, self.name, options))[1]

    def lower(self, model: Model, **options: Any) -> Lowered:
        """A model of ONNX's dialect. Raises `UnloweredError` where some node has no form there."""
        lowered, findings = self._lower(model, make_options(OnnxOptions, self.name, options))
        if findings:
            raise UnloweredError("ONNX", findings)
        return lowered

    def _lower(self, model: Model, options: OnnxOptions) -> tuple[Lowered, list[Finding]]:
        groups = chosen_signatures(distinct_signatures(model), options.signatures)
        if options.signatures and len(groups) > 1:
            raise UsageError("an ONNX file has one graph: name one signature")
        group = groups[0]
        part = model.clone()
        freeze_model(part, signature=group[0] if len(model.signatures) > 1 else None)
        part.signatures = {group[0]: part.signatures[group[0]]}
        part.metadata = {}
        report = RunReport()
        hold_contents(part)
        drop_idle_targets(part)
        _run(PREPARE, part, report, ROUNDS)
        _run(RECURRENT, part, report)
        _run(LAYOUT, part, report, 2)
        drop_idle_targets(part)
        restructure(part)
        plain_outputs(part)
        guard_outputs(part)
        if any(node.op in COMPLEX for graph in part.graphs for node in graph):
            _run(LegalizeFirst(options), part, report)
        legalize = Legalize(options)
        _run(legalize, part, report)
        plain_outputs(part)
        drop_tables(part)
        findings = _leftovers(part, legalize.refusals) + _untyped(part)
        adopt(part, options.opset)
        own_outputs(part)
        if not findings:
            _run(FINISH, part, report, ROUNDS)
            if options.widen:
                _run(WIDEN, part, report)
        return Lowered(part, report, _notes(part)), findings


def _leftovers(model: Model, refusals: Any) -> list[Finding]:
    """A finding for each node that is still TensorFlow's."""
    known = all_rules().operators()
    return [
        Finding(node.name, node.op, node.source_names, *_reason(node, refusals, known), graph.name)
        for graph in model.graphs
        for node in graph
        if node.dialect == "tf" and node.op not in ADOPTED
    ]


def _untyped(model: Model) -> list[Finding]:
    """A finding for each input and output of an element type that ONNX has no tensors of."""
    graph = model.graph
    return [
        Finding(
            value.node.name, value.node.op, value.node.source_names,
            f"its element type is {value.dtype.name}, which ONNX has no tensors of", "choose other inputs and outputs",
        )
        for value in dict.fromkeys((*graph.inputs, *graph.outputs))
        if value.dtype not in NUMBERS
    ]  # fmt: skip


def _notes(model: Model) -> list[str]:
    """What a user should know of a lowered model: transposes that stay, and shapes that are not said."""
    notes = []
    count = sum(node.op == "onnx.Transpose" for graph in model.graphs for node in graph)
    if count:
        notes.append(f"{count} transpose{'s' if count != 1 else ''} stay{'s' if count == 1 else ''}")
    for value in model.graph.inputs:
        if value.shape.rank is None:
            said = "ONNX Runtime takes it, ONNX's checker wants one (set-shapes)"
            notes.append(f"input '{printable(value.name)}' has no rank: {said}")
    return notes


def _reason(node: Node, refusals: Any, known: dict[str, None]) -> tuple[str, str]:
    refusal = refusals.get(node)
    if refusal is not None:
        return refusal.reason, refusal.remedy
    if node.op in known:
        return "the rules for it do not apply here", ""
    return "ONNX has no operator for it", "write it with other operators, or compute it outside the model"


def _run(passes: Any, model: Model, report: RunReport, rounds: int = 1) -> None:
    done = PassManager(passes, verify_each=False, rounds=rounds).run(model)
    report.passes += done.passes
    report.seconds += done.seconds
