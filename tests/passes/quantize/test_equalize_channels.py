"""equalize-channels."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statistics_files import DENSE, channels_of, random_chain

from graphopt.ir.errors import UsageError
from graphopt.ir.known import known_array
from graphopt.ir.text import parse_model, print_model
from graphopt.passes import run_pass
from graphopt.passes.quantize.equalize_channels import EqualizeChannels
from graphopt.passes.quantize.statistics import Collected, Statistics
from graphopt.passes.quantize.statistics_file import save_statistics
from graphopt.testing import assert_equivalent, check_pass


def chain(produced: float, read: float, activation: str) -> str:
    return f"""graph @main(%x) -> (%y) {{
        %x = tfl.INPUT() : float32[1, 1]
        %w = tfl.CONSTANT() {{value = float32[2, 1] [[20.0], [{produced}]]}} : float32[2, 1]
        %v = tfl.CONSTANT() {{value = float32[1, 2] [[1.0, {read}]]}} : float32[1, 2]
        %h = tfl.FULLY_CONNECTED(%x, %w, none) {{{DENSE.replace("NONE", activation)}}} : float32[1, 2]
        %y = tfl.FULLY_CONNECTED(%h, %v, none) {{{DENSE}}} : float32[1, 1]
    }}"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return channels_of(tmp_path, {"h:0": [20.0, 4.0]})


def test_the_smaller_channel_fills_its_share(path: str) -> None:
    before, after = chain(4.0, 1.0, "RELU"), chain(16.0, 0.25, "RELU")
    _, report = check_pass(EqualizeChannels(path, 1.0), before, after, runtime="litert")
    assert report.rules == {"equalize-channels": 1}


def test_half_the_strength_goes_half_the_way(path: str) -> None:
    model = parse_model(chain(4.0, 1.0, "NONE"))
    run_pass(model, EqualizeChannels(path))
    assert known_array(model.graph.node("w").output).tolist() == [[20.0], [8.0]]


def test_what_is_cut_off_at_six_stays(path: str) -> None:
    check_pass(EqualizeChannels(path, 1.0), chain(4.0, 1.0, "RELU6"), runtime=None)


@given(seed=st.integers(0, 99), strength=st.floats(0, 1))
def test_the_float_model_computes_the_same(
    tmp_path_factory: pytest.TempPathFactory, seed: int, strength: float
) -> None:
    model, statistics = random_chain(seed, tmp_path_factory.mktemp("seen"))
    after = model.clone()
    run_pass(after, EqualizeChannels(statistics, strength))
    assert_equivalent(model, after, runtime="litert", exactness="reassociating")
    text = print_model(after)
    run_pass(after, EqualizeChannels(statistics, strength))
    assert print_model(after) == text


def test_it_refuses(tmp_path: Path, path: str) -> None:
    model = parse_model(chain(4.0, 1.0, "NONE"))
    with pytest.raises(UsageError, match="needs statistics"):
        run_pass(model, "equalize-channels")
    save_statistics(Statistics(collected=Collected()), tmp_path / "plain.json")
    with pytest.raises(UsageError, match="holds no channels, which equalize-channels needs"):
        run_pass(model, EqualizeChannels(str(tmp_path / "plain.json")))
    with pytest.raises(UsageError, match="from 0 to 1"):
        EqualizeChannels(path, 2.0)


def test_statistics_of_another_model_change_nothing(tmp_path: Path) -> None:
    check_pass(EqualizeChannels(channels_of(tmp_path, {"g:0": [20.0, 4.0]})), chain(4.0, 1.0, "NONE"), runtime=None)
