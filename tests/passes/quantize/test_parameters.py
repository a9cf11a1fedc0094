"""Scale, zero point and the arithmetic: bounds, invariants, layouts, and LiteRT's own kernels as the judge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.ir.errors import UsageError
from graphopt.ir.types import INT32, INT64
from graphopt.passes.quantize.arithmetic import dequantize, fake_quantize, quantize, quantize_bias
from graphopt.passes.quantize.parameters import (
    activation_parameters,
    bias_parameters,
    fit_bias,
    fixed_parameters,
    magnitudes,
    weight_parameters,
)
from graphopt.passes.quantize.schemes import (
    INT4_WEIGHT,
    INT8_ACTIVATION,
    INT8_WEIGHT,
    INT16_ACTIVATION,
    UINT8_ACTIVATION,
    UINT8_WEIGHT,
    Scheme,
)

ACTIVATIONS = st.sampled_from([INT8_ACTIVATION, UINT8_ACTIVATION, INT16_ACTIVATION, UINT8_WEIGHT])
WEIGHTS = st.sampled_from([INT8_WEIGHT, INT4_WEIGHT])
FINITE = st.floats(-(2.0**99), 2.0**99, width=32)
ENDS = st.tuples(FINITE, FINITE).map(sorted)


@given(ENDS, ACTIVATIONS)
def test_zero_is_exact_and_parameters_are_usable(ends: list[float], scheme: Scheme) -> None:
    found = activation_parameters(*ends, scheme)
    assert np.isfinite(found.scale).all()
    assert (found.scale > 0).all()
    assert scheme.lowest <= int(found.zero_point[0]) <= scheme.highest
    assert found.scale.dtype == np.float32
    assert fake_quantize(np.zeros(3, np.float32), found).tolist() == [0, 0, 0]
    if scheme.symmetric:
        assert int(found.zero_point[0]) == scheme.middle


@given(ENDS, ACTIVATIONS, st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_error_within_the_range_is_at_most_a_step(ends: list[float], scheme: Scheme, places: list[float]) -> None:
    found = activation_parameters(*ends, scheme)
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    assume(high - low > 1e-30)
    array = (low + (high - low) * np.array(places)).astype(np.float32)
    error = np.abs(fake_quantize(array, found).astype(np.float64) - array)
    # Half a step of rounding, and as much at an end, which the nudged zero point may cut off.
    assert (error <= found.scale[0] * 1.0001).all()
    inside = (array > float(found.minimum[0])) & (array < float(found.maximum[0]))
    assert (error[inside] <= found.scale[0] * 0.5001).all()


@given(ENDS, ACTIVATIONS, hnp.arrays(np.float32, 6, elements=FINITE))
def test_quantizing_twice_is_quantizing_once(ends: list[float], scheme: Scheme, array: np.ndarray) -> None:
    found = activation_parameters(*ends, scheme)
    codes = quantize(array, found)
    assert codes.dtype == scheme.dtype.numpy
    assert (codes >= scheme.lowest).all()
    assert (codes <= scheme.highest).all()
    assert (quantize(dequantize(codes, found), found) == codes).all()


@given(ENDS, ACTIVATIONS, hnp.arrays(np.float32, 6, elements=FINITE))
def test_order_is_kept(ends: list[float], scheme: Scheme, array: np.ndarray) -> None:
    codes = quantize(np.sort(array), activation_parameters(*ends, scheme)).astype(np.int64)
    assert (np.diff(codes) >= 0).all()


def test_parameters_that_are_known() -> None:
    int8 = activation_parameters(0, 2.55, INT8_ACTIVATION)
    assert (float(int8.scale[0]), int(int8.zero_point[0])) == (pytest.approx(0.01), -128)
    shifted = activation_parameters(-1, 1.55, INT8_ACTIVATION)
    assert (float(shifted.scale[0]), int(shifted.zero_point[0])) == (pytest.approx(0.01), -28)
    negative = activation_parameters(-5.1, -1, UINT8_ACTIVATION)
    assert (float(negative.scale[0]), int(negative.zero_point[0])) == (pytest.approx(0.02), 255)
    int16 = activation_parameters(-1, 3.2767, INT16_ACTIVATION)
    assert (float(int16.scale[0]), int(int16.zero_point[0])) == (pytest.approx(1e-4), 0)
    softmax = fixed_parameters(1 / 256, -128, INT8_ACTIVATION)
    assert softmax.quantization.scale == (1 / 256,)
    assert softmax.quantization.zero_point == (-128,)


@pytest.mark.parametrize("scheme", [INT8_ACTIVATION, UINT8_ACTIVATION, INT16_ACTIVATION, UINT8_WEIGHT])
@pytest.mark.parametrize("ends", [(0, 0), (0, 1e-45), (-1e-40, 0)])
def test_a_range_without_extent_gives_a_usable_scale(scheme: Scheme, ends: tuple[float, float]) -> None:
    found = activation_parameters(*ends, scheme)
    assert float(found.scale[0]) == 1
    assert fake_quantize(np.zeros(2, np.float32), found).tolist() == [0, 0]


@pytest.mark.parametrize("ends", [(1, 0), (float("nan"), 1), (0, float("inf"))])
def test_what_is_no_range_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="no range"):
        activation_parameters(*ends, INT8_ACTIVATION)


def test_rounding_is_half_away_from_zero_and_nan_becomes_zero() -> None:
    unit = fixed_parameters(1.0, 0, INT8_ACTIVATION)
    array = np.array([0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, 200, -200, np.nan, np.inf], np.float32)
    assert quantize(array, unit).tolist() == [1, -1, 2, 3, -3, 0, 127, -128, 0, 127]
    assert quantize(np.float32(2.5), unit).tolist() == 3
    assert dequantize(np.array(-7, np.int8), unit).tolist() == -7


# Weights ------------------------------------------------------------------------------------------------------

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)
LAYOUTS = SHAPES.flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float32, shape, elements=st.floats(-100, 100, width=32)),
        st.integers(-len(shape), len(shape) - 1),
    )
)


@given(LAYOUTS, WEIGHTS)
def test_channels_are_quantized_as_if_each_were_alone(layout: tuple[np.ndarray, int], scheme: Scheme) -> None:
    weights, axis = layout
    found = weight_parameters(weights, scheme, axis=axis)
    codes = quantize(weights, found)
    assert codes.shape == weights.shape
    assert found.scale.shape == (weights.shape[axis],)
    for place in range(weights.shape[axis]):
        alone = np.take(weights, place, axis)
        if np.abs(alone).max() < 1e-30:
            continue
        whole = weight_parameters(alone, scheme)
        assert whole.scale[0] == found.scale[place]
        assert (quantize(alone, whole) == np.take(codes, place, axis)).all()
        assert np.abs(codes.astype(int)).max() <= scheme.highest


@given(LAYOUTS, WEIGHTS)
def test_error_of_weights_is_at_most_half_a_step(layout: tuple[np.ndarray, int], scheme: Scheme) -> None:
    weights, axis = layout
    found = weight_parameters(weights, scheme, axis=axis)
    steps = found.scale.reshape([-1 if place == axis % weights.ndim else 1 for place in range(weights.ndim)])
    assert (np.abs(fake_quantize(weights, found) - weights) <= steps * 0.5001).all()


@given(hnp.arrays(np.float32, (3, 8, 2), elements=st.floats(-10, 10, width=32)), st.sampled_from([2, 4, 8]))
def test_blocks_are_quantized_as_if_each_were_alone(weights: np.ndarray, size: int) -> None:
    found = weight_parameters(weights, INT4_WEIGHT, axis=1, block_size=size)
    assert found.scale.shape == (3, 8 // size, 2)
    codes = quantize(weights, found)
    for row, block, column in np.ndindex(found.scale.shape):
        alone = weights[row, block * size : (block + 1) * size, column]
        if np.abs(alone).max() > 1e-30:
            expected = quantize(alone, weight_parameters(alone, INT4_WEIGHT))
            assert (codes[row, block * size : (block + 1) * size, column] == expected).all()
    error = np.abs(dequantize(codes, found) - weights)
    assert (error <= np.repeat(found.scale, size, 1) * 0.5001).all()


def test_blocks_must_divide_the_axis_and_have_no_type() -> None:
    with pytest.raises(UsageError, match="blocks of 3"):
        weight_parameters(np.zeros((2, 8), np.float32), INT4_WEIGHT, axis=1, block_size=3)
    found = weight_parameters(np.ones((2, 8), np.float32), INT4_WEIGHT, axis=1, block_size=4)
    with pytest.raises(UsageError, match="blocks"):
        _ = found.quantization


def test_channels_of_zeros_take_a_scale_that_suits_their_bias() -> None:
    weights = np.array([[0, 0], [0.5, 1.0], [2, 1]], np.float32)
    found = weight_parameters(weights, INT8_WEIGHT, axis=0)
    assert found.scale.tolist() == pytest.approx([1 / 127, 1 / 127, 2 / 127])
    assert weight_parameters(np.zeros((2, 3), np.float32), INT8_WEIGHT, axis=0).scale.tolist() == [1, 1]
    assert weight_parameters(np.zeros((0, 3), np.float32), INT8_WEIGHT, axis=1).scale.tolist() == [1, 1, 1]
    assert weight_parameters(np.zeros((0,), np.float32), INT8_WEIGHT).scale.tolist() == [1]


def test_weights_with_nan_are_refused() -> None:
    for weights in (np.array([[1, np.nan]], np.float32), np.array([[np.inf, 1]], np.float32)):
        for axis in (None, 1):
            with pytest.raises(UsageError, match="NaN or Inf"):
                weight_parameters(weights, INT8_WEIGHT, axis=axis)
        with pytest.raises(UsageError, match="NaN or Inf"):
            weight_parameters(weights, UINT8_WEIGHT)


def test_magnitudes_found_elsewhere_take_the_place_of_the_largest() -> None:
    weights = np.array([[1, -4], [2, 3]], np.float32)
    assert magnitudes(weights, axis=0).tolist() == [4, 3]
    assert magnitudes(weights).tolist() == [4]
    found = weight_parameters(weights, INT8_WEIGHT, axis=0, magnitude=np.array([2.0, 3.0]))
    assert found.scale.tolist() == pytest.approx([2 / 127, 3 / 127])
    assert quantize(weights, found).tolist() == [[64, -127], [85, 127]]


def test_asymmetric_weights_have_one_scale() -> None:
    found = weight_parameters(np.array([-1.0, 1.54], np.float32), UINT8_WEIGHT)
    assert (found.scheme.lowest, float(found.scale[0]), int(found.zero_point[0])) == (1, pytest.approx(0.01), 101)
    with pytest.raises(UsageError, match="one scale"):
        weight_parameters(np.ones((2, 2), np.float32), UINT8_WEIGHT, axis=0)


def test_scales_must_fit_the_axis() -> None:
    found = weight_parameters(np.ones((2, 3), np.float32), INT8_WEIGHT, axis=1)
    with pytest.raises(UsageError, match="3 scales"):
        quantize(np.ones((3, 2), np.float32), found)


# Biases -------------------------------------------------------------------------------------------------------


@given(
    hnp.arrays(np.float32, 3, elements=st.floats(-50, 50, width=32)),
    st.sampled_from([INT8_ACTIVATION, INT16_ACTIVATION]),
)
def test_biases_have_the_product_of_scales(bias: np.ndarray, scheme: Scheme) -> None:
    inputs = activation_parameters(-1, 1, scheme)
    weights = weight_parameters(np.array([[1, 2], [0.1, 0], [3, 3]], np.float32), INT8_WEIGHT, axis=0)
    codes, found = quantize_bias(bias, inputs, weights)
    assert codes.dtype == (np.int64 if scheme is INT16_ACTIVATION else np.int32)
    np.testing.assert_allclose(found.scale, inputs.scale[0] * weights.scale, rtol=1e-6)
    assert found.zero_point.tolist() == [0, 0, 0]
    assert found.axis == 0
    assert (np.abs(dequantize(codes, found).astype(np.float64) - bias) <= found.scale * 0.5001 + 4e-6).all()


def test_scales_of_weights_are_raised_where_a_bias_would_overflow() -> None:
    inputs = activation_parameters(-1, 1, INT8_ACTIVATION)
    weights = weight_parameters(np.array([[1e-9], [1.0]], np.float32), INT8_WEIGHT, axis=0)
    bias = np.array([5.0, 5.0], np.float32)
    fitted = fit_bias(weights, inputs, bias)
    assert fitted.scale[0] > weights.scale[0]
    assert fitted.scale[1] == weights.scale[1]
    codes, found = quantize_bias(bias, inputs, fitted)
    np.testing.assert_allclose(dequantize(codes, found), bias, rtol=1e-5)
    assert fit_bias(fitted, inputs, bias) is fitted
    whole = fit_bias(weight_parameters(np.array([1e-9], np.float32), INT8_WEIGHT), inputs, bias)
    np.testing.assert_allclose(dequantize(*quantize_bias(bias, inputs, whole)), bias, rtol=1e-5)
    assert bias_parameters(inputs, weights, INT32).dtype is INT32
    assert bias_parameters(inputs, weights, INT64).dtype is INT64
