"""nest-cases: choices of several branches as choices of two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.passes.control.nest_cases import NestCases
from graphopt.runtimes.base import get_runtime
from graphopt.testing import check_pass


def case(count: int, op: str = "StatelessCase") -> str:
    """Text of a model that multiplies its input by the number of the branch taken, plus one."""
    functions = "\n".join(
        f"function @times_{place}(%a: float32[2]) -> (%b) {{\n  %by = tf.Const() {{value = float32[] {place + 1}.0}}\n"
        f"  %b = tf.Mul(%a, %by) {{T = float32}} : float32[2]\n}}"
        for place in range(count)
    )
    branches = ", ".join(f"@times_{place}" for place in range(count))
    return (
        f"graph @main(%i: int32[], %x: float32[2]) -> (%y) {{\n  %y = tf.{op}(%i, %x) {{branches = [{branches}], "
        f"Tin = [float32], Tout = [float32], output_shapes = [shape[2]]}} : float32[2]\n}}\n{functions}"
    )


def test_two_branches() -> None:
    after = case(2).replace("%y = tf.StatelessCase(%i, %x) {branches = [@times_0, @times_1], ", """
      %y/index = tf.Const() {value = int32[] 0}
      %y/is = tf.Equal(%i, %y/index) {T = int32, incompatible_shape_error = true} : bool[]
      %y = tf.StatelessIf(%y/is, %x) {then_branch = @times_0, else_branch = @times_1, Tcond = bool, """)  # fmt: skip
    check_pass(NestCases(), case(2), after)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("op", ["Case", "StatelessCase"])
def test_every_index(count: int, op: str) -> None:
    model = parse_model(case(count, op))
    run_pass(model, NestCases())
    assert not any(node.op.endswith("Case") for graph in model.graphs for node in graph)
    runtime = get_runtime("reference")
    for index in range(-2, count + 2):
        taken = index if 0 <= index < count else count - 1
        found = runtime.run(model, {"i": np.array(index, np.int32), "x": np.array([1.0, -2.0], np.float32)})
        np.testing.assert_array_equal(next(iter(found.values())), np.array([1.0, -2.0], np.float32) * (taken + 1))


def test_a_branch_that_is_not_there_is_refused() -> None:
    text = case(3).replace("@times_2]", "@elsewhere]")
    model = parse_model(text)
    report = run_pass(model, NestCases())
    assert report.refusals[0]["reason"] == "'elsewhere' is no function of the model, or a generic one"


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 6), st.integers(-3, 8))
def test_litert_takes_the_same_branch(count: int, index: int) -> None:
    from graphopt.backends.base import find_backend

    model = parse_model(case(count))
    model.set_signature({v.name: v for v in model.graph.inputs}, {v.name: v for v in model.graph.outputs})
    lowered = find_backend("tflite").lower(model).model
    feeds = {"i": np.array(index, np.int32), "x": np.array([3.0, 5.0], np.float32)}
    right = get_runtime("reference").run(model, feeds)
    found = get_runtime("litert").run(lowered, feeds)
    np.testing.assert_array_equal(found["y"], next(iter(right.values())))
