"""Order, sequences, running sums, rounding, spectra and lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=5)
@given(st.data())
def test_running_results(agrees: Callable[..., Any], data: st.DataObject) -> None:
    """Sums, products and sums of exponentials, forwards and back, with and without the element itself."""
    flags = [f"{name} = {str(data.draw(st.booleans())).lower()}" for name in ("exclusive", "reverse")]
    axis = data.draw(st.integers(-2, 1))
    kinds = ("Cumsum", "Cumprod", "CumulativeLogsumexp")
    body = f"%a = tf.Const() {{value = int32[] {axis}}}\n" + "\n".join(
        f"%{kind} = tf.{kind}(%x, %a) {{{', '.join(flags)}}}" for kind in kinds
    )
    x = np.array([[-200.0, 3.0, 0.5, 90.0], [1.0, -0.5, 2.0, 0.25]], np.float32)
    agrees(body, "%x: float32[2, 4]", ", ".join(f"%{kind}" for kind in kinds), {"x": x})


def test_moved_and_turned(agrees: Callable[..., Any]) -> None:
    body = (
        "%s = tf.Const() {value = int32[2] [2, -1]}\n%a = tf.Const() {value = int32[2] [0, 1]}\n"
        "%r = tf.Roll(%x, %s, %a)\n%v = tf.ReverseSequence(%x, %n) {seq_dim = 1, batch_dim = 0}\n"
        "%k = tf.Const() {value = int32[] 2}\n%h = tf.NthElement(%x, %k)\n%g = tf.NthElement(%x, %k) {reverse = true}"
    )
    data = {"x": np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32), "n": np.array([0, 3, 5], np.int64)}
    agrees(body, "%x: float32[3, 5], %n: int64[3]", "%r, %v, %h, %g", data)


def test_the_largest_are_sorted_out(operations: Callable[..., dict[str, int]]) -> None:
    assert operations("%k = tf.Const() {value = int32[] 2}\n%y = tf.TopKV2(%x, %k)")["sort"] == 1


def test_maxima_and_their_places(agrees: Callable[..., Any]) -> None:
    attributes = 'ksize = [1, 2, 3, 1], strides = [1, 2, 1, 1], padding = "SAME"'
    body = (
        f"%a = tf.MaxPoolWithArgmax(%x) {{{attributes}}}\n"
        f"%b = tf.MaxPoolWithArgmax(%x) {{{attributes}, include_batch_in_index = true, Targmax = int32}}\n"
        '%w = tf.Const() {value = int32[4] [1, 2, 2, 1]}\n%c = tf.MaxPoolV2(%x, %w, %w) {padding = "VALID"}'
    )
    x = np.random.default_rng(0).integers(-3, 3, (2, 5, 4, 2)).astype(np.float32)  # with equal elements
    agrees(body, "%x: float32[2, 5, 4, 2]", "%a, %a:1, %b:1, %c", {"x": x})


def test_ordered_tables(agrees: Callable[..., Any]) -> None:
    body = (
        "%l = tf.LowerBound(%r, %v)\n%u = tf.UpperBound(%r, %v)\n%b = tf.Bucketize(%v) {boundaries = [0.5, 2.0]}\n"
        "%p = tf.InvertPermutation(%i)\n%t = tf.InTopK(%r, %k) {k = 2}"
    )
    data = {
        "r": np.array([[0, 1, 1, 2], [0, 2, 4, 6]], np.float32), "v": np.array([[1, 3], [0.5, 7]], np.float32),
        "i": np.array([2, 0, 3, 1], np.int32), "k": np.array([1, 3], np.int32),
    }  # fmt: skip
    agrees(body, "%r: float32[2, 4], %v: float32[2, 2], %i: int32[4], %k: int32[2]", "%l, %u, %b, %p, %t", data)


def test_rounding(agrees: Callable[..., Any]) -> None:
    x = np.array([[-2.5, -0.5, 0.5], [1.5, 2.4, 99.0]], np.float32)
    body = (
        "%r = tf.Round(%x)\n%a = tf.FakeQuantWithMinMaxArgs(%x) {min = -2.0, max = 3.0}\n"
        "%l = tf.Const() {value = float32[] -1.0}\n%h = tf.Const() {value = float32[] 2.0}\n"
        "%b = tf.FakeQuantWithMinMaxVars(%x, %l, %h) {narrow_range = true}"
    )
    agrees(body, outputs="%r, %a, %b", data={"x": x})


def test_the_range_of_a_rounding_must_be_known(refusal: Callable[..., Any]) -> None:
    finding = refusal("%y = tf.FakeQuantWithMinMaxVars(%x, %l, %h)", "%x: float32[3], %l: float32[], %h: float32[]")
    assert "computed at run time" in finding.reason
    assert "constant" in finding.remedy


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


def test_numbers_of_shapes(agrees: Callable[..., Any]) -> None:
    body = (
        "%a = tf.Const() {value = int32[] 1}\n%s = tf.Const() {value = int32[2] [2, 3]}\n"
        "%t = tf.Const() {value = int32[2] [2, 5]}\n%o = tf.ConcatOffset(%a, %s, %t)\n%b = tf.Shape(%x)\n"
        "%p = tf.BroadcastArgs(%b, %s)\n%n = tf.Size(%x)\n%k = tf.Rank(%x)"
    )
    agrees(body, "%x: float32[2, 3]", "%o, %o:1, %p, %n, %k")
