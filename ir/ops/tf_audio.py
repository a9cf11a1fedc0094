"""Operators of TensorFlow: audio: spectrograms and cepstral coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim, add, divide, maximum, subtract
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_windows import check_size, ranked, settled
from graphopt.ir.types import SCALAR, Shape

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]
POWER_FLOOR = 1e-12  # below which a band's energy is taken for silence before its logarithm
FRAME_BYTES = 16 << 20  # of windowed samples transformed at once


# Shapes -------------------------------------------------------------------------------------------------------


def _spectrogram_attributes(attrs: Attrs) -> tuple[int, int]:
    window, stride = attrs.get("window_size"), attrs.get("stride")
    if type(window) is not int or type(stride) is not int or window < 2 or stride < 1:
        raise InferenceError(f"a window of {window!r} samples every {stride!r} makes no spectrogram")
    return window, stride


def transform_length(window: int) -> int:
    """The power of two that holds a window."""
    return 1 << (window - 1).bit_length()


@settled("window_size", "stride")
def _spectrogram_shape(context: InferenceContext) -> Sequence[Shape]:
    samples = ranked(context.shape(0), 2, "the samples")
    window, stride = _spectrogram_attributes(context.attrs)
    length = samples[0]
    frames: Dim = None
    if isinstance(length, int):
        frames = 0 if length < window else 1 + (length - window) // stride
    elif length is not None:
        frames = maximum(add(divide(subtract(length, window), stride), 1), 0)
    return [Shape((samples[1], frames, transform_length(window) // 2 + 1))]


@settled("dct_coefficient_count")
def _cepstrum_shape(context: InferenceContext) -> Sequence[Shape]:
    spectrogram = ranked(context.shape(0), 3, "the spectrogram")
    ranked(context.shape(1), 0, "the sample rate")
    count = context.attrs.get("dct_coefficient_count")
    if type(count) is not int or count < 1:
        raise InferenceError(f"{count!r} coefficients make no sense")
    return [Shape((spectrogram[0], spectrogram[1], count))]


@settled("desired_channels", "desired_samples")
def _decoded_shape(context: InferenceContext) -> Sequence[Shape]:
    ranked(context.shape(0), 0, "the contents")
    samples, channels = context.attrs.get("desired_samples"), context.attrs.get("desired_channels")
    known = [item if type(item) is int and item >= 0 else None for item in (samples, channels)]
    return [Shape(known), SCALAR]


def _encoded_shape(context: InferenceContext) -> Sequence[Shape]:
    ranked(context.shape(0), 2, "the samples")
    return [SCALAR]


@settled("window_size", "window_step", "sample_rate", "num_channels", "left_context", "right_context", "frame_stride")
def _frontend_shape(context: InferenceContext) -> Sequence[Shape]:
    ranked(context.shape(0), 1, "the samples")
    attrs = context.attrs
    context_frames = 1 + attrs["left_context"] + attrs["right_context"]
    return [Shape((None, attrs["num_channels"] * context_frames))]


# Evaluation ---------------------------------------------------------------------------------------------------


def _spectrogram(attrs: Attrs, samples: Array) -> Array:
    """Power (or magnitude) of each frequency in each window, `[channels, frames, frequencies]`."""
    if samples.ndim != 2:
        raise ValueError(f"samples must be [length, channels], not of shape {list(samples.shape)}")
    window, stride = _spectrogram_attributes(attrs)
    length, channels = samples.shape
    frames = 0 if length < window else 1 + (length - window) // stride
    size = transform_length(window)
    check_size((channels, frames, size))
    result = np.zeros((channels, frames, size // 2 + 1), np.float32)
    if frames == 0 or channels == 0:
        return result
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    views = np.lib.stride_tricks.sliding_window_view(samples, window, 0)[::stride]  # [frames, channels, window]
    step = max(1, FRAME_BYTES // (size * channels * 16))
    with np.errstate(all="ignore"):
        for start in range(0, frames, step):
            spectrum = np.fft.rfft(views[start : start + step] * taper, size)
            power = np.square(spectrum.real) + np.square(spectrum.imag)
            if not attrs["magnitude_squared"]:
                power = np.sqrt(power)
            result[:, start : start + step] = power.transpose(1, 0, 2)
    return result


def _mel(frequency: Any) -> Any:
    return 1127.0 * np.log1p(np.asarray(frequency, np.float64) / 700.0)


@lru_cache(maxsize=8)
def filter_bank(bins: int, rate: float, bands: int, low: float, high: float) -> Array:
    """Triangular filters evenly spaced on the mel scale, `[bins, bands]`, as HTK has them.

    Raises `ValueError` where the frequencies do not fit the spectrogram.
    """
    if bins < 2 or rate <= 0 or bands <= 0 or low < 0 or high <= low:
        raise ValueError(f"{bands} bands between {low} and {high} Hz make no filter bank for {bins} bins at {rate} Hz")
    width = 0.5 * rate / (bins - 1)
    first, last = int(1.5 + low / width), int(high / width)
    if last >= bins:
        raise ValueError(f"frequencies up to {high} Hz exceed the spectrogram's {0.5 * rate} Hz")
    check_size((bins, bands))
    bottom = float(_mel(low))
    centres = bottom + (float(_mel(high)) - bottom) / (bands + 1) * np.arange(1, bands + 2)
    places = np.arange(first, last + 1)
    mels = _mel(places * width)
    band = np.searchsorted(centres[:bands], mels, side="left") - 1
    edges = np.concatenate([[bottom], centres])
    share = (edges[band + 2] - mels) / (edges[band + 2] - edges[band + 1])
    matrix = np.zeros((bins, bands))
    falling, rising = band >= 0, band + 1 < bands
    matrix[places[falling], band[falling]] = share[falling]
    matrix[places[rising], band[rising] + 1] += 1 - share[rising]
    matrix.flags.writeable = False
    return matrix


def _cepstrum(attrs: Attrs, spectrogram: Array, rate: Array) -> Array:
    """Cosine transform of the logarithms of the mel bands' amplitudes."""
    if spectrogram.ndim != 3 or np.size(rate) != 1:
        raise ValueError(f"a spectrogram must be [channels, frames, bins], not of shape {list(spectrogram.shape)}")
    bands, count = attrs["filterbank_channel_count"], attrs["dct_coefficient_count"]
    if not 1 <= count <= bands:
        raise ValueError(f"{count} coefficients cannot be had from {bands} bands")
    bank = filter_bank(
        spectrogram.shape[2], float(rate), bands, attrs["lower_frequency_limit"], attrs["upper_frequency_limit"]
    )
    with np.errstate(all="ignore"):
        energies = np.sqrt(spectrogram.astype(np.float64)) @ bank
        logarithms = np.log(np.maximum(energies, POWER_FLOOR))
    angles = np.pi / bands * np.outer(np.arange(count), np.arange(bands) + 0.5)
    return np.asarray(logarithms @ (np.sqrt(2.0 / bands) * np.cos(angles)).T).astype(np.float32)


register("tf.AudioSpectrogram", shape=_spectrogram_shape, evaluate=_spectrogram)
register("tf.Mfcc", shape=_cepstrum_shape, evaluate=_cepstrum)
register("tf.DecodeWav", shape=_decoded_shape)
register("tf.EncodeWav", shape=_encoded_shape)
register("tf.AudioMicrofrontend", shape=_frontend_shape)
