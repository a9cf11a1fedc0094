"""correct-biases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statistics_files import DENSE, channels_of, random_chain

from graphopt.ir.errors import UsageError
from graphopt.ir.known import known_array
from graphopt.ir.text import parse_model, print_model
from graphopt.passes import run_pass
from graphopt.passes.base import Exactness
from graphopt.passes.quantize.correct_biases import CorrectBiases
from graphopt.passes.quantize.statistics_file import load_statistics
from graphopt.testing import check_pass


def layer(bias: float) -> str:
    return f"""graph @main(%x) -> (%y) {{
        %x = tfl.INPUT() : float32[1, 2]
        %w = tfl.CONSTANT() {{value = float32[1, 2] [[127.0, 0.25]]}} : float32[1, 2]
        %b = tfl.CONSTANT() {{value = float32[1] [{bias}]}} : float32[1]
        %y = tfl.FULLY_CONNECTED(%x, %w, %b) {{{DENSE}}} : float32[1, 1]
    }}"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return channels_of(tmp_path, {"x:0": [1.0, 1.0]})


def test_what_rounding_shifts_is_taken_off(path: str) -> None:
    _, report = check_pass(CorrectBiases(path), layer(0.0), layer(0.25), runtime=None, exactness=Exactness.APPROXIMATE)
    assert report.rules == {"correct-biases": 1}


def test_a_layer_without_a_bias_gets_one(path: str) -> None:
    model = parse_model(layer(0.0).replace("%w, %b", "%w, none"))
    run_pass(model, CorrectBiases(path), exactness=Exactness.APPROXIMATE)
    assert known_array(model.graph.node("y").input(2)).tolist() == [0.25]


def test_it_refuses(path: str) -> None:
    _, report = check_pass(CorrectBiases(path), layer(0.0), runtime=None)
    assert "it is approximate" in report.refusals[0]["reason"]
    with pytest.raises(UsageError, match="correct-biases needs statistics"):
        run_pass(parse_model(layer(0.0)), "correct-biases", exactness=Exactness.APPROXIMATE)


@given(seed=st.integers(0, 99))
def test_layers_are_off_by_at_most_half_a_step_of_their_weights(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    model, statistics = random_chain(seed, tmp_path_factory.mktemp("seen"))
    after = model.clone()
    run_pass(after, CorrectBiases(statistics), exactness=Exactness.APPROXIMATE)
    seen = load_statistics(statistics)
    for place in range(3):
        node, corrected = model.graph.node(f"h{place}"), after.graph.node(f"h{place}")
        weights, means = known_array(node.input(1)), seen.of(node.input(0)).channel_mean
        shift = known_array(corrected.input(2)) - known_array(node.input(2))
        steps = np.abs(weights).max(1) / 127
        assert (np.abs(shift) <= steps / 2 * np.abs(means).sum() * 1.01 + 1e-5).all()
    text = print_model(after)
    run_pass(after, CorrectBiases(statistics), exactness=Exactness.APPROXIMATE)
    assert print_model(after) == text
