"""Random models with branches and loops, and what every pass over them is asked."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir.graph import Graph
from graphopt.ir.known import hold
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass
from graphopt.passes.report import PassReport
from graphopt.testing import assert_equivalent, assert_same_structure, random_model
from graphopt.testing.call_blocks import branch, call, loop
from graphopt.testing.random_models import build_model

CONTROL = (branch, loop, call)
RUNTIMES = ["reference", pytest.param("tensorflow", marks=pytest.mark.tensorflow)]


def refusals(report: PassReport) -> str:
    return "; ".join(entry["reason"] for entry in report.refusals)


def fix_conditions(model: Model, choices: list[bool]) -> int:
    """Make the conditions of functional branches constants; returns how many."""
    count = 0
    for graph in model.graphs:
        for node in list(graph):
            if node.op == "tf.StatelessIf":
                node.replace_input(0, constant(graph, choices[count % len(choices)]))
                graph.move(node.input(0).node, node)
                count += 1
    return count


def constant(graph: Graph, value: bool) -> object:
    return hold(graph, np.array(value), name="decided")


def check_on(model: Model, spec: str, *, runtime: str = "reference", exactness: str = "exact") -> tuple[Model, int]:
    """Run the passes over a copy; invariants, outputs and idempotence hold. Returns the result and the rewrites."""
    from graphopt.passes import PassManager

    after = model.clone()
    report = PassManager(spec).run(after)
    verify(after)
    again = after.clone()
    PassManager(spec).run(again)
    assert_same_structure(after, again)
    assert_equivalent(model, after, runtime=runtime, exactness=exactness, allow_flat=True)
    return after, report.rewrites


def arrays_left(model: Model) -> list[str]:
    return [node.op for graph in model.graphs for node in graph if "TensorArray" in node.op]


def without_arrays(text: str, runtime: str = "reference", **feeds: np.ndarray) -> Model:
    """The model of `text` with plain tensors for all its tensor arrays, checked on `feeds`."""
    source = parse_model(text)
    model = source.clone()
    assert run_pass(model, "plain-tensor-arrays").rewrites
    verify(model)
    assert not arrays_left(model)
    assert_equivalent(source, model, feeds, runtime=runtime, allow_flat=True)
    return model


__all__ = [
    "CONTROL",
    "RUNTIMES",
    "arrays_left",
    "build_model",
    "check_on",
    "fix_conditions",
    "random_model",
    "refusals",
    "run_pass",
    "without_arrays",
]
