"""What kernels of a target do not take is left float, or the model is refused before any work is done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.passes.quantize.recipe import Recipe, Rule
from graphopt.quantization import plan_of
from graphopt.testing.lowering import text_model

RNG = np.random.default_rng(2)
WEIGHTS = RNG.normal(size=(8, 12)).astype(np.float32)
DENSE = f"""
%w = tf.Const() {{dtype = float32, value = float32[8, 12] {WEIGHTS.tolist()}}} : float32[8, 12]
%h = tf.MatMul(%x, %w) {{T = float32, transpose_a = false, transpose_b = false}} : float32[1, 12]
%y = tf.Tanh(%h) {{T = float32}} : float32[1, 12]
"""


def model(operator: str = "Tanh") -> graphopt.Model:
    return text_model(DENSE.replace("Tanh", operator), "%x: float32[1, 8]")


def samples() -> Iterator[list[Any]]:
    return ([sample] for sample in RNG.normal(size=(12, 1, 8)).astype(np.float32))


def unread() -> Iterator[list[Any]]:
    raise AssertionError("samples are read before the model is refused")


@pytest.mark.parametrize("profile", ["micro", "integer"])
def test_integers_throughout(profile: str) -> None:
    found = graphopt.quantize(model(), "int8", data=samples, effort="fast", profile=profile)
    assert {row["compute"] for row in found.plan.rows()} == {"int8"}


@pytest.mark.parametrize(("profile", "operator"), [("micro", "Atan"), ("integer", "Sin")])
def test_what_a_target_has_no_kernel_for_is_refused_before_samples_are_read(profile: str, operator: str) -> None:
    with pytest.raises(graphopt.UnsupportedError, match=f"the profile '{profile}'") as caught:
        graphopt.quantize(model(operator), "int8", data=unread, profile=profile)
    assert operator.lower() in str(caught.value).lower()
    assert [finding.node for finding in caught.value.findings]


def test_what_a_target_computes_with_floats_alone_stays_float() -> None:
    rows = graphopt.quantize(model("Softsign"), "int8", data=samples, effort="fast", profile="micro").plan.rows()
    assert [row["compute"] for row in rows if row["operator"] == "DIV"] == ["float32"]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("float16", "makes no floats of float16"),
        ("dynamic", "has no FULLY_CONNECTED of integer weights beside floats"),
        ("weight-only", "makes no floats of int8 by channel"),
    ],
)
def test_weights_that_a_microcontroller_does_not_read_stay_float(mode: str, reason: str) -> None:
    recipe = Recipe((Rule(mode=mode),))  # type: ignore[arg-type]
    rows = {row["operator"]: row for row in plan_of(model(), recipe, profile="micro").rows()}
    assert rows["FULLY_CONNECTED"]["storage"] == ""
    assert reason in rows["FULLY_CONNECTED"]["reason"]
    rows = {row["operator"]: row for row in plan_of(model(), recipe).rows()}
    assert rows["FULLY_CONNECTED"]["storage"] != ""


def test_weights_of_one_scale_are_read_by_a_microcontroller() -> None:
    recipe = Recipe((Rule(mode="weight-only", granularity="tensor"),))
    rows = {row["operator"]: row for row in plan_of(model(), recipe, profile="micro").rows()}
    assert rows["FULLY_CONNECTED"]["storage"] == "int8"
