"""Spectrograms and cepstral coefficients against TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import check_operator

from graphopt.ir.dimensions import maximum, symbol
from graphopt.ir.ops.inference import InferenceError
from graphopt.ir.types import Shape

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=15)
RATE = np.array(16000, np.int32)


def samples(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32)


@tensorflow
@FEW
@given(st.integers(0, 99), st.integers(0, 90), st.integers(1, 2), st.integers(2, 40), st.integers(1, 40), st.booleans())
def test_spectrogram(seed: int, length: int, channels: int, window: int, stride: int, squared: bool) -> None:
    attrs = {"window_size": window, "stride": stride, "magnitude_squared": squared}
    check_operator("AudioSpectrogram", [samples(seed, length, channels)], attrs, rtol=1e-4, atol=1e-4)


@tensorflow
@pytest.mark.parametrize(("shape", "window", "stride"), [((9, 1), 1, 2), ((9, 1), 4, 0), ((9,), 4, 2)])
def test_spectrogram_refused(shape: tuple[int, ...], window: int, stride: int) -> None:
    assert check_operator("AudioSpectrogram", [samples(0, *shape)], {"window_size": window, "stride": stride}) is None


def test_frames_of_a_symbolic_length() -> None:
    attrs = {"window_size": 10, "stride": 5}
    result = oracle.infer("AudioSpectrogram", [samples(0, 50, 1)], attrs, [Shape((symbol("n") * 5, 1))])
    assert result == [Shape((1, maximum(symbol("n") - 1, 0), 9))]


@tensorflow
@FEW
@given(
    st.integers(0, 99), st.sampled_from([65, 129, 257]), st.integers(2, 40), st.floats(10, 900), st.floats(1000, 7900)
)
def test_mfcc(seed: int, bins: int, bands: int, low: float, high: float) -> None:
    attrs = {"lower_frequency_limit": low, "upper_frequency_limit": high, "filterbank_channel_count": bands,
             "dct_coefficient_count": max(1, bands // 2)}  # fmt: skip
    check_operator("Mfcc", [np.abs(samples(seed, 2, 3, bins)), RATE], attrs, rtol=1e-3, atol=1e-3)


@tensorflow
@pytest.mark.parametrize(
    ("bins", "attrs"),
    [
        (257, {"dct_coefficient_count": 80}),
        (257, {"lower_frequency_limit": 5000.0}),
        (257, {"lower_frequency_limit": -1.0}),
        (1, {}),
    ],
)
def test_mfcc_refused(bins: int, attrs: dict[str, Any]) -> None:
    assert check_operator("Mfcc", [np.abs(samples(0, 1, 2, bins)), RATE], attrs) is None


def test_frequencies_beyond_the_spectrogram_are_refused() -> None:  # TensorFlow reads past its end
    with pytest.raises(ValueError, match="exceed"):
        oracle.evaluate("Mfcc", [np.abs(samples(0, 1, 2, 9)), RATE], {"upper_frequency_limit": 9000.0})


@tensorflow
def test_wave_files() -> None:
    encoded = check_operator("EncodeWav", [samples(0, 20, 2), RATE], evaluates=False)
    assert encoded is not None
    check_operator("DecodeWav", encoded, {"desired_channels": 2, "desired_samples": 30}, evaluates=False)
    check_operator("DecodeWav", encoded, evaluates=False, inferable=False)
    with pytest.raises(InferenceError):
        oracle.infer("DecodeWav", encoded, {}, [Shape((1,))])
