"""Which layer hurts: the error that each operator causes alone, and what has added up by the time it is computed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from graphopt.ir.value import Node
from graphopt.tuning.choosing import Report
from graphopt.tuning.laboratory import Laboratory, Trial, unit_of
from graphopt.tuning.measuring import Accuracy


@dataclass
class LayerError:
    """One int8 operator. `accumulated` compares its output in the quantized model with the float one's; `alone`
    compares the model's outputs when nothing else is quantized, None where the time was up before. `share` is its part
    of the noise of all operators alone."""

    name: str
    operator: str
    layers: tuple[str, ...]
    weights: int
    accumulated: Accuracy | None = None
    alone: Accuracy | None = None
    noise: float | None = None
    share: float | None = None


@dataclass
class Sensitivity:
    """`accuracy` is of the model quantized throughout, `outputs` by output, `layers` in the order they are computed."""

    accuracy: Accuracy
    outputs: dict[str, Accuracy]
    layers: list[LayerError]
    is_complete: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def ranking(self) -> list[LayerError]:
        """Those measured alone, the worst first."""
        return sorted((item for item in self.layers if item.noise is not None), key=lambda item: -(item.noise or 0.0))


def sensitivity(
    source: Any,
    data: Any,
    recipe: Any = "int8",
    *,
    profile: str = "litert",
    effort: str = "fast",
    seconds: float | None = 300.0,
    state: str | os.PathLike[str] | None = None,
    progress: Report | None = None,
) -> Sensitivity:
    """How much each int8 operator of a model hurts, measured in LiteRT on `data`.

    `source`, `data`, `recipe`, `profile` and `effort` are as `quantize` takes them. Operators that have moved furthest
    from the float model are measured first; after `seconds` the rest is left out. With `state`, a file, what was
    measured is kept and not measured again.

    Raises `UsageError` for models without state-free float outputs, and for recipes that compute nothing in int8.
    """
    laboratory = Laboratory(source, data, recipe, profile, effort, seconds, state, progress)
    whole = laboratory.measure(laboratory.recipe)
    nodes = laboratory.integer_nodes()
    found = {node: _layer(node) for node in nodes}
    for node, accuracy in _accumulated(laboratory, nodes).items():
        found[node].accumulated = accuracy
    result = Sensitivity(whole.accuracy, whole.outputs, list(found.values()), notes=list(laboratory.notes))
    order = sorted(nodes, key=lambda node: _snr(found[node].accumulated))
    for place, node in enumerate(order):
        if laboratory.is_late:
            result.is_complete = False
            result.notes.append(f"the time was up: {place} of {len(order)} operators were measured alone")
            break
        if progress is not None:
            progress(place, len(order), node.name)
        trial: Trial = laboratory.measure(laboratory.alone(unit_of([node])))
        found[node].alone, found[node].noise = trial.accuracy, trial.noise
    total = sum(item.noise or 0.0 for item in result.layers)
    for item in result.layers:
        if item.noise is not None and total:
            item.share = item.noise / total
    return result


def _layer(node: Node) -> LayerError:
    return LayerError(node.name, node.op_type, tuple(node.source_names), unit_of([node]).weights)


def _snr(accuracy: Accuracy | None) -> float:
    return float("inf") if accuracy is None else accuracy.centred


def _accumulated(laboratory: Laboratory, nodes: list[Node]) -> dict[Node, Accuracy]:
    """Each operator's output against the float model's, which the way chosen may have scaled: so against that one."""
    quantized, _ = laboratory.quantized()
    reference = laboratory.chooser.model_of(laboratory.way)
    there, here = ({node.name: node for node in model.graph} for model in (quantized, reference))
    pairs = {}
    for node in nodes:
        if node.name in there and node.name in here and node.output.dtype.is_float:
            pairs[node.name] = here[node.name].output, there[node.name].output
    found = laboratory.bench.compare(reference, quantized, pairs)
    return {node: found[node.name] for node in nodes if node.name in found}
