"""Fourier transforms, spectrograms and cepstral coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.formats.tflite import read_tflite
from graphopt.lowering import check
from graphopt.testing.lowering import assert_lowers, operators, text_model

RFFT = """
%length = tf.Const() {{value = int32[1] [{length}], dtype = int32}}
%spectrum = tf.RFFT(%x, %length)
%y = tf.{part}(%spectrum)
"""


def transform(length: int, shape: str, part: str = "ComplexAbs") -> Any:
    return text_model(RFFT.format(length=length, part=part), f"%x: float32[{shape}]")


@pytest.mark.parametrize("part", ["ComplexAbs", "Real", "Imag"])
@pytest.mark.parametrize("shape", ["16", "3, 16", "2, 3, 16", "?, 16", "3, 20"])
def test_transforms_of_rows(part: str, shape: str) -> None:
    lowered = assert_lowers(transform(16, shape, part), reference="reference")
    assert operators(lowered.model)["RFFT2D"] == 1


@pytest.mark.parametrize("part", ["ComplexAbs", "Real", "Imag"])
@pytest.mark.parametrize("shape", ["12", "3, 12", "2, 3, 12", "?, 12", "3, 15"])
def test_lengths_that_the_kernel_has_not_are_products(part: str, shape: str) -> None:
    lowered = assert_lowers(transform(12, shape, part), reference="reference")
    assert "RFFT2D" not in operators(lowered.model)


@given(st.integers(1, 40), st.integers(0, 9), st.sampled_from(["ComplexAbs", "Real", "Imag"]))
def test_any_length_of_any_signal(length: int, more: int, part: str) -> None:
    assert_lowers(transform(length, f"2, {length + more}", part), reference="reference", random=1, atol=1e-5)


SPECTRUM = """
%length = tf.Const() {value = int32[1] [LENGTH], dtype = int32}
%spectrum = tf.RFFT(%x, %length)
%shift = tf.Const() {value = int32[2] [1, 0], dtype = int32}
%zero = tf.Const() {value = int32[2] [0, 1], dtype = int32}
%sizes = tf.Const() {value = int32[2] [-1, 3], dtype = int32}
"""


@pytest.mark.parametrize("length", [16, 12])
@pytest.mark.parametrize("part", ["ComplexAbs", "Real", "Imag"])
@pytest.mark.parametrize(
    "body",
    [
        "%z = tf.Conj(%spectrum)",
        "%z = tf.Mul(%spectrum, %spectrum)",
        "%c = tf.Conj(%spectrum)\n%z = tf.Mul(%c, %spectrum)",
        "%c = tf.Neg(%spectrum)\n%s = tf.AddV2(%c, %spectrum)\n%z = tf.Sub(%spectrum, %s)",
        "%z = tf.Slice(%spectrum, %zero, %sizes)",
        "%z = tf.Transpose(%spectrum, %shift)",
        "%z = tf.Sum(%spectrum, %shift) {keep_dims = true}",
    ],
)
def test_parts_of_what_is_computed_from_spectra(body: str, part: str, length: int) -> None:
    text = SPECTRUM.replace("LENGTH", str(length)) + f"{body}\n%y = tf.{part}(%z)"
    assert_lowers(text_model(text, "%x: float32[3, 16]"), reference="reference", rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("part", ["ComplexAbs", "Real", "Imag"])
def test_parts_of_pairs(part: str) -> None:
    body = f"""
    %c = tf.Complex(%a, %b)
    %d = tf.Cast(%b) {{SrcT = float32, DstT = complex64}}
    %z = tf.Mul(%c, %d)
    %y = tf.{part}(%z)
    """
    lowered = assert_lowers(text_model(body, "%a: float32[2, 3], %b: float32[2, 3]"), reference="reference")
    assert not {"REAL", "IMAG", "COMPLEX_ABS"} & operators(lowered.model).keys()


@pytest.mark.parametrize("part", ["ComplexAbs", "Real", "Imag"])
@pytest.mark.parametrize("imaginary", ["%b", "%zero"])
@pytest.mark.parametrize("transform", ["FFT", "IFFT"])
@pytest.mark.parametrize("shape", ["12", "3, 8"])
def test_transforms_of_complex_numbers(shape: str, transform: str, imaginary: str, part: str) -> None:
    body = f"""
    %zero = tf.Const() {{value = float32[] 0.5, dtype = float32}}
    %c = tf.Complex(%a, {imaginary})
    %z = tf.{transform}(%c)
    %m = tf.Complex(%b, %zero)
    %p = tf.Mul(%z, %m)
    %y = tf.{part}(%p)
    """
    model = text_model(body, f"%a: float32[{shape}], %b: float32[{shape}]")
    assert_lowers(model, reference="reference", rtol=1e-4, random=1)


@pytest.mark.parametrize("length", [8, 12, 9])
@pytest.mark.parametrize("samples", [12, 16])
def test_signals_of_spectra(length: int, samples: int) -> None:
    body = """
    %first = tf.Const() {value = int32[1] [SAMPLES], dtype = int32}
    %length = tf.Const() {value = int32[1] [LENGTH], dtype = int32}
    %spectrum = tf.RFFT(%x, %first)
    %y = tf.IRFFT(%spectrum, %length)
    """.replace("LENGTH", str(length)).replace("SAMPLES", str(samples))
    assert_lowers(text_model(body, f"%x: float32[3, {samples}]"), reference="reference")


def test_transforms_of_matrices() -> None:
    body = """
    %length = tf.Const() {value = int32[2] [8, 16], dtype = int32}
    %spectrum = tf.RFFT2D(%x, %length)
    %y = tf.ComplexAbs(%spectrum)
    """
    assert_lowers(text_model(body, "%x: float32[3, 8, 16]"), ["RFFT2D", "COMPLEX_ABS"], reference="reference")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: transform(12, "2, 12", "Conj"), "12 is no power of two"),
        (lambda: transform(2, "2, 12", "Conj"), "2 is no power of two from 4 on"),
        (lambda: text_model(RFFT.format(length=16, part="ComplexAbs"), "%x: float64[16]"), "float64|complex128"),
    ],
)
def test_what_litert_does_not_transform_is_left(model: Any, reason: str) -> None:
    found = {finding.node: finding for finding in check(model(), "tflite")}
    assert any(part in found["spectrum"].reason for part in reason.split("|"))
    assert "--allow-flex" in found["spectrum"].remedy


@pytest.mark.tensorflow
def test_spectrograms_of_signals() -> None:
    import tensorflow as tf

    def mel(signal: Any) -> Any:
        spectrum = tf.abs(tf.signal.stft(signal, 128, 64, 128))
        weights = tf.signal.linear_to_mel_weight_matrix(12, 65, 16000, 80.0, 7600.0)
        return tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(spectrum @ weights + 1e-3))

    traced = tf.function(mel).get_concrete_function(tf.TensorSpec([2, 512], tf.float32, "signal"))
    lowered = assert_lowers(traced, rtol=1e-4)
    assert operators(lowered.model)["RFFT2D"] >= 1


@pytest.mark.tensorflow
def test_operators_of_sound_are_tf_lites() -> None:
    import tensorflow as tf

    def coefficients(sound: Any) -> Any:
        spectrum = tf.raw_ops.AudioSpectrogram(input=sound, window_size=256, stride=128, magnitude_squared=True)
        return tf.raw_ops.Mfcc(spectrogram=spectrum, sample_rate=16000, dct_coefficient_count=10)

    traced = tf.function(coefficients).get_concrete_function(tf.TensorSpec([1024, 1], tf.float32, "sound"))
    lowered = assert_lowers(traced, {"CUSTOM": 2}, rtol=1e-3)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], tf.Module())
    converter.allow_custom_ops = True
    theirs = read_tflite(converter.convert())
    ours = [node.attrs for node in lowered.model.graph if node.op == "tfl.CUSTOM"]
    assert [(a["custom_code"], a["custom_options"]) for a in ours] == [
        (node.attrs["custom_code"], node.attrs["custom_options"]) for node in theirs.graph if node.op == "tfl.CUSTOM"
    ]


def test_data_of_one_sign() -> None:
    """A constant signal has all its weight in the first coefficient, whatever the length."""
    lowered = assert_lowers(transform(12, "2, 12"), data={"x": np.ones((1, 2, 12), np.float32)}, reference="reference")
    assert lowered.model.graph.outputs[0].shape.static == (2, 7)
