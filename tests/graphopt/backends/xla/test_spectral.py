"""Fourier transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize("length", [6, 8])
def test_spectra(agrees: Callable[..., Any], length: int) -> None:
    """Cut off, and as they are."""
    body = (
        f"%n = tf.Const() {{value = int32[1] [{length}]}}\n"
        "%f = tf.RFFT(%x, %n)\n%b = tf.IRFFT(%f, %n)\n%c = tf.FFT(%f)\n"
        "%r = tf.Real(%c)\n%i = tf.Imag(%c)\n%m = tf.ComplexAbs(%f)\n%a = tf.Angle(%f)\n%j = tf.Conj(%f)\n"
        "%k = tf.Imag(%j)"
    )
    agrees(body, "%x: float32[2, 8]", "%b, %r, %i, %m, %k", rtol=1e-4)
