"""Clipping of weights: no worse than none, close to the best of a search by brute force, in every layout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.passes.quantize.arithmetic import fake_quantize
from graphopt.passes.quantize.clipping import clipped_magnitudes
from graphopt.passes.quantize.parameters import magnitudes, weight_parameters
from graphopt.passes.quantize.schemes import INT4_WEIGHT, INT8_WEIGHT, Scheme


def squared_error(weights: np.ndarray, scheme: Scheme, magnitude: np.ndarray, **layout: int) -> float:
    found = weight_parameters(weights, scheme, magnitude=magnitude, **layout)
    return float(np.square(weights - fake_quantize(weights, found)).sum())


def heavy_tailed(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(4).standard_t(4, shape).astype(np.float32)


@pytest.mark.parametrize("scheme", [INT8_WEIGHT, INT4_WEIGHT])
@pytest.mark.parametrize("shape", [(1, 5000), (1, 300)])
def test_limits_are_close_to_the_best(scheme: Scheme, shape: tuple[int, int]) -> None:
    weights = heavy_tailed(shape)
    largest = magnitudes(weights, axis=0)
    best = min(squared_error(weights, scheme, largest * factor, axis=0) for factor in np.linspace(0.3, 1, 141))
    found = clipped_magnitudes(weights, scheme, axis=0)
    assert squared_error(weights, scheme, found, axis=0) <= best * 1.1
    assert squared_error(weights, scheme, found, axis=0) <= squared_error(weights, scheme, largest, axis=0)


def test_four_bits_gain_much() -> None:
    weights = heavy_tailed((64, 512))
    largest, found = magnitudes(weights, axis=0), clipped_magnitudes(weights, INT4_WEIGHT, axis=0)
    assert squared_error(weights, INT4_WEIGHT, found, axis=0) < 0.75 * squared_error(
        weights, INT4_WEIGHT, largest, axis=0
    )


LAYOUTS = st.sampled_from([{}, {"axis": 0}, {"axis": -1}, {"axis": 1}, {"axis": 1, "block_size": 4}])
WEIGHTS = hnp.arrays(np.float32, (3, 8, 2), elements=st.floats(-100, 100, width=32))


@given(WEIGHTS, LAYOUTS, st.sampled_from([INT8_WEIGHT, INT4_WEIGHT]))
def test_limits_have_the_shape_of_the_scale_and_do_not_exceed_the_weights(
    weights: np.ndarray, layout: dict[str, int], scheme: Scheme
) -> None:
    largest, found = magnitudes(weights, **layout), clipped_magnitudes(weights, scheme, **layout)
    assert found.shape == largest.shape
    assert (found <= largest).all()
    assert (found > 0)[largest > 0].all()


def test_each_channel_is_as_if_it_were_alone() -> None:
    weights = heavy_tailed((4, 50, 3))
    whole = clipped_magnitudes(weights, INT4_WEIGHT, axis=-1)
    alone = [clipped_magnitudes(weights[..., place], INT4_WEIGHT)[0] for place in range(3)]
    assert whole.tolist() == alone
    blocks = clipped_magnitudes(weights, INT4_WEIGHT, axis=1, block_size=25)
    assert blocks[2, 1, 0] == clipped_magnitudes(weights[2, 25:, 0], INT4_WEIGHT)[0]


def test_weights_without_elements_or_extent() -> None:
    assert clipped_magnitudes(np.zeros((0, 3), np.float32), INT8_WEIGHT, axis=1).tolist() == [0, 0, 0]
    assert clipped_magnitudes(np.zeros((2, 3), np.float32), INT8_WEIGHT, axis=1).tolist() == [0, 0, 0]
