"""Rounding weights such that the errors of a channel add up to next to nothing."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.backends.tensorrt.rounding import round_to_floats, round_to_integers


def weights(seed: int, channels: int = 3, size: int = 40) -> Any:
    return np.random.default_rng(seed).normal(size=(channels, size)).astype(np.float32)


@given(st.integers(0, 999), st.integers(2, 60))
def test_integers_are_a_step_off_at_most_and_their_sum_no_more_than_before(seed: int, size: int) -> None:
    rows = weights(seed, size=size) * 20
    made = round_to_integers(rows, 127, 0)
    assert np.array_equal(made, np.rint(made))
    assert np.abs(made - rows).max() < 1
    nearest = np.abs((np.rint(rows) - rows).sum(1))
    assert (np.abs((made - rows).sum(1)) <= nearest + 1e-3).all()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_floats_are_neighbours_of_the_nearest(dtype: Any) -> None:
    rows = weights(1, size=200)
    made, nearest = (a.astype(np.float32) for a in (round_to_floats(rows, np.dtype(dtype), 0), rows.astype(dtype)))
    steps = np.maximum(np.abs(rows), 2.0**-6) * float(ml_dtypes.finfo(dtype).eps)
    assert (np.abs(made - rows) <= steps * 1.01).all()
    assert np.abs((made - rows).sum(1)).max() < np.abs((nearest - rows).sum(1)).max()


def test_means_weigh_the_errors() -> None:
    rows, means = weights(2), np.linspace(-1, 3, 40)[None]
    plain, weighed = round_to_integers(rows * 9, 127, 0), round_to_integers(rows * 9, 127, 0, means)
    shifts = [np.abs(((made - rows * 9) * means).sum(1)).max() for made in (plain, weighed)]
    assert shifts[1] < shifts[0]
    assert shifts[1] < 1


def test_what_the_mean_lacks_is_made_up_for() -> None:
    rows, missing = weights(3), np.array([0.002, -0.001, 0.0], np.float32)
    made = round_to_floats(rows, np.dtype(np.float16), 0, np.ones((1, 40)), missing).astype(np.float32)
    assert np.abs((rows - made).sum(1) + missing).max() < 2e-3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_channels_may_lie_along_any_axis(axis: int) -> None:
    array = np.moveaxis(weights(4).reshape(3, 8, 5), 0, axis)
    made = round_to_integers(array * 9, 127, axis)
    assert made.shape == array.shape
    others = tuple(place for place in range(3) if place != axis)
    assert np.abs((made - array * 9).sum(others)).max() <= 0.5 + 1e-3


def test_numbers_beyond_the_type_are_clipped_and_nothing_is_nothing() -> None:
    assert round_to_floats(np.array([[500.0, 1.0]], np.float32), np.dtype(ml_dtypes.float8_e4m3fn), 0)[0, 0] == 448
    assert round_to_integers(np.array([[500.0, -500.0]], np.float32), 127, 0).tolist() == [[127.0, -127.0]]
    assert round_to_integers(np.zeros((0, 4), np.float32), 127, 0).shape == (0, 4)
