"""Ranges: what each method chooses, and that it is what a search by brute force would choose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.ir.errors import UsageError
from graphopt.passes.quantize.arithmetic import fake_quantize
from graphopt.passes.quantize.methods import METHODS, RangeMethod
from graphopt.passes.quantize.parameters import activation_parameters
from graphopt.passes.quantize.ranges import Range, range_of
from graphopt.passes.quantize.schemes import INT8_ACTIVATION, Scheme
from graphopt.passes.quantize.statistics import Collected, TensorStatistics


def statistics_of(*arrays: np.ndarray) -> TensorStatistics:
    found = TensorStatistics(Collected(histogram=True, recent=True))
    for sample, array in enumerate(arrays):
        found.observe(array, sample)
    return found


def heavy_tailed(one_sided: bool = False) -> np.ndarray:
    values = np.random.default_rng(3).standard_t(3, 40_000).astype(np.float32)
    return np.maximum(values, 0) if one_sided else values


def squared_error(array: np.ndarray, found: Range, scheme: Scheme = INT8_ACTIVATION) -> float:
    return float(np.square(array - fake_quantize(array, activation_parameters(*found, scheme))).sum())


def test_minmax_is_everything_seen() -> None:
    assert range_of(statistics_of(np.array([1.0, -2.0]), np.array([5.0])), RangeMethod()) == Range(-2, 5)


def test_moving_average_starts_with_the_first_sample() -> None:
    found = statistics_of(np.array([0.0, 10.0]), np.array([-1.0, 20.0]), np.array([1.0, 0.0]))
    expected = Range(0.5 * (0.5 * 0 + 0.5 * -1) + 0.5 * 0, 0.5 * (0.5 * 10 + 0.5 * 20) + 0.5 * 1)
    assert range_of(found, RangeMethod("ema", decay=0.5)) == expected


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
def test_percentile_agrees_with_numpy_within_a_bucket(percentile: float) -> None:
    array = heavy_tailed()
    found = range_of(statistics_of(array), RangeMethod("percentile", percentile=percentile))
    tail = (100 - percentile) / 2
    np.testing.assert_allclose(found, np.percentile(array, [tail, 100 - tail]), rtol=0.01)


def test_all_of_the_elements_are_kept_by_a_percentile_of_100() -> None:
    array = heavy_tailed()
    found = range_of(statistics_of(array), RangeMethod("percentile", percentile=100))
    assert found == Range(float(array.min()), float(array.max()))


@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_is_close_to_the_best_of_a_search_by_brute_force(one_sided: bool, symmetric: bool) -> None:
    array, scheme = heavy_tailed(one_sided), INT8_ACTIVATION._replace(symmetric=symmetric, narrow=symmetric)
    found = range_of(statistics_of(array), RangeMethod("mse"), symmetric=symmetric)
    low, high = float(array.min()), float(array.max())
    grid = [
        Range(low * below, high * above)
        for above in np.linspace(0.05, 1, 40)
        for below in (np.linspace(0.05, 1, 40) if low < 0 and not symmetric else [above])
    ]
    best = min(squared_error(array, candidate, scheme) for candidate in grid)
    assert squared_error(array, found, scheme) <= best * 1.03
    assert squared_error(array, found, scheme) < squared_error(array, Range(low, high), scheme)


def test_mse_keeps_everything_where_nothing_stands_out() -> None:
    array = np.random.default_rng(0).uniform(-1, 1, 20_000).astype(np.float32)
    found = range_of(statistics_of(array), RangeMethod("mse"))
    assert found.minimum < -0.98
    assert found.maximum > 0.98


def test_16_bits_keep_everything() -> None:
    array = heavy_tailed()
    for name in ("mse", "entropy"):
        found = range_of(statistics_of(array), RangeMethod(name), bits=16, symmetric=True)
        assert max(-found.minimum, found.maximum) > 0.9 * float(np.abs(array).max())


@pytest.mark.parametrize("one_sided", [False, True])
def test_entropy_clips_what_stands_far_out(one_sided: bool) -> None:
    array = np.random.default_rng(1).standard_normal(100_000).astype(np.float32)
    array = np.abs(array) if one_sided else array
    array[0] = 60
    found = range_of(statistics_of(array), RangeMethod("entropy"))
    assert 3 < found.maximum < 30
    assert found.minimum == (float(array.min()) if one_sided else pytest.approx(-4.5, abs=1))


@given(
    st.sampled_from(METHODS),
    hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-(2.0**99), 2.0**99, width=32)),
    st.sampled_from([8, 16]),
    st.booleans(),
)
def test_no_method_reaches_beyond_what_was_seen(name: str, array: np.ndarray, bits: int, symmetric: bool) -> None:
    found = range_of(statistics_of(array), RangeMethod(name), bits=bits, symmetric=symmetric)
    assert found is not None
    assert float(array.min()) <= found.minimum <= found.maximum <= float(array.max())
    assert range_of(statistics_of(array), RangeMethod(name), bits=bits, symmetric=symmetric) == found


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("value", [0.0, 3.5, -1e-42, 3e38])
def test_a_tensor_of_one_value_has_a_range_of_one_value(name: str, value: float) -> None:
    array = np.full(9, value, np.float32)
    assert range_of(statistics_of(array), RangeMethod(name)) == Range(float(array[0]), float(array[0]))


@pytest.mark.parametrize("name", METHODS)
def test_a_tensor_without_finite_elements_has_no_range(name: str) -> None:
    assert range_of(statistics_of(np.array([np.nan, np.inf])), RangeMethod(name)) is None


@pytest.mark.parametrize("name", ["ema", "percentile", "mse", "entropy"])
def test_statistics_that_lack_what_a_method_needs_are_refused(name: str) -> None:
    found = TensorStatistics()
    found.observe(np.array([1.0, 2.0]), 0)
    with pytest.raises(UsageError, match=f"--method {name}"):
        range_of(found, RangeMethod(name))


def test_clipping_that_counts_more_leaves_wider_ranges() -> None:
    statistics = statistics_of(heavy_tailed())
    ends = [range_of(statistics, RangeMethod("mse", clipping=penalty)) for penalty in (1, 10, 100, 1e9)]
    widths = [found.maximum - found.minimum for found in ends if found is not None]
    assert widths == sorted(widths)
    assert widths[0] < widths[1] < widths[2]
    assert widths[3] == pytest.approx(statistics.maximum - statistics.minimum, rel=0.02)
