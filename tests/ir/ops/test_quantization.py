"""Quantization against TensorFlow: fake, to integers and back, round trips, and operators on quantized integers.

TensorFlow has several kernels for some of these (oneDNN's among them), which differ by one step at most. It aborts
the process where an axis is given for an empty array, so those are not tried.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import check_operator, words

from graphopt.ir import ops
from graphopt.ir.ops import Trait
from graphopt.ir.types import DTYPES

pytestmark = pytest.mark.tensorflow
SOME = settings(max_examples=40)
QUANTIZED = ["qint8", "quint8", "qint16", "quint16", "qint32"]
f = np.float32


def within_a_step(index: int, ours: Any, theirs: Any) -> None:
    if theirs.dtype.kind == "f":
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    else:
        limit = 1 if theirs.dtype.itemsize < 4 else 2048
        assert np.all(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)) <= limit)


# Fake quantization --------------------------------------------------------------------------------------------


@st.composite
def fake_attributes(draw: Any) -> dict[str, Any]:
    return {"num_bits": draw(st.integers(2, 16)), "narrow_range": draw(st.booleans())}


@st.composite
def ranges(draw: Any, shape: tuple[int, ...] = ()) -> tuple[Any, Any]:
    low = draw(oracle.arrays(np.float32, shape, -6, 2))
    return low, (low + draw(oracle.arrays(np.float32, shape, 0.1, 8))).astype(np.float32)


@settings(max_examples=80)
@given(data=st.data())
def test_fake_quantization(data: Any) -> None:
    x = data.draw(oracle.arrays(np.float32, oracle.shapes(max_rank=3, max_dim=6), -8, 8))
    attrs = data.draw(fake_attributes())
    low, high = data.draw(ranges())
    check_operator("FakeQuantWithMinMaxArgs", [x], {**attrs, "min": float(low), "max": float(high)})
    check_operator("FakeQuantWithMinMaxVars", [x, low, high], attrs)
    if x.ndim:
        lows, highs = data.draw(ranges(x.shape[-1:]))
        check_operator("FakeQuantWithMinMaxVarsPerChannel", [x, lows, highs], attrs)


def test_fake_quantization_of_awkward_values() -> None:
    x = f([-7, -6, -0.1, 0, -0.0, 0.1, 3, 6, 7, np.nan, np.inf, -np.inf])
    check_operator("FakeQuantWithMinMaxArgs", [x])
    for low, high in ((0, 0), (0.1, 0.05), (1, 1), (1, 3), (-3, -1), (-1, 1)):
        check_operator("FakeQuantWithMinMaxVars", [x, f(low), f(high)])
    check_operator("FakeQuantWithMinMaxVarsPerChannel", [f([[1, 2], [3, 4]]), f([0, -1]), f([0, 1])])


@pytest.mark.parametrize("attrs", [{"min": 2.0, "max": 1.0}, {"num_bits": 1}, {"num_bits": 17}])
def test_fake_quantization_refused(attrs: dict[str, Any]) -> None:
    assert check_operator("FakeQuantWithMinMaxArgs", [f([1])], attrs) is None


# To integers and back -----------------------------------------------------------------------------------------


@settings(max_examples=120)
@given(data=st.data())
def test_quantize(data: Any) -> None:
    attrs: dict[str, Any] = {"T": DTYPES[data.draw(st.sampled_from(QUANTIZED))]}
    attrs["mode"] = data.draw(st.sampled_from([b"MIN_COMBINED", b"MIN_FIRST", b"SCALED"]))
    x = data.draw(oracle.arrays(np.float32, oracle.shapes(max_rank=3), -8, 8))
    low, high = data.draw(ranges())
    check_operator("QuantizeV2", [x, low, high], attrs, compare=within_a_step, may_refuse=True)


@SOME
@given(data=st.data())
def test_quantize_scaled(data: Any) -> None:
    attrs: dict[str, Any] = {"T": DTYPES[data.draw(st.sampled_from(QUANTIZED[:4]))], "mode": b"SCALED"}
    attrs["narrow_range"] = data.draw(st.booleans())
    x = data.draw(oracle.arrays(np.float32, oracle.shapes(1, 3, zeros=False), -8, 8))
    axis = data.draw(st.integers(0, x.ndim - 1))
    low, high = data.draw(ranges((x.shape[axis],)))
    check_operator("QuantizeV2", [x, low, high], {**attrs, "axis": axis}, compare=within_a_step)


@settings(max_examples=120)
@given(data=st.data())
def test_dequantize(data: Any) -> None:
    kind = DTYPES[data.draw(st.sampled_from(QUANTIZED))]
    mode = data.draw(st.sampled_from([b"MIN_COMBINED", b"MIN_FIRST", *([b"SCALED"] if kind.bits < 32 else [])]))
    x = data.draw(oracle.arrays(kind.numpy, oracle.shapes(max_rank=3, zeros=False), -(10**9), 10**9))
    attrs: dict[str, Any] = {"T": kind, "mode": mode}
    low, high = data.draw(ranges())
    check_operator("Dequantize", [x, low, high], attrs, rtol=1e-4, atol=1e-4)
    if x.ndim and mode != b"MIN_FIRST" and kind.bits < 32:
        axis = data.draw(st.integers(0, x.ndim - 1))
        low, high = data.draw(ranges((x.shape[axis],)))
        check_operator("Dequantize", [x, low, high], {**attrs, "axis": axis}, rtol=1e-4, atol=1e-4)


def test_dequantize_to_bfloat16() -> None:
    attrs = {"T": DTYPES["qint8"], "mode": b"SCALED", "dtype": DTYPES["bfloat16"]}
    check_operator("Dequantize", [np.int8([-128, 1, 127]), f(-1), f(1)], attrs)


def test_rounding_halves_to_even_is_refused() -> None:
    """The kernels disagree on the range: one takes the wider side for both."""
    attrs = {"T": DTYPES["quint8"], "mode": b"SCALED", "round_mode": b"HALF_TO_EVEN"}
    check_operator("QuantizeV2", [f([0.1]), f(-1.6), f(0.25)], attrs, may_refuse=True)
    complete = ops.interface("QuantizeV2").with_defaults(attrs)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="HALF_TO_EVEN"):
        ops.find("tf.QuantizeV2").evaluate(complete, f([0.1]), f(-1.6), f(0.25))  # type: ignore[union-attr, misc]


def test_empty_ranges_are_refused() -> None:
    assert check_operator("QuantizeV2", [f([1]), f(1), f(0)], {"T": DTYPES["quint8"]}) is None


# Round trips --------------------------------------------------------------------------------------------------


@settings(max_examples=80)
@given(data=st.data())
def test_round_trips(data: Any) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    x = data.draw(oracle.arrays(dtype, oracle.shapes(1, 3, zeros=False), -8, 8))
    given_range = data.draw(st.booleans())
    axis = data.draw(st.integers(-1, x.ndim - 1))
    low, high = (end.astype(dtype) for end in data.draw(ranges(() if axis == -1 else (x.shape[axis],))))
    signed = data.draw(st.booleans())
    if not signed and not given_range:
        x = np.abs(x)
    attrs = {"signed_input": signed, "range_given": given_range, "narrow_range": data.draw(st.booleans()), "axis": axis}
    bits = data.draw(st.integers(3, 10))
    modes = {"num_bits": bits, "round_mode": data.draw(st.sampled_from([b"HALF_TO_EVEN", b"HALF_UP"]))}
    vectors = given_range and axis >= 0  # what the interface describes, and the kernels refuse or abort on
    check_operator("QuantizeAndDequantizeV2", [x, low, high], {**attrs, **modes}, rtol=1e-5, refusal=vectors)
    check_operator("QuantizeAndDequantizeV4", [x, low, high], {**attrs, **modes}, rtol=1e-5, refusal=vectors)
    if not vectors:
        check_operator("QuantizeAndDequantizeV3", [x, low, high, np.int32(bits)], attrs, rtol=1e-5)


def test_round_trips_of_awkward_values() -> None:
    for x in (f([0, 0]), f([-1, -2]), f([np.inf, 1]), f([1e-3])):
        check_operator("QuantizeAndDequantizeV2", [x, f(0), f(0)], {"range_given": False}, refusal=True)
    assert check_operator("QuantizeAndDequantizeV2", [f([1]), f(1), f(0)], {"range_given": True}) is None


# Operators on quantized integers ------------------------------------------------------------------------------


@SOME
@given(data=st.data())
def test_quantized_relu(data: Any) -> None:
    x = data.draw(oracle.arrays(np.uint8, oracle.shapes(max_rank=3), 0, 255))
    low, high = data.draw(ranges())
    kinds = {"Tinput": DTYPES["quint8"], "out_type": DTYPES["quint8"]}
    for name in ("QuantizedRelu", "QuantizedRelu6"):
        check_operator(name, [x, low, high], kinds, compare=within_a_step)


@SOME
@given(data=st.data())
def test_requantize(data: Any) -> None:
    x = data.draw(oracle.arrays(np.int32, oracle.shapes(1, 3, zeros=False), -(2**31), 2**31 - 1))
    low, high = f(-data.draw(st.integers(1, 20))), f(data.draw(st.integers(1, 20)))
    check_operator("RequantizationRange", [x, low, high], {"Tinput": DTYPES["qint32"]}, rtol=1e-4)
    kinds = {"Tinput": DTYPES["qint32"], "out_type": DTYPES["quint8"]}
    check_operator("Requantize", [x, low, high, low / 2, high], kinds, compare=within_a_step)
    check_operator("QuantizeDownAndShrinkRange", [x, low, high], kinds, compare=within_a_step)


def test_quantized_reshape() -> None:
    x = np.arange(6, dtype=np.uint8)
    check_operator("QuantizedReshape", [x, np.int32([2, -1]), f(0), f(1)], {"T": DTYPES["quint8"]})


def test_shapes_of_quantized_operators() -> None:
    kinds = {"Tinput": DTYPES["quint8"], "Tfilter": DTYPES["quint8"]}
    images, filters = np.ones((1, 5, 5, 3), np.uint8), np.ones((2, 2, 3, 4), np.uint8)
    attrs = {**kinds, "out_type": DTYPES["qint32"], "strides": (1, 2, 2, 1), "padding": b"SAME"}
    check_operator("QuantizedConv2D", [images, filters, f(0), f(1), f(0), f(1)], attrs, evaluates=False)
    pool = {"T": DTYPES["quint8"], "ksize": (1, 2, 2, 1), "strides": (1, 2, 2, 1), "padding": b"VALID"}
    for name in ("QuantizedMaxPool", "QuantizedAvgPool"):
        check_operator(name, [images, f(0), f(1)], pool, evaluates=False)
    two = {"T1": DTYPES["quint8"], "T2": DTYPES["quint8"]}
    a, b = np.ones((2, 3), np.uint8), np.ones((4, 3), np.uint8)
    product = [a, b, f(0), f(1), f(0), f(1)]
    check_operator("QuantizedMatMul", product, {**two, "transpose_b": True}, evaluates=False)
    for name in ("QuantizedAdd", "QuantizedMul"):
        check_operator(name, [a, a[0], f(0), f(1), f(0), f(1)], {**two, "Toutput": DTYPES["qint32"]}, evaluates=False)
    bias = {**two, "out_type": DTYPES["qint32"]}
    check_operator("QuantizedBiasAdd", [a, a[0], f(0), f(1), f(0), f(1)], bias, evaluates=False)
    joined = {"T": DTYPES["quint8"], "N": 2}
    check_operator("QuantizedConcat", [np.int32(0), a, b, f(0), f(0), f(1), f(1)], joined, evaluates=False)


def test_every_quantized_operator_is_declared() -> None:
    declared = ops.declared_operators()
    missing = [
        name
        for name in ops.interfaces.interface_names()
        if name.startswith(("Quantized", "FakeQuant", "Requant", "Dequant", "QuantizeAnd", "QuantizeV"))
        and not name.endswith(("Gradient", "Grad"))
        and f"tf.{name}" not in declared
    ]
    assert missing == []
    for name in words("Dequantize UniformDequantize"):
        assert declared[f"tf.{name}"].has(Trait.DECOMPRESS)
