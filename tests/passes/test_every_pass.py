"""Every pass on random models: outputs, contract, invariants, and nothing left for a second run."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import HealthCheck, given, settings

from graphopt.ir.model import Model
from graphopt.ir.verifier import verify
from graphopt.passes import PRESETS, Exactness, PassManager, find_pass, parse_pipeline
from graphopt.passes.catalog import _CATALOG
from graphopt.runtimes.base import get_runtime
from graphopt.testing import (
    assert_contract_kept,
    assert_equivalent,
    assert_same_structure,
    models,
    random_model,
)

FEWER = settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
STATISTICS = pathlib.Path(__file__).parent / "quantize" / "no_tensors.json"
# What passes that do nothing by themselves need to be told; these stand for their defaults.
TOLD = {
    "rename-operator": "rename-operator{old=Relu,new=Relu}",
    "rename-attribute": "rename-attribute{old=T,new=T}",
    "remove-attribute": "remove-attribute{attribute=_nothing}",
    "rename-node": "rename-node{old=nothing,new=something}",
    **{name: f'{name}{{statistics="{STATISTICS}"}}' for name in ("equalize-channels", "correct-biases")},
}
EXTRA = (
    "remove-nodes{dropout,assertions}", "sort{canonical}", "fold-constants{grow}", "fold-constants{shapes=false}",
    "merge-duplicates{constants=false}", "merge-duplicates{outputs=false}",
    "inline-functions{always}", "infer-shapes,fold-constants", "infer-shapes,simplify",
)  # fmt: skip


def exactness_of(pipeline: str) -> Exactness:
    names = PRESETS.get(pipeline, pipeline)
    return max(item.exactness for item in parse_pipeline(names))


def check(pipeline: str, model: Model) -> None:
    """Run `pipeline`, then everything that has to hold after it."""
    verify(model)
    after = model.clone()
    report = PassManager(pipeline).run(after)
    assert report.notes == []
    verify(after)
    assert_contract_kept(model, after)
    assert_equivalent(model, after, runtime="reference", exactness=exactness_of(pipeline), allow_flat=True)
    again = after.clone()
    PassManager(pipeline).run(again)
    assert_same_structure(after, again)


def default_of(name: str) -> str | None:
    """The pipeline of one pass, or None for a pass that makes other names, on purpose."""
    if name in TOLD:
        return TOLD[name]
    return None if name == "obfuscate-names" else name


PIPELINES = [pipeline for name in _CATALOG if (pipeline := default_of(name)) is not None]


@pytest.mark.parametrize("pipeline", [*PIPELINES, *EXTRA])
@FEWER
@given(model=models(8))
def test_a_pass_keeps_what_a_pass_has_to_keep(pipeline: str, model: Model) -> None:
    check(pipeline, model)


@pytest.mark.parametrize("preset", PRESETS)
@given(model=models(10))
def test_a_preset_keeps_what_a_pass_has_to_keep(preset: str, model: Model) -> None:
    check(preset, model)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_leave_less_and_presets_of_large_models_too(preset: str) -> None:
    for seed in range(6):
        model = random_model(seed, 60)
        after = model.clone()
        PassManager(preset).run(after)
        assert_equivalent(model, after, runtime="reference", exactness="reassociating", allow_flat=True)
        main = len(after.graph)
        inlined = any(item.name == "inline-functions" for item in PassManager(preset).pipeline)
        assert main < len(model.graph) or inlined


def test_origins_name_nodes_of_the_source() -> None:
    for seed in range(8):
        model = random_model(seed, 20, functions=False)
        after = model.clone()
        PassManager("cleanup").run(after)
        names = {node.name for node in model.graph}
        for node in after.graph:
            assert set(node.source_names) <= names, node


def test_every_pass_of_the_catalog_is_tried() -> None:
    assert {item.name for pipeline in PIPELINES for item in parse_pipeline(pipeline)} == {*_CATALOG} - {
        "obfuscate-names"
    }
    assert all(find_pass(name).name == name for name in _CATALOG)


@pytest.mark.tensorflow
@pytest.mark.parametrize("preset", PRESETS)
def test_tensorflow_agrees(preset: str) -> None:
    runtime = get_runtime("tensorflow")
    for seed in range(100, 125):
        model = random_model(seed)
        after = model.clone()
        PassManager(preset).run(after)
        assert_equivalent(model, after, runtime=runtime, exactness="reassociating", seed=seed, allow_flat=True)
