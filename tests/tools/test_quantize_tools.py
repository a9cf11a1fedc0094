"""What the measurement of quantization computes by itself: decibels, feeding, reasons."""

from __future__ import annotations

import numpy as np
import pytest
from measure_quantize import reason_of
from quantize_measures import CAP, decibels, fed, fetched


def test_decibels() -> None:
    signal = np.ones(100)
    assert decibels(signal, signal * 0.1) == pytest.approx(20)
    assert decibels(signal, signal * 0) == CAP
    assert decibels(signal, signal * np.nan) == float("-inf")


def test_integers_at_the_ends_are_fed_and_fetched() -> None:
    detail = {"quantization": (0.5, 3), "dtype": np.int8}
    array = np.array([-1.0, 0.0, 100.0], np.float32)
    codes = fed(array, detail)
    assert codes.tolist() == [1, 3, 127]
    assert fetched(codes, detail).tolist() == [-1.0, 0.0, 62.0]
    plain = {"quantization": (0.0, 0), "dtype": np.float32}
    assert fetched(fed(array, plain), plain).tolist() == array.tolist()


def test_a_reason_is_no_log() -> None:
    said = "python x: exit status -11\nI0000 00:00 stub\nValueError: no kernel\nINFO: delegate"
    assert reason_of(said) == "exit status -11: ValueError: no kernel"
    assert reason_of("python x: exit status -11\nI0000 00:00 stub") == "exit status -11: no message"
