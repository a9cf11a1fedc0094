"""Do two models compute the same? Outputs on the same inputs, compared against the scale of the reference."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt.accuracy import OutputError, Tolerance, compare_samples
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.model import Model, Signature
from graphopt.ir.value import Value
from graphopt.layers import inlined, layer_pairs, with_main
from graphopt.names import tensor_name
from graphopt.passes.base import Exactness
from graphopt.samples import Samples, random_inputs, read_samples, signature_of, split_samples

if TYPE_CHECKING:
    from graphopt.runtimes.base import Runtime

SCHEMA = "graphopt/verify/v1"
DEFAULT_SIGNATURE = "serving_default"
# Of models whose operators no other runtime has.
OWN_RUNTIMES = {"tflite": "litert", "onnx": "onnxruntime", "xla": "xla"}
LOWERING_RUNTIME = "xla"
SAMPLES = 3  # random samples where the caller gives neither data nor a number


@dataclass
class VerificationReport:
    """How far the second model's outputs are from the first's.

    `layers` compares, where asked for, every tensor both models have, in the order of the second. A rewrite may give
    a tensor of the same name another meaning, so `first_divergence` is the first from which a difference reaches an
    output that does not hold; it is None where all outputs hold.
    """

    runtime: str
    samples: int
    outputs: list[OutputError]
    layers: list[OutputError] = field(default_factory=list)
    first_divergence: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Every output is within its tolerance."""
        return all(output.holds for output in self.outputs)

    @property
    def difference(self) -> str | None:
        """The first output that is not, in a sentence; None if there is none."""
        return next((output.sentence for output in self.outputs if not output.holds), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with its versioned schema name."""
        return {"schema": SCHEMA, "holds": self.holds, **asdict(self)}


def verify(
    first: Any,
    second: Any,
    *,
    data: Samples | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    random: int = SAMPLES,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
    per_layer: bool = False,
    runtime: str | Runtime | None = None,
    signature: str | None = None,
) -> VerificationReport:
    """Run two models on the same inputs and compare their outputs.

    Each is anything `load` takes. `data` is the path of an `.npz`, a mapping of arrays with a leading axis of samples,
    or a sequence of samples; without it `random` samples are drawn from `seed`. An output holds when its largest
    absolute error is at most `atol + rtol * scale`, where the scale is the largest magnitude of the reference and
    `rtol` follows from the element type unless given. Integers, strings and booleans must be equal, NaN and Inf in
    the same places. `signature` names the one to run, in both; without it, it is the first model's first.

    Raises `UsageError` where the models' inputs or outputs do not correspond.
    """
    models = loaded(first), loaded(second)
    chosen = _chosen_signatures(models, signature)
    samples = make_samples(models[0], data, random, seed, chosen[0])
    engines = engine_for(models[0], runtime), engine_for(models[1], runtime)
    names = _correspondence(models, chosen)
    tolerance = Tolerance(rtol, atol)
    expected = [engines[0].run(models[0], sample, signature=chosen[0]) for sample in samples]
    renamed = [{other: sample[name] for name, other in names.inputs.items()} for sample in samples]
    actual = [
        {key: outputs[other] for key, other in names.outputs.items()}
        for outputs in (engines[1].run(models[1], sample, signature=chosen[1]) for sample in renamed)
    ]
    runtimes = ", ".join(dict.fromkeys(engine.name for engine in engines))
    report = VerificationReport(runtimes, len(samples), compare_samples(expected, actual, tolerance))
    report.warnings = [*names.notes, *_flat_outputs(report.outputs)]
    if per_layer:
        _compare_layers(report, models, chosen, (samples, renamed), engines, tolerance, names.outputs)
    return report


def _chosen_signatures(models: tuple[Model, Model], name: str | None) -> tuple[str, str]:
    """The signature of each model: `name`, or the first model's default or first one; the second's first otherwise."""
    there = models[0].signatures
    if name is None:
        name = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in there else next(iter(there), None)
    signature_of(models[0], name)
    first = next(iter(there)) if name is None else name
    second = next((key for key in models[1].signatures if key == first), next(iter(models[1].signatures), first))
    return first, second


def loaded(source: Any) -> Model:
    """The model as it is, if it has a signature, or what `load` makes of `source`."""
    from graphopt.api import load

    return source if isinstance(source, Model) and source.signatures else load(source)


def engine_named(runtime: str | Runtime | None) -> Runtime:
    """The runtime called so, or a runtime as it is; by default TensorFlow where it is installed, else the reference."""
    from graphopt.runtimes.base import get_runtime

    if runtime is None:
        runtime = "tensorflow" if _has_tensorflow() else "reference"
    return get_runtime(runtime) if isinstance(runtime, str) else runtime


def engine_for(model: Model, runtime: str | Runtime | None) -> Runtime:
    """`engine_named`, except that models of other dialects have their own runtimes, whatever is named, and those run
    nothing else, but for XLA's, which lowers TensorFlow's models."""
    own = OWN_RUNTIMES.get(model.format)
    if own is not None and (runtime is None or isinstance(runtime, str)):
        runtime = own
    runs_nothing_else = runtime in OWN_RUNTIMES.values() and runtime not in (own, LOWERING_RUNTIME)
    return engine_named(None if runs_nothing_else else runtime)


def _has_tensorflow() -> bool:
    """TensorFlow can be imported, as far as one can tell without doing it."""
    try:
        return importlib.util.find_spec("tensorflow") is not None
    except (ImportError, ValueError):  # a finder that refuses it, or None in its place in sys.modules
        return False


def make_samples(
    model: Model, data: Any, random: int = SAMPLES, seed: int = 0, signature: str | None = None
) -> Samples:
    """Samples from whatever way the caller gave them, or drawn at random."""
    if data is None:
        return random_inputs(model, random, seed, signature=signature)
    if isinstance(data, (str, os.PathLike)):
        return read_samples(data, model, signature=signature)
    if isinstance(data, Mapping):
        return split_samples(data, model, signature=signature)
    samples = list(data)
    if not samples:
        raise UsageError("the data hold no samples")
    return samples


# Which input is which ------------------------------------------------------------------------------------------


@dataclass
class _Correspondence:
    """First model's names -> second model's, for inputs and outputs."""

    inputs: dict[str, str]
    outputs: dict[str, str]
    notes: list[str]


def _correspondence(models: tuple[Model, Model], chosen: tuple[str, str]) -> _Correspondence:
    first, second = (signature_of(model, name) for model, name in zip(models, chosen, strict=True))
    notes: list[str] = []
    (given, yielded), (wanted, found) = _ends(models[0], first), _ends(models[1], second)
    inputs = _pair("input", given, wanted, notes)
    outputs = _pair("output", yielded, found, notes)
    if not outputs:
        raise UsageError("there are no outputs to compare: name them when the models are loaded")
    return _Correspondence(inputs, outputs, notes)


def _ends(model: Model, signature: Signature) -> tuple[dict[str, Value], dict[str, Value]]:
    """Inputs and outputs, without the variables that the runtime starts with."""
    inputs, outputs = signature.input_values(), signature.output_values()
    if model.format == "xla":
        from graphopt.backends.xla.program import program_node, state_at

        for state in state_at(program_node(signature)):
            del inputs[state.input], outputs[state.output]
    return inputs, outputs


def _pair(kind: str, first: Mapping[str, Any], second: Mapping[str, Any], notes: list[str]) -> dict[str, str]:
    if first.keys() == second.keys():
        return {name: name for name in first}
    if kind == "input" and set(second) < set(first):
        unused = ", ".join(f"'{printable(name)}'" for name in first if name not in second)
        notes.append(f"the second model has no input {unused}, which was not fed to it")
        return {name: name for name in second}
    if len(first) != len(second):
        listed = " and ".join(", ".join(f"'{printable(name)}'" for name in side) or "none" for side in (first, second))
        raise UsageError(f"the models have different {kind}s: {listed}")
    for (name, value), (other, match) in zip(first.items(), second.items(), strict=True):
        if value.dtype is not match.dtype or value.shape.merged(match.shape) is None:
            raise UsageError(
                f"{kind} '{printable(name)}' ({value.type}) and '{printable(other)}' ({match.type}) do not correspond"
            )
    notes.append(f"the {kind}s have different names and were matched by position")
    return dict(zip(first, second, strict=True))


def _flat_outputs(outputs: Sequence[OutputError]) -> list[str]:
    flat = [f"'{printable(output.name)}'" for output in outputs if output.is_flat]
    if not flat:
        return []
    return [f"output {', '.join(flat)} has the same value everywhere: most errors would not show; give other data"]


# Layer by layer -----------------------------------------------------------------------------------------------


def _compare_layers(
    report: VerificationReport,
    models: tuple[Model, Model],
    chosen: tuple[str, str],
    samples: tuple[Samples, Samples],
    engines: tuple[Runtime, Runtime],
    tolerance: Tolerance,
    names: Mapping[str, str],
) -> None:
    """Compare every tensor of the second model that the first has too, in the order of the second."""
    candidate = with_main(models[1], chosen[1])
    reference = inlined(models[0], chosen[0]) if candidate.format == "tflite" else models[0]
    expected, actual = (
        [engine.run_all(model, sample, signature=name) for sample in fed]
        for model, name, fed, engine in zip((reference, candidate), chosen, samples, engines, strict=True)
    )
    pairs = {
        name: other
        for name, other in layer_pairs(signature_of(reference, chosen[0]), signature_of(candidate, chosen[1])).items()
        if name in actual[0] and other in expected[0] and _are_alike(actual[0][name], expected[0][other])
    }
    left = [{other: run[other] for other in pairs.values()} for run in expected]
    right = [{other: run[name] for name, other in pairs.items()} for run in actual]
    report.layers = compare_samples(left, right, tolerance)
    report.first_divergence = _first_divergence(report, signature_of(candidate, chosen[1]), names, pairs)


def _are_alike(first: Any, second: Any) -> bool:
    return bool(first.shape == second.shape and first.dtype == second.dtype)


def _first_divergence(
    report: VerificationReport, candidate: Signature, names: Mapping[str, str], pairs: Mapping[str, str]
) -> str | None:
    """Walk back from the outputs that do not hold through tensors that differ, or that only one model has."""
    wrong = {layer.name: None for layer in report.layers if not layer.holds}
    right = {layer.name: None for layer in report.layers if layer.holds}

    def layer(value: Value) -> str:
        name = tensor_name(value)
        return pairs.get(name, name)

    outputs = candidate.output_values()
    pending = [outputs[names[output.name]] for output in report.outputs if not output.holds]
    seen = dict.fromkeys(pending)
    while pending:
        for source in pending.pop().node.inputs:
            if source is not None and source not in seen and layer(source) not in right:
                seen[source] = None
                pending.append(source)
    reached = (
        value
        for node in candidate.graph.topological_order()
        for value in node.outputs
        if value in seen and node.input_count
    )
    return next((layer(value) for value in reached if layer(value) in wrong), None)


# During a run of passes ---------------------------------------------------------------------------------------


class NumericComparison:
    """Compares a model's outputs after each pass with those before it; a `Comparison` for one run of a PassManager.

    The first outputs are those of `model` as it is given. After each pass that holds, its outputs are what the next
    one is measured against, so that each model is run once, whatever changed it.
    """

    def __init__(
        self,
        model: Model,
        *,
        data: Any = None,
        runtime: str | Runtime | None = None,
        random: int = SAMPLES,
        seed: int = 0,
    ) -> None:
        self._samples = make_samples(model, data, random, seed)
        self._engine = engine_for(model, runtime)
        self._original = self._accepted = self._run(model)
        self._exactness = Exactness.EXACT

    def __call__(self, before: Model, after: Model, exactness: Exactness) -> str | None:
        """None, or which output differs by how much."""
        actual = self._run(after)
        errors = compare_samples(self._accepted, actual, Tolerance.of(exactness))
        difference = next((error.sentence for error in errors if not error.holds), None)
        if difference is None:
            self._accepted = actual
            self._exactness = max(self._exactness, exactness)
        return difference

    def report(self, model: Model) -> VerificationReport:
        """The optimised `model` against the original, on the same samples."""
        errors = compare_samples(self._original, self._run(model), Tolerance.of(self._exactness))
        report = VerificationReport(self._engine.name, len(self._samples), errors)
        report.warnings = _flat_outputs(errors)
        return report

    def _run(self, model: Model) -> list[dict[str, Any]]:
        inputs = signature_of(model).inputs
        return [
            self._engine.run(model, {name: array for name, array in sample.items() if name in inputs})
            for sample in self._samples
        ]
