"""recognise-upsampling: which repeated rows and columns become larger images, and that the same is computed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.model import Model
from graphopt.ir.text import print_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import text_model

NAME = "recognise-upsampling"


def repeated(source: str, made: str, axis: int, factor: int, shape: list[int]) -> str:
    """The text of `made`, which is `source` with each row (axis 2) or column (axis 3) repeated."""
    factors = [factor if place == axis else 1 for place in range(5)]
    return f"""
    %{made}_axis = tf.Const() {{value = int32[] {axis}}}
    %{made}_factors = tf.Const() {{value = int32[5] {factors}}}
    %{made}_shape = tf.Const() {{value = int32[4] {shape}}}
    %{made}_e = tf.ExpandDims(%{source}, %{made}_axis)
    %{made}_t = tf.Tile(%{made}_e, %{made}_factors)
    %{made} = tf.Reshape(%{made}_t, %{made}_shape)
    """


def operators(model: Model) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph if node.op_type not in ("Const", "Placeholder")))


def checked(model: Model) -> Model:
    """The model after the pass, which computes the same, and has nothing left to do."""
    dims = [dim if isinstance(dim, int) else 2 for dim in model.graph.inputs[0].shape.dims or ()]
    feeds = {"x": np.random.default_rng(0).normal(size=dims).astype(np.float32)}
    before = get_runtime("reference").run(model, feeds)["y"]
    run_pass(model, NAME)
    verify(model)
    np.testing.assert_array_equal(get_runtime("reference").run(model, feeds)["y"], before)
    text = print_model(model)
    run_pass(model, NAME)
    assert print_model(model) == text
    assert [value.name for value in model.graph.outputs] == ["y"]
    return model


@settings(max_examples=8)
@given(rows=st.integers(2, 3), columns=st.integers(2, 3), batch=st.sampled_from(["2", "?"]))
def test_rows_and_columns_are_one_resize(rows: int, columns: int, batch: str) -> None:
    body = repeated("x", "r", 2, rows, [-1, 3 * rows, 4, 5]) + repeated(
        "r", "y", 3, columns, [-1, 3 * rows, 4 * columns, 5]
    )
    model = checked(text_model(body, f"%x: float32[{batch}, 3, 4, 5]"))
    assert operators(model) == {"ResizeNearestNeighbor": 1}


@pytest.mark.parametrize(
    ("axis", "shape", "reason"),
    [(1, [4, 3, 4, 5], "something else than rows"), (2, [2, 3, 8, 5], "is not that of the repeated rows")],
)
def test_other_repetitions_stay(axis: int, shape: list[int], reason: str) -> None:
    model = text_model(repeated("x", "y", axis, 2, shape), "%x: float32[2, 3, 4, 5]")
    report = run_pass(model, NAME)
    assert report.rewrites == 0
    assert reason in report.refusals[0]["reason"]
