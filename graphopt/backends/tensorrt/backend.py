"""The backend: ONNX by the ONNX backend's rules, in TensorRT's dialect, its precision in its types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphopt.backends.base import Finding, Lowered, UnloweredError, make_options
from graphopt.backends.onnx.backend import OnnxBackend
from graphopt.backends.onnx.options import OnnxOptions
from graphopt.backends.tensorrt.choosing import choose_types
from graphopt.backends.tensorrt.element_types import note_types
from graphopt.backends.tensorrt.linter import findings_of
from graphopt.backends.tensorrt.options import TensorRTOptions
from graphopt.backends.tensorrt.outcome import Outcome
from graphopt.backends.tensorrt.partition import Partition, partition_of
from graphopt.backends.tensorrt.profiles import check_profiles, make_profiles
from graphopt.ir.formats.onnx.elements import DOMAINS
from graphopt.ir.model import Model

TENSORRT = "tensorrt"  # key in Model.metadata: what was asked for, and what was found


class Found(list[Finding]):
    """Findings, and the `partition` of the model that is left without them."""

    def __init__(self, findings: Iterable[Finding], partition: Partition):
        super().__init__(findings)
        self.partition = partition


class TensorRTBackend:
    """Lowers to ONNX that TensorRT builds."""

    name = "tensorrt"

    def check(self, model: Model, **options: Any) -> Found:
        """Every node that has no form in ONNX or that TensorRT refuses, and the partition that is left without them;
        nothing is changed."""
        chosen = make_options(TensorRTOptions, self.name, options)
        lowered, findings = self._to_onnx(model, chosen)
        refused = {item.node: item for item in (*findings_of(lowered.model, make_profiles(chosen.profiles)), *findings)}
        return Found(findings, partition_of(lowered.model, refused.values()))

    def lower(self, model: Model, **options: Any) -> Lowered:
        """A model of ONNX's dialect, with the options under `tensorrt` in its metadata.

        Raises `UnloweredError` with what TensorRT refuses, `UsageError` for profiles that do not fit.
        """
        chosen = make_options(TensorRTOptions, self.name, options)
        lowered, findings = self._to_onnx(model, chosen)
        if findings:
            raise UnloweredError("TensorRT", findings)
        lowered.model, outcome = choose_types(lowered.model, chosen)
        lowered.notes += outcome.notes
        lowered.model.metadata[TENSORRT] = _described(lowered.model, chosen, outcome)
        return lowered

    def _to_onnx(self, model: Model, options: TensorRTOptions) -> tuple[Lowered, list[Finding]]:
        if model.format == "onnx":
            lowered, findings = Lowered(model.clone(), _empty_report()), list[Finding]()
            note_types(lowered.model)
        else:
            lowered, findings = OnnxBackend()._lower(
                model, OnnxOptions(options.signatures, options.opset, widen=False, efficient_nms=options.efficient_nms)
            )
        profiles = make_profiles(options.profiles)
        check_profiles(lowered.model, profiles)
        return lowered, findings or findings_of(lowered.model, profiles)


def _described(model: Model, options: TensorRTOptions, outcome: Outcome) -> dict[str, Any]:
    profiles = make_profiles(options.profiles)
    return {
        "precision": options.precision,
        "body": options.body,
        "opset": model.metadata[DOMAINS].get("", options.opset),
        "profiles": {name: [list(dims) for dims in profile] for name, profile in profiles.items()},
        "outcome": outcome,
    }


def _empty_report() -> Any:
    from graphopt.passes.report import RunReport

    return RunReport()
